"""The front of throughput against another figure as blocks and as data."""

from __future__ import annotations

from planner.analysis.near import Front
from planner.report.blocks import Block, Grid, Headline, Plot, Text
from planner.report.critical import critical_note, free_cell
from planner.report.envelope import enveloped, together
from planner.report.json_text import JsonObject
from planner.report.screen import Screen, error_text, model_text, screen_blocks
from planner.report.short import short_layout
from planner.report.summary import next_command, plan_error_blocks
from planner.units import number


def front_blocks(name: str, front: Front) -> list[Block]:
    """One row a plan, and the front drawn."""
    if not front.points:
        return [_headline(name, front)]
    grid = _grid(front)
    blocks: list[Block] = [_headline(name, front), _without_twins(grid, front.over)]
    if len(grid.rows) > 1:
        points = tuple((p.value, p.plan.tokens_per_second) for p in front.points)
        labels = tuple(f"{row[0]} {front.unit}, {row[1]} tokens/s, {row[5]}" for row in grid.rows)
        blocks.append(Plot(f"tokens/s against {_over(front)}", front.unit, "tokens/s", points, labels))
    return [*blocks, Text(_proved(front)), *plan_error_blocks(front.points[0].plan)]


def front_screen(name: str, front: Front) -> list[Block]:
    """The same on one screen, without the drawing."""
    if not front.points:
        return screen_blocks(Screen(_headline(name, front)))
    first = front.points[0].plan
    return screen_blocks(
        Screen(
            _headline(name, front),
            table=_without_twins(_grid(front), front.over),
            spread=True,
            notes=(*(note.text for note in critical_note(p.plan for p in front.points)), _proved(front)),
            after=(("model", model_text(first)), ("risk", error_text(first))),
            command=next_command(front.question, None, "optimal"),
        )
    )


TWINS = {"headroom": 4, "gpus": 3}
"""The column that says again what the front is over."""


def _without_twins(grid: Grid, over: str) -> Grid:
    """The grid without a column that says what another one says."""
    kept = [place for place in range(len(grid.columns)) if place != TWINS.get(over)]
    rows = tuple(tuple(row[place] for place in kept) for row in grid.rows)
    return Grid(tuple(grid.columns[place] for place in kept), rows, left=frozenset({len(kept) - 1}))


def _headline(name: str, front: Front) -> Headline:
    if not front.points:
        return Headline(f"{name}: no layout fits anywhere on this front (proved)", good=False)
    count = len(front.points)
    plans = f"{count} plans of which none is" if count > 1 else "one plan, and none is"
    return Headline(f"{name}: {plans} better in both throughput and {_over(front)}")


def _over(front: Front) -> str:
    """The other axis in words."""
    return "GPUs" if front.over == "gpus" else front.over.replace("_", " ")


def _proved(front: Front) -> str:
    open_ = sum(p.status != "optimal" for p in front.points)
    said = "Every point is a plan solved and proved under its own limit."
    return f"Not proved within the time limit: {open_} of {len(front.points)} points." if open_ else said


def _grid(front: Front) -> Grid:
    digits = {"headroom": 1, "dollars": 3}.get(front.over, 0)
    rows = tuple(
        (
            number(p.value, digits),
            number(p.plan.tokens_per_second, 0),
            number(p.plan.step_seconds, 2),
            str(p.plan.num_gpus),
            free_cell(p.plan),
            short_layout(p.plan),
        )
        for p in front.points
    )
    columns = (front.unit, "tokens/s", "step s", "GPUs", "free GiB", "layout")
    return Grid(columns, rows, left=frozenset({5}))


def front_document(front: Front) -> JsonObject:
    """The same for programs."""
    document: JsonObject = {
        "scenario": front.question.name,
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
                "given_back_gib": round(p.plan.given_back_gib, 9),
                "layout": short_layout(p.plan),
            }
            for p in front.points
        ],
        "known_error": list(front.question.known_error_texts),
    }
    catalog = {*front.question.provenance, *(pair for p in front.points for pair in p.plan.problem.provenance)}
    return enveloped(
        "pareto", together(p.status for p in front.points), document, asked=[front.question], catalog=catalog
    )
