"""Questions as a worker answers them: plain data in and out, the same search and reports as the command line.

What only some questions need is imported by them: the first answer after a start does not wait for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from planner.errors import InputError, InternalError, Mistake, NoVerdict, Place, PlannerError
from planner.inputs.document import Document, override, parse_document, read_document, validate, with_overrides
from planner.inputs.examples import EXAMPLE
from planner.report.blocks import Block, Command, Figure, Grid, Headline, Plot
from planner.report.html import fragment
from planner.report.json_text import JsonObject
from planner.report.pages import on_paper, page
from planner.web.answers import MOST_SIDES, Answer, Asked
from planner.web.base import scenarios
from planner.web.closed_catalog import ClosedCatalog, closed_catalog, refuse_files


@dataclass
class PageAnswer:
    """An answer before it is plain data."""

    blocks: Sequence[Block]
    """The whole report."""
    document: JsonObject
    """The envelope of `--format json`."""
    figures: Sequence[Figure] = ()
    """For the report; most pages draw some of them too."""
    screen: Sequence[Block] = ()
    """In short; the whole report where there is no shorter one."""
    parts: dict[str, Sequence[Block]] = field(default_factory=dict)
    """What single views show, by name."""
    more: Answer = field(default_factory=dict)
    """Plain data that a page needs besides."""

    def plain(self, asked: Asked) -> Answer:
        """As data: a whole page where `report` gives the command that makes it again, the envelope alone where only
        `data` is asked for, else its parts.
        """
        if asked.get("data"):
            return {"document": self.document}
        blocks = _uncommanded(self.blocks)
        if asked.get("report") is not None:
            summary = _uncommanded(self.screen) or blocks[:1]
            return {"report": page(blocks, self.figures, lambda: summary, str(asked["report"]))}
        html = {name: fragment(_uncommanded(part)) for name, part in self.parts.items()}
        found = {"document": self.document, "html": fragment(blocks), "parts": html}
        return {**found, "headline": _headline(blocks), **self.more}


def _told(answer: object, figures: Sequence[Figure] = (), screen: Sequence[Block] = ()) -> PageAnswer:
    from planner.report.answers import answer_blocks, answer_document

    return PageAnswer(answer_blocks(answer), answer_document(answer), figures, screen)


def _uncommanded(blocks: Sequence[Block]) -> list[Block]:
    """Without what one would type next: a page has links for that."""
    return [block for block in blocks if not isinstance(block, Command)]


def _headline(blocks: Sequence[Block]) -> str:
    return next((block.text for block in blocks if isinstance(block, Headline)), "")


def _grid(grid: Grid) -> Answer:
    """A grid as data, for a page that puts buttons beside its rows."""
    return {"columns": grid.columns, "rows": grid.rows, "left": sorted(grid.left)}


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
        found = KINDS[kind](asked, closed_catalog(asked.get("config")), seconds)
        return found.plain(asked) if isinstance(found, PageAnswer) else found
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


def _solve(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.report.plan_figures import memory_figure, plan_figures, time_figure
    from planner.report.solve import Solved, solve_blocks, solve_document, solve_screen
    from planner.report.timeline import timeline_blocks
    from planner.report.topology import topology_blocks
    from planner.search.search import plan

    outcome = plan(document_asked(asked), catalog, check_points=0, time_limit_s=seconds)
    found, solved = outcome.plan, Solved(outcome)
    if asked.get("data"):
        return PageAnswer((), solve_document(solved))
    screen = solve_screen(solved)
    drawn: list[Figure] = [memory_figure(found), time_figure(found)] if found is not None else []
    figures = plan_figures(found) if found is not None else []
    told = PageAnswer(solve_blocks(solved), solve_document(solved), figures, screen)
    told.parts["plan"] = [*(on_paper(block) for block in screen), *drawn]  # the proof stands below on a page too
    told.parts |= {"timeline": timeline_blocks(outcome), "topology": topology_blocks(outcome)}
    return told


def _estimate(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.report.plan_figures import plan_figures
    from planner.search.estimate import estimate

    found = estimate(document_asked(asked), catalog)
    return _told(found, plan_figures(found))


def _explain(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.analysis.explanation import explain
    from planner.analysis.pins import texts
    from planner.report.explain import alternatives_grid

    document = document_asked(asked)
    for text in asked.get("why_not", ()):
        refuse_files(with_overrides(document, [text]))
    found = explain(document, catalog, why_not=asked.get("why_not", ()), around=asked.get("neighbours", True))
    told, base = _told(found), found.outcome.plan
    told.parts = {"told": told.blocks[1:]}  # its headline stands above already
    if base is not None and found.neighbours:
        grid = alternatives_grid(base, found.neighbours)
        at = list(told.blocks).index(grid)
        told.parts = {"told": [*told.blocks[1 : at - 1], *told.blocks[at + 1 :]]}  # the page has it with buttons
        told.more = {"grid": _grid(grid), "sets": [texts(dict(each.changes)) for each in found.neighbours]}
    return told


def _near(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.analysis.near import NearPlans, known_within, near_plans
    from planner.analysis.pins import pins
    from planner.problem.resolve import question_of
    from planner.report.near import near_table
    from planner.report.plan_figures import several_figures

    document = document_asked(asked)
    question = question_of(document, catalog)
    within = known_within(question)
    outcomes = near_plans(question, count=min(10, int(asked.get("count", 5))), within=within)
    plans = [outcome.plan for outcome in outcomes if outcome.plan is not None]
    figures = several_figures([(f"plan {place}", found) for place, found in enumerate(plans, 1)])
    told = _told(NearPlans(tuple(outcomes), question, within), figures)
    if plans:
        grid = _grid(near_table(plans, outcomes[0].near_ties, counted=True))
        told.more = {"grid": grid, "sets": [pins(found, document) for found in plans]}
    return told


def _front(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.analysis.near import front, usd_per_gpu_hour
    from planner.analysis.pins import opening
    from planner.problem.resolve import question_of
    from planner.report.plan_figures import several_figures
    from planner.units import number

    document, offer, over = document_asked(asked), asked.get("offer"), asked.get("over", "headroom")
    usd = usd_per_gpu_hour(offer, question_of(document, catalog), catalog) if offer else None
    found = front(document, catalog, over, price_usd_per_gpu_hour=usd)
    told = _told(found, several_figures([(number(p.value, 0), p.plan) for p in found.points]))
    blocks = _uncommanded(told.blocks)
    told.parts = {"headline": blocks[:1], "told": [b for b in blocks[1:] if not isinstance(b, (Grid, Plot))]}
    told.more = {"sets": [opening(point.plan, document, over) for point in found.points]}
    for block in blocks:
        told.more |= {"grid": _grid(block)} if isinstance(block, Grid) else {}
        told.more |= {"plot": asdict(block)} if isinstance(block, Plot) else {}
    return told


def _compare(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.analysis.many_plans import document_side, many
    from planner.report.two_plans import compare_figures, compare_screen

    sides = asked["sides"]
    if not 2 <= len(sides) <= MOST_SIDES:
        raise InputError(Mistake(f"compare takes 2 to {MOST_SIDES} scenarios, not {len(sides)}", Place("sides")))
    configs = {each.get("config") for each in sides}
    plans = [document_side(document_asked(each), closed_catalog(each.get("config"))) for each in sides]
    found = many(plans, closed_catalog(configs.pop()) if len(configs) == 1 else None)
    figures = compare_figures(found)
    told = _told(found, figures, compare_screen(found))
    told.parts = {"compare": [told.blocks[0], *figures, *told.blocks[1:]]}
    return told


def _launch(asked: Asked, catalog: ClosedCatalog, seconds: float) -> Answer:
    from planner.launch.registry import files, refuse_other_engines
    from planner.problem.resolve import question_of
    from planner.search.search import search

    question = question_of(document_asked(asked), catalog)
    launchers = [asked["to"]] if asked.get("to") else list(question.first.engine.launch)
    for launcher in launchers or [""]:
        refuse_other_engines(launcher, question.first, catalog)
    outcome = search(question, check_points=0, time_limit_s=seconds)
    if outcome.plan is None:
        raise NoVerdict("no plan, so there is nothing to launch")
    *first, last = launchers
    for launcher in first:  # the first one that has words for this plan
        with suppress(InputError):
            return {"files": files(launcher, outcome, catalog), "launcher": launcher}
    return {"files": files(last, outcome, catalog), "launcher": last}


def _budget(asked: Asked, catalog: ClosedCatalog, seconds: float) -> PageAnswer:
    from planner.analysis.budget.budget import answer_budget
    from planner.analysis.budget.known_layouts import KnownLayouts
    from planner.report.budget import budget_blocks, budget_screen
    from planner.report.budget_json import budget_document
    from planner.schema.budget import Budget

    document = with_overrides(parse_document(asked["text"], asked["name"]), asked.get("overrides", ()))
    known = [f"{name}.yaml" for name in scenarios()]
    for place, job in enumerate(validate(document, Budget).jobs):
        if job.scenario not in known:
            where, because = (
                document.place(("jobs", place, "scenario")),
                f"this page reads no file; there are {', '.join(known)}",
            )
            raise InputError(Mistake(f"no shipped scenario {job.scenario}", where, because))
        refuse_files(override(read_document(f"{EXAMPLE}{job.scenario.removesuffix('.yaml')}"), dict(job.set)))
    if not document.name.startswith(EXAMPLE):  # its jobs stand beside the shipped budgets
        document = replace(document, name=f"{EXAMPLE}{document.name}")
    found = answer_budget(document, catalog, KnownLayouts(), time_limit_s=seconds)
    return PageAnswer(budget_blocks(found), budget_document(found), screen=budget_screen(found))


KINDS: dict[str, Callable[[Asked, ClosedCatalog, float], PageAnswer | Answer]] = {
    "solve": _solve,
    "estimate": _estimate,
    "explain": _explain,
    "near": _near,
    "front": _front,
    "compare": _compare,
    "launch": _launch,
    "budget": _budget,
}
"""Questions by name; each is a path under /api/v1 too."""
