"""The order of goals: throughput, then within the near-tie band headroom, simplicity, and the smallest tuple.

Each goal is solved for and then fixed; goals of small range that follow one another are packed into one integer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    ordered = [
        Goal("time", model.time, model.tables.near),
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
    """(expression, number of values) of the goals after headroom, those that cannot vary left out.

    Every expression is a variable with just these values, so that a packed goal's range is their product.
    """
    tables = model.tables
    size = tables.max_layers + 1
    free = any(row.fixed_layers is None for row in tables.rows)
    parts: list[tuple[Any, int]] = []

    def place(name: str, values: Sequence[int], picked: tuple[Any, ...], more: Any = 0, extra: int = 0) -> None:
        """Values by their place in order, so that only small numbers enter the model."""
        first = min(values, default=0)
        dense = {v: v - first for v in values} if extra else {v: i for i, v in enumerate(sorted(set(values)))}
        count = max(dense.values(), default=0) + 1 + extra
        if count > 1:
            position = model.cp.new_int_var(0, count - 1, name)
            model.cp.add(position == sum(dense[v] * b for v, b in zip(values, picked, strict=True)) + more)
            parts.append((position, count))

    uneven = [0 if row.fixed_layers is None else int(len(set(row.fixed_layers)) > 1) for row in tables.rows]
    simple = [row.simplicity + extra for row, extra in zip(tables.rows, uneven, strict=True)]
    place("simplicity", simple, model.picked, model.uneven if free else 0, int(free))
    place("order of layouts", [row.rank for row in tables.rows], model.picked)
    if tables.uniform_recompute and tables.recompute == "whole":
        parts.append((model.every[0], 2))
    elif tables.uniform_recompute and tables.recompute == "levels" and not free:
        parts.append((model.level, size))
    elif tables.recompute != "all":
        parts += [(recomputed, size) for recomputed in model.recomputed]
    if free:
        parts += [(layers, size) for layers in model.layers]
    place("order of rollout choices", [choice.rank for choice in tables.choices], model.chosen)
    return parts
