"""The step of a plan with its pipeline run event by event, beside the closed form that the solver uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TypeVar

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.time.step_time import StepTime
from planner.formulas.schedule import WEIGHT_SHARE, Pass, Schedule, Simulated, simulate
from planner.formulas.stages import stage_chunks
from planner.problem.layouts import Floats, Layouts
from planner.search.plan import Plan
from planner.search.plan_ledgers import SCORED

END_FORWARD = 1 / 3
"""Share of the forward pass in a stage's ends: the head is one product forward and two backward."""
SWAPPED = f"{SCORED}: {ItemName.REFERENCE_WEIGHTS_SWAPPED}"
MOST_PASSES = 30_000
"""Forward passes of chunks that are run one by one; further micro-batches cost what the last turn did. 40 ms."""
AT_RANDOM = (-0.055, 0.085)
"""Simulation over closed form less one, (least, largest) of 789 legal layouts of four engines drawn at random, stages
even and uneven. With as many layers in each stage and chunk it is -0.002 to 0.001, and at most 0.012 off in nineteen of
twenty of all; the ends are pipelines of Megatron-LM whose stages or chunks are unequal and wait for one another.
tests/analysis/test_schedule_at_random.py holds it."""

Found = TypeVar("Found")


def _once(find: Callable[[Plan], Found]) -> Callable[[Plan], Found]:
    """What is found of a plan is kept in it, as a cached property keeps it: its page, its views and its data ask."""

    @wraps(find)
    def kept(plan: Plan) -> Found:
        found: dict[str, Found] = vars(plan)
        if find.__name__ not in found:
            found[find.__name__] = find(plan)
        return found[find.__name__]

    return kept


@dataclass(frozen=True)
class ScheduleReport:
    """What the simulation of a plan with a pipeline says."""

    name: str
    step_seconds: float
    """The whole step, everything outside the pipeline as in the plan. [s]"""
    closed_form_seconds: float
    """The plan's own step. [s]"""
    bubble: float
    """Share of the stages' time in forward and backward passes that is spent waiting. [1]"""
    idle: tuple[float, ...]
    """Seconds that each stage waits in one pass of all micro-batches, training only. [s]"""
    zero_bubble_seconds: float | None
    """The whole step under ZB-H1, where its conditions hold: one chunk a stage, weights trained. [s]"""

    @property
    def difference(self) -> float:
        """Simulated over closed form, less one. [1]"""
        return self.step_seconds / self.closed_form_seconds - 1


