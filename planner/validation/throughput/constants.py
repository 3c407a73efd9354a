"""Fitted constants of the time model: what each was fitted on, and its error on data left out of the fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from planner.costs.time.kernels import SUSTAINED
from planner.inputs.catalog import Catalog, default_catalog
from planner.schema.engine import Engine
from planner.validation.throughput.cases import Speed
from planner.validation.throughput.express import express

STEPS = (0.64, 0.8, 1.0, 1.25, 1.5625)
"""Multiples of the shipped value that a refit may choose."""
DEVICE = "device"


@dataclass(frozen=True)
class FittedConstant:
    """A constant that was set with measured speeds in view."""

    owner: str
    """Engine id, or `device` for a constant of a GPU generation."""
    path: tuple[str, ...]
    fold: str
    """What is left out in turn: source, or model where one source carries the engine."""
    data: str

    @property
    def name(self) -> str:
        """Owner and field."""
        return f"{self.owner} {'.'.join(self.path)}"


FITTED: tuple[FittedConstant, ...] = (
    FittedConstant(DEVICE, ("sm_90",), "source", "dgxc, Llama 3 8B and 405B on DGX H100"),
    FittedConstant(
        "megatron-core", ("options", "tp_comm_overlap", "overlap.tensor"), "model", "dgxc, 405B and GPT-3 175B"
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
    if fitted.owner == DEVICE:
        return SUSTAINED[fitted.path[0]]
    engine: Engine = catalog.find("engines", fitted.owner)
    if fitted.path[0] == "options":
        outer, inner = fitted.path[2].split(".")
        return float(engine.options[fitted.path[1]].set[outer][inner])
    found: Any = engine
    for name in fitted.path:
        found = getattr(found, name)
    return float(found)


def with_value(engine: Engine, path: Sequence[str], value: float) -> Engine:
    """The engine with one field replaced."""
    if path[0] == "options":
        option = engine.options[path[1]]
        outer, inner = path[2].split(".")
        changed = option.model_copy(update={"set": {**option.set, outer: {inner: value}}})
        return engine.model_copy(update={"options": {**engine.options, path[1]: changed}})
    if len(path) == 1:
        return engine.model_copy(update={path[0]: value})
    inside = getattr(engine, path[0]).model_copy(update={path[1]: value})
    return engine.model_copy(update={path[0]: inside})


def leave_out(speeds: Sequence[Speed], sources: Mapping[str, Any], catalog: Catalog | None = None) -> list[LeftOut]:
    """Refit every constant alone with each fold left out. Takes about two minutes on all data."""
    base = catalog or default_catalog()
    plain, _ = express(speeds, sources, base)
    engine_of = {e.speed.id: e.problem.engine.id for e in plain}
    chip_of = {e.speed.id: e.problem.gpu.chip.split() for e in plain}
    scored = [s for s in speeds if s.id in engine_of and s.accuracy not in ("fp8", "other", "nanotron-slow")]
    out = []
    for fitted in FITTED:
        value = value_of(fitted, base)
        if fitted.owner == DEVICE:
            rows = [s for s in scored if fitted.path[0] in chip_of[s.id]]
        else:
            rows = [s for s in scored if engine_of[s.id] == fitted.owner]
        if rows:
            errors = {step: _errors(fitted, value * step, rows, sources, base) for step in STEPS}
            out.append(_left_out(fitted, value, rows, errors))
    return out


def _errors(
    fitted: FittedConstant, value: float, rows: Sequence[Speed], sources: Mapping[str, Any], catalog: Catalog
) -> dict[str, float]:
    """Absolute relative error by row id."""
    if fitted.owner != DEVICE:
        bounded = min(value, 1.0) if fitted.path[-1].startswith(("overlap", "data")) else value
        engine = with_value(catalog.find("engines", fitted.owner), fitted.path, bounded)
        done, _ = express(rows, sources, catalog, {fitted.owner: engine})
        return {e.speed.id: abs(e.error) for e in done}
    shipped = SUSTAINED[fitted.path[0]]
    SUSTAINED[fitted.path[0]] = min(value, 1.0)
    try:
        done, _ = express(rows, sources, catalog)
        return {e.speed.id: abs(e.error) for e in done}
    finally:
        SUSTAINED[fitted.path[0]] = shipped


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
