"""Layers and recomputed layers per stage in closed form: a lower bound for a row, and a good feasible split.

For one row, a stage with n layers needs at least r(n) recomputed layers to fit, and then takes t(n) seconds, which
grows with n. The slowest stage can be no faster than the least limit under which the stages hold all layers together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Problem, Question
from planner.problem.stage_choices import (
    even_layers,
    even_middle,
    is_free,
    layer_step,
    named_levels,
    recomputation,
    recompute_kind,
    recompute_levels,
)
from planner.search.bounds.any_split import adds_up, adds_up_alike
from planner.search.bounds.fill_stages import assign, held_within, lightened, slowest, traded
from planner.search.bounds.windows import Windows, windows
from planner.search.bounds.within import Within
from planner.search.grid import Rounded


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
Option: TypeAlias = "tuple[Ints | None, int | None]"
"""(recomputed layers by layer count, or None for as few as needed; what the fullest stage must then have)."""
FEW = 2
"""So few options are tried as they are."""
WHOLE = 1e-6
"""So little short of a whole layer counts as one."""
HALVINGS = 30
"""Of the longest stage, to come within rounding of the slowest one."""


@dataclass(frozen=True)
class Splitter:
    """Splits rows, with integer memory as the solver counts it."""

    question: Question
    rounded: Rounded

    def split(self, row: int, held_back: int = 0, beyond: float = math.inf) -> Split:
        """Bound and split of one row; with `held_back` memory units less than there are.

        No split that takes `beyond` seconds or more is looked for: a bound not below says no more than that.
        """
        best, bound, options = NONE, math.inf, list(self._options(row))
        if len(options) > FEW:
            options = self._possible(row, options, held_back)
        many = len(options) > FEW
        for wanted, named in options:
            least = self._soonest(row, wanted) if many else 0.0
            if least >= min(best.seconds, beyond):
                bound = min(bound, least)
                break  # more recomputed layers take no less time, with memory out of the question
            found = self._split(row, wanted, named, held_back, min(best.seconds, beyond))
            bound = min(bound, found.bound_seconds)
            if found.seconds < best.seconds:
                best = found
        return Split(bound, best.seconds, best.layers, best.recomputed)

    def may(self, rows: Ints, beyond: Floats, held_back: int = 0, *, exact: bool = False) -> np.ndarray:
        """Which rows may have a split of at most so many seconds, one limit a row; `held_back` as in `split`."""
        look = self._exactly if exact else self._within
        return look.may(rows, beyond - self.besides[rows], held_back)

    @cached_property
    def _within(self) -> Within:
        return Within(self.question, self.rounded, self.fixed)

    @cached_property
    def _exactly(self) -> Within:
        return Within(self.question, self.rounded, self.fixed, exact=True)

    def _possible(self, row: int, options: list[Option], held_back: int) -> list[Option]:
        """Options under which each stage holds its least layers, and all of them together can hold all layers."""
        counts, total = self._counts(row), self.question.architecture.num_hidden_layers
        low, high, fits, more, less, inside = self._at_hand(row, counts, False, held_back)
        wanted = np.stack([np.asarray(levels) for levels, _ in options])[:, None, :]
        none = fits & (low <= 0) & (high >= 0)
        held = np.where(wanted == 0, none, inside & (more <= wanted) & (wanted <= less))
        least, most = counts[held.argmax(axis=2)], counts[held.shape[2] - 1 - held[:, :, ::-1].argmax(axis=2)]
        possible = np.asarray(held.any(axis=2)).all(axis=1) & (least.sum(axis=1) <= total) & (most.sum(axis=1) >= total)
        return [option for option, may in zip(options, possible.tolist(), strict=True) if may]

    def _soonest(self, row: int, wanted: Ints | None) -> float:
        """Seconds that no split undercuts with so many recomputed layers, if memory were no limit.

        The slowest stage is found by halves, in plain floats: there are few kinds of stages.
        """
        costs, total = self.rounded.costs, self.question.architecture.num_hidden_layers
        stages = int(costs.layouts.pipeline_parallel[row])
        c, heavy, light = costs.time["train"]
        alike = Counter(zip(*(part[row, :stages].tolist() for part in (c.layer, c.recomputed, c.end)), strict=True))
        step = layer_step(self._variant(row), self._chunks(row)) if self.fixed is None else 1
        level = int(np.max(wanted)) if wanted is not None else 0
        each = [
            (layer, layer + again, again * level, (layer + again) * level, end, number)
            for (layer, again, end), number in alike.items()
        ]
        low, high = 0.0, max(end + both * total for _, both, _, _, end, _ in each)
        for _ in range(HALVINGS):
            middle, held = (low + high) / 2, 0
            for layer, both, added, rebuilt, end, number in each:
                left = max(middle - end, 0.0)
                layers = left / both if left <= rebuilt else (left - added) / layer
                held += math.floor(layers / step + WHOLE) * step * number
            low, high = (low, middle) if held >= total else (middle, high)
        rest = float(light[row]) * float(min(layer for layer, *_ in each)) * total + float(self.besides[row])
        return float(heavy[row]) * low + rest

    @cached_property
    def besides(self) -> Floats:
        """Least seconds of a step of each row that are not those of training's layers: ends, and other visits. [s]"""
        costs, total = self.rounded.costs, self.question.architecture.num_hidden_layers
        seconds = np.zeros(len(costs.layouts))
        for name, (c, heavy, light) in costs.time.items():
            ends = (c.end * costs.exists).sum(axis=1)
            if name == "train":
                seconds += light * ends
            else:
                whole = np.where(costs.exists > 0, c.layer, np.inf).min(axis=1) * total + ends
                seconds += whole * (heavy / costs.layouts.pipeline_parallel + light)
        return seconds

    def holds(self, row: int, held_back: int = 0) -> bool:
        """Does any split of the row fit, in integers; `held_back` as in `split`. Exact, and by memory alone."""
        counts, total = self._counts(row), self.question.architecture.num_hidden_layers
        together = adds_up_alike if even_middle(self.question.first) else adds_up
        for wanted, named in self._options(row):
            _, fits = self._needed(row, wanted, exact=False, held_back=held_back)
            if named is None or named >= 0:
                if together(fits, counts, total, named):
                    return True
                continue
            for most in named_levels(self._variant(row), int(counts[-1]), self._chunks(row)):
                if together(fits & (counts <= most), counts, total, most):
                    return True
        return False

    def only_rounding_excludes(self, row: int) -> bool:
        """True where stages fit in floats, each by itself and all layers together, and not in rounded-up integers."""
        return any(self._holds_all(row, wanted, exact=True) for wanted, _ in self._options(row)) and not any(
            self._holds_all(row, wanted, exact=False) for wanted, _ in self._options(row)
        )

    @cached_property
    def fixed(self) -> Ints | None:
        """Layers of each stage of each row, where they are not free."""
        costs = self.rounded.costs
        if is_free(self.question.first):
            return None
        return even_layers(self.question.first, costs.layouts, costs.stages)

    @cached_property
    def _window(self) -> dict[tuple[int, bool, int], Windows]:
        return {}

    @cached_property
    def _known(self) -> dict[tuple[int, int, bytes], Ints]:
        return {}

    def _counts(self, row: int) -> Ints:
        """Layers that one stage of the row may have."""
        lay = self.rounded.costs.layouts
        stages, chunks = int(lay.pipeline_parallel[row]), int(lay.virtual_pipeline[row])
        if self.fixed is not None:
            return np.unique(self.fixed[row, :stages])
        most = self.question.architecture.num_hidden_layers - (stages - 1) * chunks
        return np.arange(chunks, most + 1, layer_step(self._variant(row), chunks))

    def _options(self, row: int) -> Iterator[Option]:
        """Ways to recompute, fewer layers first."""
        counts, problem = self._counts(row), self._variant(row)
        kind = recomputation(problem)
        chunks = self._chunks(row)
        if not len(counts):
            return
        if recompute_kind(problem) == "all":
            yield counts, None
        elif self.question.scenario.layout.recompute == "per_stage":
            yield None, None
        elif kind == "whole":
            levels = named_levels(problem, int(counts[-1]), chunks)
            if 0 in levels:
                yield counts * 0, None
            if any(level > 0 for level in levels):
                yield counts, -1
        else:
            apart = self.fixed is None and layer_step(problem, chunks) < chunks
            for level in recompute_levels(problem, int(counts[-1]), chunks):
                if not apart or level % chunks == 0:
                    yield np.minimum(counts, level), level
            if apart:
                yield counts, -1

    def _split(self, row: int, wanted: Ints | None, named: int | None, held_back: int, known: float) -> Split:
        """Bound and split under one way to recompute; no split is looked for where the bound is not below `known`."""
        costs, lay, counts = self.rounded.costs, self.rounded.costs.layouts, self._counts(row)
        stages, total = int(lay.pipeline_parallel[row]), self.question.architecture.num_hidden_layers
        needed, fits = self._needed(row, wanted, exact=False, held_back=held_back)
        c, heavy, light = costs.time["train"]
        seconds = c.layer[row, :stages, None] * counts + c.recomputed[row, :stages, None] * needed
        seconds = np.where(fits, seconds + c.end[row, :stages, None], math.inf)
        least = np.array([counts[f.argmax()] if f.any() else total + 1 for f in fits])
        if least.sum() > total:
            return NONE
        limit = slowest(seconds, counts, total)
        if not math.isfinite(limit):
            return NONE
        weights, layer = (float(heavy[row]), float(light[row])), c.layer[row, :stages]
        bound, layers = traded(seconds, counts, least, total, limit, layer, weights)
        bound += float(self.besides[row])
        if bound >= known:
            return Split(bound, math.inf, (), ())
        if layers is None:
            if wanted is None:
                layers = assign(seconds, needed, counts, least, total, limit)
            else:
                layers = lightened(seconds, counts, total, limit)
        if layers is None or not self._is_named(row, layers, named) or self._is_refused(layers):
            return Split(bound, math.inf, (), ())
        place = np.arange(stages), np.searchsorted(counts, layers)
        if not np.isfinite(seconds[place]).all():
            return Split(bound, math.inf, (), ())
        recomputed = needed[place]
        split = np.zeros((2, 1, costs.stages), dtype=np.int64)
        split[:, 0, :stages] = layers, recomputed
        exact = float(costs.step_seconds(np.array([row]), split[0], split[1])[0])
        return Split(min(bound, exact), exact, tuple(layers.tolist()), tuple(recomputed.tolist()))

    def _variant(self, row: int) -> Problem:
        """The row's own problem."""
        return self.question.problems[int(self.rounded.costs.layouts.variant[row])]

    def _is_refused(self, layers: Ints) -> bool:
        """Stages between the first and the last differ, and the engine does not take that."""
        return even_middle(self.question.first) and len(set(layers[1:-1].tolist())) > 1

    def _chunks(self, row: int) -> int:
        return int(self.rounded.costs.layouts.virtual_pipeline[row])

    def _is_named(self, row: int, layers: Ints, named: int | None) -> bool:
        """Is the shared number of recomputed layers one that exists for this split."""
        most = int(layers.max())
        if named is None:
            return True
        return most in named_levels(self._variant(row), most, self._chunks(row)) if named < 0 else named <= most

    def _holds_all(self, row: int, wanted: Ints | None, *, exact: bool) -> bool:
        counts, total = self._counts(row), self.question.architecture.num_hidden_layers
        _, fits = self._needed(row, wanted, exact=exact)
        if not fits.any(axis=1).all():
            return False
        return int(counts[fits.argmax(axis=1)].sum()) <= total <= int(held_within(~fits * 1.0, counts, 0.5).sum())

    def _needed(self, row: int, wanted: Ints | None, *, exact: bool, held_back: int = 0) -> tuple[Ints, np.ndarray]:
        """(recomputed layers needed, whether that fits) for each stage and layer count."""
        counts = self._counts(row)
        low, high, fits, more, less, inside = self._at_hand(row, counts, exact, held_back)
        if wanted is not None:
            none = fits & (wanted == 0) & (low <= 0) & (high >= 0)
            return np.broadcast_to(wanted, low.shape), none | (inside & (more <= wanted) & (wanted <= less))
        table = self._allowed(row, counts)
        none = fits & (low <= 0) & (high >= 0) & (table[:, 0] == 0)
        wide = np.minimum(more, table.shape[1] - 1).astype(np.int64)
        allowed = np.where(none, 0, table[np.arange(len(counts)), wide])
        return allowed, none | (inside & (allowed <= less) & (allowed <= counts))

    def _at_hand(self, row: int, counts: Ints, exact: bool, held_back: int) -> Windows:
        """`windows` of the row asked for last: at every level again, and then never more."""
        asked = (row, exact, held_back)
        if asked not in self._window:
            self._window.clear()
            stages = int(self.rounded.costs.layouts.pipeline_parallel[row])
            self._window[asked] = windows(
                self.rounded, row, stages, counts, self.fixed, exact=exact, held_back=held_back
            )
        return self._window[asked]

    def _allowed(self, row: int, counts: Ints) -> Ints:
        """By layer count and wanted number of recomputed layers: the least allowed one not below; 2^31 where none."""
        variant, chunks = int(self.rounded.costs.layouts.variant[row]), self._chunks(row)
        key = (variant, chunks, counts.tobytes())
        if key not in self._known:
            table = np.full((len(counts), int(counts[-1]) + 2), 2**31, dtype=np.int64)
            for place, count in enumerate(counts.tolist()):
                for level in reversed(recompute_levels(self._variant(row), count, chunks)):
                    table[place, : level + 1] = level
            self._known[key] = table
        return self._known[key]
