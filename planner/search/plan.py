"""A plan: one layout re-costed in floats from the ledgers, without the solver. What reports and launchers read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.costs.ledger import Item, total
from planner.costs.memory.assumed import without_assumed
from planner.costs.memory.end_of_backward import END_OF_BACKWARD
from planner.costs.memory.host import host_ledger
from planner.costs.memory.stage_memory import moments
from planner.costs.rollout import ROLLOUT_MOMENTS, RolloutCosts
from planner.costs.time.step_items import step_items
from planner.costs.two_pools import stage_memory, step_time
from planner.problem.layouts import Layouts, Rollouts
from planner.problem.problem import ASYNCHRONOUS, Problem, Question, WishCombination, host_memory_gib
from planner.problem.reference import REFERENCE
from planner.search.goodput import Goodput, goodput
from planner.search.named_layout import NamedLayout, named_layout
from planner.search.plan_ledgers import PHASE_OF, SCORED, MemoryLedgers, TimeLedger, phase_memory, summed
from planner.search.plan_ledgers import Entry as Entry
from planner.search.plan_ledgers import PhaseMemory as PhaseMemory
from planner.search.plan_memory import HeldMemory, first_stages
from planner.search.shown import Shown
from planner.units import GIB, number, percent

WAITING = "waiting for samples"
PHASES = {
    "backward": "training, backward",
    "recomputation": "training, recomputing a layer",
    "loss": "training, logits and loss",
    END_OF_BACKWARD: "training, end of backward",
    "optimizer": "optimizer step",
    "log_prob": "log-probabilities",
    REFERENCE: "training, reference",
    "rollout": "rollout",
    "weight_sync": "weight sync",
}


@dataclass(frozen=True)
class RolloutPlan:
    """The chosen rollout engine settings."""

    tensor_parallel: int
    gpu_memory_utilization: float
    concurrency: int
    """Samples one engine decodes at once."""
    samples_per_engine: int
    num_gpus: int
    """GPUs that generate."""
    max_concurrency: int | None
    """Requests it may run at once, where that is set below what the engine takes."""
    pool_tokens: int
    """Tokens that the key-value pool of one engine holds."""
    mean_tokens: int
    """Tokens of the samples that one engine decodes at once, all at their end, on average."""
    p99_tokens: int
    """The same in 99 of 100 rollouts."""
    worst_tokens: int
    """The same with every sample at its longest."""
    seconds: float
    """Time of generation, hidden behind training where placement is asynchronous. [s]"""


@dataclass(frozen=True, repr=False)
class Plan(HeldMemory, Shown):
    """A layout with its ledgers. Everything in it is recomputed from the cost functions."""

    problem: Problem
    layout: dict[str, int]
    """One row of `Layouts` as plain integers."""
    layers: tuple[int, ...]
    """Of each stage."""
    recomputed: tuple[int, ...]
    """Of each stage, layers whose activations are computed again in the backward pass."""
    rollout: RolloutPlan | None
    """In reinforcement learning."""
    memory: MemoryLedgers
    """[GiB]"""
    time: TimeLedger
    """Seconds by cause; they add up to the step."""
    phases: tuple[tuple[str, float], ...]
    """Seconds by phase of the step."""
    host: tuple[Entry, ...]
    """Host memory of one node. [GiB]"""

    def __str__(self) -> str:
        return plan_line(self)

    def __repr__(self) -> str:
        return f"<Plan {self}>"

    @property
    def named(self) -> NamedLayout:
        """Every decision under the name that the field uses, without indexes."""
        return named_layout(self.problem, self.layout, self.layers, self.recomputed, self.num_gpus, self.first_stages)

    @property
    def wish(self) -> WishCombination:
        """The wishes this plan grants."""
        return self.problem.wishes[self.layout["wish"]]

    @property
    def num_gpus(self) -> int:
        """GPUs of the whole run: those that train, and those that only generate."""
        apart = self.rollout is not None and not self.problem.colocated
        return self.layout["num_gpus"] + (self.rollout.num_gpus if apart and self.rollout is not None else 0)

    @property
    def step_seconds(self) -> float:
        """Seconds of one optimizer step; in RL of one rollout and its training. [s]"""
        return sum(entry.amount for entry in self.time)

    @property
    def sequences_per_step(self) -> int:
        """Sequences (RL: trained samples) of one step."""
        steps = self.problem.scenario.rl.steps_per_rollout if self.problem.scenario.rl else 1
        return self.layout["global_batch_size"] * steps

    @property
    def samples_per_second(self) -> float:
        """Sequences (RL: trained samples) a second."""
        return self.sequences_per_step / self.step_seconds

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on a second; padding is not counted."""
        return self.samples_per_second * self.layout["mean_sequence_length"]

    @property
    def step_interval_seconds(self) -> tuple[float, float] | None:
        """Bounds of the real step with 90 %, by the spread on published runs; None where none was scored, or factors of
        an own run are put on it. [s]"""
        spread = self.problem.known_errors.step(rl=self.problem.is_rl)
        if spread is None or self.problem.calibration is not None:
            return None
        return spread.low * self.step_seconds, spread.high * self.step_seconds

    @property
    def model_tflops_per_gpu(self) -> float:
        """Model FLOP a second and GPU that trains, while it trains: see `model_flop_per_token`. [TFLOP/s]"""
        seconds = sum(amount for name, amount in self.phases if name in ("training", "update"))
        tokens = self.sequences_per_step * self.layout["mean_sequence_length"]
        flop = self.problem.model_flop_per_token(self.layout["mean_sequence_length"])
        return flop * tokens / (seconds * self.layout["num_gpus"] * 1e12)

    @property
    def peak_tflops_per_gpu(self) -> float:
        """Dense peak of the precision that products are computed in, on average over the GPUs that train. [TFLOP/s]"""
        compute, gpus = self.problem.precision.compute, self.layout["num_gpus"]
        first = self.problem.gpu.dense_tflops[compute]
        if self.problem.later is None:
            return float(first)
        there = self.problem.later.gpu.dense_tflops[compute]
        return float(first + (there - first) * (gpus - self.problem.first_gpus) / gpus)

    @property
    def mfu(self) -> float:
        """Model FLOP utilisation of the optimizer step (in RL of training, without rollout): a share of that peak."""
        return self.model_tflops_per_gpu / self.peak_tflops_per_gpu

    @property
    def goodput(self) -> Goodput | None:
        """Share of the time that is really trained, where the scenario states its faults."""
        return goodput(self.problem.scenario.faults, self.num_gpus)


