"""The grid on which solver and enumeration compare: coefficients in whole units, demand up, capacity down.

Memory is in KiB (2 to 32 KiB where linear ranges ask for it), time in a unit chosen for the instance. A point's integer
memory is never below its float memory. Solver and enumeration read the same integers, so that both decide ties alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED, Coefficients, RolloutTable, RowCosts, capacity_bytes
from planner.errors import InternalError
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.units import GIB, KIB, MIB

STAGE_SLACK_BYTES = 8 * MIB
"""Integer memory of a stage may exceed the float ledger by this much."""
HEADROOM_STEP_BYTES = 16 * MIB
"""Headroom of near ties is compared in whole steps: less than this is no difference, and the simpler plan wins."""
STEP_SLACK = 1e-5
"""Integer time of a step may exceed the float one by this share: a unit is 2^-30 of the longest step."""


MEMORY_UNITS = tuple(KIB * 2.0**power for power in range(6))
"""Units of memory, tried in this order. [bytes]"""


def limit_bytes(question: Question) -> float:
    """What a stage may use, in floats. [bytes]"""
    return capacity_bytes(question) - question.roomiest.headroom_gib * GIB


def slowest_near_tie(least: float, near_tie: float) -> float:
    """Longest step whose throughput is within `near_tie` of that of the fastest one."""
    return least / (1 - near_tie)


def _up(values: Floats, unit: float) -> Ints:
    return np.ceil(values / unit).astype(np.int64)


def _whole(c: Coefficients, unit: float) -> Coefficients:
    return Coefficients(_up(c.layer, unit), _up(c.recomputed, unit), _up(c.end, unit))


@dataclass(frozen=True)
class RoundedVisit:
    """Time of one visit in units: the weighted slowest stage, and the weighted sum over stages, [rows, stages]."""

    stages: Coefficients
    sum_layer: Ints
    sum_recomputed: Ints
    sum_end: Ints


@dataclass(frozen=True)
class Rounded:
    """Integer coefficients of all rows and rollout choices."""

    costs: RowCosts
    rollouts: RolloutTable | None
    time_unit_seconds: float
    memory_unit_bytes: float

    @property
    def capacity(self) -> int:
        """Usable memory of one GPU, rounded down. [memory units]"""
        return math.floor(capacity_bytes(self.costs.question) / self.memory_unit_bytes)

    @property
    def headroom(self) -> int:
        """Memory that must stay free, rounded up. [memory units]"""
        return math.ceil(self.costs.question.roomiest.headroom_gib * GIB / self.memory_unit_bytes)

    @property
    def limit(self) -> int:
        """What a stage may use. [memory units]"""
        return self.capacity - self.headroom

    @property
    def headroom_step(self) -> int:
        """Step in which headroom is compared. [memory units]"""
        return round(HEADROOM_STEP_BYTES / self.memory_unit_bytes)

    @cached_property
    def memory(self) -> dict[str, Coefficients]:
        """Peak of each moment. [memory units]"""
        return {name: _whole(c, self.memory_unit_bytes) for name, c in self.costs.memory.items()}

    @cached_property
    def time(self) -> dict[str, RoundedVisit]:
        """Each visit. [time units]

        Raises InternalError for a time that falls as layers are added: bounds and splits rest on that it does not.
        """
        out = {}
        for name, (c, heavy, light) in self.costs.time.items():
            if min(c.layer.min(initial=0.0), c.recomputed.min(initial=0.0)) < 0:
                raise InternalError(f"the time of {name!r} falls as layers are added or recomputed")
            top, rest = heavy[:, None] / self.time_unit_seconds, light / self.time_unit_seconds
            out[name] = RoundedVisit(
                Coefficients(_up(c.layer * top, 1.0), _up(c.recomputed * top, 1.0), _up(c.end * top, 1.0)),
                _up(rest[:, None] * c.layer * self.costs.exists, 1.0),
                _up(rest[:, None] * c.recomputed * self.costs.exists, 1.0),
                _up(rest * (c.end * self.costs.exists).sum(axis=1), 1.0),
            )
        return out

    @cached_property
    def offers(self) -> dict[int, dict[int, Floats]]:
        """What `bounds/rollout_pairs.py` has worked out: by memory held back and by what rows and choices share."""
        return {}

    @cached_property
    def choice_memory(self) -> Ints:
        """Peak of each rollout choice. [memory units]"""
        assert self.rollouts is not None
        return _up(self.rollouts.peak_bytes, self.memory_unit_bytes)

    @cached_property
    def choice_time(self) -> Ints:
        """What each rollout choice adds to the step. [time units]"""
        assert self.rollouts is not None
        return _up(self.rollouts.seconds, self.time_unit_seconds)

    @cached_property
    def choice_least(self) -> Ints:
        """What no step beside each rollout choice undercuts. [time units]"""
        assert self.rollouts is not None
        return _up(self.rollouts.least_seconds, self.time_unit_seconds)

    def peak(self, rows: Ints, layers: Ints, recomputed: Ints) -> Ints:
        """Largest memory over stages and moments for points of shape [points, stages]. [memory units]"""
        exists = self.costs.exists[rows] > 0
        peak = np.zeros(len(rows), dtype=np.int64)
        for name, c in self.memory.items():
            happens = exists & (recomputed > 0) if name in ONLY_WHERE_RECOMPUTED else exists
            value = c.layer[rows] * layers + c.recomputed[rows] * recomputed + c.end[rows]
            peak = np.maximum(peak, np.where(happens, value, 0).max(axis=1))
        return peak

    def step(self, rows: Ints, layers: Ints, recomputed: Ints) -> Ints:
        """Time of a step without rollout for points of shape [points, stages]. [time units]"""
        exists = self.costs.exists[rows] > 0
        spent = np.zeros(len(rows), dtype=np.int64)
        for visit in self.time.values():
            c = visit.stages
            value = c.layer[rows] * layers + c.recomputed[rows] * recomputed + c.end[rows]
            spent += np.where(exists, value, 0).max(axis=1) + visit.sum_end[rows]
            spent += (visit.sum_layer[rows] * layers + visit.sum_recomputed[rows] * recomputed).sum(axis=1)
        return spent

    def agree(self, rows: Ints, layers: Ints, recomputed: Ints) -> None:
        """Raise InternalError where integers of a point fall below its floats, or rise above them too far."""
        peak = self.peak(rows, layers, recomputed) * self.memory_unit_bytes
        least = self.costs.peak_bytes(rows, layers, recomputed)
        step = self.step(rows, layers, recomputed) * self.time_unit_seconds
        seconds = self.costs.step_seconds(rows, layers, recomputed)
        above, late = peak - least, step - seconds
        if (above < -1e-6 * KIB).any() or (above > STAGE_SLACK_BYTES).any():
            raise InternalError(f"integer memory is {above.min():.0f} to {above.max():.0f} bytes above the float one")
        longest = self.time_unit_seconds * 2**30
        if (late < -1e-9 * longest).any() or (late > STEP_SLACK * longest).any():
            raise InternalError(f"integer time is {late.min():.3e} to {late.max():.3e} s above the float one")
