"""Published RL steps with trainer and rollout engine on the same GPUs or on GPUs of their own, predicted uncalibrated.

Every row of rl_placement.csv is a pinned scenario. Two things are compared: seconds of a step, and how many times as
long the step of another row of the same series is: one that shares as many GPUs, one that shares fewer, or one in
another precision. Nothing is fitted to these rows.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.analysis.calibrate.fit import phase_seconds
from planner.errors import InputError
from planner.formulas.lengths import uncut_mean_tokens
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, validate
from planner.problem.resolve import resolve
from planner.schema.scenario import Scenario
from planner.search.estimate import estimate_question
from planner.search.plan import Plan

ROWS = "rl_placement.csv"
SEPARATE, MORE, PRECISION = "separate GPUs", "separate and more GPUs", "precision"
"""What a row has that the row it is compared with has not."""
P99_SHARE = 5.0
"""99th percentile of lengths over their mean before the cut, as in rl_series.yaml (assumed)."""


@dataclass(frozen=True)
class PlacementRow:
    """One published step."""

    id: str
    series: str
    versus: str
    """Row of the same work that this one is compared with; empty where there is none."""
    cells: Mapping[str, str]
    step_seconds: float
    train_seconds: float | None
    """Of the update alone, where it is published. [s]"""

    @property
    def colocated(self) -> bool:
        """Trainer and rollout engine share all GPUs."""
        return self.cells["mode"] == "colocated"

    @property
    def has_length(self) -> bool:
        """The mean length of responses is printed."""
        return self.cells["lengths"] == "printed"

    @property
    def num_gpus(self) -> int:
        """GPUs that train and those that generate, each counted once."""
        train, rollout = int(self.cells["train_gpus"]), int(self.cells["rollout_gpus"])
        return train if self.colocated else train + rollout

    def beside(self, other: PlacementRow) -> str:
        """What this row has that the `other` has not."""
        if self.cells["mode"] == other.cells["mode"]:
            return PRECISION
        return SEPARATE if self.num_gpus == other.num_gpus else MORE

    @property
    def gpus(self) -> str:
        """`64`, or `32+32` for those that train and those that generate."""
        train, rollout = self.cells["train_gpus"], self.cells["rollout_gpus"]
        return train if self.colocated else f"{train}+{rollout}"


@dataclass(frozen=True)
class PlacementScore:
    """A row and what the planner says of it."""

    row: PlacementRow
    step_seconds: float
    rollout_seconds: float
    train_seconds: float
    switch_seconds: float
    """Weight sync, sleep and wake."""
    versus: tuple[float, float] | None
    """(predicted, measured) step of the row compared with over this one."""
    kind: str
    """What the two differ in; empty where there is no pair."""
    asked_of_peak: float | None
    """Share of the training GPUs' dense peak that the published update would need to be this work, attention at the
    mean length and recomputation counted; None where no update is published."""

    @property
    def step_error(self) -> float:
        """(predicted - measured) / measured step."""
        return self.step_seconds / self.row.step_seconds - 1

    @property
    def ratio_error(self) -> float | None:
        """(predicted - measured) / measured ratio."""
        return None if self.versus is None else self.versus[0] / self.versus[1] - 1

    @property
    def ranked(self) -> bool:
        """The faster one of the pair was named."""
        return self.versus is not None and (self.versus[0] > 1) == (self.versus[1] > 1)


@dataclass(frozen=True)
class PlacementResult:
    """All rows: scored, or why not."""

    scores: tuple[PlacementScore, ...]
    left_out: tuple[tuple[str, str], ...]
    """(row, reason)"""

    def pairs(self, kind: str, *, printed: bool | None = None) -> tuple[PlacementScore, ...]:
        """Scores of rows that have a pair of a kind, all of them or those whose lengths are `printed` or not."""
        return tuple(s for s in self.scores if s.kind == kind and printed in (None, s.row.has_length))


def load_placements(folder: Path) -> tuple[PlacementRow, ...]:
    """All rows of a data folder; none where it has no such file."""
    path = folder / ROWS
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(
            PlacementRow(
                id=cells["id"],
                series=cells["series"],
                versus=cells["versus"],
                cells=cells,
                step_seconds=float(cells["step_s"]),
                train_seconds=float(cells["train_s"]) if cells["train_s"] else None,
            )
            for cells in csv.DictReader(stream)
        )


def run_placements(folder: Path) -> PlacementResult | None:
    """Predict every row; None where the folder has none."""
    rows, catalog = load_placements(folder), default_catalog()
    if not rows:
        return None
    plans: dict[str, Plan] = {}
    left_out: list[tuple[str, str]] = []
    for row in rows:
        if row.cells["left_out"]:
            left_out.append((row.id, row.cells["left_out"]))
            continue
        try:
            plans[row.id] = _plan(row, catalog)
        except InputError as error:
            left_out.append((row.id, str(error).splitlines()[0]))
    known = {row.id: row for row in rows}
    scores = tuple(_score(known[name], plan, known, plans) for name, plan in plans.items())
    return PlacementResult(scores, tuple(left_out))


def _score(
    row: PlacementRow, plan: Plan, known: Mapping[str, PlacementRow], plans: Mapping[str, Plan]
) -> PlacementScore:
    found, versus, kind = phase_seconds(plan), None, ""
    if row.versus in plans:
        kind = row.beside(known[row.versus])
        shared = plans[row.versus].step_seconds / plan.step_seconds
        versus = shared, known[row.versus].step_seconds / row.step_seconds
    assert plan.rollout is not None
    return PlacementScore(
        row=row,
        step_seconds=plan.step_seconds,
        rollout_seconds=plan.rollout.seconds,
        train_seconds=found["train"],
        switch_seconds=dict(plan.phases)["weight sync and switching"],
        versus=versus,
        kind=kind,
        asked_of_peak=_asked(plan, found["train"], row.train_seconds),
    )


def _asked(plan: Plan, predicted: float, measured: float | None) -> float | None:
    again = sum(plan.recomputed) / (3 * sum(plan.layers))  # one pass of three once more
    return None if measured is None else plan.mfu * (1 + again) * predicted / measured


def _plan(row: PlacementRow, catalog: Catalog) -> Plan:
    """The row as a pinned scenario. Raises InputError where it breaks a rule."""
    document = Document(f"validation/{row.id}", scenario_of(row), "")
    return estimate_question(resolve(document, validate(document, Scenario), catalog))


def scenario_of(row: PlacementRow) -> dict[str, Any]:
    """What `planner estimate` would read."""
    c = row.cells
    train, rollout = int(c["train_gpus"]), int(c["rollout_gpus"])
    longest = int(c["max_length"]) - int(c["prompt_length"])
    mean = int(c["mean_length"]) - int(c["prompt_length"])
    mean = uncut_mean_tokens(mean=mean, p99_over_mean=P99_SHARE, maximum=longest)
    layout = layout_of(c["layout"].split(), train)
    engine: dict[str, Any] = {
        "tensor_parallel": int(c["rollout_tp"]),
        "gpu_memory_utilization": float(c["memory_fraction"]),
    }
    if c["rollout_precision"]:
        engine["precision"] = c["rollout_precision"]
    return {
        "name": f"step {row.id}",
        "task": "rl",
        "model": c["model"],
        "precision": c["precision"] or "bf16",
        "engine": c["engine"],
        "engine_options": c["options"].split(),
        "cluster": {"node": c["node"], "num_gpus": train if row.colocated else train + rollout},
        "rl": {
            "prompt_length": int(c["prompt_length"]),
            "response_length": longest,
            "response_distribution": {"mean": mean, "p99": round(P99_SHARE * mean)},
            "rollout_batch_size": int(c["prompts"]),
            "n_samples_per_prompt": int(c["samples"]),
            "steps_per_rollout": int(c["optimizer_steps"]),
            "reference_model": c["reference"] == "yes",
            "old_log_probs": c["old_log_probs"] == "yes",
            "placement": c["mode"],
            "steps_off_policy": int(c["steps_off"] or 1),
            "partial_rollouts": c["partial"] == "yes",
            "rollout": engine if row.colocated else {**engine, "num_gpus": rollout},
        },
        "batch": {"max_tokens_per_gpu": -(-int(c["max_length"]) // layout.get("context_parallel", 1))},
        "layout": layout,
    }


_DEGREES = {"tp": "tensor_parallel", "pp": "pipeline_parallel", "cp": "context_parallel", "ep": "expert_parallel"}


def layout_of(words: list[str], gpus: int) -> dict[str, Any]:
    """`tp2 pp8 ep16 split11-12-11 full cpu-adam` as a pinned layout; all layers recomputed unless it says `none`."""
    degrees = {name: int(word[2:]) for word in words for name in _DEGREES if word[:2] == name and word[2:].isdigit()}
    out: dict[str, Any] = {_DEGREES[name]: value for name, value in degrees.items()}
    inside = degrees.get("tp", 1) * degrees.get("pp", 1) * degrees.get("cp", 1)
    out |= {"data_parallel": gpus // inside, "recomputed_layers": 0 if "none" in words else "all"}
    if "ep" in degrees:
        out["expert_tensor_parallel"] = 1
    for word in words:
        if word.startswith("split"):
            first, middle, last = (int(n) for n in word.removeprefix("split").split("-"))
            out["layers_per_stage"] = [first, *[middle] * (degrees["pp"] - 2), last]
    if "cpu-adam" in words:
        out["optimizer_offload"] = True
    return out
