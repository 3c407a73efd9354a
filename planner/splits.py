"""Layers and recomputed layers per stage in closed form: a lower bound for a row, and a good feasible split.

For one row, a stage with n layers needs at least r(n) recomputed layers to fit, and then takes t(n) seconds, which
grows with n. The slowest stage can be no faster than the least limit under which the stages hold all layers together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.evaluate import RowCosts, recompute_levels
from planner.layouts import Floats, Ints
from planner.units import KIB


@dataclass(frozen=True)
class Split:
    """What is known of one row."""

    bound_seconds: float
    """No split of this row is faster; infinite where none fits."""
    seconds: float
    """Time of the split found, infinite where none was found."""
    layers: tuple[int, ...]
    recomputed: tuple[int, ...]


NONE = Split(math.inf, math.inf, (), ())


@dataclass(frozen=True)
class Splitter:
    """Splits rows; integer memory, rounded as the solver's tables round it."""

    costs: RowCosts
    limit_bytes: float
    """Capacity less headroom."""

    def split(self, row: int) -> Split:
        """Bound and split of one row."""
        spec = self.costs.problem.scenario.layout
        if spec.recompute == "per_stage":
            return self._split(row, None)
        most = self._most(row)
        best, bound = NONE, math.inf
        for level in recompute_levels(self.costs.problem, most):
            found = self._split(row, level)
            bound = min(bound, found.bound_seconds)
            if found.seconds < best.seconds:
                best = found
        return Split(bound, best.seconds, best.layers, best.recomputed)

    def _most(self, row: int) -> int:
        stages = int(self.costs.layouts.pipeline_parallel[row])
        return self.costs.problem.architecture.num_hidden_layers - stages + 1

    def _split(self, row: int, level: int | None) -> Split:
        problem, lay = self.costs.problem, self.costs.layouts
        stages, chunks = int(lay.pipeline_parallel[row]), int(lay.virtual_pipeline[row])
        total = problem.architecture.num_hidden_layers
        counts = np.arange(chunks, self._most(row) + 1, chunks)
        if not len(counts):
            return NONE
        needed, fits = self._needed(row, stages, counts, level)
        dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
        fits[0] &= counts >= dense
        c, heavy, light = self.costs.time["train"]
        seconds = c.layer[row, :stages, None] * counts + c.recomputed[row, :stages, None] * needed
        seconds = np.where(fits, seconds + c.end[row, :stages, None], math.inf)
        least = np.array([counts[f.argmax()] if f.any() else total + 1 for f in fits])
        if least.sum() > total:
            return NONE
        limit = self._slowest(seconds, counts, total)
        if not math.isfinite(limit):
            return NONE
        bound = float(heavy[row]) * limit
        bound += float(light[row]) * float(c.layer[row, 0] * total + c.end[row, :stages].sum())
        for name, (other, weight, share) in self.costs.time.items():
            if name != "train":
                whole = float(other.layer[row, 0] * total + other.end[row, :stages].sum())
                bound += whole * (float(weight[row]) / stages + float(share[row]))
        layers = self._assign(seconds, needed, counts, least, total, limit)
        if layers is None:
            return Split(bound, math.inf, (), ())
        recomputed = needed[np.arange(stages), np.searchsorted(counts, layers)]
        width = self.costs.stages
        exact = self.costs.step_seconds(
            np.array([row]),
            np.pad(layers, (0, width - stages))[None, :],
            np.pad(recomputed, (0, width - stages))[None, :],
        )
        return Split(min(bound, float(exact[0])), float(exact[0]), tuple(layers.tolist()), tuple(recomputed.tolist()))

    def _needed(self, row: int, stages: int, counts: Ints, level: int | None) -> tuple[Ints, np.ndarray]:
        """(recomputed layers needed, whether that fits) for each stage and layer count."""
        low = np.zeros((stages, len(counts)))
        high = np.broadcast_to(counts.astype(float), low.shape).copy()
        fits = np.ones(low.shape, dtype=bool)
        limit = math.floor(self.limit_bytes / KIB)
        for c in self.costs.memory.values():
            layer, saved, end = (np.ceil(part[row, :stages, None] / KIB) for part in (c.layer, c.recomputed, c.end))
            over = layer * counts + end - limit
            slope = np.broadcast_to(saved, over.shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                low = np.where(slope < 0, np.maximum(low, np.ceil(over / -slope)), low)
                high = np.where(slope > 0, np.minimum(high, np.floor(-over / slope)), high)
            fits &= (slope != 0) | (over <= 0)
        if level is not None:
            fits &= (low <= level) & (level <= high) & (level <= counts)
            return np.full(low.shape, level), fits
        allowed = self._allowed(low, counts)
        return allowed.astype(np.int64), fits & (allowed <= high) & (allowed <= counts)

    def _allowed(self, low: Floats, counts: Ints) -> Floats:
        """The least allowed number of recomputed layers that is at least `low`."""
        out = np.full(low.shape, np.inf)
        for column, count in enumerate(counts.tolist()):
            levels = np.array(recompute_levels(self.costs.problem, count), dtype=float)
            if not len(levels):
                continue
            place = np.searchsorted(levels, low[:, column])
            found = place < len(levels)
            out[found, column] = levels[np.minimum(place, len(levels) - 1)][found]
        return np.where(np.isfinite(out), out, 2**31)

    @staticmethod
    def _slowest(seconds: Floats, counts: Ints, total: int) -> float:
        """The least time limit under which the stages together hold all layers."""
        values = np.unique(seconds[np.isfinite(seconds)])
        low, high = 0, len(values) - 1
        if high < 0 or _held(seconds, counts, float(values[-1])).sum() < total:
            return math.inf
        while low < high:
            middle = (low + high) // 2
            if _held(seconds, counts, float(values[middle])).sum() >= total:
                high = middle
            else:
                low = middle + 1
        return float(values[low])

    @staticmethod
    def _assign(seconds: Floats, needed: Ints, counts: Ints, least: Ints, total: int, limit: float) -> Ints | None:
        """A split within the limit with few recomputed layers, greedily; None where chunks do not add up."""
        step = int(counts[0])
        layers, most = least.copy(), _held(seconds, counts, limit)
        if (total - int(layers.sum())) % step or np.any(most < least):
            return None
        rows = np.arange(len(layers))
        while layers.sum() < total:
            place = np.searchsorted(counts, layers)
            after = np.minimum(place + 1, len(counts) - 1)
            extra = (needed[rows, after] - needed[rows, place]).astype(float)
            pressure = extra + seconds[rows, after] / max(limit, 1e-12) * 1e-3
            pressure[layers >= most] = math.inf
            pick = int(pressure.argmin())
            if not math.isfinite(pressure[pick]):
                return None
            layers[pick] += step
        return layers


def _held(seconds: Floats, counts: Ints, limit: float) -> Ints:
    """Most layers that each stage holds within a time limit (0 where none)."""
    inside = seconds <= limit
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return np.where(inside.any(axis=1), counts[last], 0)
