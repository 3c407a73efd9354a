"""A case becomes a scenario, goes through `validate` and `resolve` like any other, and comes out as ledgers.

Cases that differ in their layout alone share one problem and are costed at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planner.costs.ledger import total
from planner.costs.memory.stage_memory import StageMemory, moments
from planner.errors import InputError
from planner.formulas.stages import layout_stages, padded_ends_stages, usual_stages
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, validate
from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import resolve
from planner.schema.catalog import Architecture
from planner.schema.evidence import fits_in
from planner.schema.scenario import Scenario
from planner.units import GIB
from planner.validation.memory import networks, translate
from planner.validation.memory.cases import Case
from planner.validation.memory.translate import NotExpressible
from planner.validation.published import Overlay

ALLOCATED = ("allocated", "active")
"""Metrics of live tensors."""
WHOLE = ("nvidia-smi", "unstated")
"""Metrics of the whole card; a tool that is not stated is taken for nvidia-smi."""
MANY = 64
"""Micro-batches assumed where the source states none: enough to fill any pipeline."""


@dataclass(frozen=True)
class Unexpressed:
    """A case that no scenario can say, and why."""

    case: Case
    reason: str


@dataclass(frozen=True)
class CaseGroup:
    """Cases with the same problem: one row of `layouts` a case."""

    cases: tuple[Case, ...]
    problem: Problem
    layouts: Layouts
    layers: np.ndarray
    """Shape [rows, stages]."""
    recomputed: np.ndarray
    stages: tuple[int | None, ...]
    """Stage that was measured; None for the fullest."""

    @cached_property
    def memory(self) -> StageMemory:
        """Ledgers of all rows and stages."""
        index = np.arange(self.layers.shape[1], dtype=np.int64)[None, :]
        return StageMemory(self.problem, self.layouts.expand(), index, self.layers, self.recomputed)

    @cached_property
    def fitted(self) -> frozenset[str]:
        """What the fitted numbers of the engine, configured as here, say of themselves, as JSON."""
        return frozenset(said.model_dump_json() for said in fits_in(self.problem.engine))

    @cached_property
    def _exists(self) -> np.ndarray:
        return np.arange(self.layers.shape[1])[None, :] < self.layouts.pipeline_parallel[:, None]

    def _amounts(self, metric: str) -> dict[str, Floats]:
        """GiB by moment, shape [rows, stages]; moments that a stage does not have are empty."""
        out = {}
        for name in moments(self.problem):
            if metric in ALLOCATED:
                items = self.memory.moment(name)
            elif metric not in WHOLE:
                items = self.memory.reserved(name)
            else:
                items = self.memory.ledger(name)
            amount = np.broadcast_to(total(items), self.layers.shape) / GIB
            there = self._exists & ((self.recomputed > 0) | (name != "recomputation"))
            out[name] = np.where(there, amount, -np.inf)
        return out

    def predictions(self) -> list[Prediction]:
        """What the ledgers say for each case, in the metric and on the rank that was measured."""
        whole = self._amounts("nvidia-smi")
        by_metric = {m: whole if m in WHOLE else self._amounts(m) for m in {c.metric for c in self.cases}}
        out = []
        for row, case in enumerate(self.cases):
            best = max(
                (float(amount[row, stage]), -stage, name)
                for name, amount in by_metric[case.metric].items()
                for stage in self._looked_at(row)
            )
            fullest = max(float(amount[row].max()) for amount in whole.values())
            out.append(Prediction(case, best[0], -best[1], best[2], fullest, self, row))
        return out

    def _looked_at(self, row: int) -> Sequence[int]:
        stage = self.stages[row]
        return range(int(self.layouts.pipeline_parallel[row])) if stage is None else (stage,)

    def ledger(self, row: int, stage: int, moment: str) -> tuple[tuple[str, float, str], ...]:
        """(name, GiB, source) of one case at one moment."""
        out = []
        for item in self.memory.ledger(moment):
            amount = float(np.broadcast_to(item.amount, self.layers.shape)[row, stage]) / GIB
            if amount:
                out.append((item.name, amount, item.source))
        return tuple(out)


@dataclass(frozen=True)
class Prediction:
    """A case beside what the planner says about it."""

    case: Case
    gib: float
    """In the measured metric, on the measured rank. [GiB]"""
    stage: int
    moment: str
    peak_gib: float
    """What the fullest card sees: allocated, reserve and everything outside the allocator. [GiB]"""
    group: CaseGroup
    row: int

    @property
    def usable_gib(self) -> float:
        """What the driver leaves to torch. [GiB]"""
        return self.group.problem.usable_gib

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        assert self.case.memory_gib is not None
        return self.gib / self.case.memory_gib - 1

    @property
    def error_mib(self) -> float:
        """Predicted less measured. [MiB]"""
        assert self.case.memory_gib is not None
        return (self.gib - self.case.memory_gib) * 1024

    def items(self) -> tuple[tuple[str, float, str], ...]:
        """The ledger behind the number."""
        return self.group.ledger(self.row, self.stage, self.moment)


def scenario_of(case: Case, catalog: Overlay) -> dict[str, Any]:
    """The case as a scenario document; its architecture and node are added to the catalog.

    Raises NotExpressible where the planner has no words for it.
    """
    if case.arch.get("hybrid"):
        raise NotExpressible("hybrid of attention and state-space layers")
    for name in ("num_gpus", "micro_batch_size", "sequence_length", "gpu"):
        if getattr(case, name) is None:
            raise NotExpressible(f"{name} not stated")
    if case.layout["dp"] is None:
        raise NotExpressible("num_gpus not stated")
    engine_id = translate.engine_of(case)
    if engine_id not in catalog.ids("engines"):
        raise NotExpressible(f"no engine file {engine_id}")
    engine = catalog.find("engines", engine_id)
    gpu_id = translate.GPUS.get(case.gpu or "", case.gpu or "")
    if gpu_id not in catalog.ids("gpus"):
        raise NotExpressible(f"no GPU {gpu_id} in the catalog")
    if case.precision not in catalog.ids("precisions"):
        raise NotExpressible(f"precision {case.precision}")
    architecture = networks.architecture_of(case, catalog)
    key = hashlib.sha256(architecture.model_dump_json(exclude={"id"}).encode()).hexdigest()[:12]
    catalog.extra["models", f"case-{key}"] = architecture
    node = networks.node_of(catalog.find("gpus", gpu_id), case)
    catalog.extra["nodes", node.id] = node
    options = translate.options_of(case, engine.options)
    modules = case.recompute["modules"] or [] if case.recompute["granularity"] == "selective" else []
    lost = [name for name in modules if name not in engine.recompute_modules]
    if lost:
        raise NotExpressible(f"engine {engine_id} cannot recompute {', '.join(lost)} alone")
    if unknown := [name for name in options if name not in engine.options]:
        raise NotExpressible(f"engine {engine_id} has no option {', '.join(unknown)}")
    layout, split = case.layout, _split(case, architecture, engine.pipeline.balance)
    document: dict[str, Any] = {
        "name": f"case {case.id}",
        "task": "pretrain",
        "model": f"case-{key}",
        "engine": engine_id,
        "engine_options": options,
        "cluster": {"node": node.id, "num_gpus": case.num_gpus},
        "precision": case.precision,
        "optimizer": translate.optimizer_of(case),
        "batch": {
            "global_batch_size": case.global_batch_size or _micro_batches(case) * layout["dp"] * case.micro_batch_size,
            "sequence_length": case.sequence_length,
            "micro_batch_size": case.micro_batch_size,
        },
        "layout": {
            "tensor_parallel": layout["tp"],
            "pipeline_parallel": layout["pp"],
            "virtual_pipeline": layout["vpp"] or 1,
            "data_parallel": layout["dp"],
            "context_parallel": layout["cp"] or 1,
            "expert_parallel": layout["ep"] or 1,
            "expert_tensor_parallel": _expert_tensor(case),
            "zero_stage": translate.zero_stage_of(case),
            "sequence_parallel": bool(case.sequence_parallel),
            "layers_per_stage": "even" if len(set(split)) == 1 else list(split),
            "recomputed_layers": _recomputed(case),
            "recompute_modules": modules,
        },
    }
    if layout.get("offload") and layout["offload"].get("optimizer"):
        document["layout"]["optimizer_offload"] = True
    adapter = translate.adapter_of(case)
    if adapter is not None:
        document["adapter"] = adapter
    return document


def _recomputed(case: Case) -> int | str:
    """All layers, every k-th one, or none."""
    if every := case.recompute["every"]:
        return int(case.arch["num_hidden_layers"]) // int(every)
    if case.recompute["granularity"] == "partial":
        return int(case.recompute["num_layers"] or 0)
    return "all" if case.recompute["granularity"] == "full" else 0


def _expert_tensor(case: Case) -> int:
    """Megatron cuts experts over tensor-parallel ranks unless it is told otherwise."""
    stated = case.layout["etp"]
    if not case.arch.get("num_experts"):
        return int(case.layout["tp"])
    return int(stated if stated is not None else case.layout["tp"])


def _micro_batches(case: Case) -> int:
    if case.grad_accum:
        return case.grad_accum
    each = (case.micro_batch_size or 1) * (case.layout["dp"] or 1)
    return max(1, case.global_batch_size // each) if case.global_batch_size else MANY


def _split(case: Case, architecture: Architecture, balance: str) -> tuple[int, ...]:
    """Layers of each stage."""
    layers, stages = case.arch["num_hidden_layers"], case.layout["pp"]
    if case.layout.get("layers_per_stage"):
        return tuple(case.layout["layers_per_stage"])
    if case.layout.get("pipeline_layout"):
        return layout_stages(text=case.layout["pipeline_layout"], stages=stages)
    if "embedding and loss each counted" in case.scope_detail or "account_for_embedding" in case.model:
        return padded_ends_stages(layers=layers, stages=stages)
    if "uneven_pipeline" in case.model:
        return (2, 4, 4, 2)  # the test's flags; its static bytes show two layers on the last stage
    return usual_stages(architecture=architecture, stages=stages, balance=balance)


def _stage(case: Case) -> int | None:
    """The stage that was measured; None where the fullest one was."""
    last = case.layout["pp"] - 1
    named = re.search(r"pp rank (\d+)", case.scope_detail)
    if named:
        return int(named.group(1))
    return {"rank0": 0, "single": 0, "one_rank": 0, "mean": 0, "sum": 0, "last_stage": last}.get(case.rank_scope)


def express(cases: Iterable[Case], catalog: Catalog | None = None) -> tuple[list[Prediction], list[Unexpressed]]:
    """Run cases through the planner's memory ledgers; those that cannot be said come back with the reason."""
    own = Overlay(catalog or default_catalog())
    waiting: dict[str, list[tuple[Case, dict[str, Any]]]] = {}
    failed: list[Unexpressed] = []
    for case in cases:
        try:
            document = scenario_of(case, own)
        except NotExpressible as error:
            failed.append(Unexpressed(case, str(error)))
            continue
        waiting.setdefault(_group_key(document), []).append((case, document))
    done: list[Prediction] = []
    for pairs in waiting.values():
        predicted, lost = _predicted(pairs, own)
        done += predicted
        failed += lost
    return done, failed


