"""The order of goals: throughput, then within the near-tie band headroom, simplicity, and the smallest tuple.

Each goal is solved for and then fixed; goals of small range that follow one another are packed into one integer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.search.solver.model import Model

PACK = 2**28
"""Goals are packed while the product of their ranges stays below this."""


@dataclass(frozen=True)
class Goal:
    """One expression to minimise, and what is demanded of it afterwards."""

    name: str
    expression: Any
    fix: Callable[[int], int]
    """From the least value to the largest one later goals may accept."""


def first_goals(model: Model) -> list[Goal]:
    """Throughput, headroom, simplicity and the order of layouts: after them the layout is settled."""
    tables = model.tables
    ordered = [
        Goal("time", model.time, tables.near),
        *([Goal("uneven", model.uneven, lambda least: least)] if tables.prefers_even else []),
        Goal("spare", -model.spare, lambda least: least),
    ]
    free = any(row.fixed_layers is None for row in tables.rows)
    uneven = [0 if row.fixed_layers is None else int(len(set(row.fixed_layers)) > 1) for row in tables.rows]
    simple = [row.simplicity + extra for row, extra in zip(tables.rows, uneven, strict=True)]
    parts = _place(model, "simplicity", simple, model.picked, model.uneven if free else 0, int(free))
    parts += _place(model, "order of layouts", [row.rank for row in tables.rows], model.picked)
    return ordered + _packed("simplicity and order of layouts", parts)


def last_goals(model: Model) -> list[Goal]:
    """The smallest tuple of recomputed layers, layers and rollout choice of a layout."""
    tables = model.tables
    size = tables.max_layers + 1
    free = any(row.fixed_layers is None for row in tables.rows)
    parts: list[tuple[Any, int]] = []
    if all(row.every_layer for row in tables.rows):
        pass
    elif tables.uniform_recompute and tables.recompute == "whole":
        parts.append((model.every[0], 2))
    elif tables.uniform_recompute and not free:
        parts.append((model.level, size))
    else:
        parts += [(recomputed, size) for recomputed in model.recomputed]
    if free:
        parts += [(layers, size) for layers in model.layers]
    parts += _place(model, "order of rollout choices", [choice.rank for choice in tables.choices], model.chosen)
    return _packed("order of splits", parts)


def _packed(name: str, parts: list[tuple[Any, int]]) -> list[Goal]:
    """Goals one after the other, as many as fit in one integer at a time."""
    ordered = []
    while parts:
        packed, size, expression = 0, 1, 0
        while packed < len(parts) and (packed == 0 or size * parts[packed][1] < PACK):
            size *= parts[packed][1]
            expression = expression * parts[packed][1] + parts[packed][0]
            packed += 1
        ordered.append(Goal(name, expression, lambda least: least))
        parts = parts[packed:]
    return ordered


def _place(
    model: Model, name: str, values: Sequence[int], picked: tuple[Any, ...], more: Any = 0, extra: int = 0
) -> list[tuple[Any, int]]:
    """A variable with the place of the picked value, and how many values it has; nothing where it cannot vary.

    With `more`, which adds up to `extra`, distances between values count; otherwise only their order.
    """
    first = min(values, default=0)
    dense = {v: v - first for v in values} if extra else {v: i for i, v in enumerate(sorted(set(values)))}
    count = max(dense.values(), default=0) + 1 + extra
    if count == 1:
        return []
    position = model.cp.new_int_var(0, count - 1, name)
    model.cp.add(position == sum(dense[v] * b for v, b in zip(values, picked, strict=True)) + more)
    return [(position, count)]
