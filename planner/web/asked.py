"""Questions as a worker answers them: plain data in and out, the same search and reports as the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from planner.errors import InputError, InternalError, Mistake, NoVerdict, Place, PlannerError
from planner.inputs.document import Document, parse_document, with_overrides
from planner.report.answers import answer_document, answer_html
from planner.report.blocks import Command
from planner.report.html import fragment
from planner.report.plan_figures import plan_figures
from planner.report.solve import Solved, solve_screen
from planner.web.closed_catalog import ClosedCatalog, closed_catalog, refuse_files

Asked = Mapping[str, Any]
"""A scenario as text, its name and overrides, and what else is asked."""
Answer = dict[str, Any]
"""`html` and `document` of an answer; `problems` and `exit_code` instead where it was refused."""
MOST_SIDES = 4


def document_asked(asked: Asked) -> Document:
    """The scenario of a question, changes applied. Raises InputError for a mistake, or a key that names a file."""
    document = with_overrides(parse_document(asked["text"], asked["name"]), asked.get("overrides", ()))
    refuse_files(document)
    return document


def answer(kind: str, asked: Asked, seconds: float) -> Answer:
    """The answer to one question, or why it is refused; nothing is raised for what a person can mistype."""
    if kind not in KINDS:
        return _refused(InputError(Mistake(f"no question {kind!r}", Place("the address"))))
    try:
        return KINDS[kind](asked, closed_catalog(asked.get("config")), seconds)
    except (PlannerError, RecursionError) as error:
        return _refused(error)


def _refused(error: Exception) -> Answer:
    if isinstance(error, InputError):
        problems = [
            {
                "what": problem.what,
                "where": str(problem.where) if problem.where is not None else None,
                "path": problem.where.path if problem.where is not None else None,
                "because": problem.because,
                "try": problem.attempt,
            }
            for problem in error.problems
        ]
    else:
        problems = [{"what": str(error), "where": None, "path": None, "because": None, "try": None}]
    code = error.exit_code if isinstance(error, PlannerError) else InternalError.exit_code
    return {"problems": problems, "exit_code": code}


def _shown(found: object, **more: object) -> Answer:
    return {"document": answer_document(found), "html": answer_html(found), **more}


def _solve(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.search.search import outcome_line, plan

    outcome = plan(document_asked(asked), catalog, check_points=0, time_limit_s=seconds)
    figures = plan_figures(outcome.plan) if outcome.plan is not None else []
    short = fragment(block for block in [*solve_screen(Solved(outcome)), *figures] if not isinstance(block, Command))
    return _shown(outcome, headline=outcome_line(outcome), short=short)


def _estimate(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.search.estimate import estimate

    found = estimate(document_asked(asked), catalog)
    return _shown(found, headline=str(found))


def _explain(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.analysis.explanation import explain

    document = document_asked(asked)
    for text in asked.get("why_not", ()):
        refuse_files(with_overrides(document, [text]))
    found = explain(document, catalog, why_not=asked.get("why_not", ()), around=asked.get("neighbours", True))
    return _shown(found, headline=str(found.outcome))


def _near(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.analysis.near import NearPlans, known_within, near_plans
    from planner.problem.resolve import question_of

    question = question_of(document_asked(asked), catalog)
    within = known_within(question)
    found = near_plans(question, count=min(10, int(asked.get("count", 5))), within=within)
    return _shown(NearPlans(tuple(found), question, within), headline=f"{len(found)} layouts within {within:.1%}")


def _front(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.analysis.near import front, usd_per_gpu_hour
    from planner.problem.resolve import question_of

    document, offer = document_asked(asked), asked.get("offer")
    usd = usd_per_gpu_hour(offer, question_of(document, catalog), catalog) if offer else None
    found = front(document, catalog, asked.get("over", "headroom"), price_usd_per_gpu_hour=usd)
    return _shown(found, headline=f"{len(found.points)} plans, none better in both")


def _compare(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.analysis.two_plans import compare, side_of

    sides = [side_of(document_asked(each), catalog) for each in asked["sides"][:MOST_SIDES]]
    if len(sides) != 2:
        raise InputError(Mistake(f"compare takes two scenarios, not {len(sides)}", Place("sides")))
    return _shown(compare(*sides), headline="side by side")


def _launch(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.launch.registry import files, refuse_other_engines
    from planner.problem.resolve import question_of
    from planner.search.search import search

    question = question_of(document_asked(asked), catalog)
    launcher = asked.get("to") or (question.first.engine.launch or ("",))[0]
    refuse_other_engines(launcher, question.first, catalog)
    outcome = search(question, check_points=0, time_limit_s=seconds)
    if outcome.plan is None:
        raise NoVerdict("no plan, so there is nothing to launch")
    return {"files": files(launcher, outcome, catalog), "launcher": launcher}


KINDS: dict[str, Callable[[Asked, ClosedCatalog, float], Answer]] = {
    "solve": _solve,
    "estimate": _estimate,
    "explain": _explain,
    "near": _near,
    "front": _front,
    "compare": _compare,
    "launch": _launch,
}
"""Questions by name; each is a path under /api/v1 too."""
