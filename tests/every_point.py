"""Every point of a small space, listed by `one_by_one` and costed point by point: what bounds are held against.

No bound is read here, nor what a bound makes of coefficients: only the value of each stage at each point.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from one_by_one import points
from random_problems import random_case

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.inputs.document import load, override
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_middle
from planner.search.enumerate import count_points
from planner.search.grid import Rounded
from planner.search.space import Space, build_space

NEAR_TIE = 0.19
"""A wide band: bounds of headroom have something to say."""
MOST_ROWS = 4
"""Of each space, where a bound is asked row by row."""


@dataclass(frozen=True)
class EveryPoint:
    """All points of a question on a grid of KiB; `row`, `layers` and `recomputed` have one entry a point."""

    question: Question
    space: Space
    row: Ints
    layers: Ints
    recomputed: Ints
    text: str
    """What reproduces it."""

    @cached_property
    def costs(self) -> RowCosts:
        return RowCosts(self.question, self.space.layouts)

    @cached_property
    def rollouts(self) -> RolloutTable | None:
        return None if self.space.rollouts is None else RolloutTable(self.question, self.space.rollouts)

    @cached_property
    def grid(self) -> Rounded:
        return Rounded(self.costs, self.rollouts, 1.0, 1024.0)

    @cached_property
    def seconds(self) -> Floats:
        return self.costs.step_seconds(self.row, self.layers, self.recomputed)

    @cached_property
    def peak(self) -> Ints:
        return self.grid.peak(self.row, self.layers, self.recomputed)

    @cached_property
    def stages(self) -> Ints:
        """Of each point."""
        return self.space.layouts.pipeline_parallel[self.row]

    @cached_property
    def plain(self) -> np.ndarray:
        """Points of one stage that recompute nothing: nothing is left to choose, so that bounds are the truth."""
        return (self.stages == 1) & (self.recomputed == 0).all(axis=1)

    @cached_property
    def even(self) -> np.ndarray:
        """Points with as many layers on each stage."""
        exists = np.arange(self.layers.shape[1]) < self.stages[:, None]
        return np.asarray(((self.layers == self.layers[:, :1]) | ~exists).all(axis=1))

    @cached_property
    def some_rows(self) -> list[int]:
        """Up to MOST_ROWS rows that have points, evenly picked."""
        rows = np.unique(self.row)
        return rows[:: max(1, -(-len(rows) // MOST_ROWS))].tolist()

    def of(self, row: int) -> Ints:
        """Its points."""
        return np.flatnonzero(self.row == row)

    def least(self, values: Floats, among: np.ndarray) -> Floats:
        """The least value of each row among these points; infinite where it has none."""
        found = np.full(len(self.space.layouts), math.inf)
        np.minimum.at(found, self.row[among], values[among])
        return found

    @cached_property
    def together(self) -> tuple[Ints, Ints, Floats, Ints]:
        """(point, rollout choice or -1, seconds of the step, memory units) of each pair that fits."""
        places = np.flatnonzero(self.peak <= self.grid.limit)
        table = self.rollouts
        if table is None:
            return places, places * 0 - 1, self.seconds[places], self.peak[places]
        rows, beside, parts = self.space.layouts, table.choices, []
        for j in range(len(beside)):
            if self.grid.choice_memory[j] <= self.grid.limit:
                same = rows.variant == beside.variant[j]
                same &= (rows.num_gpus == beside.training_gpus[j]) & (rows.wish == beside.wish[j])
                mine = places[same[self.row[places]]]
                spent = np.maximum(self.seconds[mine] + table.seconds[j], table.least_seconds[j])
                parts.append((mine, mine * 0 + j, spent, np.maximum(self.peak[mine], self.grid.choice_memory[j])))
        empty = np.zeros(0, dtype=np.int64)
        return tuple(np.concatenate(p) for p in zip(*parts, strict=True)) if parts else (empty, empty, empty, empty)


def every_point(question: Question, text: str) -> EveryPoint:
    """Of a question whose space is small."""
    space = build_space(question)
    found = list(points(question, replace(space, rollouts=None)))
    if even_middle(question.first):
        found = [point for point in found if len(set(point[1][1:-1])) <= 1]
    wide = int(space.layouts.pipeline_parallel.max(initial=1))
    layers, recomputed = (np.zeros((len(found), wide), dtype=np.int64) for _ in range(2))
    for place, (_, split, again, _) in enumerate(found):
        layers[place, : len(split)], recomputed[place, : len(again)] = split, again
    row = np.array([row for row, *_ in found], dtype=np.int64)
    every = EveryPoint(question, space, row, layers, recomputed, text)
    assert len(found) == count_points(question, every.costs, None), text
    return every


@cache
def drawn(seed: int) -> EveryPoint:
    """The random problem of this seed, with a wide near-tie band."""
    case = random_case(seed, most_points=3000)
    case.scenario["search"]["near_tie"] = NEAR_TIE
    return every_point(case.question(), case.text)


@cache
def shipped(path: str, changes: str) -> EveryPoint:
    """A scenario that the repository holds, with fewer values left open: `changes` as JSON."""
    return every_point(question_of(override(load(path), json.loads(changes))), f"{path} {changes}")
