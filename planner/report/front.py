"""The front of throughput against another figure as blocks and as data."""

from __future__ import annotations

from planner.analysis.near import Front
from planner.report.blocks import Block, Grid, Headline, Plot, Text
from planner.report.json_text import JsonObject
from planner.report.short import short_layout
from planner.report.summary import plan_error_blocks
from planner.units import number


def front_blocks(name: str, front: Front) -> list[Block]:
    """One row a plan, and the front drawn."""
    if not front.points:
        return [Headline(f"{name}: no layout fits anywhere on this front (proved)", good=False)]
    digits = {"headroom": 1, "dollars": 3}.get(front.over, 0)
    rows = tuple(
        (
            number(p.value, digits),
            number(p.plan.tokens_per_second, 0),
            number(p.plan.step_seconds, 2),
            str(p.plan.num_gpus),
            number(p.plan.headroom_gib, 1),
            short_layout(p.plan),
        )
        for p in front.points
    )
    plans = f"{len(rows)} plans of which none is" if len(rows) > 1 else "one plan, and none is"
    columns = (front.unit, "tokens/s", "step s", "GPUs", "free GiB", "layout")
    blocks: list[Block] = [
        Headline(f"{name}: {plans} better in both throughput and {front.over}"),
        Grid(columns, rows, left=frozenset({5})),
    ]
    if len(rows) > 1:
        points = tuple((p.value, p.plan.tokens_per_second) for p in front.points)
        labels = tuple(f"{row[0]} {front.unit}, {row[1]} tokens/s, {row[5]}" for row in rows)
        blocks.append(Plot(f"tokens/s against {front.over}", front.unit, "tokens/s", points, labels))
    open_ = sum(p.status != "optimal" for p in front.points)
    said = "Every point is a plan solved and proved under its own limit."
    blocks.append(Text(f"Not proved within the time limit: {open_} of {len(rows)} points." if open_ else said))
    return [*blocks, *plan_error_blocks(front.points[0].plan)]


def front_document(front: Front) -> JsonObject:
    """The same for programs."""
    return {
        "schema_version": 1,
        "over": front.over,
        "unit": front.unit,
        "points": [
            {
                "value": p.value,
                "status": p.status,
                "tokens_per_second": p.plan.tokens_per_second,
                "step_seconds": p.plan.step_seconds,
                "num_gpus": p.plan.num_gpus,
                "headroom_gib": p.plan.headroom_gib,
                "layout": short_layout(p.plan),
            }
            for p in front.points
        ],
    }
