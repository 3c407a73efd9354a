"""Fit the few free factors of a pinned scenario to the log of one's own run: one factor a phase, medians over lines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from planner.analysis.calibrate.lengths import LoggedLengths, logged_lengths
from planner.analysis.calibrate.rl_log import Log, Reading
from planner.costs.item_names import ItemName
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.problem.problem import ASYNCHRONOUS, Problem, Question
from planner.problem.resolve import question_of
from planner.schema.calibration import Calibration, Factor, Phase
from planner.search.estimate import estimate_question
from planner.search.plan import Plan

PHASES: tuple[Phase, ...] = get_args(Phase)
MOST_APART = 1000
"""A factor beyond this, or below its inverse, is no factor of one run."""
OUTSIDE = (
    ItemName.CUDA_CONTEXT,
    ItemName.NCCL_BUFFERS,
    ItemName.NCCL_SEND_AND_RECEIVE_BUFFERS,
    ItemName.FRAMEWORK,
    ItemName.SLEEPING_ROLLOUT_ENGINE,
)
"""Items of the trainer's memory that its allocator does not hold."""


@dataclass(frozen=True)
class FactorRow:
    """One quantity: as the log states it, and as the planner predicts it without and with the factors."""

    name: str
    measured: Reading
    before: float
    after: float
    factor: float | None
    """None for what is checked and not fitted."""
    unit: str = "s"

    @property
    def errors(self) -> tuple[float, float]:
        """(predicted - measured) / measured, before and after."""
        return self.before / self.measured.value - 1, self.after / self.measured.value - 1


@dataclass(frozen=True)
class FittedFactors:
    """A calibration and what it changes."""

    calibration: Calibration
    before: Plan
    after: Plan
    rows: tuple[FactorRow, ...]
    lengths: LoggedLengths | None = None


def phase_seconds(plan: Plan) -> dict[str, float]:
    """Seconds of each phase that a factor can be put on, and of the whole `step`. [s]"""
    phases = dict(plan.phases)
    items = {
        name: sum(entry.amount for entry in plan.time if entry.name == name)
        for name in (ItemName.WEIGHT_SYNC, ItemName.SLEEP_AND_WAKE)
    }
    found = {
        "rollout": phases.get("rollout", 0.0),
        "log_probs": phases.get("log-probabilities", 0.0),
        "train": phases["training"] + phases["update"],
        "weight_sync": items[ItemName.WEIGHT_SYNC],
        "switch": items[ItemName.SLEEP_AND_WAKE],
    }
    return {**{name: value for name, value in found.items() if value > 0}, "step": plan.step_seconds}


def allocator_gib(plan: Plan) -> float:
    """What the trainer's allocator holds when it holds most, over stages and phases. [GiB]"""
    return max(
        sum(item.amount for item in phase.items if item.name not in OUTSIDE)
        for phase in plan.memory
        if phase.stage is not None
    )


def fit(document: Document, log: Log, *, source: str, date: str, catalog: Catalog | None = None) -> FittedFactors:
    """Factors that make the scenario's pinned layout take the times of a log.

    Raises InputError where the scenario leaves something open, or the log is not of such a run.
    """
    problem = replace(question_of(document, catalog).first, calibration=None)
    _check(problem, log)
    before = estimate_question(problem.alone)
    predicted = phase_seconds(before)
    measured = measured_seconds(log, before)
    factors, other = factors_of(measured, predicted, source)
    memory = None
    if log.reserved_gib is not None:
        memory = _factor(log.reserved_gib, allocator_gib(before), source, "GiB")
    calibration = Calibration(
        name=problem.scenario.name,
        phases={name: factors[name] for name in PHASES if name in factors},
        memory=memory,
        other_seconds=other,
        source=source,
        date=date,
        lines=max([reading.lines for reading in measured.values()] + ([memory.lines] if memory else [])),
    )
    after = estimate_question(Question((replace(problem, calibration=calibration),)))
    rows = _rows(calibration, measured, log, before, after)
    return FittedFactors(calibration, before, after, rows, logged_lengths(log, before))


