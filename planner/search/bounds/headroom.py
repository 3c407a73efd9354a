"""Rows that are neither the fastest nor the near tie with most headroom, dropped before the model is built.

A row of the near-tie band can only win by headroom. A split in hand that surely lies in the band leaves so much memory
free; a row of which the closed form proves that it is too slow with as much left free cannot hold the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.problem.layouts import Floats, Ints
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.rollout_pairs import RolloutPairs
from planner.search.grid import Rounded, slowest_near_tie

MANY = 8
"""So few rows go to the solver as they are."""
SURE = 1e-4
"""A split in hand counts only this much inside the band: more than rounding times to units can move a step."""


def roomy_rows(rounded: Rounded, rows: Ints, bound: Floats, best: float, least: LeastRecompute | None) -> np.ndarray:
    """Which of these rows may still hold the answer.

    `bound` holds for every row of the space seconds that no step with it undercuts, `best` those of a plan in hand;
    `least` costs rows with even or listed stages. Free stages beside a rollout engine are all kept.
    """
    near_tie = rounded.costs.problem.scenario.search.near_tie
    keep = bound[rows] <= best * (1 + SURE)
    if len(rows) <= MANY or keep.all() or (least is None and rounded.rollouts is not None):
        return np.ones(len(rows), dtype=bool)
    longest = slowest_near_tie(best, near_tie) * (1 + SURE)
    surely = slowest_near_tie(float(bound[rows].min()), near_tie) * (1 - SURE)
    reach = _Reach(rounded, least, longest, surely)
    in_hand = reach.by_halves(rows) if least is not None else reach.by_rows(rows)
    if not in_hand:
        return np.ones(len(rows), dtype=bool)
    keep[~keep] = reach.reaches(rows[~keep], in_hand)[0]
    return keep


@dataclass(frozen=True)
class _Reach:
    """Which rows can leave how many steps of memory free within a time."""

    rounded: Rounded
    least: LeastRecompute | None
    longest: float
    """No near tie takes longer. [s]"""
    surely: float
    """Whatever takes no longer is a near tie. [s]"""

    @cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self.rounded.costs.problem, self.rounded)

    @cached_property
    def _most(self) -> int:
        return max(0, self.rounded.limit) // self.rounded.headroom_step

    def reaches(self, rows: Ints, spare: int) -> tuple[np.ndarray, np.ndarray]:
        """(whether a near tie of a row may leave so many steps free, whether one surely does)."""
        held_back = spare * self.rounded.headroom_step
        if self.least is not None:
            seconds = RolloutPairs(self.rounded, rows, held_back).step(self.least.seconds(rows, held_back))
            return seconds <= self.longest, seconds <= self.surely
        found = [self._splitter.split(row, held_back) for row in rows.tolist()]
        may = np.array([split.bound_seconds <= self.longest for split in found], dtype=bool)
        return may, np.array([split.seconds <= self.surely for split in found], dtype=bool)

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
            if low and not self.reaches(one, low + 1)[1].all():
                continue
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.reaches(one, middle)[1].all() else (low, middle)
        return low
