"""Float costs of many layouts at once: the specification that the integer tables and the solver are held to.

`RowCosts` reads off, for each row and stage, the affine coefficients of memory and time in the stage's layers n and
recomputed layers r, by evaluating the cost functions themselves at (0, 0), (1, 0) and (1, 1). It types no formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.costs.ledger import total
from planner.costs.memory.leading import LEADING_REBUILT
from planner.costs.memory.returnable import counted
from planner.costs.memory.stage_memory import moments
from planner.costs.rollout import ROLLOUT_MOMENTS, RolloutCosts
from planner.costs.time.step_time import VISITS
from planner.costs.two_pools import is_later, stage_memory, step_time
from planner.problem.alike import alike, as_generated, as_held, as_trained
from planner.problem.layouts import Floats, Ints, Layouts, Rollouts, distinct
from planner.problem.option_sets import chosen_options
from planner.problem.problem import ASYNCHRONOUS, Problem, Question
from planner.problem.reference import REFERENCE
from planner.units import GIB

FLOAT_NOISE = 1e-9
"""Share of a layer's time below which a difference of two sums is rounding."""
SECOND_LINES = tuple(name + LEADING_REBUILT for name in ("backward", "recomputation", "loss", REFERENCE))
"""Second lines of the moments in which activations of leading dense layers are alive."""
ONLY_WHERE_RECOMPUTED = ("recomputation", *SECOND_LINES)
"""Moments, and lines of moments, that a stage without recomputed layers does not have."""


_Table = dict[str, tuple[Floats, ...]]


@dataclass(frozen=True)
class Coefficients:
    """value = layer * n + recomputed * r + end; arrays of shape [rows, stages].

    They are read-only: a search and the enumeration that checks it may read the same ones.
    """

    layer: Floats
    recomputed: Floats
    end: Floats

    def __post_init__(self) -> None:
        for part in (self.layer, self.recomputed, self.end):
            part.flags.writeable = False

    def at(self, layers: Ints, recomputed: Ints) -> Floats:
        """The value for these counts, broadcast against [..., rows, stages]."""
        return np.asarray(self.layer * layers + self.recomputed * recomputed + self.end)