def _check(problem: Problem, log: Log) -> None:
    """An RL log for an RL scenario whose phases follow one another, with the same passes for log-probabilities."""
    document, rl = problem.document, problem.scenario.rl
    if problem.placement == ASYNCHRONOUS:
        raise InputError(
            Mistake(
                "the log of an asynchronous step cannot be fitted",
                document.place(("rl", "placement")),
                "generation and training overlap, so that a step is not the sum of its phases",
                "a log of placement: colocated or disaggregated",
            )
        )
    if rl is None and log.phases:
        raise InputError(
            Mistake(
                f"the log is of {log.framework}, the scenario is no RL step",
                document.place(("task",)),
                f"task: {problem.scenario.task}",
                "the scenario of that run, with task: rl",
            )
        )
    if rl is not None and not log.phases and log.reserved_gib is None:
        raise InputError(
            Mistake(
                "the log states no phases of an RL step",
                document.place(("task",)),
                "a rate of pretraining does not tell rollout from training",
                "lines with perf/*_time, timing_s/* or timing/train/*",
            )
        )
    if rl is None or log.passes is None:
        return
    scored = problem.scored_by
    wanted = {"rl.old_log_probs": "policy" in scored, "rl.reference_model": "reference" in scored}
    for (name, want), stated in zip(wanted.items(), log.passes, strict=True):
        if want != stated:
            says = "states" if stated else "does not state"
            raise InputError(
                Mistake(
                    f"{name} is {str(want).lower()}, but the log {says} such a pass",
                    document.place(("rl", name.partition(".")[2])),
                    "the factor of log-probabilities would be of other work",
                    f"--set {name}={str(stated).lower()}",
                )
            )


def measured_seconds(log: Log, plan: Plan) -> dict[str, Reading]:
    """Readings by phase; a rate of pretraining becomes the seconds of a step."""
    if plan.problem.is_rl:
        return dict(log.phases)
    tokens = plan.layout["global_batch_size"] * plan.layout["mean_sequence_length"]
    for reading, work in (
        (log.tokens_per_second, float(tokens)),
        (log.tokens_per_second_per_gpu, tokens / plan.num_gpus),
    ):
        if reading is not None:
            return {"train": Reading(work / reading.value, reading.lines, reading.line)}
    return {"train": log.seconds} if log.seconds is not None else {}


def _factor(measured: Reading, predicted: float, source: str = "the log", unit: str = "s") -> Factor:
    """Raises InputError where the log cannot be of the scenario's run."""
    if not 1 / MOST_APART <= measured.value / predicted <= MOST_APART:
        what = f"the log says {measured.value:.3g} {unit} where the planner predicts {predicted:.3g}"
        because = f"more than {MOST_APART:,} times apart: it is not of this run"
        raise InputError(Mistake(what, Place(source, measured.line), because))
    return Factor(factor=measured.value / predicted, measured=measured.value, predicted=predicted, lines=measured.lines)


def factors_of(
    measured: dict[str, Reading], predicted: dict[str, float], source: str = "the log"
) -> tuple[dict[Phase, Factor], float]:
    """(factor of each phase, seconds of the step that no phase explains)."""
    factors: dict[Phase, Factor] = {}
    for phase in PHASES:
        if phase in measured and phase in predicted:
            factors[phase] = _factor(measured[phase], predicted[phase], source)
    joint = measured.get("train and log_probs")
    if joint is not None:
        whole = predicted["train"] + predicted.get("log_probs", 0.0)
        own: tuple[Phase, ...] = ("train", "log_probs")
        for phase in own:
            if phase in predicted and phase not in factors:
                share = Reading(joint.value * predicted[phase] / whole, joint.lines, joint.line)
                factors[phase] = _factor(share, predicted[phase], source)
    step = measured.get("step")
    if step is None:
        return factors, 0.0
    left = step.value - sum(factor.measured for factor in factors.values())
    unstated: list[Phase] = [phase for phase in PHASES if phase in predicted and phase not in factors]
    open_seconds = sum(predicted[phase] for phase in unstated)
    if left >= open_seconds:
        return factors, left - open_seconds
    if left > 0:
        for phase in unstated:
            share = Reading(left * predicted[phase] / open_seconds, step.lines, step.line)
            factors[phase] = _factor(share, predicted[phase], source)
    return factors, 0.0


def _rows(
    calibration: Calibration, measured: dict[str, Reading], log: Log, before: Plan, after: Plan
) -> tuple[FactorRow, ...]:
    first, last = phase_seconds(before), phase_seconds(after)
    rows = []
    for name, factor in calibration.phases.items():
        if name in measured:
            rows.append(FactorRow(name, measured[name], first[name], last[name], factor.factor))
        else:
            reading = Reading(factor.measured, factor.lines)
            rows.append(FactorRow(f"{name} (from what is left)", reading, first[name], last[name], factor.factor))
    if before.problem.is_rl and "step" in measured:
        rows.append(FactorRow("step", measured["step"], first["step"], last["step"], None))
    if calibration.memory is not None and log.reserved_gib is not None:
        found = (allocator_gib(before), allocator_gib(after))
        rows.append(FactorRow("reserved memory", log.reserved_gib, *found, calibration.memory.factor, "GiB"))
    return tuple(rows)
