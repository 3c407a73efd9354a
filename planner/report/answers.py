"""Which report belongs to which answer: asked by the door, and by a notebook that shows one."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from planner.analysis.explanation import Explanation
from planner.analysis.near import Front
from planner.analysis.two_plans import Differences
from planner.analysis.whatif import Variation
from planner.errors import InputError, Mistake, Place
from planner.report import html
from planner.report.blocks import Block, Command, Headline
from planner.report.explain import explain_blocks, explain_document
from planner.report.front import front_blocks, front_document
from planner.report.near import near_blocks, near_document
from planner.report.plan_json import estimate_document, outcome_document
from planner.report.solve import Solved, solve_blocks
from planner.report.summary import plan_blocks, plan_error_blocks
from planner.report.two_plans import compare_blocks, compare_document
from planner.report.whatif import whatif_blocks, whatif_document
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


_report.register(Front, lambda front: front_blocks(front.question.document.name, front))
_report.register(Differences, compare_blocks)
_report.register(Explanation, explain_blocks)
answer_document.register(Front, front_document)
answer_document.register(Differences, compare_document)
answer_document.register(Explanation, explain_document)


@_report.register
def _(outcome: Outcome) -> list[Block]:
    return solve_blocks(Solved(outcome))


@_report.register
def _(plan: Plan) -> list[Block]:
    return [Headline(plan_line(plan), good=verdict(plan) == "safe"), *plan_blocks(plan), *plan_error_blocks(plan)]


@_report.register(list)
def _(answers: list[object]) -> list[Block]:
    outcomes, rows = _near(answers), _variations(answers)
    if outcomes:
        return near_blocks(outcomes[0].question.document.name, outcomes)
    if rows:
        return whatif_blocks(rows)
    raise _no_answer(answers)


@answer_document.register(list)
def _(answers: list[object]) -> Json:
    outcomes, rows = _near(answers), _variations(answers)
    if outcomes:
        return near_document(outcomes[0].question, outcomes)
    if rows:
        return whatif_document(rows)
    raise _no_answer(answers)


def _near(answers: list[object]) -> list[Outcome]:
    """What `near` returned; empty where it is something else."""
    found = [answer for answer in answers if isinstance(answer, Outcome)]
    return found if len(found) == len(answers) else []


def _variations(answers: list[object]) -> list[Variation]:
    """What `what_if` returned; empty where it is something else."""
    found = [answer for answer in answers if isinstance(answer, Variation)]
    return found if len(found) == len(answers) and len(found) > 1 and not found[0].changes else []


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
