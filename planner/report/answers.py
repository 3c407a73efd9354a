"""Which report belongs to which answer: asked by the door, and by a notebook that shows one."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from planner.errors import InputError, Mistake, Place
from planner.report import html
from planner.report.blocks import Block, Command, Headline, Text
from planner.report.plan_json import estimate_document, outcome_document
from planner.report.summary import error_blocks, headline, plan_blocks, plan_error_blocks, proof_blocks
from planner.search.plan import Plan, plan_line, verdict
from planner.search.search import Outcome

STYLES = ("table", "markdown", "html")
Json = dict[str, Any]


def _no_answer(answer: object) -> InputError:
    what = f"{type(answer).__name__} is no answer of planner"
    return InputError(Mistake(what, Place("show()"), attempt="what solve, estimate, near, front or explain returned"))


@singledispatch
def answer_document(answer: object) -> Json:
    """An answer as plain data. Raises InputError for anything else."""
    raise _no_answer(answer)


@singledispatch
def _report(answer: object) -> list[Block]:
    raise _no_answer(answer)


answer_document.register(Outcome, outcome_document)
answer_document.register(Plan, estimate_document)


@_report.register
def _(outcome: Outcome) -> list[Block]:
    asked = outcome.question.scenario.question
    said: list[Block] = [Text(asked.strip())] if asked else []
    plan = plan_blocks(outcome.plan) if outcome.plan is not None else []
    return [headline(outcome), *said, *plan, *proof_blocks(outcome), *error_blocks(outcome.question)]


@_report.register
def _(plan: Plan) -> list[Block]:
    return [Headline(plan_line(plan), good=verdict(plan) == "safe"), *plan_blocks(plan), *plan_error_blocks(plan)]


def answer_blocks(answer: object) -> list[Block]:
    """The report on an answer, without what to type next. Raises InputError for anything else."""
    return [block for block in _report(answer) if not isinstance(block, Command)]


def answer_text(answer: object, style: str) -> str:
    """The report in one of STYLES. Raises InputError for what is no answer."""
    blocks = answer_blocks(answer)
    if style == "html":
        return html.render(blocks)
    from planner.report import markdown, table

    return markdown.render(blocks) if style == "markdown" else table.render(blocks)


def answer_html(answer: object) -> str:
    """The report on an answer as part of an HTML page."""
    return html.fragment(answer_blocks(answer))
