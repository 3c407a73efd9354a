"""Rollout choices beside training layouts: the fastest step that each layout can be part of."""

from __future__ import annotations

import math

import numpy as np

from planner.problem.layouts import Floats, Ints
from planner.search.grid import Rounded
from planner.search.tables import choice_keys, row_keys

SPARE = 1e-4
"""A row waits for its rollout if it still does when it trains this share longer: more than rounding can move it."""


def fitting_choices(rounded: Rounded, held_back: int = 0) -> np.ndarray:
    """Which rollout choices fit by themselves; with `held_back` memory units less than there are."""
    return np.zeros(0, dtype=bool) if rounded.rollouts is None else rounded.choice_memory <= rounded.limit - held_back


class RolloutPairs:
    """The fastest step that each row (of these ones) can be part of, with the rollout choices that fit."""

    def __init__(self, rounded: Rounded, rows: Ints | None = None, held_back: int = 0) -> None:
        self.rows = len(rounded.costs.layouts) if rows is None else len(rows)
        self.rollouts = rounded.rollouts
        if self.rollouts is None:
            self.exists = np.ones(self.rows, dtype=bool)
            return
        of_row, self.of_choice = row_keys(rounded.costs.layouts), choice_keys(self.rollouts.choices)
        self.of_row = of_row if rows is None else of_row[rows]
        self.fits = fitting_choices(rounded, held_back)
        self.pairs = []
        self.exists = np.zeros(self.rows, dtype=bool)
        known = rounded.offers.setdefault(held_back, {})
        order = np.argsort(self.of_row, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(self.of_row[order])) + 1) if self.rows else ():
            key = int(self.of_row[places[0]])
            if key not in known:
                known[key] = self._offers(key)
            if len(known[key]):
                self.pairs.append((places, known[key]))
                self.exists[places] = True

    def _offers(self, key: int) -> Floats:
        """(seconds added to training, least seconds of a step) of the choices that fit beside rows of a key."""
        assert self.rollouts is not None
        these = self.fits & (self.of_choice == key)
        seconds, least = self.rollouts.seconds[these], self.rollouts.least_seconds[these]
        order = np.lexsort((least, seconds))
        seconds, least = seconds[order], least[order]
        # Of choices that add as much or more, only one that needs less by itself can be the fastest.
        kept = np.ones(len(least), dtype=bool)
        kept[1:] = least[1:] < np.minimum.accumulate(least)[:-1]
        return np.stack([seconds[kept], least[kept]], axis=1)

    def step(self, training: Floats) -> Floats:
        """Seconds of the step for these seconds of training; bounds stay bounds. [s]"""
        if self.rollouts is None:
            return training
        out = np.full(self.rows, math.inf)
        for rows, offers in self.pairs:
            for added, least in offers:
                out[rows] = np.minimum(out[rows], np.maximum(training[rows] + added, least))
        return out

    def room(self, step: Floats) -> Floats:
        """Most seconds of training with which the step of each row stays within so many; -inf where none do. [s]"""
        if self.rollouts is None:
            return step
        out = np.full(self.rows, -math.inf)
        for rows, offers in self.pairs:
            for added, least in offers:
                out[rows] = np.maximum(out[rows], np.where(least <= step[rows], step[rows] - added, -math.inf))
        return out

    def waiting(self, training: Floats, among: np.ndarray, step: float) -> int | None:
        """A row of those whose step is exactly `step` since it waits for the rollout, with time to spare."""
        if self.rollouts is None or not math.isfinite(step):
            return None
        found = np.flatnonzero(among & (self.step(training * (1 + SPARE)) == step))
        return int(found[0]) if len(found) else None

    def choice(self, row: int, training: float) -> int | None:
        """Place of the choice with which that row's step is shortest; None without a rollout engine."""
        if self.rollouts is None:
            return None
        step = np.maximum(training + self.rollouts.seconds, self.rollouts.least_seconds)
        return int(np.where(self.fits & (self.of_choice == self.of_row[row]), step, math.inf).argmin())

    def of(self, row: int, training: float) -> float:
        """The same for one row. [s]"""
        if self.rollouts is None:
            return training
        if not hasattr(self, "_of_row"):
            self._of_row = {int(r): offers for rows, offers in self.pairs for r in rows}
        offers = self._of_row.get(row)
        return math.inf if offers is None else float(np.maximum(training + offers[:, 0], offers[:, 1]).min())
