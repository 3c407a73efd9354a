"""Published memory measurements as frozen records, with the class each is scored in and why some are not scored."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from planner.inputs.memory_spread import TOY_GIB
from planner.validation.published import read_rows

Words: TypeAlias = dict[str, Any]
"""Fields of a case, by name."""
CASES = "memory_cases.jsonl.gz"
CASES_2 = "memory_cases_2.jsonl.gz"
HARD = "nanotron_hard.csv"
CORRECTIONS = "corrections.csv"
FIRST_LOOKS = (
    *("first_look.csv", "first_look_more.csv", "first_look_aside.csv", "first_look_fresh.csv"),
    "first_look_next.csv",
)
"""Predictions of development rows 2 to 6 by the version before anyone had seen them; see the README beside them."""
KEPT_ASIDE = 7
"""From this development on rows are a test still: in no fit, no refit, no interval and no default headroom."""
PRIME_RL_DATE = "2026-01-15"
"""The one date whose prime-rl steps are scored; other dates drift by up to 2 times at the same configuration."""


@dataclass(frozen=True)
class Case:
    """One published run: what was trained, how it was laid out, what was measured."""

    id: str
    source: str
    model: str
    kind: str
    """dense, moe or mla."""
    engine: str
    """Canonical name of the training stack in the data."""
    framework: str
    flags: tuple[str, ...]
    notes: str
    version_date: str
    gpu: str | None
    num_gpus: int | None
    arch: Mapping[str, Any]
    layout: Mapping[str, Any]
    micro_batch_size: int | None
    global_batch_size: int | None
    grad_accum: int | None
    sequence_length: int | None
    precision: str
    precision_detail: str
    grads_fp32: bool | None
    optimizer: str
    recompute: Mapping[str, Any]
    sequence_parallel: bool | None
    flash_attention: bool
    peft: str | None
    lora: Mapping[str, Any] | None
    task: str
    metric: str
    """allocated, reserved, active, nvidia-smi, unstated or fit_oom."""
    rank_scope: str
    scope_detail: str
    memory_gib: float | None
    unit_certain: bool
    outcome: str
    """value, fit or oom."""
    group: str
    """Class of the data's own index."""
    tags: frozenset[str]
    missing: tuple[str, ...]
    inferred: tuple[str, ...]
    correction: str | None
    """Why a field is not what the data's own table has."""
    development: int
    """1 for rows that were in view from the start, 2 for those that were kept aside until November 2026, 3 to 6
    for those that were read on 2026-11-22 and 23, committed before they were costed and looked at once, 7 (KEPT_ASIDE)
    for the next such rows."""
    hard: bool | None
    """Fit/OOM rows: near the limit by the frozen reference formula (reference.py)."""
    doubtful: str | None = None
    """The setting that no source prints, where the row is counted apart for it."""

    @property
    def stack(self) -> str:
        """What both developments are compared by; see STACKS."""
        return _stack_of(self)

    @cached_property
    def scored_in(self) -> str:
        """The class this case is scored in; see CLASSES."""
        return _class_of(self)

    @cached_property
    def excluded(self) -> str | None:
        """Why this case is reported but not scored; None where it is scored."""
        return _excluded(self)


CLASSES: dict[str, str] = {
    "megatron-dense": "Megatron-core dense, full size, allocated",
    "megatron-toy": "Megatron-core, toys under 5 GiB, allocated",
    "megatron-moe": "Megatron-core MoE and latent attention, full size, allocated",
    "nanotron": "nanotron, all successes, reserved, rank 0",
    "nanotron-fit": "nanotron, fit or out of memory",
    "fsdp": "FSDP full training",
    "single-allocated": "one GPU, full, LoRA and QLoRA, allocated",
    "single-reserved": "one GPU, reserved or tool not stated",
    "prime-rl": "prime-rl steps of 2026-01-15, reserved",
    "prime-rl-drift": "prime-rl steps of other dates, reserved",
    "fsdp-lora": "LoRA and QLoRA under FSDP",
    "nanotron-sample": "nanotron sample (also among the successes)",
    "later": "rows read on 2026-11-22 and 23, in view since",
    "aside": "rows read last: a test, not scored",
    "other": "everything else",
}
"""Classes by name; those with a bar stand in score.BARS."""


