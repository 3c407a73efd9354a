"""Where the time of a step goes, drawn: phases of an RL step, the pipeline, and every item."""

from __future__ import annotations

from planner.report.blocks import Block, Grid, Heading
from planner.report.plan_figures import phases_figure, pipeline_figure, time_figure
from planner.report.schedule import schedule_blocks
from planner.report.summary import headline
from planner.search.search import Outcome
from planner.units import number, percent


def timeline_blocks(outcome: Outcome) -> list[Block]:
    """The phases of a step one after the other, its pipeline, and its items with their shares."""
    plan = outcome.plan
    if plan is None:
        return [headline(outcome)]
    phases, pipeline = phases_figure(plan) if plan.problem.is_rl else None, pipeline_figure(plan)
    figures = [figure for figure in (phases, pipeline, time_figure(plan)) if figure is not None]
    blocks: list[Block] = [headline(outcome), *figures, *schedule_blocks(plan)]
    if plan.problem.is_rl:
        blocks += [Heading("Phases"), _grid("phase", [(str(n), s) for n, s in plan.phases], plan.step_seconds)]
    items = sorted(((str(entry.name), entry.amount) for entry in plan.time), key=lambda item: -item[1])
    return [*blocks, Heading("Items"), _grid("item", items, plan.step_seconds)]


def _grid(what: str, amounts: list[tuple[str, float]], whole: float) -> Grid:
    rows = [(name, number(seconds, 3), percent(seconds / whole)) for name, seconds in amounts if seconds > 0]
    rows.append(("step", number(whole, 3), ""))
    return Grid((what, "s", "of the step"), tuple(rows), strong=frozenset({len(rows) - 1}))
