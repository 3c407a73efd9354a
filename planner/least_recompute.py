"""Even or listed stages with one number of recomputed layers: the least number that fits, for all rows at once.

Each line of memory is linear in the recomputed layers of a stage, so it holds between two whole numbers. Recomputing more
layers never takes less time, so the least number that all lines of all stages allow is also the fastest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.evaluate import ONLY_WHERE_RECOMPUTED, Coefficients, even_layers, recompute_levels
from planner.layouts import Floats, Ints
from planner.problem import Problem
from planner.rounding import Rounded, limit_bytes

NEVER = 2**40
"""More layers than any stage has."""


@dataclass(frozen=True)
class LeastRecompute:
    """Rows of which stages are even or listed, on the grid of integers."""

    problem: Problem
    rounded: Rounded

    @cached_property
    def layers(self) -> Ints:
        """Of each stage, shape [rows, stages]."""
        costs = self.rounded.costs
        return even_layers(self.problem, costs.layouts, costs.stages)

    @cached_property
    def by_levels(self) -> list[tuple[Ints, Ints]]:
        """(rows, numbers of recomputed layers that they may have, ascending)"""
        lay = self.rounded.costs.layouts
        kinds = np.stack([lay.variant, lay.virtual_pipeline, self.layers.max(axis=1, initial=0)], axis=1)
        unique, of_row = np.unique(kinds, axis=0, return_inverse=True)
        of_row, alike = of_row.reshape(-1), {}
        for index, (variant, chunks, most) in enumerate(unique.tolist()):
            levels = tuple(sorted(recompute_levels(self.problem.each[variant], most, chunks)))
            alike.setdefault(levels, []).append(index)
        return [
            (np.flatnonzero(np.isin(of_row, kinds)), np.array(levels, dtype=np.int64)) for levels, kinds in alike.items()
        ]

    @cached_property
    def points(self) -> int:
        """(row, number of recomputed layers)"""
        return sum(len(rows) * len(levels) for rows, levels in self.by_levels)

    def seconds(self, held_back: int = 0) -> Floats:
        """Of the fastest point of each row; infinite where none fits, with so many memory units less than there are."""
        low, high, none = self._window(exact=False, held_back=held_back)
        recomputed = np.full(len(low), -1, dtype=np.int64)
        for rows, levels in self.by_levels:
            if len(levels):
                place = np.searchsorted(levels, np.maximum(low[rows], 1))
                level = levels[np.minimum(place, len(levels) - 1)]
                fits = (place < len(levels)) & (level <= high[rows])
                recomputed[rows] = np.where(none[rows] & (levels[0] == 0), 0, np.where(fits, level, -1))
        out = np.full(len(low), np.inf)
        rows = np.flatnonzero(recomputed >= 0)
        layers = self.layers[rows]
        out[rows] = self.rounded.costs.step_seconds(rows, layers, np.minimum(layers, recomputed[rows, None]))
        return out

    def only_rounding_excludes(self) -> int:
        """Points that fit in floats and not in rounded-up integers."""
        (low, high, none), (least, most, zero) = self._window(exact=False), self._window(exact=True)
        count = 0
        for rows, levels in self.by_levels:
            some = levels[levels > 0]
            inside, fits = (
                np.maximum(np.searchsorted(some, top[rows], "right") - np.searchsorted(some, floor[rows]), 0)
                for floor, top in ((low, high), (least, most))
            )
            count += int(np.maximum(fits - inside, 0).sum())
            if len(levels) > len(some):
                count += int((zero[rows] & ~none[rows]).sum())
        return count

    def _window(self, *, exact: bool, held_back: int = 0) -> tuple[Ints, Ints, np.ndarray]:
        """(least, most recomputed layers above 0 that fit, whether none at all fit) of each row."""
        memory = self.rounded.costs.memory if exact else self.rounded.memory
        limit = limit_bytes(self.problem) if exact else self.rounded.limit - held_back
        always = self._between((c for name, c in memory.items() if name not in ONLY_WHERE_RECOMPUTED), limit)
        more = self._between((c for name, c in memory.items() if name in ONLY_WHERE_RECOMPUTED), limit)
        return np.maximum(always[0], more[0]), np.minimum(always[1], more[1]), (always[0] <= 0) & (always[1] >= 0)

    def _between(self, lines: Iterable[Coefficients], limit: float) -> tuple[Ints, Ints]:
        """(least, most recomputed layers of the fullest stage) to keep these lines in every stage of each row."""
        layers, exists = self.layers, self.rounded.costs.exists > 0
        low, high = np.zeros(len(layers), dtype=np.int64), np.full(len(layers), NEVER)
        for c in lines:
            over = c.layer * layers + c.end - limit
            slope = np.where(c.recomputed == 0, 1, c.recomputed)
            bend = np.floor_divide(-over, np.abs(slope))  # rises: at most so many layers; falls: at least minus so many
            least = np.where(c.recomputed < 0, -bend, np.where((c.recomputed == 0) & (over > 0), NEVER, 0))
            least = np.where(least > layers, NEVER, least)
            most = np.where((c.recomputed > 0) & (bend < layers), bend, NEVER)
            low = np.maximum(low, np.where(exists, least, 0).max(axis=1).astype(np.int64))
            high = np.minimum(high, np.where(exists, most, NEVER).min(axis=1).astype(np.int64))
        return low, high