def _entries(items: tuple[Item, ...], place: Any, scale: float) -> tuple[Entry, ...]:
    """Items of a ledger at one place, those that are zero left out."""
    out = []
    for item in items:
        amount = float(np.asarray(item.amount).reshape(-1)[place] if np.ndim(item.amount) else item.amount) / scale
        if amount != 0:
            out.append(Entry(item.name, amount, item.source))
    return tuple(out)


def make_plan(
    question: Question,
    layouts: Layouts,
    row: int,
    layers: tuple[int, ...],
    recomputed: tuple[int, ...],
    rollouts: Rollouts | None,
    choice: int | None,
) -> Plan:
    """Cost one layout from the ledgers."""
    one = layouts.take(row)
    problem = question.problems[int(one.variant[0])]
    stages = len(layers)
    wide = one.expand()
    index = np.arange(stages, dtype=np.int64)[None, :]
    n, r = (np.array([values], dtype=np.int64) for values in (layers, recomputed))
    memory = stage_memory(problem, wide, index, n, r)
    known = without_assumed(problem)
    read = None if known is None else stage_memory(known, wide, index, n, r)
    ledgers = {}
    for moment in moments(problem):
        items = tuple(Item(i.name, np.broadcast_to(i.amount, (1, stages)), i.source) for i in memory.ledger(moment))
        less = total(items) - total(read.ledger(moment)) if read is not None else np.zeros((1, stages))
        ledgers[moment] = items, np.broadcast_to(less, (1, stages))
    phases = []
    heads = {stages - 1, 0} if problem.engine.pipeline.bidirectional else {stages - 1}
    for stage in range(stages):
        for moment, (items, less) in ledgers.items():
            if (moment == "loss" and stage not in heads) or (moment == "recomputation" and not recomputed[stage]):
                continue
            assumed = float(less[0, stage]) / GIB
            usable = (problem if stage < first_stages(problem, one.row(0)) else problem.later or problem).usable_gib
            phases.append(phase_memory(stage, moment, _entries(items, stage, GIB), usable, assumed))
    step = step_time(problem, wide, index)
    visits = step_items(step, layers=n, recomputed=r, stages=np.ones((1, stages)))
    entries: list[Entry] = []
    seconds: list[tuple[str, float]] = []
    chosen = None
    if rollouts is not None and choice is not None:
        costs = RolloutCosts(problem.generating, rollouts.take(choice))
        phases += [PhaseMemory(None, m, _entries(costs.ledger(m), 0, GIB)) for m in ROLLOUT_MOMENTS]
        chosen = _chosen(costs)
        worked = sum(float(whole[0]) for _, whole in visits.values())
        if problem.placement == ASYNCHRONOUS:
            waits = max(0.0, chosen.seconds - worked)
            entries += [Entry(WAITING, waits, "max(0, generation - training)")] if waits else []
            seconds.append(("rollout beyond training", waits))
        else:
            entries += _entries(costs.time, 0, 1.0)
            seconds.append(("rollout", chosen.seconds))
        entries += _entries(costs.switch_time, 0, 1.0)
        seconds.append(("weight sync and switching", float(total(costs.switch_time)[0])))
    for name, (items, whole) in visits.items():
        prefix = "" if PHASE_OF[name] != SCORED else f"{SCORED}: "
        entries += [Entry(prefix + e.name, e.amount, e.source) for e in _entries(items, 0, 1.0)]
        seconds.append((PHASE_OF[name], float(whole[0])))
    entries = summed(entries)
    return Plan(
        problem=problem,
        layout=one.row(0),
        layers=layers,
        recomputed=recomputed,
        rollout=chosen,
        memory=MemoryLedgers(phases),
        time=TimeLedger(entries),
        phases=tuple((name, sum(s for n, s in seconds if n == name)) for name in dict(seconds)),
        host=_entries(host_ledger(problem, one), 0, GIB),
    )