STACKS: dict[str, str] = {
    "megatron": "Megatron-core, full training",
    "megatron-adapters": "Megatron-core, LoRA",
    "nanotron": "nanotron",
    "fsdp1": "FSDP1, full training",
    "fsdp1-adapters": "FSDP1, LoRA and QLoRA",
    "torchtitan": "torchtitan",
    "fsdp2": "FSDP2 over Transformers, NeMo AutoModel",
    "prime-rl": "prime-rl",
    "deepspeed": "DeepSpeed",
    "megatron-deepspeed": "Megatron-DeepSpeed of 2022",
    "one-gpu": "Transformers on one GPU",
    "litgpt": "LitGPT",
    "torchtune": "torchtune",
    "torchtune-doubtful": "torchtune, length perhaps only a cap",
    "other": "everything else",
}
"""Training stacks, by which rows of both developments stand side by side."""


def _stack_of(c: Case) -> str:
    if c.engine == "torchtune" and "variable_length" in c.tags:
        return "torchtune-doubtful"
    if c.engine in ("megatron-core", "fsdp1") and c.peft is not None:
        return {"megatron-core": "megatron-adapters", "fsdp1": "fsdp1-adapters"}[c.engine]
    named = {"megatron-core": "megatron", "megatron-core-replicated": "megatron", "hf-single": "one-gpu"}
    if c.source == "prime_rl":
        return "prime-rl"
    stack = "deepspeed" if c.engine.startswith("deepspeed") else named.get(c.engine, c.engine)
    return stack if stack in STACKS else "other"


def _class_of(c: Case) -> str:
    group = c.group
    if c.development > 2:
        return "aside" if c.development >= KEPT_ASIDE else "later"
    if group.startswith("Megatron-core") and "hybrid" not in group:
        if c.memory_gib is not None and c.memory_gib < TOY_GIB:
            return "megatron-toy"
        return "megatron-dense" if "dense" in group else "megatron-moe"
    if c.source == "prime_rl":
        return "prime-rl" if c.version_date == PRIME_RL_DATE else "prime-rl-drift"
    if c.source == "nanotron_fit_oom":
        return "nanotron"
    if group.startswith("single GPU"):
        return "single-allocated"
    if group in ("other: single GPU reserved", "other: single GPU unstated"):
        return "single-reserved"
    named = {"FSDP full training": "fsdp", "LoRA FSDP": "fsdp-lora", "nanotron reserved": "nanotron-sample"}
    return named.get(group, "other")


def _excluded(c: Case) -> str | None:
    """The known defects of the data, each with its reason."""
    number = int(c.id.rsplit("-", 1)[-1]) if c.id.rsplit("-", 1)[-1].isdigit() else -1
    if c.doubtful:
        return f"doubtful: {c.doubtful}"
    if c.development >= KEPT_ASIDE:
        return "kept as a test (read after the others)"
    if c.id == "titan-052":
        return "a bug of the run, by its own notes"
    if c.id in ("titan-044", "titan-045"):
        return "FSDP2 beside tensor parallelism held more than FSDP1 until mended (torchtitan issue 191, 2024-04-04)"
    if c.id == "qwen-45":
        return "value exceeds the card"
    if c.engine == "hf-device-map":
        return "two GPUs by device map: no data or model parallel layout"
    if c.id in ("mcore-003", "mcore-004"):
        return "mcore-003 and mcore-004 contradict each other"
    if "verify_config" in c.tags:
        return "configuration newer than the recorded value"
    if c.source == "megatron_bridge" and 25 <= number <= 30:
        return "unit and metric not stated"
    if c.arch.get("hybrid"):
        return "hybrid of attention and state-space layers"
    if c.num_gpus is None or "num_gpus" in c.missing:
        return "no GPU count"
    if c.gpu is None:
        return "no GPU stated"
    if (c.source == "litgpt" and "variable_length" in c.tags) or "unpacked padded batches" in c.task:
        return "only a length cap: an upper bound"
    if c.micro_batch_size is None or c.sequence_length is None:
        return f"not stated: {', '.join(c.missing)}"
    if c.scored_in == "fsdp" and c.missing:
        return f"not stated: {', '.join(c.missing)}"
    return None