def _predicted(
    pairs: list[tuple[Case, dict[str, Any]]], catalog: Catalog
) -> tuple[list[Prediction], list[Unexpressed]]:
    """Predictions of cases of one problem; where one of them cannot be said, each is asked alone."""
    try:
        return _group(pairs, catalog).predictions(), []
    except (InputError, ValueError) as error:
        if len(pairs) == 1:
            return [], [Unexpressed(pairs[0][0], str(error).splitlines()[0])]
    alone = [_predicted([pair], catalog) for pair in pairs]
    return [p for found, _ in alone for p in found], [u for _, lost in alone for u in lost]


def _group_key(document: dict[str, Any]) -> str:
    """What cases must share to be costed together: everything but the layout's degrees, batch and counts."""
    layout = document["layout"]
    names = ("model", "engine", "engine_options", "precision", "optimizer", "adapter")
    shared = [document.get(name) for name in names]
    # How many GPUs a node has matters only to those that send to each other in it.
    sends = any(layout[f"{axis}_parallel"] > 1 for axis in ("pipeline", "context", "expert"))
    shared += [document["cluster"]["node"].rsplit("-", 1 - sends)[0], layout["recompute_modules"]]
    shared.append(layout.get("optimizer_offload"))
    return json.dumps(shared)


def _group(pairs: list[tuple[Case, dict[str, Any]]], catalog: Catalog) -> CaseGroup:
    document = Document(f"validation/{pairs[0][0].id}", pairs[0][1], "")
    problem = resolve(document, validate(document, Scenario), catalog).first
    stages = max(d["layout"]["pipeline_parallel"] for _, d in pairs)
    splits = [list(_split(case, problem.architecture, problem.engine.pipeline.balance)) for case, _ in pairs]
    layers = np.array([split + [0] * (stages - len(split)) for split in splits], dtype=np.int64)
    wanted = [d["layout"]["recomputed_layers"] for _, d in pairs]
    most = np.array([layers.max(initial=0) if number == "all" else number for number in wanted], dtype=np.int64)
    return CaseGroup(
        cases=tuple(case for case, _ in pairs),
        problem=problem,
        layouts=_layouts(pairs),
        layers=layers,
        recomputed=np.minimum(layers, most[:, None]),
        stages=tuple(_stage(case) for case, _ in pairs),
    )


