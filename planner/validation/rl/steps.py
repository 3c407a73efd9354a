"""Published RL steps: each series calibrated on one of its rows, the shares of the phases of the others predicted.

A series is one sweep in one mode. Synchronous steps go through `estimate` and `calibrate`. Asynchronous rows print the
wait that is left of generation, not generation: that wait is taken from the row calibrated on, and only training is
predicted, on the training GPUs.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from planner.analysis.calibrate.fit import factors_of, phase_seconds
from planner.analysis.calibrate.rl_log import Reading
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, read_document, validate
from planner.problem.problem import Problem, Question
from planner.problem.resolve import resolve
from planner.schema.calibration import Calibration, Phase
from planner.schema.scenario import Scenario
from planner.search.estimate import estimate_question
from planner.validation.memory import networks, translate
from planner.validation.memory.cases import Case
from planner.validation.memory.translate import NotExpressible
from planner.validation.published import Overlay
from planner.validation.throughput.cases import CASES, speed_of
from planner.validation.throughput.express import NODES

ASSUMPTIONS = "rl_series.yaml"
WITHIN = 0.10
"""SpeedBar: a phase's share of the step, predicted less measured."""
PHASES: Mapping[str, Phase] = {"gen_s": "rollout", "old_logprob_s": "log_probs", "update_actor_s": "train"}
"""Published column and the phase that it times; `ref_s` counts with log-probabilities."""


@dataclass(frozen=True)
class RlRow:
    """One published step."""

    id: str
    run: Case
    sweep: str
    mode: str
    facts: Mapping[str, float]
    """Published figures by column: step_time_s, gen_s, max_seq, rollout_batch, ..."""
    allocation: str
    engine: str
    notes: str

    @property
    def synchronous(self) -> bool:
        """Generation and training take turns on the same GPUs."""
        return self.mode == "sync"

    @property
    def series(self) -> str:
        """Rows that one calibration should carry over to."""
        return f"{self.sweep} {self.mode}"

    @property
    def phases(self) -> dict[Phase, float]:
        """Seconds that the row prints for each phase. [s]"""
        found = {phase: self.facts[name] for name, phase in PHASES.items() if self.facts.get(name)}
        if not self.synchronous:
            found.pop("log_probs", None)  # part of what overlaps
        if "ref_s" in self.facts and "log_probs" in found:
            found["log_probs"] += self.facts["ref_s"]
        return found

    @property
    def train_gpus(self) -> int:
        """GPUs that train: all of them, or those that the allocation names."""
        count = self.run.num_gpus or 0
        if self.synchronous:
            return count
        named = re.search(r"(\d+) train", self.allocation) or re.match(r"(\d+)\s*\+", self.allocation)
        return int(named.group(1)) if named else 0

    @property
    def shares(self) -> dict[str, float]:
        """Share of each phase; of the step, or of the printed phases where they overlap."""
        whole = self.facts["step_time_s"] if self.synchronous else sum(self.phases.values())
        return {name: seconds / whole for name, seconds in self.phases.items()}


@dataclass(frozen=True)
class RlScore:
    """A row predicted from another row of its series."""

    row: RlRow
    base: RlRow
    usual: bool
    """`base` is the row that the bar calibrates on: the middle one by GPUs."""
    shares: Mapping[str, float]
    step_seconds: float

    @property
    def worst(self) -> tuple[str, float]:
        """(phase, predicted less measured share) where they differ most."""
        off = {name: self.shares[name] - share for name, share in self.row.shares.items()}
        return max(off.items(), key=lambda pair: abs(pair[1]))

    @property
    def step_error(self) -> float:
        """(predicted - measured) / measured step time."""
        return self.step_seconds / self.row.facts["step_time_s"] - 1


@dataclass(frozen=True)
class RlResult:
    """All published steps: scored, or why not."""

    scores: tuple[RlScore, ...]
    left_out: tuple[tuple[str, str], ...]
    """(row, reason)"""

    @property
    def bar(self) -> tuple[int, int]:
        """(rows whose shares are all within the bar, rows), calibrated on the middle row of each series."""
        usual = [score for score in self.scores if score.usual]
        return sum(abs(score.worst[1]) <= WITHIN for score in usual), len(usual)


def load_rl(folder: Path) -> tuple[RlRow, ...]:
    """All RL steps of a data folder; none where it has no throughput file."""
    path = folder / CASES
    if not path.is_file():
        return ()
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return tuple(_row(row) for row in rows if row["source"] == "rl_throughput" or row["task"] == "rl")


def _row(row: dict[str, Any]) -> RlRow:
    metric, detail = row["metric"], row["engine_detail"]
    facts = {name: float(value) for name, value in (metric.get("rl") or {}).items() if isinstance(value, int | float)}
    return RlRow(
        id=row["id"],
        run=speed_of(row).run,
        sweep=metric.get("sweep") or row["source"],
        mode=detail.get("mode") or "",
        facts=facts,
        allocation=detail.get("allocation") or "",
        engine=detail.get("engine") or "",
        notes=detail.get("notes") or "",
    )


