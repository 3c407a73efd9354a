"""Rows that are neither the fastest nor the near tie that wins, dropped before the model is built.

A row of the near-tie band can only win by headroom. A split in hand that surely lies in the band leaves so much memory
free; a row of which the closed form proves that it is too slow with as much left free cannot hold the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import evenly, prefers_even
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.rollout_pairs import RolloutPairs
from planner.search.deadline import NO_DEADLINE, Deadline
from planner.search.grid import Rounded, slowest_near_tie
from planner.search.tables import row_ranks
from planner.units import GIB

MANY = 8
"""So few rows go to the solver as they are."""
SURE = 1e-4
"""A split in hand counts only this much inside the band: more than rounding times to units can move a step."""


COMPARING = 0.8
"""Share of the time limit at which rows are no longer compared by headroom."""


def roomy_rows(
    rounded: Rounded,
    rows: Ints,
    bound: Floats,
    best: float,
    least: LeastRecompute | None,
    waiting: int | None = None,
    deadline: Deadline = NO_DEADLINE,
) -> np.ndarray:
    """Which of these rows may still hold the answer.

    `bound` holds for every row of the space seconds that no step with it undercuts, `best` those of a plan in hand;
    `least` costs rows with even or listed stages. `waiting` is a row in hand that waits for its rollout engine, as
    every other row does that is exactly as fast: none of these is faster, so that one of them is enough. Free stages
    beside a rollout engine are all kept, unless an even split is a near tie and wins for being even. Rows that were not
    compared when the time came are kept.
    """
    question, everything = rounded.costs.question, np.ones(len(rows), dtype=bool)
    near_tie = question.scenario.search.near_tie
    keep = bound[rows] <= best * (1 + SURE)
    if waiting is not None:
        keep &= (bound[rows] != best) | (rows == waiting)
    if len(rows) <= MANY or keep.all():
        return everything
    longest = slowest_near_tie(best, near_tie) * (1 + SURE)
    surely = slowest_near_tie(float(bound[rows].min()), near_tie) * (1 - SURE)
    if prefers_even(question.first):
        may, does, even = _even(rounded, rows, longest, surely, deadline)
        if does.any():
            keep[may] |= even.winners(rows[may])
            return keep
        if may.any():
            return everything
    if least is None and rounded.rollouts is not None:
        return everything
    reach = _Reach(rounded, least, longest, surely, question, deadline)
    if least is not None:
        keep |= reach.winners(rows)
        return keep
    in_hand = reach.most_in_hand(rows)
    if not in_hand:
        return everything
    keep[~keep] = reach.reaches(rows[~keep], in_hand)[0]
    return keep


def _even(
    rounded: Rounded, rows: Ints, longest: float, surely: float, deadline: Deadline
) -> tuple[np.ndarray, np.ndarray, _Reach]:
    """(rows of which an even split may be a near tie, those of which one surely is, what even splits reach)."""
    question, lay = evenly(rounded.costs.question), rounded.costs.layouts
    problem = question.first
    layers, stages = problem.architecture.num_hidden_layers, lay.pipeline_parallel[rows]
    dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
    divides = (layers % stages == 0) & (layers // stages >= np.maximum(lay.virtual_pipeline[rows], dense))
    least = LeastRecompute(question, rounded) if problem.scenario.layout.recompute == "uniform" else None
    reach = _Reach(rounded, least, longest, surely, question, deadline)
    may, does = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    may[divides], does[divides] = reach.reaches(rows[divides], 0)
    return may, does, reach


@dataclass(frozen=True)
class _Reach:
    """Which rows can leave how many steps of memory free within a time."""

    rounded: Rounded
    least: LeastRecompute | None
    longest: float
    """No near tie takes longer. [s]"""
    surely: float
    """Whatever takes no longer is a near tie. [s]"""
    question: Question
    """How stages may be split."""
    deadline: Deadline

    @cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self.question, self.rounded)

    @cached_property
    def _most(self) -> int:
        return max(0, self.rounded.limit) // self.rounded.headroom_step

    def reaches(self, rows: Ints, spare: int) -> tuple[np.ndarray, np.ndarray]:
        """(whether a near tie of a row may leave so many steps free, whether one surely does)."""
        held_back = spare * self.rounded.headroom_step
        if self.least is not None:
            seconds = RolloutPairs(self.rounded, rows, held_back).step(self.least.seconds(rows, held_back))
            return seconds <= self.longest, seconds <= self.surely
        pairs = RolloutPairs(self.rounded, rows, held_back)
        beyond = pairs.room(np.full(len(rows), self.longest * (1 + SURE)))
        bound, seconds = np.full(len(rows), math.inf), np.full(len(rows), math.inf)
        for place in np.flatnonzero(self._splitter.may(rows, beyond, held_back)).tolist():
            if self.deadline.past(COMPARING):
                bound[place] = -math.inf
                continue
            split = self._splitter.split(int(rows[place]), held_back, float(beyond[place]))
            bound[place], seconds[place] = split.bound_seconds, split.seconds
        return pairs.step(bound) <= self.longest, pairs.step(seconds) <= self.surely

    def winners(self, rows: Ints) -> np.ndarray:
        """Which of these rows with even or listed stages may win by headroom, and of equal ones by their order.

        Where no near tie can leave more free than one surely does, that one beats all that are less simple than it.
        """
        most = self.most_in_hand(rows)
        may, does = self.reaches(rows, most)
        if does.any() and not self.reaches(rows[may], most + 1)[0].any():
            costs = self.rounded.costs
            order = np.lexsort((row_ranks(costs)[rows], costs.simplicity[rows]))
            place = np.empty(len(rows), dtype=np.int64)
            place[order] = np.arange(len(rows))
            may &= place <= place[does].min()
        return may

    def most_in_hand(self, rows: Ints) -> int:
        """Steps of memory that a near tie among these rows surely leaves free."""
        return self.by_halves(rows) if self.least is not None else self.by_rows(rows)

    def by_halves(self, rows: Ints) -> int:
        """Most steps that some row surely leaves free; all rows at once."""
        low, high = 0, self._most + 1
        while high - low > 1:
            middle = (low + high) // 2
            may, does = self.reaches(rows, middle)
            if does.any():
                low, rows = middle, rows[may]
            else:
                high = middle
        return low

    def by_rows(self, rows: Ints) -> int:
        """The same, or a little less: row after row, since few of them raise what is in hand."""
        low = 0
        for row in rows:
            one, high = np.array([row]), self._most + 1
            if self.deadline.past(COMPARING):
                break
            if low and not self.reaches(one, low + 1)[1].all():
                continue
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.reaches(one, middle)[1].all() else (low, middle)
        return low


def most_free(rounded: Rounded, least: LeastRecompute | None, longest: float) -> tuple[int, float]:
    """(row, GiB) of the row that surely leaves most memory free within so many seconds, of rows that have a point.

    `least` costs rows with even or listed stages.
    """
    rows = np.arange(len(rounded.costs.layouts))
    reach = _Reach(rounded, least, longest, longest, rounded.costs.question, NO_DEADLINE)
    steps = reach.most_in_hand(rows)
    row = int(np.argmax(reach.reaches(rows, steps)[1]))
    return row, (rounded.headroom + steps * rounded.headroom_step) * rounded.memory_unit_bytes / GIB