_SAME = (
    "tensor_parallel",
    "pipeline_parallel",
    "virtual_pipeline",
    "data_parallel",
    "context_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "zero_stage",
)


def _layouts(pairs: list[tuple[Case, dict[str, Any]]]) -> Layouts:
    """One row a case."""
    columns: dict[str, list[int]] = {name: [d["layout"][name] for _, d in pairs] for name in _SAME}
    columns["num_gpus"] = [d["cluster"]["num_gpus"] for _, d in pairs]
    columns["micro_batch_size"] = [d["batch"]["micro_batch_size"] for _, d in pairs]
    columns["global_batch_size"] = [d["batch"]["global_batch_size"] for _, d in pairs]
    columns["sequence_length"] = [d["batch"]["sequence_length"] for _, d in pairs]
    columns["mean_sequence_length"] = columns["sequence_length"]
    columns["max_tokens"] = [0] * len(pairs)
    columns["num_micro_batches"] = [_micro_batches(case) for case, _ in pairs]
    columns["sequence_parallel"] = [
        int(d["layout"]["sequence_parallel"] and d["layout"]["tensor_parallel"] > 1) for _, d in pairs
    ]
    columns["optimizer"] = columns["wish"] = columns["variant"] = [0] * len(pairs)
    return Layouts(**{name: np.array(values, dtype=np.int64) for name, values in columns.items()})