def run_rl(folder: Path) -> RlResult:
    """Calibrate every series on each of its rows in turn and predict the others."""
    assumed = _assumptions(folder)
    catalog = Overlay(default_catalog())
    left_out: list[tuple[str, str]] = []
    series: dict[str, list[tuple[RlRow, Problem]]] = {}
    for row in load_rl(folder):
        try:
            own = {**assumed.get("default", {}), **assumed.get(row.sweep, {})}
            series.setdefault(row.series, []).append((row, _problem(row, own, catalog)))
        except (NotExpressible, InputError, ValueError) as error:
            left_out.append((row.id, str(error).splitlines()[0]))
    scores: list[RlScore] = []
    for name in sorted(series):
        rows = sorted(series[name], key=lambda pair: (pair[0].run.num_gpus or 0, pair[0].id))
        if len(rows) == 1:
            left_out.append((rows[0][0].id, "the only usable row of its series: nothing is left to predict"))
            continue
        middle = (len(rows) - 1) // 2
        for place, base in enumerate(rows):
            for row, problem in rows:
                if row is not base[0]:
                    scores.append(_score(row, problem, base, place == middle))
    return RlResult(tuple(scores), tuple(sorted(left_out)))


def _assumptions(folder: Path) -> Mapping[str, Any]:
    path = folder / ASSUMPTIONS
    data = read_document(path).data if path.is_file() else {}
    return data if isinstance(data, dict) else {}


def _problem(row: RlRow, assumed: Mapping[str, Any], catalog: Overlay) -> Problem:
    """The row as a pinned scenario. Raises NotExpressible with the reason where it lacks something."""
    c = row.run
    if not row.facts.get("step_time_s") or not {"rollout", "train"} <= set(row.phases):
        raise NotExpressible("no step time with its phases")
    if not c.num_gpus:
        raise NotExpressible("number of GPUs not stated without doubt")
    gpu = translate.GPUS.get(c.gpu or "", c.gpu or "")
    node = assumed.get("nodes", {}).get(gpu) or NODES.get(gpu)
    if node is None:
        raise NotExpressible("GPU not stated" if not gpu else f"no node type for {gpu}")
    for name in ("max_seq", "rollout_batch"):
        if name not in row.facts:
            raise NotExpressible(f"{name} not stated")
    engine = next((own for word, own in assumed.get("engines", {}).items() if word in row.engine), None)
    if engine is None:
        raise NotExpressible("training engine not stated")
    gpus = row.train_gpus
    if not gpus:
        raise NotExpressible(f"GPUs that train not stated: {row.allocation}")
    lay = c.layout
    if engine != "verl-fsdp2" and not (lay.get("tp") and lay.get("pp")):
        raise NotExpressible("layout of the Megatron trainer not published")
    key = json.dumps(c.arch, sort_keys=True)
    catalog.extra["models", key] = networks.architecture_of(c, catalog)
    samples, each = int(row.facts["rollout_batch"]), int(row.facts.get("n_per_prompt", 1))
    longest = int(row.facts["max_seq"])
    mini = int(row.facts.get("ppo_mini_batch", samples / each))
    tp, pp = lay.get("tp") or 1, lay.get("pp") or 1
    cp = lay.get("cp") or (assumed["context_parallel"] if engine == "verl-fsdp2" else 1)
    data = {
        "name": f"step {row.id}",
        "task": "rl",
        "model": key,
        "engine": engine,
        "cluster": {"node": node, "num_gpus": gpus},
        "rl": {
            "prompt_length": assumed["prompt_length"],
            "response_length": longest,
            "response_distribution": {
                "mean": round(assumed["mean_response_share"] * longest),
                "p99": round(assumed["p99_response_share"] * longest),
            },
            "rollout_batch_size": samples // each,
            "n_samples_per_prompt": each,
            "steps_per_rollout": max(1, samples // each // mini),
            "reference_model": "ref_s" in row.facts,
            "rollout": {
                "tensor_parallel": int(row.facts.get("gen_tp", assumed["rollout_tensor_parallel"])),
                "gpu_memory_utilization": assumed["gpu_memory_utilization"],
            },
        },
        "batch": {"max_tokens_per_gpu": -(-(assumed["prompt_length"] + longest) // cp)},
        "layout": {
            "tensor_parallel": tp,
            "pipeline_parallel": pp,
            "context_parallel": cp,
            "data_parallel": gpus // (tp * pp * cp),
            "recomputed_layers": "all",
            **({"expert_parallel": lay["ep"]} if lay.get("ep") else {}),
        },
    }
    document = Document(f"validation/{row.id}", data, "")
    question = resolve(document, validate(document, Scenario), catalog)
    estimate_question(question)
    return question.first


def _score(row: RlRow, problem: Problem, base: tuple[RlRow, Problem], usual: bool) -> RlScore:
    """Predict a row with the factors of another one."""
    known, reference = base
    readings = {str(name): Reading(seconds, 1) for name, seconds in known.phases.items()}
    if known.synchronous:
        readings["step"] = Reading(known.facts["step_time_s"], 1)
        factors, other = factors_of(readings, phase_seconds(estimate_question(reference.alone)))
        calibration = Calibration(
            name=known.id, phases=factors, other_seconds=other, source=known.id, date="2026-11", lines=1
        )
        found = phase_seconds(estimate_question(Question((replace(problem, calibration=calibration),))))
        step = found["step"]
        return RlScore(row, known, usual, {name: found[name] / step for name in row.phases}, step)
    train = {"train": phase_seconds(estimate_question(reference.alone))["train"]}
    factors, _ = factors_of({"train": readings["train"]}, train)
    wait = known.phases["rollout"]
    seconds = phase_seconds(estimate_question(problem.alone))["train"] * factors["train"].factor
    overlap = known.facts["step_time_s"] / sum(known.phases.values())
    whole = wait + seconds
    return RlScore(row, known, usual, {"rollout": wait / whole, "train": seconds / whole}, whole * overlap)
