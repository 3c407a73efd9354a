"""Even or listed stages with one number of recomputed layers: the least number that fits, for all rows at once.

Each line of memory is linear in the recomputed layers of a stage, so it holds between two whole numbers. Recomputing
more layers never takes less time, so the least number that all lines of all stages allow is also the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED, Coefficients
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import even_layers, recompute_levels
from planner.search.grid import Rounded, limit_bytes

NEVER = 2**40
"""More layers than any stage has."""


@dataclass(frozen=True)
class LeastRecompute:
    """Rows of which stages are even or listed, on the grid of integers."""

    question: Question
    rounded: Rounded

    @cached_property
    def layers(self) -> Ints:
        """Of each stage, shape [rows, stages]."""
        costs = self.rounded.costs
        return even_layers(self.question.first, costs.layouts, costs.stages)

    @cached_property
    def levels(self) -> tuple[Ints, list[Ints]]:
        """(which list each row takes, lists of recomputed layers that a row may have, ascending)"""
        lay = self.rounded.costs.layouts
        kinds = np.stack([lay.variant, lay.virtual_pipeline, self.layers.max(axis=1, initial=0)], axis=1)
        unique, of_row = np.unique(kinds, axis=0, return_inverse=True)
        each = [
            tuple(sorted(recompute_levels(self.question.problems[variant], most, chunks)))
            for variant, chunks, most in unique.tolist()
        ]
        alike = list(dict.fromkeys(each))
        list_of_kind = np.array([alike.index(levels) for levels in each], dtype=np.int64)
        return list_of_kind[of_row.reshape(-1)], [np.array(levels, dtype=np.int64) for levels in alike]

    @cached_property
    def points(self) -> int:
        """(row, number of recomputed layers)"""
        of_row, lists = self.levels
        return int(np.array([len(levels) for levels in lists])[of_row].sum())

    def seconds(self, rows: Ints | None = None, held_back: int = 0) -> Floats:
        """Of the fastest point of each row (of these ones); infinite where none fits.

        With `held_back` there are so many memory units less.
        """
        rows = np.arange(len(self.layers)) if rows is None else rows
        recomputed = self.recomputed(rows, held_back)
        out = np.full(len(rows), np.inf)
        some = recomputed >= 0
        layers = self.layers[rows[some]]
        again = np.minimum(layers, recomputed[some, None])
        out[some] = self.rounded.costs.step_seconds(rows[some], layers, again)
        return out

    def recomputed(self, rows: Ints, held_back: int = 0) -> Ints:
        """Least number of recomputed layers with which each of these rows fits; -1 where none does. [layers]"""
        low, high, none = self._window(rows, exact=False, held_back=held_back)
        recomputed = np.full(len(rows), -1, dtype=np.int64)
        for these, levels in self._by_list(rows):
            if len(levels):
                place = np.searchsorted(levels, np.maximum(low[these], 1))
                level = levels[np.minimum(place, len(levels) - 1)]
                fits = (place < len(levels)) & (level <= high[these])
                recomputed[these] = np.where(none[these] & (levels[0] == 0), 0, np.where(fits, level, -1))
        return recomputed

    def only_rounding_excludes(self) -> int:
        """Points that fit in floats and not in rounded-up integers."""
        every = np.arange(len(self.layers))
        (low, high, none), (least, most, zero) = self._window(every, exact=False), self._window(every, exact=True)
        count = 0
        for rows, levels in self._by_list(every):
            some = levels[levels > 0]
            inside, fits = (
                np.maximum(np.searchsorted(some, top[rows], "right") - np.searchsorted(some, floor[rows]), 0)
                for floor, top in ((low, high), (least, most))
            )
            count += int(np.maximum(fits - inside, 0).sum())
            if len(levels) > len(some):
                count += int((zero[rows] & ~none[rows]).sum())
        return count

    def _by_list(self, rows: Ints) -> Iterator[tuple[Ints, Ints]]:
        """(places among these rows, numbers of recomputed layers that they may have)"""
        of_row, lists = self.levels
        for index, levels in enumerate(lists):
            yield np.flatnonzero(of_row[rows] == index), levels

    def _window(self, rows: Ints, *, exact: bool, held_back: int = 0) -> tuple[Ints, Ints, np.ndarray]:
        """(least, most recomputed layers above 0 that fit, whether none at all fit) of each row."""
        memory = self.rounded.costs.memory if exact else self.rounded.memory
        limit = limit_bytes(self.question) if exact else self.rounded.limit - held_back
        always = self._between(rows, (c for name, c in memory.items() if name not in ONLY_WHERE_RECOMPUTED), limit)
        more = self._between(rows, (c for name, c in memory.items() if name in ONLY_WHERE_RECOMPUTED), limit)
        return np.maximum(always[0], more[0]), np.minimum(always[1], more[1]), (always[0] <= 0) & (always[1] >= 0)

    def _between(self, rows: Ints, lines: Iterable[Coefficients], limit: float) -> tuple[Ints, Ints]:
        """(least, most recomputed layers of the fullest stage) to keep these lines in every stage of each row."""
        stages = int(self.rounded.costs.layouts.pipeline_parallel[rows].max(initial=1))
        layers, exists = self.layers[rows, :stages], self.rounded.costs.exists[rows, :stages] > 0
        low, high = np.zeros(len(layers), dtype=np.int64), np.full(len(layers), NEVER)
        for c in lines:
            slope, end = c.recomputed[rows, :stages], c.end[rows, :stages]
            over = c.layer[rows, :stages] * layers + end - limit
            # A line that rises allows at most this many layers, one that falls at least minus this many.
            bend = np.floor_divide(-over, np.where(slope == 0, 1, np.abs(slope)))
            least = np.where(slope < 0, -bend, np.where((slope == 0) & (over > 0), NEVER, 0))
            least = np.where(least > layers, NEVER, least)
            most = np.where((slope > 0) & (bend < layers), bend, NEVER)
            low = np.maximum(low, np.where(exists, least, 0).max(axis=1).astype(np.int64))
            high = np.minimum(high, np.where(exists, most, NEVER).min(axis=1).astype(np.int64))
        return low, high
