"""Small problems for tests of the memory model: one GPU, every decision pinned unless a test says otherwise."""

from __future__ import annotations

import json
from typing import Any

from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.search.estimate import estimate
from planner.search.plan import Plan

CATALOG = default_catalog()
ADAPTED = {"rank": 16, "targets": ["all-linear"]}


def scenario(**changes: Any) -> dict[str, Any]:
    """Llama-3.1-8B on one H100 unless said otherwise."""
    return {
        "name": "memory",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 1},
        "batch": {"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1},
    } | changes


def pinned(engine: str, **changes: Any) -> dict[str, Any]:
    """The same with every decision pinned to one GPU's."""
    found = CATALOG.find("engines", engine)
    recomputed = 0 if "none" in found.recompute.granularities else "all"
    degrees = ("tensor_parallel", "pipeline_parallel", "context_parallel", "expert_parallel", "expert_tensor_parallel")
    layout = dict.fromkeys(degrees, 1) | {"zero_stage": found.zero_stages[0], "recomputed_layers": recomputed}
    return scenario(engine=engine, layout=layout, limits={"host_memory": False}, **changes)


def problem(catalog: Catalog | None = None, **changes: Any) -> Problem:
    return question_of(parse_document(json.dumps(scenario(**changes)), "memory.yaml"), catalog or CATALOG).first


def estimated(document: dict[str, Any], catalog: Catalog = CATALOG) -> Plan:
    return estimate(parse_document(json.dumps(document), "memory.yaml"), catalog)


def combinations() -> list[dict[str, Any]]:
    """All models on one engine, all engines with two models, all GPUs."""
    node_of = {node.gpu: node.id for node in CATALOG.all("nodes")}
    out = []
    for model in CATALOG.all("models"):
        length = min(4096, model.learned_positions or 4096)
        batch = {"global_batch_size": 8, "sequence_length": length, "micro_batch_size": 1}
        engine = "transformers" if model.is_hybrid else "megatron-core"
        out.append(pinned(engine, model=model.id, batch=batch))
    out += [
        pinned(engine, model=model) for engine in CATALOG.ids("engines") for model in ("qwen2.5-7b", "deepseek-v2-lite")
    ]
    for gpu in CATALOG.all("gpus"):
        if gpu.id in node_of:
            precision = "bf16" if "bf16" in gpu.dense_tflops else "fp16"
            node = {"node": node_of[gpu.id], "num_gpus": 1}
            out.append(pinned("megatron-core", cluster=node, precision=precision))
    return out
