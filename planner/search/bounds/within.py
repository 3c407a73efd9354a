"""Many rows at once: may any split of a row fit and take no longer than a limit. Never says no where one may.

Each stage is taken by itself, with the recomputed layers that its memory asks for at least, and the layers that the
stages hold within the limit are added up. Where all stages share one number of recomputed layers it is no less than the
least with which they hold all layers together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import layer_step, recomputation, recompute_kind
from planner.search.bounds.any_split import kinds
from planner.search.bounds.windows import windows
from planner.search.grid import Rounded

NEVER = 2.0**31
"""More layers than any stage has."""
AT_ONCE = 400_000
"""Places (row, stage, number of layers) looked at together, at most."""


@dataclass(frozen=True)
class Within:
    """What can be said of rows without looking for their splits; memory in integers or (`exact`) in floats."""

    question: Question
    rounded: Rounded
    fixed: Ints | None
    """Layers of each stage of each row, where they are not free."""
    exact: bool = False

    def may(self, rows: Ints, seconds: Floats, held_back: int = 0) -> np.ndarray:
        """Which rows may hold all layers in so many seconds of `train` each; `held_back` memory units stay free."""
        found = np.zeros(len(rows), dtype=bool)
        stages = self.rounded.costs.layouts.pipeline_parallel[rows]
        for depth in np.unique(stages).tolist():
            alike = np.flatnonzero(stages == depth)
            many = max(1, AT_ONCE // (depth * self._total))
            for start in range(0, len(alike), many):
                these = alike[start : start + many]
                found[these] = self._may(rows[these], depth, seconds[these], held_back)
        return found

    def _may(self, rows: Ints, stages: int, seconds: Floats, held_back: int) -> np.ndarray:
        """The same for rows of as many stages."""
        counts = np.arange(1, self._total - (stages - 1 if self.fixed is None else 0) + 1)
        needed = self._needed(rows, stages, counts, held_back)
        if self.question.scenario.layout.recompute == "uniform":
            needed = self._shared(needed, counts)
        c, heavy, light = self.rounded.costs.time["train"]
        layer, again, end = (part[rows, :stages, None] for part in (c.layer, c.recomputed, c.end))
        spent = heavy[rows, None, None] * (layer * counts + again * needed + end)
        left = seconds - light[rows] * layer[..., 0].min(axis=1) * self._total
        return self._held((needed < NEVER) & (spent <= left[:, None, None]), counts)

    def _needed(self, rows: Ints, stages: int, counts: Ints, held_back: int) -> Floats:
        """Least recomputed layers with which each stage fits; NEVER where none do. Shape [rows, stages, counts]."""
        w = windows(self.rounded, rows, stages, counts, self.fixed, exact=self.exact, held_back=held_back)
        none, some, every, step = (
            column[:, None, None] for column in self._variants[self.rounded.costs.layouts.variant[rows]].T
        )
        again = np.where(every, counts, w.more)
        fits = some & w.inside & (w.more <= counts) & (again <= w.less)
        needed = np.where(none & w.fits & (w.low <= 0) & (w.high >= 0), 0.0, np.where(fits, again, NEVER))
        if self.fixed is not None:
            return needed
        chunks = self.rounded.costs.layouts.virtual_pipeline[rows, None, None]
        legal = (counts >= chunks) & (counts <= self._total - (stages - 1) * chunks) & (~step | (counts % chunks == 0))
        return np.asarray(np.where(legal, needed, NEVER))

    def _shared(self, needed: Floats, counts: Ints) -> Floats:
        """What stages recompute at least where they share one number of layers, or none or all of their own."""
        if recomputation(self.question.first) == "whole":
            alone = self._held(needed <= 0, counts)[:, None, None]
            return np.where(alone | (needed >= NEVER), needed, counts)
        low, high = np.full(len(needed), -1), np.full(len(needed), int(counts[-1]))
        while (high - low > 1).any():
            middle = (low + high) // 2
            enough = self._held(needed <= middle[:, None, None], counts)
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return np.asarray(np.maximum(needed, np.minimum(counts, high[:, None, None])))

    def _held(self, may: np.ndarray, counts: Ints) -> np.ndarray:
        """Can the stages of each row hold all layers together, each as many as it may."""
        most = np.where(may.any(axis=2), counts[may.shape[2] - 1 - may[:, :, ::-1].argmax(axis=2)], 0)
        return np.asarray((most > 0).all(axis=1) & (most.sum(axis=1) >= self._total))

    @property
    def _total(self) -> int:
        return self.question.architecture.num_hidden_layers

    @cached_property
    def _variants(self) -> np.ndarray:
        """Of each variant: may a stage recompute nothing, may it something, only all of it, do chunks divide layers."""
        rows = []
        for each in self.question.problems:
            whole = recompute_kind(each) == "all" or recomputation(each) == "whole"
            rows.append((*kinds(each), whole, layer_step(each, 2) > 1))
        return np.array(rows, dtype=bool)
