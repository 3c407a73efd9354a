"""Published RL steps with their phases, each a pinned scenario, predicted uncalibrated and scored phase by phase.

rl_steps.csv holds what sources print; rl_steps.yaml what they do not and a scenario needs, and why a row is left out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from planner.analysis.calibrate.fit import phase_seconds
from planner.errors import InputError
from planner.formulas.lengths import uncut_mean_tokens
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, read_document, validate
from planner.problem.resolve import resolve
from planner.schema.scenario import Scenario
from planner.search.estimate import estimate_question
from planner.search.plan import Plan
from planner.validation.rl.placement import layout_of

ROWS, ASSUMED = "rl_steps.csv", "rl_steps.yaml"
PHASES: Mapping[str, tuple[str, ...]] = {
    "rollout": ("generation_s",),
    "log_probs": ("logprob_s", "ref_s"),
    "train": ("train_s",),
    "weight_sync": ("weight_sync_s",),
    "step": ("step_s",),
}
"""Phase, and the columns that add up to it."""


@dataclass(frozen=True)
class StepRow:
    """One published step, or one weight sync."""

    id: str
    cells: Mapping[str, str]
    assumed: Mapping[str, Any]

    @property
    def framework(self) -> str:
        """NeMo-RL, verl, ..."""
        return re.split(r"[ ,]", self.cells["framework"])[0]

    @property
    def measured(self) -> dict[str, float]:
        """Seconds that the row prints for each phase; the middle of a printed range. [s]"""
        found = {}
        for phase, columns in PHASES.items():
            parts = [seconds for name in columns if (seconds := _middle(self.cells[name])) is not None]
            if parts:
                found[phase] = sum(parts)
        return found

    @property
    def has_length(self) -> bool:
        """The mean length of responses is printed."""
        return bool(self.cells["mean_response"])


@dataclass(frozen=True)
class StepScore:
    """A row and what the planner says of its phases."""

    row: StepRow
    predicted: Mapping[str, float]
    """Seconds of the phases that the row prints. [s]"""
    plan: Plan

    def error(self, phase: str) -> float:
        """(predicted - measured) / measured."""
        return self.predicted[phase] / self.row.measured[phase] - 1


@dataclass(frozen=True)
class StepResult:
    """All rows: scored, or why not."""

    scores: tuple[StepScore, ...]
    left_out: tuple[tuple[str, str], ...]
    """(row, reason)"""

    def of(self, phase: str) -> tuple[StepScore, ...]:
        """Rows that print a phase; of steps and their passes only those with a printed length."""
        return tuple(s for s in self.scores if phase in s.predicted and (phase == "weight_sync" or s.row.has_length))


def load_steps(folder: Path) -> tuple[StepRow, ...]:
    """All rows of a data folder; none where it has no such file."""
    path = folder / ROWS
    if not path.is_file():
        return ()
    stated = read_document(folder / ASSUMED).data
    assert isinstance(stated, dict)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return tuple(StepRow(c["id"], c, {**stated["default"], **stated["rows"][c["id"]]}) for c in rows)


def run_steps(folder: Path) -> StepResult | None:
    """Predict every row; None where the folder has none."""
    rows, catalog = load_steps(folder), default_catalog()
    if not rows:
        return None
    scores: list[StepScore] = []
    left_out: list[tuple[str, str]] = []
    for row in rows:
        if "left_out" in row.assumed:
            left_out.append((row.id, row.assumed["left_out"]))
            continue
        try:
            plan = _predicted(row, catalog)
        except InputError as error:
            left_out.append((row.id, str(error).splitlines()[0]))
            continue
        found = phase_seconds(plan)
        scores.append(StepScore(row, {name: found[name] for name in row.measured if name in found}, plan))
    return StepResult(tuple(scores), tuple(left_out))


def _predicted(row: StepRow, catalog: Catalog) -> Plan:
    """The row as a plan. Raises InputError where the row breaks a rule."""
    document = Document(f"validation/{row.id}", scenario_of(row), "")
    return estimate_question(resolve(document, validate(document, Scenario), catalog))


def scenario_of(row: StepRow) -> dict[str, Any]:
    """What `planner estimate` would read."""
    c, assumed = row.cells, row.assumed
    colocated = c["mode"] == "colocated"
    train = assumed.get("train_gpus") or int(c["gpus_train"])
    rollout = assumed.get("rollout_gpus") or int(c["gpus_generate"] or train)
    prompt = round(_first(c["mean_prompt"]) or assumed["prompt_length"])
    longest = int(assumed.get("max_length") or _first(c["max_seq"]) or assumed["no_work"]["max_length"])
    mean = (_first(c["mean_response"]) if row.has_length else None) or assumed["no_work"]["mean_response"]
    mean = assumed.get("mean_response", mean)
    ratio = assumed["p99_over_mean"]
    uncut = uncut_mean_tokens(mean=mean, p99_over_mean=ratio, maximum=longest - prompt)
    engine: dict[str, Any] = {
        "tensor_parallel": int(_first(c["rollout_tp"]) or assumed["rollout_tensor_parallel"]),
        "gpu_memory_utilization": assumed["memory_fraction"],
        "speculative_tokens": assumed.get("speculative_tokens", 0),
        "cuda_graphs": assumed.get("cuda_graphs", True),
    }
    return {
        "name": f"step {row.id}",
        "task": "rl",
        "model": assumed.get("model", c["model"]),
        "engine": assumed["engine"],
        "engine_options": assumed.get("options", "").split(),
        "cluster": {"node": assumed["node"], "num_gpus": train if colocated else train + rollout},
        "rl": {
            "prompt_length": prompt,
            "response_length": longest - prompt,
            "response_distribution": {"mean": uncut, "p99": round(ratio * uncut)},
            "rollout_batch_size": int(c["prompts"] or assumed["no_work"]["prompts"]),
            "n_samples_per_prompt": int(_first(c["samples_per_prompt"]) or assumed["no_work"]["samples"]),
            "steps_per_rollout": int(_first(c["optimizer_steps"]) or 1),
            "placement": "colocated" if colocated else "asynchronous",
            "weight_sync": assumed.get("weight_sync", "whole"),
            "rollout": engine if colocated else {**engine, "num_gpus": rollout},
        },
        "batch": _batch(row),
        "layout": _layout(row, train),
        "limits": {"headroom_gib": 0, "reserved_cliff": False, "host_memory": False},
    }


def _batch(row: StepRow) -> dict[str, Any]:
    """Micro-batches packed up to the assumed cap, or of one sample."""
    tokens = row.assumed.get("max_tokens_per_gpu")
    return {"micro_batch_size": 1} if tokens is None else {"max_tokens_per_gpu": tokens}


def _layout(row: StepRow, train: int) -> dict[str, Any]:
    """The printed layout, or the assumed one, pinned."""
    assumed = row.assumed
    again = "none" if assumed["recomputed_layers"] == 0 else "full"
    return layout_of([*assumed.get("layout", row.cells["train_layout"]).split(), again], train)


def _first(text: str) -> float | None:
    """The first number of a cell, `4` of `4 (assumed)`."""
    found = re.search(r"\d+(?:\.\d+)?", text)
    return float(found.group()) if found else None


def _middle(text: str) -> float | None:
    """A printed number, or the middle of a printed range."""
    numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
    return fmean(numbers) if numbers else None
