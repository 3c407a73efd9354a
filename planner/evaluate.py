"""Float costs of many layouts at once: the specification that the integer tables and the solver are held to.

`RowCosts` reads off, for each row and stage, the affine coefficients of memory and time in the stage's layers n and
recomputed layers r, by evaluating the cost functions themselves at (0, 0), (1, 0) and (1, 1). It types no formula.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.ledger import total
from planner.costs.memory import StageMemory, moments
from planner.costs.rollout import ROLLOUT_MOMENTS, RolloutCosts, Rollouts
from planner.costs.time import VISITS, StepTime
from planner.layouts import Floats, Ints, Layouts
from planner.problem import Problem
from planner.units import GIB

ONLY_WHERE_RECOMPUTED = ("recomputation",)
"""Moments that a stage without recomputed layers does not have."""


@dataclass(frozen=True)
class Coefficients:
    """value = layer * n + recomputed * r + end; arrays of shape [rows, stages]."""

    layer: Floats
    recomputed: Floats
    end: Floats

    def at(self, layers: Ints, recomputed: Ints) -> Floats:
        """The value for these counts, broadcast against [..., rows, stages]."""
        return np.asarray(self.layer * layers + self.recomputed * recomputed + self.end)


@dataclass(frozen=True)
class RowCosts:
    """Coefficients of all rows; arrays end at the largest pipeline, `exists` marks the stages a row has."""

    problem: Problem
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

    def _memory(self, layers: int, recomputed: int) -> StageMemory:
        same = np.ones_like(self._stage)
        return StageMemory(self.problem, self.layouts.expand(), self._stage, same * layers, same * recomputed)

    @cached_property
    def memory(self) -> dict[str, Coefficients]:
        """Peak bytes of each moment. [bytes]"""
        points = [self._memory(n, r) for n, r in ((0, 0), (1, 0), (1, 1))]
        shape = (len(self.layouts), self.stages)
        out = {}
        for name in moments(self.problem):
            none, kept, rebuilt = (np.broadcast_to(total(p.ledger(name)), shape) for p in points)
            out[name] = Coefficients(kept - none, rebuilt - kept, none)
        return out

    @cached_property
    def step(self) -> StepTime:
        """Time of the rows."""
        return StepTime(self.problem, self.layouts.expand(), self._stage)

    @cached_property
    def time(self) -> dict[str, tuple[Coefficients, Floats, Floats]]:
        """(coefficients, weight of the slowest stage, weight of the sum) of each visit. [s]"""
        shape = (len(self.layouts), self.stages)
        out = {}
        for name in VISITS:
            rows = self.step.visit(name)
            if not rows:
                continue
            layer, rebuilt, end = (
                np.broadcast_to(sum(getattr(row, part) for row in rows), shape)
                for part in ("layer", "recomputed", "end")
            )
            heavy, light = (np.broadcast_to(w[..., 0], (len(self.layouts),)) for w in self.step.weights(name))
            out[name] = (Coefficients(layer, rebuilt, end), heavy, light)
        return out

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
        return np.asarray(count + int(self.problem.scenario.layout.optimizer_offload), dtype=np.int64)


@dataclass(frozen=True)
class RolloutTable:
    """Float costs of all rollout choices."""

    problem: Problem
    choices: Rollouts

    @cached_property
    def costs(self) -> RolloutCosts:
        """The ledgers behind the totals."""
        return RolloutCosts(self.problem, self.choices)

    @cached_property
    def peak_bytes(self) -> Floats:
        """Largest memory of the phases in which the rollout engine is awake or takes weights. [bytes]"""
        phases = [total(self.costs.ledger(moment)) for moment in ROLLOUT_MOMENTS]
        return np.maximum.reduce(phases) if len(self.choices) else np.zeros(0)

    @cached_property
    def seconds(self) -> Floats:
        """Seconds of generation, weight sync and switching. [s]"""
        if not len(self.choices):
            return np.zeros(0)
        return np.asarray(total(self.costs.time) + total(self.costs.switch_time))


def capacity_bytes(problem: Problem) -> float:
    """Usable memory of one GPU. [bytes]"""
    return problem.usable_gib * GIB


def even_layers(problem: Problem, layouts: Layouts, stages: int) -> Ints:
    """Layers of each stage where stages are even or listed, zero beyond a row's last stage; shape [rows, stages]."""
    spec = problem.scenario.layout.layers_per_stage
    exists = np.arange(stages)[None, :] < layouts.pipeline_parallel[:, None]
    if isinstance(spec, list):
        listed = np.array((spec + [0] * stages)[:stages], dtype=np.int64)
        return np.where(exists, listed[None, :], 0)
    each = problem.architecture.num_hidden_layers // layouts.pipeline_parallel
    return np.where(exists, each[:, None], 0)


def recompute_levels(problem: Problem, most: int) -> list[int]:
    """Numbers of recomputed layers that the scenario and the engine allow on a stage of `most` layers, ascending."""
    from planner.axes.rule import choose

    spec = problem.scenario.layout
    offered = problem.engine.recompute
    usual = list(range(most + 1)) if offered.partial and spec.recompute_method != "uniform" else sorted({0, most})
    if "full" not in offered.granularities:
        usual = [0]
    if "none" not in offered.granularities:
        usual = [most]
    if spec.recomputed_layers == "all":
        return [most]
    chosen = choose(spec.recomputed_layers, usual)
    return [level for level in chosen if level in usual]


def recompute_kind(problem: Problem) -> str:
    """`all`, `none_or_all`, or `levels` where single layers of a stage may be recomputed."""
    spec, offered = problem.scenario.layout, problem.engine.recompute
    if spec.recomputed_layers == "all":
        return "all"
    if spec.recomputed_layers == "any" and (not offered.partial or spec.recompute_method == "uniform"):
        return "none_or_all"
    return "levels"