@dataclass(frozen=True)
class _Chunks:
    """Seconds of each chunk in the order of the network."""

    stages: int
    micro_batches: int
    group_size: int | None
    forward: Floats
    backward: Floats
    weight: Floats
    """Part of the backward pass that makes gradients of weights."""
    send: Sequence[float]
    """Of the seams between chunks, in order."""

    def run(self, schedule: Schedule) -> tuple[float, tuple[float, ...]]:
        """(seconds, idle seconds of each stage)."""
        turn = self.group_size or self.stages
        most = max(MOST_PASSES // len(self.forward) // turn, 4) * turn
        if self.micro_batches <= most:
            return self._simulate(schedule, self.micro_batches)
        most += self.micro_batches % turn
        (whole, idle), (before, rested) = self._simulate(schedule, most), self._simulate(schedule, most - turn)
        more = (self.micro_batches - most) / turn
        waited = tuple(now + more * (now - then) for now, then in zip(idle, rested, strict=True))
        return whole + more * (whole - before), waited

    def _simulate(self, schedule: Schedule, micro_batches: int) -> tuple[float, tuple[float, ...]]:
        done = self.simulate(schedule, micro_batches)
        return done.seconds, done.idle

    def simulate(self, schedule: Schedule, micro_batches: int, *, keep_passes: bool = False) -> Simulated:
        """Every pass run one by one."""
        split = schedule == "zb-h1"
        return simulate(
            stages=self.stages,
            micro_batches=micro_batches,
            forward=self.forward.tolist(),
            backward=(self.backward - self.weight if split else self.backward).tolist(),
            weight=self.weight.tolist() if split else None,
            send=self.send,
            schedule=schedule,
            group_size=self.group_size,
            keep_passes=keep_passes,
        )


@_once
def schedule_report(plan: Plan) -> ScheduleReport | None:
    """Simulate a plan's pipeline; None where it has only one stage, or stages on two kinds of machines.

    The same seconds of layers and ends as in the plan, cut into chunks as they are launched. With one chunk a stage
    both neighbours wait for a send; between interleaved chunks the share that the engine does not overlap keeps the
    sender, the rest is on the wire, where only what waits for it loses time.
    """
    lay, p = plan.layout, plan.layout["pipeline_parallel"]
    if p == 1 or plan.problem.later is not None:
        return None
    layouts = Layouts(**{name: np.array([[value]], dtype=np.int64) for name, value in lay.items()})
    time = StepTime(plan.problem, layouts, np.arange(p, dtype=np.int64)[None, :])
    train = _chunks(plan, time, "train")
    waiting = plan.problem.scenario.layout.schedule == "zb-h1"
    seconds, idle = train.run("zb-h1" if waiting else "1f1b")
    longer, scored = (float(np.reshape(time.waits(visit) * time.slower, -1)[0]) for visit in ("train", "score"))
    phases = dict(plan.phases)
    rest = plan.step_seconds - phases["training"]
    if time.score:
        passes = scored * _chunks(plan, time, "score").run("forward")[0]
        swapped = sum(entry.amount for entry in plan.time if entry.name == SWAPPED)
        rest += passes - (phases[SCORED] - swapped)
    zero_bubble = None
    if lay["virtual_pipeline"] == 1 and plan.problem.scenario.adapter is None and not waiting:
        zero_bubble = rest + time.steps * longer * train.run("zb-h1")[0]
    return ScheduleReport(
        name="ZB-H1" if waiting else "1F1B" if lay["virtual_pipeline"] == 1 else "interleaved 1F1B",
        step_seconds=rest + time.steps * longer * seconds,
        closed_form_seconds=plan.step_seconds,
        bubble=sum(idle) / (p * seconds),
        idle=idle,
        zero_bubble_seconds=zero_bubble,
    )


@_once
def schedule_passes(plan: Plan) -> tuple[int, tuple[tuple[Pass, ...], ...]] | None:
    """(micro-batches drawn, passes of each stage) of the beginning and end of one step, with as few micro-batches as
    show the schedule; None where there is no pipeline, or one over two kinds of machines.
    """
    lay, p = plan.layout, plan.layout["pipeline_parallel"]
    if p == 1 or plan.problem.later is not None:
        return None
    layouts = Layouts(**{name: np.array([[value]], dtype=np.int64) for name, value in lay.items()})
    time = StepTime(plan.problem, layouts, np.arange(p, dtype=np.int64)[None, :])
    chunks = _chunks(plan, time, "train")
    turn = chunks.group_size or p
    count = min(chunks.micro_batches, 2 * turn)
    split = plan.problem.scenario.layout.schedule == "zb-h1"
    return count, chunks.simulate("zb-h1" if split else "1f1b", count, keep_passes=True).passes


def _chunks(plan: Plan, time: StepTime, visit: str) -> _Chunks:
    """Seconds of each chunk in one visit, as the plan has them."""
    p, v, training = plan.layout["pipeline_parallel"], plan.layout["virtual_pipeline"], visit == "train"
    layers, again = (np.array(values, dtype=float) for values in (plan.layers, plan.recomputed))
    forward, backward, weight, end, head = (np.zeros(p) for _ in range(5))
    factor = 0.0
    for row in time.visit(visit):
        whole, first, ends = (np.broadcast_to(x, (1, p))[0] for x in (row.layer, row.recomputed, row.end))
        if row.name == ItemName.PIPELINE_SENDS:
            factor = float(ends.sum()) / float((time.sends if training else time.sends_of_scoring).sum())
            continue
        passed = first if training else whole
        forward = forward + layers * passed
        backward = backward + layers * (whole - passed) + again * first
        end = end + ends
        if row.name == ItemName.MATRIX_PRODUCTS:
            weight = weight + WEIGHT_SHARE * layers * (whole - passed)
        if row.name == ItemName.LOGITS_AND_LOSS:
            head = head + ends
    share = END_FORWARD if training else 1.0
    wire, host = (factor * np.tile(np.broadcast_to(x, (1, p))[0], v)[:-1] for x in time.seams)
    seen = float(np.reshape(time.send_share, -1)[0]) if training else 1.0
    wire, host = max(1 - seen, 0.0) * wire, host + seen * wire
    turn = factor * time.chunk_seconds * (v > 1)
    parts = np.array(stage_chunks(plan.layers, v), dtype=float).T

    def spread(layered: Floats, ends: Floats) -> Floats:
        """Stages to chunks: by their layers, the last stage's ends on its last chunk, others' on their first."""
        cut = layered / np.maximum(layers, 1.0) * parts
        cut[0, :-1] += ends[:-1]
        cut[-1, -1] += ends[-1]
        return np.asarray(np.maximum(cut.reshape(-1), 0.0))

    many, larger = plan.layout["num_micro_batches"], 1.0
    if not training:  # the samples of all optimizer steps in one go, in larger micro-batches
        larger = float(np.reshape(time.larger_when_scoring, -1)[0])
        many = max(1, round(many * time.steps / larger))
    return _Chunks(
        stages=p,
        micro_batches=many,
        group_size=plan.problem.engine.pipeline.group_size,
        forward=larger * (spread(forward, share * end) + np.append(host, 0.0) + turn),
        backward=larger * (spread(backward, (1 - share) * end) + np.insert(host, 0, 0.0) + turn),
        weight=larger * spread(weight, WEIGHT_SHARE * (1 - share) * head),
        send=(larger * wire).tolist(),
    )
