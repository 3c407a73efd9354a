"""A published run becomes a scenario, goes through `validate` and `resolve`, and comes out as seconds and bytes.

Runs that differ in their layout alone share one problem and are costed at once, by the `RowCosts` that `solve` uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from planner.costs.coefficients import RowCosts
from planner.errors import InputError, Mistake, Place
from planner.formulas.stages import cost_balanced_stages, equal_stages, padded_ends_stages
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, read_document, validate
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import resolve
from planner.schema.catalog import Node
from planner.schema.scenario import Scenario
from planner.units import GIB, gbit_per_s_to_gb_per_s
from planner.validation.memory import networks, translate
from planner.validation.memory.translate import NotExpressible
from planner.validation.published import Overlay
from planner.validation.throughput.cases import Speed
from planner.validation.throughput.memory_rows import OF_MEMORY
from planner.validation.throughput.recipe_layouts import as_told

SOURCES = "throughput_sources.yaml"
MODULES = {"act": "moe_act", "norm": "layernorm"}
"""What sources call modules that are recomputed alone. Selective recomputation that names none is core attention's:
the only module of arXiv:2205.05198 and Megatron-LM's default, core/transformer/transformer_config.py."""
NODES = {
    "h100-sxm5-80gb": "dgx-h100",
    "h100-96gb-500w": "h100-96gb-500w-8",
    "h200-sxm-141gb": "dgx-h200",
    "h800-sxm5-80gb": "hgx-h800-8",
    "b200-sxm-180gb": "dgx-b200",
    "b300-sxm": "dgx-b300",
    "gb200-186gb": "gb200-nvl72",
    "gb300": "gb300-nvl72",
    "a100-sxm4-80gb": "dgx-a100",
    "a100-sxm4-40gb": "hgx-a100-8",
    "a800-sxm4-80gb": "hgx-a800-8",
    "v100-sxm2-32gb": "dgx1-v100",
    "mi300x": "mi300x-8",
    "mi325x": "mi325x-8",
    "mi355x": "mi355x-8",
}
"""Node type where the source names none."""
PRECISIONS = {"mxfp8": "fp8"}
LEFT_OUT: dict[str, dict[str, int | bool]] = {"deepseek-v3": {"n_group": 8, "topk_group": 4}}
LEFT_OUT |= {name: {"linear_bias": True} for name in ("gpt-oss-20b", "gpt-oss-120b")}
"""Groups of experts and biases that the model's own config.json has and rows leave out."""
_ENGINES = {
    "fsdp2": "fsdp2",
    "deepspeed": "deepspeed",
    "llm-foundry": "llm-foundry",
    "megatron-deepspeed": "megatron-deepspeed",
}
"""Stacks that only speeds are published of, or that mean another file than among memory rows."""


@dataclass(frozen=True)
class Estimate:
    """A published run beside what the planner says about it."""

    speed: Speed
    tokens_per_s_per_gpu: float
    peak_gib: float
    usable_gib: float
    seconds: float
    """Of one step. [s]"""
    problem: Problem
    layouts: Layouts
    row: int
    layers: np.ndarray
    recomputed: np.ndarray

    @property
    def error(self) -> float:
        """(predicted - measured) / measured tokens/s."""
        assert self.speed.tokens_per_s_per_gpu is not None
        return self.tokens_per_s_per_gpu / self.speed.tokens_per_s_per_gpu - 1

    @property
    def fits(self) -> bool:
        """By our memory model, with all that its allocator is estimated to hold and without any headroom."""
        return self.peak_gib <= self.usable_gib

    @property
    def offered(self) -> bool:
        """Whether `solve` would offer it: it fits with the engine's default headroom."""
        return self.peak_gib <= self.usable_gib - self.problem.headroom_gib


@dataclass(frozen=True)
class UnexpressedSpeed:
    """A run that no scenario can say, and why."""

    speed: Speed
    reason: str


def load_sources(folder: Path) -> Mapping[str, Any]:
    """Machines and switches by source; empty where a folder has no such file."""
    path = folder / SOURCES
    if not path.is_file():
        return {}
    data = read_document(str(path)).data
    if not isinstance(data, dict):
        raise InputError(Mistake(f"{path} is no mapping of sources", where=Place(str(path))))
    return data


def engine_of(speed: Speed, source: Mapping[str, Any]) -> str:
    """Id of the engine file that speaks for this stack."""
    if "engine" in source:
        return str(source["engine"])
    c = speed.run
    if c.engine == "megatron-core":
        if c.layout["zero_stage"] == 3:
            return "megatron-fsdp"
        return "megatron-core-replicated" if c.layout["zero_stage"] == 0 else "megatron-core"
    return _ENGINES.get(c.engine) or translate.engine_of(c)