def _chosen(costs: RolloutCosts) -> RolloutPlan:
    """The one choice of these costs."""
    most = int(costs.choices.max_concurrency[0])
    engine = costs.problem.rollout_engine
    demand = costs.demanded_tokens(0)
    return RolloutPlan(
        tensor_parallel=int(costs.choices.tensor_parallel[0]),
        gpu_memory_utilization=float(costs.choices.gpu_memory_utilization[0]),
        concurrency=int(costs.concurrency[0]),
        samples_per_engine=int(costs.samples_per_engine[0]),
        num_gpus=int(costs.choices.num_gpus[0]),
        pool_tokens=int(costs.pool_tokens[0]),
        mean_tokens=round(demand[0]),
        p99_tokens=round(demand[1]),
        worst_tokens=round(demand[2]),
        max_concurrency=most if engine is not None and most < engine.max_concurrency else None,
        seconds=float(total(costs.time)[0]),
    )


def host_total_gib(plan: Plan) -> tuple[float, float | None]:
    """(host memory needed on one node, host memory of the node). [GiB]"""
    return sum(entry.amount for entry in plan.host), host_memory_gib(plan.problem)


WISHES = {
    "sequence_length": "sequence length",
    "response_length": "response length",
    "n_samples_per_prompt": "samples a prompt",
    "rollout_batch_size": "rollout batch",
    "optimizer": "optimizer",
}


SAFE_CHANCE = 0.95
"""Least chance to fit of a plan that is called safe where no published runs say how much is to be kept free: one run in
twenty may still run out."""


def verdict(plan: Plan, demanded_gib: float | None = None) -> str:
    """One word: does not fit (live memory exceeds the card), critical (one allocator spike away, or only room if the
    allocator gives its reserve back), tight (less free than demanded), safe (as much is free, and that is an engine's
    headroom made of published runs, or the chance that it fits is at least SAFE_CHANCE) or likely (as much is free)."""
    demanded = plan.usual_gib if demanded_gib is None else demanded_gib
    if plan.headroom_gib < 0:
        return "does not fit"
    if plan.critical:
        return "critical"
    if plan.headroom_gib < demanded:
        return "tight"
    engine, chance = plan.problem.engine, plan.fit_probability
    measured = not engine.headroom_standing and plan.headroom_gib >= plan.usable_gib * engine.default_headroom_fraction
    return "safe" if measured or (chance is not None and chance >= SAFE_CHANCE) else "likely"


def chance_words(share: float) -> str:
    """`95 %`, or `over 99.9 %`."""
    return "over 99.9 %" if share > 0.999 else percent(share)


def spare(plan: Plan) -> str:
    """What is free, or how much is missing."""
    if plan.headroom_gib < 0:
        return f"{number(-plan.headroom_gib, 1)} GiB missing"
    if plan.given_back_gib > 0:
        free = f"{number(plan.live_room_gib, 1)} GiB free of live memory"
        return f"starts only if the allocator gives back {number(plan.given_back_gib, 1)} GiB of its reserve ({free})"
    return f"{number(plan.headroom_gib, 1)} GiB free"


def plan_line(plan: Plan) -> str:
    """A plan in one sentence: degrees, memory, speed."""
    speed = f"{number(plan.step_seconds, 2)} s a step, {number(plan.tokens_per_second, 0)} tokens/s"
    where = f"{degrees(plan.layout)} on {plan.num_gpus} GPU{'s' if plan.num_gpus > 1 else ''}"
    return f"{plan.problem.name}: {where}: {verdict(plan)}, {spare(plan)}; {speed}"


def degrees(layout: dict[str, int]) -> str:
    """The degrees in short, those of one left out beyond TP, PP and DP."""
    parts = [f"TP{layout['tensor_parallel']}", f"PP{layout['pipeline_parallel']}", f"DP{layout['data_parallel']}"]
    parts += [f"CP{layout['context_parallel']}"] if layout["context_parallel"] > 1 else []
    parts += [f"EP{layout['expert_parallel']}"] if layout["expert_parallel"] > 1 else []
    parts += [f"VP{layout['virtual_pipeline']}"] if layout["virtual_pipeline"] > 1 else []
    return " ".join(parts)


def given_up(plan: Plan) -> list[str]:
    """Each wish that the plan does not grant, with what was wanted and what was granted."""
    wanted, granted = plan.problem.wishes[0], plan.wish
    out = []
    for name in granted.given_up:
        if name == "optimizer":
            ids = [o.id for o in plan.problem.optimizers]
            out.append(f"{WISHES[name]} ({ids[wanted.optimizer]} to {ids[granted.optimizer]})")
        else:
            out.append(f"{WISHES[name]} ({getattr(wanted, name):,} to {getattr(granted, name):,})")
    return out