@dataclass(frozen=True)
class RowCosts:
    """Coefficients of all rows; arrays end at the largest pipeline, `exists` marks the stages a row has."""

    question: Question
    layouts: Layouts

    @cached_property
    def stages(self) -> int:
        """Stages of the longest pipeline among the rows."""
        return int(self.layouts.pipeline_parallel.max(initial=1))

    @cached_property
    def exists(self) -> Floats:
        """1 where the row has that stage, shape [rows, stages]."""
        return (np.arange(self.stages)[None, :] < self.layouts.pipeline_parallel[:, None]).astype(float)

    @cached_property
    def _stage(self) -> Ints:
        return np.arange(self.stages, dtype=np.int64)[None, :]

    def _by_variant(
        self,
        function: Callable[[Problem, Layouts], Mapping[str, tuple[Floats, ...]]],
        seen: Callable[[Problem], Problem],
    ) -> _Table:
        """What a function gives for each variant's rows, in the order of the rows; at once for those `seen` alike."""
        variants = self.question.problems
        if len(variants) == 1:
            return dict(function(variants[0], self.layouts))
        out: dict[str, tuple[Floats, ...]] = {}
        for problem, members in alike(variants, seen):
            rows = np.flatnonzero(np.isin(self.layouts.variant, members))
            layouts, place = (self.layouts.take(rows), slice(None)) if len(members) == 1 else _once(self.layouts, rows)
            for name, parts in function(problem, layouts).items():
                if name not in out:
                    out[name] = tuple(np.zeros((len(self.layouts), *np.shape(part)[1:])) for part in parts)
                for whole, part in zip(out[name], parts, strict=True):
                    whole[rows] = part[place]
        return out

    def _memory(self, problem: Problem, layouts: Layouts) -> dict[str, tuple[Floats, ...]]:
        shape, same, wide = (len(layouts), self.stages), np.ones_like(self._stage), layouts.expand()
        later, roomiest = is_later(problem, wide, self._stage), self.question.roomiest.limit_gib
        less = (roomiest - np.where(later, (problem.later or problem).limit_gib, problem.limit_gib)) * GIB
        out: _Table = {}
        names = moments(problem)
        lines: list[tuple[Literal["first", "second"], dict[str, str]]] = [("first", {name: name for name in names})]
        if problem.architecture.is_moe and problem.parameters.num_dense_layers:
            second = {name: name.removesuffix(LEADING_REBUILT) for name in SECOND_LINES}
            lines.append(("second", {name: moment for name, moment in second.items() if moment in names}))
        # None, one kept, one recomputed layer: a third axis, before rows and stages.
        layers, recomputed = (np.array(each).reshape(3, 1, 1) for each in ((0, 1, 1), (0, 0, 1)))
        for line, of_moment in lines:
            points = stage_memory(problem, wide, self._stage, same * layers, same * recomputed, line)
            for name, moment in of_moment.items():
                held = total(counted(problem, points.ledger(moment)))
                none, kept, rebuilt = np.broadcast_to(held, (3, *shape))
                out[name] = (kept - none, rebuilt - kept, none + less)
        return out

    @cached_property
    def memory(self) -> dict[str, Coefficients]:
        """Peak bytes of each moment, on the scale of the roomiest GPUs: what others lack is counted as used. [bytes]"""
        return {name: Coefficients(*parts) for name, parts in self._by_variant(self._memory, as_held).items()}

    def _time(self, problem: Problem, layouts: Layouts) -> dict[str, tuple[Floats, ...]]:
        shape = (len(layouts), self.stages)
        out: _Table = {}
        step = step_time(problem, layouts.expand(), self._stage)
        for name in VISITS:
            rows = step.visit(name)
            if not rows:
                continue
            layer, recomputed, end = (
                sum(getattr(row, part) for row in rows) for part in ("layer", "recomputed", "end")
            )
            # What recomputation saves of offloading may equal what it costs: their difference is noise then.
            noise = (recomputed < 0) & (recomputed > -FLOAT_NOISE * np.abs(layer))
            parts = (layer, np.where(noise, 0.0, recomputed), end)
            waits = step.waits(name) * step.slower
            weights = (np.broadcast_to((w * waits)[..., 0], (len(layouts),)) for w in step.weights(name))
            out[name] = (*(np.broadcast_to(part, shape) for part in parts), *weights)
        return out

    @cached_property
    def time(self) -> dict[str, tuple[Coefficients, Floats, Floats]]:
        """(coefficients, weight of the slowest stage, weight of the sum) of each visit. [s]"""
        parts = self._by_variant(self._time, as_trained)
        return {name: (Coefficients(*each[:3]), each[3], each[4]) for name, each in parts.items()}

    def peak_bytes(self, rows: Ints, layers: Ints, recomputed: Ints) -> Floats:
        """Largest memory over stages and moments for points; layers and recomputed have shape [points, stages]."""
        exists = self.exists[rows] > 0
        peak = np.zeros(len(rows))
        for name, c in self.memory.items():
            happens = exists & (recomputed > 0) if name in ONLY_WHERE_RECOMPUTED else exists
            value = c.layer[rows] * layers + c.recomputed[rows] * recomputed + c.end[rows]
            peak = np.maximum(peak, np.where(happens, value, 0.0).max(axis=1))
        return peak

    def step_seconds(self, rows: Ints, layers: Ints, recomputed: Ints) -> Floats:
        """Seconds of a step (RL: of scoring and training one rollout) for points of shape [points, stages]."""
        exists = self.exists[rows]
        seconds = np.zeros(len(rows))
        for c, heavy, light in self.time.values():
            value = (c.layer[rows] * layers + c.recomputed[rows] * recomputed + c.end[rows]) * exists
            seconds = seconds + heavy[rows] * value.max(axis=1) + light[rows] * value.sum(axis=1)
        return seconds

    def some(self, rows: NDArray[np.bool_]) -> RowCosts:
        """The costs of the rows that a mask selects, read off these: nothing is worked out a second time."""
        return _SomeRows(self.question, self.layouts.take(rows), self, rows)

    @cached_property
    def simplicity(self) -> Ints:
        """Axes above 1, plus one each for context parallelism, offload and virtual pipeline; uneven stages on top."""
        lay = self.layouts
        axes = (
            lay.tensor_parallel,
            lay.pipeline_parallel,
            lay.data_parallel,
            lay.context_parallel,
            lay.expert_parallel,
        )
        count = sum((axis > 1).astype(np.int64) for axis in axes)
        count = count + (lay.context_parallel > 1) + (lay.virtual_pipeline > 1)
        return np.asarray(count + np.array([_extras(v) for v in self.question.problems])[lay.variant], dtype=np.int64)