def node_of(speed: Speed, source: Mapping[str, Any], catalog: Overlay) -> str:
    """The node type of the run, with the network that the source states or the run measured; its id in the catalog."""
    c = speed.run
    gpu = translate.GPUS.get(c.gpu or "", c.gpu or "")
    name = source.get("nodes", {}).get(gpu) or NODES.get(gpu)
    if name is None:
        raise NotExpressible(f"no node type for {c.gpu}")
    node: Node = catalog.find("nodes", name)
    count = c.num_gpus or 1
    change: dict[str, Any] = {"gpu": gpu}
    parts = [node.id, gpu]
    if node.gpus_per_node > 8 and count % node.gpus_per_node:
        each = min(count, 1 << (node.gpus_per_node.bit_length() - 1))
        change |= {"gpus_per_node": each, "nics": node.nics.model_copy(update={"count": each})}
        parts.append(f"{each}-used")
    line = source.get("gbit_per_s_per_gpu", {}).get(gpu)
    if line is not None:
        rate = gbit_per_s_to_gb_per_s(line)
        nics = node.nics.model_copy(update={"gb_per_s_per_gpu": rate, "gbit_per_s_each": line, "count": 8})
        change |= {"nics": nics, "bus_gb_per_s_inter": {}}
        parts.append(f"{line}g")
    if speed.bus_gb_per_s and count > node.gpus_per_node:
        most = 0.96 * node.nics.gb_per_s_per_gpu * node.gpus_per_node
        change["bus_gb_per_s_inter"] = {op: min(bus, most) for op, bus in speed.bus_gb_per_s.items()}
        parts += [f"{bus:.1f}" for bus in speed.bus_gb_per_s.values()]
    own = "/".join(parts)
    catalog.extra["nodes", own] = node.model_copy(update={**change, "id": own})
    return own


