"""The placements of an RL run side by side, with what is known of the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from planner.analysis.placements import Placed
from planner.report.blocks import Block, Grid, Heading, Text
from planner.report.critical import critical_note, free_cell
from planner.report.short import short_layout
from planner.units import format_seconds, number

RANKED_TO = 0.25
"""Largest median error of the gains of separate GPUs with which placements are ranked without a warning."""


def placement_line(placed: Sequence[Placed]) -> str:
    """Every placement with its step, and what is known of the gains of separate GPUs; empty where one was pinned."""
    if not placed:
        return ""
    steps = ", ".join(f"{one.name}{' (chosen)' * one.chosen} {_step(one)}" for one in placed)
    return f"{steps}. {_doubt(placed)}"


def placement_blocks(placed: Sequence[Placed]) -> list[Block]:
    """The same as a table."""
    if not placed:
        return []
    rows = [
        (
            f"{one.name}{' (chosen)' * one.chosen}",
            _step(one),
            number(one.plan.tokens_per_second, 0) if one.plan is not None else "-",
            free_cell(one.plan) if one.plan is not None else "-",
            short_layout(one.plan) if one.plan is not None else "-",
        )
        for one in placed
    ]
    table = Grid(("placement", "step", "tokens/s", "free GiB", "layout"), tuple(rows), left=frozenset({0, 4}))
    note = critical_note(one.plan for one in placed)
    return [Heading("Placements, each solved"), table, *note, Text(_doubt(placed))]


def _step(one: Placed) -> str:
    if one.plan is None:
        return "does not fit" if one.none_fits else "none found in time"
    count = len(one.plan.wish.given_up)
    given = f", {count} wish{'es' * (count > 1)} given up" if count else ""
    return format_seconds(one.plan.step_seconds) + given


def _doubt(placed: Sequence[Placed]) -> str:
    known = next((one.plan.problem.known_errors.rl for one in placed if one.plan is not None), None)
    if known is None:
        return "No published pair was scored: the choice is uncertain."
    if known.ratio_median > RANKED_TO or _closest(placed) < 1 + known.ratio_median:
        return f"The choice is uncertain: {known.gains}."
    return f"{known.gains[0].upper()}{known.gains[1:]}."


def _closest(placed: Sequence[Placed]) -> float:
    """The next placement's step over the chosen one's; infinite where it is the only one that fits."""
    steps = sorted((not one.chosen, one.plan.step_seconds) for one in placed if one.plan is not None)
    return steps[1][1] / steps[0][1] if len(steps) > 1 else inf