def load_cases(folder: Path) -> tuple[Case, ...]:
    """All memory cases of a data folder. Raises InputError where a file is missing or broken."""
    hard, corrections = _hard(folder / HARD), _corrections(folder / CORRECTIONS)
    first = read_rows(folder / CASES, lambda row: _case(row, 1, hard, corrections))
    later = folder / CASES_2
    second = read_rows(later, lambda row: _case(row, 2, hard, corrections)) if later.is_file() else ()
    return first + second


def first_look(folder: Path, *, reread: bool = True) -> dict[str, float]:
    """Predicted GiB by row id, before the rows were seen.

    Without `reread` rows are left out whose settings are read otherwise since: what was said is of another run.
    """
    out: dict[str, float] = {}
    for path in (folder / name for name in FIRST_LOOKS):
        if path.is_file():
            with open(path, encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if reread or not row.get("reread")]
                out |= {row["id"]: float(row["predicted_gib"]) for row in rows}
    return out


def _hard(path: Path) -> dict[str, bool]:
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as stream:
        return {row["id"]: row["hard"] == "1" for row in csv.DictReader(stream)}


def _corrections(path: Path) -> dict[str, list[tuple[str, str, str]]]:
    """(field, value, reason) by case, where the data's table differs from what its source prints."""
    out: dict[str, list[tuple[str, str, str]]] = {}
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                out.setdefault(row["id"], []).append((row["field"], row["value"], row["reason"]))
    return out


_WHOLE = ("micro_batch_size", "sequence_length", "grad_accum")


def _case(
    row: Words,
    development: int,
    hard: Mapping[str, bool],
    corrections: Mapping[str, list[tuple[str, str, str]]],
) -> Case:
    detail, metric = row["engine_detail"], row["metric"]
    changes = corrections.get(row["id"], [])
    value = {field: text for field, text, _ in changes}
    row = {**row, **{field: int(value[field]) for field in _WHOLE if field in value}}
    if "vocab_size" in value:
        row["arch"] = {**row["arch"], "vocab_size": int(value["vocab_size"])}
    measured = float(value["memory_gib"]) if "memory_gib" in value else metric["memory_gib"]
    correction = "; ".join(reason for _, _, reason in changes) or None
    return Case(
        id=row["id"],
        source=row["source"],
        model=row["model"],
        kind=row["kind"],
        engine=row["engine"],
        framework=value.get("framework") or detail.get("framework") or "",
        flags=tuple(detail.get("flags") or ()),
        notes=detail.get("notes") or "",
        version_date=detail.get("version_date") or "",
        gpu=row["gpu"],
        num_gpus=row["num_gpus"],
        arch=row["arch"],
        layout=row["layout"],
        micro_batch_size=row["micro_batch_size"],
        global_batch_size=row["global_batch_size"],
        grad_accum=row["grad_accum"],
        sequence_length=row["sequence_length"],
        precision=row["precision"],
        precision_detail=row["precision_detail"] or "",
        grads_fp32=row["grads_fp32"],
        optimizer=row["optimizer"] or "",
        recompute=row["recompute"],
        sequence_parallel=row["sequence_parallel"],
        flash_attention=value.get("flash_attention") == "true" or bool(row["flash_attention"]),
        peft=row["peft"],
        lora=row["lora"],
        task=row["task_detail"] or "",
        metric=metric["metric_class"],
        rank_scope=metric["rank_scope"],
        scope_detail=metric["scope_detail"] or "",
        memory_gib=measured,
        correction=correction,
        unit_certain=metric["unit_certain"],
        outcome=row["outcome"],
        group=row["class"],
        tags=frozenset(row["tags"]),
        missing=tuple(row["missing"]),
        inferred=tuple(row["inferred"]),
        development=development,
        hard=hard.get(row["id"]),
    )
