"""The order of goals: throughput, then within the near-tie band headroom, simplicity, and the smallest tuple.

Each goal is solved for and then fixed; goals of small range that follow one another are packed into one integer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from planner.solver.model import Model

PACK = 2**28
"""Goals are packed while the product of their ranges stays below this."""


@dataclass(frozen=True)
class Goal:
    """One expression to minimise, and what is demanded of it afterwards."""

    name: str
    expression: Any
    fix: Callable[[int], int]
    """From the least value to the largest one later goals may accept."""


def goals(model: Model) -> list[Goal]:
    """All goals in order, each to be minimised."""
    tie = model.tables.near_tie
    ordered = [
        Goal("time", model.time, lambda least: int(least * (1 + tie))),
        Goal("headroom", -model.headroom, lambda least: least),
    ]
    parts = _tail(model)
    while parts:
        packed, size, expression = 0, 1, 0
        while packed < len(parts) and (packed == 0 or size * parts[packed][1] < PACK):
            size *= parts[packed][1]
            expression = expression * parts[packed][1] + parts[packed][0]
            packed += 1
        ordered.append(Goal("simplicity and order", expression, lambda least: least))
        parts = parts[packed:]
    return ordered


def _tail(model: Model) -> list[tuple[Any, int]]:
    """(expression, number of values) of the goals after headroom, those that cannot vary left out."""
    tables = model.tables
    parts: list[tuple[Any, int]] = []

    def pick(values: list[int], picked: tuple[Any, ...], more: Any, extra: int) -> None:
        dense = {value: place for place, value in enumerate(sorted(set(values)))}
        if len(dense) + extra > 1:
            expression = sum(dense[v] * b for v, b in zip(values, picked, strict=True)) + more
            parts.append((expression, len(dense) + extra))

    simple = [row.simplicity for row in tables.rows]
    least = min(simple)
    free = any(row.fixed_layers is None for row in tables.rows)
    spread = max(simple) - least + 2
    if spread > 2 or free:
        expression = sum((v - least) * b for v, b in zip(simple, model.picked, strict=True)) + model.uneven
        parts.append((expression, spread))
    pick([row.rank for row in tables.rows], model.picked, 0, 0)
    size = tables.max_layers + 1
    if tables.uniform_recompute:
        if tables.recompute != "all":
            parts.append((model.level, size))
    else:
        parts += [(recomputed, size) for recomputed in model.recomputed]
    if free:
        parts += [(layers, size) for layers in model.layers]
    if tables.choices:
        pick([choice.rank for choice in tables.choices], model.chosen, 0, 0)
    return parts