def _options(speed: Speed, source: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Switches that were on: those of the source, of its runs on this GPU or in this precision, and the row's own."""
    c = speed.run
    if OF_MEMORY in c.tags:
        cast = ["autocast_16bit_weights", "mixed_precision"] if translate.ran_under_autocast(c) else []
        return [*cast, *translate.options_of(c, known)]
    listed = list(source.get("options", []))
    listed += source.get("options_by_gpu", {}).get(c.gpu, []) + source.get("options_by_precision", {}).get(
        c.precision, []
    )
    if not speed.recipe:
        for recipe in source.get("recipes", []):
            listed += recipe["options"] if _speaks_for(recipe, speed) else []
    listed += c.flags
    if not c.flash_attention:
        listed.append("unfused_attention")
    return list(dict.fromkeys(listed))


def _speaks_for(recipe: Mapping[str, Any], speed: Speed) -> bool:
    """Whether a recipe is the one of this release, model, GPU and precision, as far as it names them.

    A release stands for its patches too.
    """
    c, versions = speed.run, recipe.get("versions", [speed.version])
    release = any(speed.version == v or speed.version.startswith(f"{v}.") for v in versions)
    alike = c.model.split(" ")[0] in recipe["models"] and c.gpu in recipe.get("gpus", [c.gpu])
    return release and alike and c.precision in recipe.get("precisions", [c.precision])


def document_of(speed: Speed, source: Mapping[str, Any], catalog: Overlay) -> dict[str, Any]:
    """The run as a scenario document. Raises NotExpressible where the planner has no words for it."""
    c, lay = speed.run, speed.run.layout
    for name in ("num_gpus", "micro_batch_size", "global_batch_size", "sequence_length", "gpu"):
        if getattr(c, name) is None:
            raise NotExpressible(f"{name} not stated")
    for name in ("tp", "pp", "cp", "dp"):
        if lay.get(name) is None:
            raise NotExpressible(f"layout.{name} not stated")
    engine_id = engine_of(speed, source)
    if engine_id not in catalog.ids("engines"):
        raise NotExpressible(f"no engine file {engine_id}")
    engine = catalog.find("engines", engine_id)
    precision = PRECISIONS.get(c.precision, c.precision)
    if precision not in catalog.ids("precisions"):
        raise NotExpressible(f"precision {precision}")
    c = replace(c, arch={**c.arch, **LEFT_OUT.get(c.model.split(" ")[0], {})})
    key = json.dumps(c.arch, sort_keys=True)
    if ("models", key) not in catalog.extra:
        catalog.extra["models", key] = networks.architecture_of(c, catalog)
    modules = [MODULES.get(name, name) for name in c.recompute.get("modules") or []]
    if c.recompute.get("granularity") == "selective" and not modules and not c.recompute.get("every"):
        modules = ["core_attn"]
    if lost := [name for name in modules if name not in engine.recompute_modules]:
        raise NotExpressible(f"engine {engine_id} cannot recompute {', '.join(lost)} alone")
    adapter = translate.adapter_of(c)
    return {
        "name": f"speed {c.id}",
        "task": "pretrain" if adapter is None else "sft",
        **({} if adapter is None else {"adapter": adapter}),
        "model": key,
        "engine": engine_id,
        "engine_options": [name for name in _options(speed, source, engine.options) if name in engine.options],
        **({"optimizer": translate.optimizer_of(c)} if OF_MEMORY in c.tags else {}),
        "cluster": {"node": node_of(speed, source, catalog), "num_gpus": c.num_gpus},
        "precision": precision,
        "batch": {"global_batch_size": c.global_batch_size, "sequence_length": c.sequence_length},
        "layout": {
            "recompute_modules": modules,
            **({"optimizer_offload": True} if (lay.get("offload") or {}).get("optimizer") else {}),
        },
    }


def express(
    speeds: Iterable[Speed], sources: Mapping[str, Any], catalog: Catalog | None = None
) -> tuple[list[Estimate], list[UnexpressedSpeed]]:
    """Run published layouts through the planner's costs; those that cannot be said come back with the reason."""
    own = Overlay(catalog or default_catalog())
    waiting: dict[str, list[tuple[Speed, dict[str, Any]]]] = {}
    failed: list[UnexpressedSpeed] = []
    for row in speeds:
        source = sources.get(row.run.source, {})
        speed = as_told(row, source)
        try:
            document = document_of(speed, source, own)
        except NotExpressible as error:
            failed.append(UnexpressedSpeed(speed, str(error)))
            continue
        names = ("model", "engine", "engine_options", "precision")
        apart = (document["cluster"]["node"], document["layout"], document.get("adapter"), document.get("optimizer"))
        key = json.dumps([*(document[n] for n in names), *apart])
        waiting.setdefault(key, []).append((speed, document))
    done: list[Estimate] = []
    for pairs in waiting.values():
        try:
            done += _estimates(pairs, own)
        except (InputError, ValueError) as error:
            failed += [UnexpressedSpeed(speed, str(error).splitlines()[0]) for speed, _ in pairs]
    return done, failed


def _estimates(pairs: list[tuple[Speed, dict[str, Any]]], catalog: Overlay) -> list[Estimate]:
    speeds = [speed for speed, _ in pairs]
    data = pairs[0][1]
    counts = sorted({speed.run.num_gpus or 1 for speed in speeds})
    data = {**data, "cluster": {**data["cluster"], "num_gpus": counts}}
    document = Document(f"validation/{speeds[0].id}", data, "")
    question = resolve(document, validate(document, Scenario), catalog)
    problem = question.first
    layouts = _layouts(speeds, problem)
    costs = RowCosts(question, layouts)
    layers, recomputed = _stages(speeds, problem, costs.stages)
    rows = np.arange(len(speeds))
    seconds = costs.step_seconds(rows, layers, recomputed)
    peak = costs.peak_bytes(rows, layers, recomputed) / GIB
    tokens = layouts.global_batch_size * layouts.sequence_length / seconds / layouts.num_gpus
    return [
        Estimate(
            speed=speed,
            tokens_per_s_per_gpu=float(tokens[row]),
            peak_gib=float(peak[row]),
            usable_gib=problem.usable_gib,
            seconds=float(seconds[row]),
            problem=problem,
            layouts=layouts,
            row=row,
            layers=layers[row],
            recomputed=recomputed[row],
        )
        for row, speed in enumerate(speeds)
    ]


def timed_again(estimates: Sequence[Estimate], change: Callable[[Problem], Problem]) -> list[Estimate]:
    """The same runs with something about their problems changed that no memory rests on, in the same order."""
    together: dict[int, list[int]] = {}
    for index, estimate in enumerate(estimates):
        together.setdefault(id(estimate.problem), []).append(index)
    out = list(estimates)
    for indices in together.values():
        first, mine = estimates[indices[0]], [estimates[index] for index in indices]
        problem = change(first.problem)
        if problem is first.problem:
            continue
        rows = np.array([e.row for e in mine])
        costs = RowCosts(problem.alone, first.layouts)
        layers, recomputed = np.stack([e.layers for e in mine]), np.stack([e.recomputed for e in mine])
        seconds = costs.step_seconds(rows, layers, recomputed)
        for index, e, took in zip(indices, mine, seconds, strict=True):
            faster = e.seconds / float(took)
            speed = e.tokens_per_s_per_gpu * faster
            out[index] = replace(e, problem=problem, seconds=float(took), tokens_per_s_per_gpu=speed)
    return out


def _layouts(speeds: list[Speed], problem: Problem) -> Layouts:
    """One row a run."""
    runs = [speed.run for speed in speeds]
    default = problem.engine.zero_stages[0]

    def column(values: Iterable[int]) -> np.ndarray:
        return np.array(list(values), dtype=np.int64)

    def degree(name: str, otherwise: int) -> np.ndarray:
        return column(c.layout.get(name) or otherwise for c in runs)

    tp, dp = degree("tp", 1), degree("dp", 1)
    micro = column(c.micro_batch_size or 1 for c in runs)
    batch = column(c.global_batch_size or 1 for c in runs)
    moe = problem.architecture.is_moe
    etp = column(c.layout.get("etp") or (c.layout["tp"] if moe else 1) for c in runs)
    ep = degree("ep", 1)
    folds = column(c.num_gpus or 1 for c in runs) // degree("pp", 1) % (ep * etp) == 0
    etp = np.where(folds, etp, 1)
    length = column(c.sequence_length or 1 for c in runs)
    zero = column(default if c.layout.get("zero_stage") is None else c.layout["zero_stage"] for c in runs)
    sharded = column(1 if c.sequence_parallel is not False else 0 for c in runs)
    return Layouts(
        variant=column(0 for _ in runs),
        num_gpus=column(c.num_gpus or 1 for c in runs),
        tensor_parallel=tp,
        pipeline_parallel=degree("pp", 1),
        virtual_pipeline=degree("vpp", 1),
        data_parallel=dp,
        context_parallel=degree("cp", 1),
        expert_parallel=ep,
        expert_tensor_parallel=etp,
        micro_batch_size=micro,
        max_tokens=np.zeros_like(dp),
        num_micro_batches=np.maximum(1, batch // (dp * micro)),
        global_batch_size=batch,
        sequence_length=length,
        mean_sequence_length=length,
        zero_stage=zero,
        sequence_parallel=((tp > 1) & (sharded == 1)).astype(np.int64),
        optimizer=tp * 0,
        wish=tp * 0,
    )


def _recomputed(speed: Speed, layers: int) -> int:
    """Layers of a stage that are recomputed in full: all or some, or every k-th one."""
    how = speed.run.recompute
    if how.get("every"):
        return layers // int(how["every"])
    if how.get("granularity") != "full":
        return 0
    return min(layers, how.get("num_layers") or layers)


def _stages(speeds: list[Speed], problem: Problem, stages: int) -> tuple[np.ndarray, np.ndarray]:
    """Layers and recomputed layers of each stage as its recipe or the engine deals them, shape [rows, stages].

    Chunk c of a pipeline lies on stage c modulo its stages.
    """
    a = problem.architecture
    head = a.vocab_size * a.hidden_size
    layer = (a.query_width + a.attention_out_width + 2 * a.key_value_width) * a.hidden_size
    layer += (3 if a.gated_mlp else 2) * a.intermediate_size * a.hidden_size
    layers, recomputed = [], []
    for speed in speeds:
        count, chunks = speed.run.layout.get("pp") or 1, speed.run.layout.get("vpp") or 1
        deal = partial(equal_stages, layers=a.num_hidden_layers)
        if problem.engine.pipeline.balance == "cost":
            deal = partial(cost_balanced_stages, layers=a.num_hidden_layers, layer_cost=layer, head_cost=head)
        elif a.num_hidden_layers % (count * chunks) and (a.num_hidden_layers + 2) % (count * chunks) == 0:
            deal = partial(padded_ends_stages, layers=a.num_hidden_layers)
        told = speed.run.layout.get("chunk_layers")
        split = tuple(sum(told[stage::count]) for stage in range(count)) if told else deal(stages=count)
        each = list(split) + [0] * (stages - count)
        layers.append(each)
        recomputed.append([_recomputed(speed, n) for n in each])
    return np.array(layers, dtype=np.int64), np.array(recomputed, dtype=np.int64)
