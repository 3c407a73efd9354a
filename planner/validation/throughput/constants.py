"""Fitted constants of the time model: what each was fitted on, and its error on data left out of the fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.inputs.catalog import Catalog, default_catalog
from planner.validation.throughput.cases import Speed
from planner.validation.throughput.express import express

STEPS = (0.64, 0.8, 1.0, 1.25, 1.5625)
"""Multiples of the shipped value that a refit may choose."""


@dataclass(frozen=True)
class FittedConstant:
    """A constant that was set with measured speeds in view."""

    owner: str
    """Id of the engine, or of the GPU."""
    path: tuple[str, ...]
    fold: str
    """What is left out in turn: source, or model where one source carries the engine."""
    data: str
    kind: str = "engines"
    """Folder of the catalog."""

    @property
    def name(self) -> str:
        """Owner and field."""
        return f"{self.owner} {'.'.join(self.path)}"


FITTED: tuple[FittedConstant, ...] = (
    FittedConstant("h100-sxm5-80gb", ("sustained_rate", "bf16"), "model", "dgxc, Llama 3 8B and 405B", "gpus"),
    FittedConstant("h100-sxm5-80gb", ("sustained_rate", "fp8"), "source", "dgxc, NeMo, MLPerf, Bridge", "gpus"),
    FittedConstant("gb200-186gb", ("sustained_rate", "bf16"), "source", "dgxc, Llama 3.1 405B", "gpus"),
    FittedConstant("gb200-186gb", ("sustained_rate", "fp8"), "source", "dgxc, Megatron-Bridge", "gpus"),
    FittedConstant("gb300", ("sustained_rate", "fp8"), "model", "Megatron-Bridge, Llama 3 70B", "gpus"),
    FittedConstant("h100-96gb-500w", ("sustained_rate", "bf16"), "model", "torchtitan", "gpus"),
    FittedConstant(
        "megatron-core", ("options", "tp_comm_overlap", "overlap.tensor"), "model", "dgxc, 405B and GPT-3 175B"
    ),
    FittedConstant("megatron-core", ("timing", "expert_host_us"), "model", "experts without CUDA graphs"),
    FittedConstant("megatron-core", ("timing", "expert_sync_us"), "model", "experts, scoped CUDA graphs"),
    FittedConstant(
        "megatron-core",
        ("options", "moe_a2a_overlap", "timing.expert_host_us"),
        "model",
        "experts, exchange overlapped",
    ),
    FittedConstant("nanotron", ("timing", "host_us"), "model", "sweep, micro-batch 1, TP 2 to 8"),
    FittedConstant("nanotron", ("timing", "host_tensor_parallel_us"), "model", "sweep, micro-batch 1, TP 2 to 8"),
    FittedConstant("nanotron", ("timing", "send_across_ms"), "model", "sweep, TP and PP above 1"),
    FittedConstant("nanotron", ("overlap", "data"), "model", "sweep, 256 GPUs, one micro-batch"),
    FittedConstant("nanotron", ("elementwise_factor",), "model", "sweep, one node, TP 1"),
    FittedConstant("megatron-deepspeed", ("timing", "host_us"), "model", "vTrain, one node, micro-batch 1"),
    FittedConstant("megatron-deepspeed", ("elementwise_factor",), "model", "vTrain, one node, micro-batch 8"),
    FittedConstant("llm-foundry", ("elementwise_factor",), "model", "llm-foundry A100 and H100"),
)
"""TRITON_SHARE of planner/formulas/attention.py was set on llm-foundry too; all else is counted or assumed."""


@dataclass(frozen=True)
class LeftOut:
    """Errors of one constant."""

    fitted: FittedConstant
    value: float
    rows: int
    folds: int
    in_sample: float
    """Median absolute error with the shipped value."""
    left_out: float
    """The same where each fold is predicted by the multiple that suits the others best."""
    best: float
    """Multiple of the shipped value that suits all rows best, one of STEPS."""


def value_of(fitted: FittedConstant, catalog: Catalog) -> float:
    """The shipped value."""
    entry: Any = catalog.find(fitted.kind, fitted.owner)
    if fitted.path[0] == "options":
        outer, inner = fitted.path[2].split(".")
        return float(entry.options[fitted.path[1]].set[outer][inner])
    for name in fitted.path:
        entry = entry[name] if isinstance(entry, dict) else getattr(entry, name)
    return float(entry)


def with_value(entry: Any, path: Sequence[str], value: float) -> Any:
    """The engine or GPU with one field replaced."""
    if path[0] == "options":
        option = entry.options[path[1]]
        outer, inner = path[2].split(".")
        changed = option.model_copy(update={"set": {**option.set, outer: {**option.set[outer], inner: value}}})
        return entry.model_copy(update={"options": {**entry.options, path[1]: changed}})
    if len(path) == 1:
        return entry.model_copy(update={path[0]: value})
    before = getattr(entry, path[0])
    inside = {**before, path[1]: value} if isinstance(before, dict) else before.model_copy(update={path[1]: value})
    return entry.model_copy(update={path[0]: inside})


def leave_out(speeds: Sequence[Speed], sources: Mapping[str, Any], catalog: Catalog | None = None) -> list[LeftOut]:
    """Refit every constant alone with each fold left out. Takes about two minutes on all data."""
    base = catalog or default_catalog()
    plain, _ = express(speeds, sources, base)
    engine_of = {e.speed.id: e.problem.engine.id for e in plain}
    gpu_of = {e.speed.id: e.problem.gpu.id for e in plain}
    scored = [s for s in speeds if s.id in engine_of and s.accuracy not in ("other", "nanotron-slow")]
    out = []
    for fitted in FITTED:
        value = value_of(fitted, base)
        owner_of = engine_of if fitted.kind == "engines" else gpu_of
        rows = [s for s in scored if owner_of[s.id] == fitted.owner and _concerns(fitted, s)]
        if rows:
            errors = {step: _errors(fitted, value * step, rows, sources, base) for step in STEPS}
            out.append(_left_out(fitted, value, rows, errors))
    return out


def _concerns(fitted: FittedConstant, speed: Speed) -> bool:
    """Rows that a constant is multiplied in: of its precision, with experts for a constant of experts."""
    if fitted.kind == "gpus":
        return (speed.run.precision in ("fp8", "mxfp8")) == (fitted.path[-1] == "fp8")
    return speed.moe or "expert" not in fitted.path[-1]


def _errors(
    fitted: FittedConstant, value: float, rows: Sequence[Speed], sources: Mapping[str, Any], catalog: Catalog
) -> dict[str, float]:
    """Absolute relative error by row id."""
    bounded = min(value, 1.0) if fitted.kind == "gpus" or "overlap" in fitted.path[0] + fitted.path[-1] else value
    entry = with_value(catalog.find(fitted.kind, fitted.owner), fitted.path, bounded)
    done, _ = express(rows, sources, catalog, {(fitted.kind, fitted.owner): entry})
    return {e.speed.id: abs(e.error) for e in done}


def _left_out(
    fitted: FittedConstant, value: float, rows: Sequence[Speed], errors: Mapping[float, Mapping[str, float]]
) -> LeftOut:
    fold_of: Callable[[Speed], str] = (lambda s: s.source) if fitted.fold == "source" else (lambda s: s.run.model)
    names = sorted({fold_of(s) for s in rows})
    ids = {name: [s.id for s in rows if fold_of(s) == name] for name in names}
    held: list[float] = []
    for name in names:
        others = [i for other in names if other != name for i in ids[other]] or ids[name]
        held += [errors[best_step(errors, others)][i] for i in ids[name]]
    every = [s.id for s in rows]
    return LeftOut(
        fitted=fitted,
        value=value,
        rows=len(rows),
        folds=len(names),
        in_sample=float(np.median([errors[1.0][i] for i in every])),
        left_out=float(np.median(held)),
        best=best_step(errors, every),
    )


def best_step(errors: Mapping[float, Mapping[str, float]], ids: Sequence[str]) -> float:
    """The multiple with the least median error over these rows; the one nearest to 1 where several tie."""
    return min(errors, key=lambda step: (round(float(np.median([errors[step][i] for i in ids])), 6), abs(step - 1)))
