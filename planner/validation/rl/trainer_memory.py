"""Peak memory of RL trainers as published, beside what a plan of the same settings says.

    python -m planner.validation.rl.trainer_memory [FOLDER]     prints the table (validation/data unless named)

A stack's own count is of the trainer's process alone: what lies outside its allocator and what a rollout engine holds
are taken out of the ledger, for live tensors the allocator's reserve too. Nothing is fitted to these rows.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from planner.costs.item_names import ItemName
from planner.costs.memory.returnable import RETURNABLE
from planner.inputs.document import load, override
from planner.search.estimate import estimate
from planner.search.plan import Plan

ROWS = "rl_memory.csv"
BASE = "scenarios/qwen7b_dapo_h20.yaml"
CARD = "nvidia-smi"
OUTSIDE = (
    ItemName.CUDA_CONTEXT,
    ItemName.NCCL_BUFFERS,
    ItemName.NCCL_SEND_AND_RECEIVE_BUFFERS,
    ItemName.FRAMEWORK,
    ItemName.SLEEPING_TRAINER,
    ItemName.SLEEPING_CRITIC,
    ItemName.SLEEPING_ROLLOUT_ENGINE,
    ItemName.ROLLOUT_WEIGHTS,
    ItemName.KEY_VALUE_POOL,
    ItemName.ROLLOUT_ACTIVATIONS_AND_CUDA_GRAPHS,
)
"""Not in the trainer's allocator."""


@dataclass(frozen=True)
class TrainerRow:
    """One published figure."""

    id: str
    source: str
    engine: str
    model: str
    metric: str
    measured_gib: float
    doubtful: str
    """What is not printed and matters, or how it is costed otherwise; empty where neither."""
    not_said: str
    """Why no scenario can say it; empty where one can."""
    settings: dict[str, object]


@dataclass(frozen=True)
class TrainerScore:
    """A row beside its plan."""

    row: TrainerRow
    predicted_gib: float
    phase: str
    low_gib: float
    high_gib: float

    @property
    def error(self) -> float:
        """Predicted over measured less 1."""
        return self.predicted_gib / self.row.measured_gib - 1

    @property
    def inside(self) -> bool:
        """The measured value lies in the 90 % interval that a plan prints."""
        return self.low_gib <= self.row.measured_gib <= self.high_gib


def trainer_rows(folder: Path) -> tuple[TrainerRow, ...]:
    """All rows of `rl_memory.csv`, in its order."""
    found = []
    with (folder / ROWS).open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file):
            settings: dict[str, object] = json.loads(cells["set"]) if cells["set"] else {}
            settings |= {"engine": cells["engine"], "model": cells["model"]}
            settings["engine_options"] = [name for name in cells["options"].split(";") if name]
            found.append(
                TrainerRow(
                    id=cells["id"],
                    source=cells["source"],
                    engine=cells["engine"],
                    model=cells["model"],
                    metric=cells["metric"],
                    measured_gib=float(cells["memory_gib"]),
                    doubtful=cells["doubtful"],
                    not_said=cells["not_said"],
                    settings=settings,
                )
            )
    return tuple(found)


def trainer_peak(plan: Plan, metric: str) -> tuple[float, str]:
    """(what the metric shows at the fullest moment of the fullest stage, which moment). [GiB]"""
    if metric == CARD:
        return plan.peak_gib, plan.binding.phase
    away = {*OUTSIDE, *(RETURNABLE if metric == "allocated" else ())}
    of_phase = [
        (sum(item.amount for item in phase.items if item.name not in away), phase.phase)
        for phase in plan.memory
        if phase.stage is not None
    ]
    return max(of_phase)


def score_trainers(folder: Path) -> tuple[TrainerScore, ...]:
    """Every row that a scenario can say, costed.

    Raises InputError where a row's settings are no scenario.
    """
    base, scores = load(BASE), []
    for row in trainer_rows(folder):
        if row.not_said:
            continue
        plan = estimate(override(base, row.settings))
        gib, phase = trainer_peak(plan, row.metric)
        spread = plan.problem.known_errors.memory
        bounds = plan.interval_gib if row.metric == CARD else None
        if bounds is None:
            bounds = (0.0, float("inf")) if spread is None else spread.interval_gib(gib)
        scores.append(TrainerScore(row, gib, phase, *bounds))
    return tuple(scores)


def table(scores: Sequence[TrainerScore]) -> str:
    """The rows as markdown, and a line for those with settings and the doubtful ones each."""
    lines = [
        "| row | metric | measured GiB | predicted | error | fullest in | 90 % interval | inside |",
        "|---" * 8 + "|",
    ]
    for s in scores:
        kind = " (doubtful)" if s.row.doubtful else ""
        lines.append(
            f"| {s.row.id}{kind} | {s.row.metric} | {s.row.measured_gib:.1f} | {s.predicted_gib:.1f} | {s.error:+.0%} "
            f"| {s.phase} | {s.low_gib:.1f} to {s.high_gib:.1f} | {'yes' if s.inside else 'no'} |"
        )
    for name, some in (
        ("With settings", [s for s in scores if not s.row.doubtful]),
        ("Doubtful", [s for s in scores if s.row.doubtful]),
    ):
        middle = f"{median(abs(s.error) for s in some):.0%}" if some else "-"
        inside = sum(s.inside for s in some)
        lines += ["", f"{name}: {len(some)} rows, median error {middle}, {inside} inside."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(score_trainers(Path(sys.argv[1] if len(sys.argv) > 1 else "validation/data"))), end="")