@dataclass(frozen=True)
class _SomeRows(RowCosts):
    """Costs of some of the rows of a whole."""

    whole: RowCosts
    rows: NDArray[np.bool_]

    def _part(self, found: Coefficients) -> Coefficients:
        each = (found.layer, found.recomputed, found.end)
        return Coefficients(*(values[self.rows, : self.stages] for values in each))

    @cached_property
    def memory(self) -> dict[str, Coefficients]:
        return {name: self._part(found) for name, found in self.whole.memory.items()}

    @cached_property
    def time(self) -> dict[str, tuple[Coefficients, Floats, Floats]]:
        return {
            name: (self._part(found), heavy[self.rows], light[self.rows])
            for name, (found, heavy, light) in self.whole.time.items()
        }


@dataclass(frozen=True)
class RolloutTable:
    """Float costs of all rollout choices."""

    question: Question
    choices: Rollouts

    @cached_property
    def _each(self) -> list[tuple[Problem, Ints, RolloutCosts]]:
        """(variant, its choices, their costs)"""
        rows = [np.flatnonzero(self.choices.variant == index) for index in range(len(self.question.problems))]
        return [
            (variant, these, RolloutCosts(variant.generating, self.choices.take(these)))
            for variant, these in zip(self.question.problems, rows, strict=True)
            if len(these)
        ]

    def _by_variant(self, function: Callable[[Problem, RolloutCosts], Floats]) -> Floats:
        out = np.zeros(len(self.choices))
        for variant, rows, costs in self._each:
            out[rows] = function(variant, costs)
        return out

    @cached_property
    def peak_bytes(self) -> Floats:
        """Largest memory while the rollout engine is awake or takes weights, on the roomiest GPUs' scale. [bytes]"""

        def peak(problem: Problem, costs: RolloutCosts) -> Floats:
            less = (self.question.roomiest.limit_gib - problem.generating.limit_gib) * GIB
            return np.asarray(np.maximum.reduce([total(costs.ledger(moment)) for moment in ROLLOUT_MOMENTS]) + less)

        return self._by_variant(peak)

    @cached_property
    def _generation(self) -> Floats:
        """Until the longest sample has ended. [s]"""
        out = np.zeros(len(self.choices))
        for problem, members in alike(self.question.problems, as_generated):
            rows = np.flatnonzero(np.isin(self.choices.variant, members))
            if len(rows):
                out[rows] = total(RolloutCosts(problem.generating, self.choices.take(rows)).time)
        return out

    @cached_property
    def _switching(self) -> Floats:
        """Weight sync and switching. [s]"""
        return self._by_variant(lambda _, costs: np.asarray(total(costs.switch_time)))

    @cached_property
    def _hidden(self) -> Floats:
        """1 where generation runs beside the training."""
        beside = np.array([problem.placement == ASYNCHRONOUS for problem in self.question.problems], dtype=float)
        return np.asarray(beside[self.choices.variant])

    @cached_property
    def seconds(self) -> Floats:
        """What the rollout adds to a step's training: generation unless it is hidden, weight sync and switching. [s]"""
        return np.asarray(self._switching + np.where(self._hidden > 0, 0.0, self._generation))

    @cached_property
    def least_seconds(self) -> Floats:
        """No step is shorter: generation and weight sync where they run beside the training. [s]"""
        return np.asarray((self._switching + self._generation) * self._hidden)


def _once(layouts: Layouts, rows: Ints) -> tuple[Layouts, Ints]:
    """(these rows without those that differ in their variant alone, for each row its place among them)."""
    some = layouts.take(rows)
    place = distinct(*(values for name, values in some.columns() if name != "variant"))[1]
    return some.take(np.unique(place, return_index=True)[1]), place


def _extras(problem: Problem) -> int:
    """What makes a variant less simple than the plain one."""
    spec = problem.scenario.layout
    counted = (spec.optimizer_offload, spec.activation_offload, spec.recompute_modules, spec.schedule == "zb-h1")
    return sum(map(bool, counted)) + len(chosen_options(problem.settings))


def capacity_bytes(question: Question) -> float:
    """Usable memory of one of the roomiest GPUs, on whose scale memory is counted. [bytes]"""
    return question.roomiest.usable_gib * GIB
