"""The best distinct layouts as blocks and as data."""

from __future__ import annotations

from planner.report.blocks import Block, Grid, Headline, Text
from planner.report.json_text import JsonObject
from planner.report.short import LEGEND, short_binding, short_layout
from planner.report.summary import plan_error_blocks
from planner.search.decisions import layout_document
from planner.search.search import Outcome
from planner.units import number, percent, signed


def near_blocks(name: str, outcomes: list[Outcome], within: float) -> list[Block]:
    """One row a layout, how far each is from the best, and what is known of the error."""
    plans = [outcome.plan for outcome in outcomes if outcome.plan is not None]
    if not plans:
        return [Headline(f"{name}: no layout fits (proved)", good=False)]
    best = plans[0]
    rows = []
    for place, plan in enumerate(plans, 1):
        slower = plan.step_seconds / best.step_seconds - 1
        rows.append(
            (
                str(place),
                short_layout(plan),
                number(plan.step_seconds, 2),
                f"{signed(slower * 100, 1)} %",
                number(plan.headroom_gib, 1),
                short_binding(plan),
            )
        )
    unproved = sum(outcome.status != "optimal" for outcome in outcomes)
    return [
        Headline(f"{name}: {len(plans)} layouts within {percent(within)} of the best"),
        Grid(("", "layout", "step s", "slower", "free GiB", "fullest in"), tuple(rows), left=frozenset({1, 5})),
        *([Text(f"Not proved within the time limit: {unproved} of {len(plans)}.")] if unproved else []),
        Text(LEGEND),
        Text(
            "On public sweeps the best of the first three is the real best more often than the first alone: try three."
        ),
        *plan_error_blocks(best),
    ]


def near_document(outcomes: list[Outcome]) -> JsonObject:
    """The same for programs."""
    return {
        "schema_version": 1,
        "plans": [
            {
                "status": outcome.status,
                "layout": layout_document(outcome.plan),
                "step_seconds": outcome.plan.step_seconds,
                "tokens_per_second": outcome.plan.tokens_per_second,
                "headroom_gib": outcome.plan.headroom_gib,
            }
            for outcome in outcomes
            if outcome.plan is not None
        ],
    }
