"""Which report belongs to which answer: asked by the door, and by a notebook that shows one."""

from __future__ import annotations

from functools import singledispatch

from planner.analysis.budget.budget import BudgetAnswer
from planner.analysis.explanation import Explanation
from planner.analysis.many_plans import ManyPlans
from planner.analysis.near import Front, NearPlans
from planner.analysis.two_plans import Differences
from planner.analysis.whatif import Variations
from planner.errors import InputError, Mistake, Place
from planner.report import html
from planner.report.blocks import Block, Command, Headline
from planner.report.budget import budget_blocks
from planner.report.budget_json import budget_document
from planner.report.estimate import estimate_blocks
from planner.report.explain import explain_blocks, explain_document
from planner.report.front import front_blocks, front_document
from planner.report.json_text import JsonObject
from planner.report.near import near_blocks, near_document
from planner.report.plan_json import estimate_document, outcome_document
from planner.report.solve import Solved, solve_blocks
from planner.report.two_plans import compare_blocks, compare_document
from planner.report.whatif import whatif_blocks, whatif_document
from planner.search.plan import Plan
from planner.search.search import Outcome

STYLES = ("table", "markdown", "html")


def _no_answer(answer: object) -> InputError:
    what = f"{type(answer).__name__} is no answer of planner"
    return InputError(
        Mistake(what, Place("show()"), attempt="what solve, estimate, near, front, explain or budget returned")
    )


@singledispatch
def answer_document(answer: object) -> JsonObject:
    """An answer as plain data. Raises InputError for anything else."""
    raise _no_answer(answer)


@singledispatch
def report_blocks(answer: object) -> list[Block]:
    """The report on an answer, as the command line prints it. Raises InputError for anything else."""
    raise _no_answer(answer)


answer_document.register(Outcome, outcome_document)
answer_document.register(Plan, estimate_document)
answer_document.register(Front, front_document)
answer_document.register(ManyPlans, compare_document)
answer_document.register(Explanation, explain_document)
answer_document.register(BudgetAnswer, budget_document)


@answer_document.register
def _(pair: Differences) -> JsonObject:
    return compare_document(ManyPlans((pair.a, pair.b), (pair,)))


@answer_document.register
def _(rows: Variations) -> JsonObject:
    return whatif_document(list(rows))


@answer_document.register
def _(plans: NearPlans) -> JsonObject:
    return near_document(plans.question, list(plans))


report_blocks.register(Plan, estimate_blocks)
report_blocks.register(ManyPlans, compare_blocks)
report_blocks.register(Explanation, explain_blocks)
report_blocks.register(BudgetAnswer, budget_blocks)


@report_blocks.register
def _(pair: Differences) -> list[Block]:
    return compare_blocks(ManyPlans((pair.a, pair.b), (pair,)))


@report_blocks.register
def _(outcome: Outcome) -> list[Block]:
    return solve_blocks(Solved(outcome))


@report_blocks.register
def _(front: Front) -> list[Block]:
    return front_blocks(front.question.document.name, front)


@report_blocks.register
def _(rows: Variations) -> list[Block]:
    return whatif_blocks(list(rows))


@report_blocks.register
def _(plans: NearPlans) -> list[Block]:
    return near_blocks(plans.question.document.name, list(plans), plans.within)


def answer_blocks(answer: object) -> list[Block]:
    """The report on an answer, without what to type next. Raises InputError for anything else."""
    return [block for block in report_blocks(answer) if not isinstance(block, Command)]


def answer_line(answer: object) -> str:
    """An answer in one sentence. Raises InputError for what is no answer."""
    return next(block.text for block in report_blocks(answer) if isinstance(block, Headline))


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
