"""Stages on two kinds of machines: each stage's items from the cost functions of its own pool, merged by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from planner.costs.ledger import Item
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.time.affine import Affine
from planner.costs.time.step_time import StepTime
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem


def is_later(problem: Problem, layouts: Layouts, stage: Ints) -> np.ndarray:
    """Which stages lie on the later pool: those beyond the first pool's share of the pipeline."""
    if problem.later is None:
        return np.zeros(np.broadcast_shapes(np.shape(layouts.num_gpus), np.shape(stage)), dtype=bool)
    first = layouts.pipeline_parallel * problem.first_gpus // layouts.num_gpus
    return np.asarray(stage >= first)


def stage_memory(
    problem: Problem,
    layouts: Layouts,
    stage: Ints,
    layers: Ints,
    recomputed: Ints,
    line: Literal["first", "second"] | None = None,
) -> StageMemory | TwoPoolMemory:
    """Memory of stages, each on its own machines; arguments as of `StageMemory`."""
    first = StageMemory(problem, layouts, stage, layers, recomputed, line)
    if problem.later is None:
        return first
    second = StageMemory(problem.later, layouts, stage, layers, recomputed, line)
    return TwoPoolMemory(first, second, is_later(problem, layouts, stage))


def step_time(problem: Problem, layouts: Layouts, stage: Ints) -> StepTime | TwoPoolTime:
    """Time of a step, each stage on its own machines; arguments as of `StepTime`."""
    first = StepTime(problem, layouts, stage)
    if problem.later is None:
        return first
    return TwoPoolTime(first, StepTime(problem.later, layouts, stage), is_later(problem, layouts, stage))


@dataclass(frozen=True)
class TwoPoolMemory:
    """As `StageMemory`."""

    first: StageMemory
    second: StageMemory
    later: np.ndarray

    def ledger(self, name: str) -> tuple[Item, ...]:
        """What the card must hold at one moment. [bytes]"""
        theirs = {item.name: item for item in self.second.ledger(name)}
        items = [self._merged(item, theirs.pop(item.name, None)) for item in self.first.ledger(name)]
        return (*items, *(self._merged(replace(item, amount=0.0 * item.amount), item) for item in theirs.values()))

    def _merged(self, mine: Item, other: Item | None) -> Item:
        amount = np.where(self.later, 0.0 if other is None else other.amount, mine.amount)
        return Item(mine.name, amount, mine.source)


@dataclass(frozen=True)
class TwoPoolTime:
    """As `StepTime`, for what is summed over stages."""

    first: StepTime
    second: StepTime
    later: np.ndarray

    @cached_property
    def _visits(self) -> dict[str, tuple[Affine, ...]]:
        return {}

    def visit(self, name: str) -> tuple[Affine, ...]:
        """The items of a visit by its name."""
        if name not in self._visits:
            theirs = {row.name: row for row in self.second.visit(name)}
            rows = [self._merged(row, theirs.pop(row.name, None)) for row in self.first.visit(name)]
            self._visits[name] = (*rows, *(self._merged(None, row) for row in theirs.values()))
        return self._visits[name]

    def _merged(self, mine: Affine | None, other: Affine | None) -> Affine:
        known = mine or other
        assert known is not None

        def each(part: str) -> Floats:
            here, there = (0.0 if row is None else getattr(row, part) for row in (mine, other))
            return np.asarray(np.where(self.later, there, here))

        return Affine(known.name, each("layer"), each("recomputed"), each("end"), known.source)

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """(weight of the slowest stage, weight of the sum over stages) of a visit, per row."""
        return self.first.weights(name)

    def waits(self, name: str) -> Floats:
        """As `StepTime.waits`."""
        return self.first.waits(name)

    @property
    def slower(self) -> Floats:
        """As `StepTime.slower`."""
        return self.first.slower
