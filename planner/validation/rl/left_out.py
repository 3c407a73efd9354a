"""Fitted constants of RL steps refitted without the rows they are scored on.

Generation is the plan's decode time plus a time for each sequence and step and one for each answer; both are refitted
with the row's framework left out. Weight sync is linear in bytes, tensors and one fixed time for each way of sending;
refitted with the row's model left out. Passes have no constant fitted to these rows. Fits minimise squared relative
errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

from planner.costs.item_names import ItemName
from planner.costs.weight_sync import weight_tensors
from planner.schema.catalog import Architecture
from planner.schema.scenario import Rl
from planner.search.plan import Plan
from planner.units import MS_PER_S
from planner.validation.rl.phases import StepResult, StepScore

Numbers = NDArray[np.float64]
GIGABYTES, TENSORS, ONCE = range(3)
"""Columns of what a weight sync is linear in."""


@dataclass(frozen=True)
class LeftOutErrors:
    """One phase."""

    errors: Mapping[str, float]
    """(predicted - measured) / measured by row, with constants that never saw the row."""
    constants: int
    """Constants fitted to these rows."""
    in_sample: frozenset[str] = frozenset()
    """Rows that rest on a constant which they alone set."""

    @property
    def middle(self) -> float:
        """Median of the absolute errors."""
        return median(abs(error) for error in self.errors.values())


def left_out(result: StepResult) -> dict[str, LeftOutErrors]:
    """Errors of each phase with its constants refitted; `step` with those of generation and sync put in."""
    rollout = {s.row.id: _generation(s, result.of("rollout")) for s in result.of("rollout")}
    synced = {s.row.id: _sync(s, result.of("weight_sync")) for s in result.of("weight_sync")}
    sync = {name: seconds for name, (seconds, _) in synced.items()}
    inside = frozenset(name for name, (_, seen) in synced.items() if seen)
    step = {}
    for score in result.of("step"):
        now, name = score.predicted, score.row.id
        moved = rollout.get(name, now.get("rollout", 0.0)) - now.get("rollout", 0.0)
        moved += sync.get(name, now.get("weight_sync", 0.0)) - now.get("weight_sync", 0.0)
        step[name] = now["step"] + moved
    plain = {phase: {s.row.id: s.predicted[phase] for s in result.of(phase)} for phase in ("log_probs", "train")}
    found = {"rollout": (rollout, 2), **{phase: (seconds, 0) for phase, seconds in plain.items()}}
    found |= {"weight_sync": (sync, 7), "step": (step, 9)}
    measured = {score.row.id: score.row.measured for score in result.scores}
    return {
        phase: LeftOutErrors(
            {name: value / measured[name][phase] - 1 for name, value in seconds.items()},
            count,
            inside & set(seconds) if phase in ("weight_sync", "step") else frozenset(),
        )
        for phase, (seconds, count) in found.items()
        if seconds
    }


def _items(plan: Plan, name: ItemName) -> float:
    return sum(entry.amount for entry in plan.time if entry.name == name)


def _rl(plan: Plan) -> Rl:
    rl = plan.problem.scenario.rl
    assert rl is not None
    return rl


def _work(score: StepScore) -> tuple[float, Numbers]:
    """(seconds of generation that no constant of these rows sets, [sequence steps of an engine, samples])."""
    plan = score.plan
    assert plan.rollout is not None
    steps = plan.rollout.samples_per_engine * (plan.wish.mean_sequence_length - _rl(plan).prompt_length)
    rest = (
        score.predicted["rollout"] - _items(plan, ItemName.HOST_OF_SEQUENCES) - _items(plan, ItemName.ANSWERS_CHECKED)
    )
    return rest, np.array([steps, plan.wish.samples], dtype=float)


def _generation(score: StepScore, rows: Sequence[StepScore]) -> float:
    others = [row for row in rows if row.row.framework != score.row.framework]
    parts = [_work(row) for row in others]
    target = np.array([row.row.measured["rollout"] for row in others])
    left = target - np.array([rest for rest, _ in parts])
    constants = _fit(np.stack([work for _, work in parts]), left, target)
    rest, work = _work(score)
    return float(rest + work @ constants)


def _sending(score: StepScore) -> tuple[str, Numbers]:
    """(way of sending, what GIGABYTES, TENSORS and ONCE stand for: [GB through one link, tensors, 1])."""
    plan = score.plan
    problem, rollout = plan.problem, plan.rollout
    assert rollout is not None
    held = problem.parameters.total * problem.precision.weight_bytes / 1e9
    sent = _rl(plan).weight_sync
    way = f"{score.row.framework} colocated" if problem.colocated else f"{problem.engine.id} {sent}"
    through = held if not problem.colocated and sent == "whole" else held / rollout.tensor_parallel
    return way, np.array([through, weight_tensors(problem), 1.0])


def _model(score: StepScore) -> Architecture:
    return score.plan.problem.architecture


def _known(score: StepScore, column: int) -> float:
    """What the engine's file says of a column: seconds of one tensor, or of one sync whatever its size. [s]"""
    problem = score.plan.problem
    if problem.colocated:
        return problem.colocation.sync_tensor_ms / MS_PER_S if column == TENSORS else 0.0
    apart, sent = problem.separation, _rl(score.plan).weight_sync
    shards = apart.shards
    fixed = shards.fixed_seconds if sent == "shards" and shards is not None else apart.sync_fixed_seconds
    return fixed if column == ONCE else 0.0


def _sync(score: StepScore, rows: Sequence[StepScore]) -> tuple[float, bool]:
    """(seconds, in-sample) of a weight sync, its rate fitted to other models that were sent the same way.

    Where they share a GPU a tensor's own time is fitted beside the rate if another model of experts is left, which
    alone tells the two apart; where they do not, a fixed time is if two other sizes are left. What cannot be fitted is
    as in the engine's file: in-sample where only this model's rows set it. As now where no other model was sent this
    way: nothing was fitted to the row then.
    """
    way, work = _sending(score)
    sent = [(row, _sending(row)) for row in rows]
    others = [(row, other) for row, (theirs, other) in sent if theirs == way and _model(row) != _model(score)]
    if not others:
        return score.predicted["weight_sync"], False
    column = TENSORS if score.plan.problem.colocated else ONCE
    told = any(_model(row).is_moe for row, _ in others) if column == TENSORS else len({o[0] for _, o in others}) > 1
    target = np.array([row.row.measured["weight_sync"] for row, _ in others])
    whole = np.stack([other for _, other in others])
    if told:
        constants = _fit(whole[:, [GIGABYTES, column]], target, target)
        return float(work[[GIGABYTES, column]] @ constants), False
    known = _known(score, column)
    rate = _fit(whole[:, [GIGABYTES]], target - known * whole[:, column], target)[0]
    return float(rate * work[GIGABYTES] + known * work[column]), column == TENSORS and _model(score).is_moe


def _fit(features: Numbers, left: Numbers, target: Numbers) -> Numbers:
    """Constants, none below 0, that leave least squared error relative to the target."""
    active = list(range(features.shape[1]))
    while active:
        scaled = features[:, active] / target[:, None]
        found, *_ = np.linalg.lstsq(scaled, left / target, rcond=None)
        if (found >= 0).all():
            out = np.zeros(features.shape[1])
            out[active] = found
            return out
        active.pop(int(found.argmin()))
    return np.zeros(features.shape[1])
