"""One measured peak as a row of validation/data, without names and paths: shape, layout, and what was measured."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from planner.analysis.check.check import Checked, Quantity
from planner.errors import InputError, Mistake, Place
from planner.problem.problem import Problem

STACKS: Mapping[str, str] = {
    "transformers": "hf-single",
    "fsdp2": "fsdp2",
    "prime-rl": "fsdp2",
    "litgpt-fsdp": "litgpt",
    "torchtune-fsdp": "torchtune",
    "megatron-core-replicated": "megatron-core",
}
"""Engines that the rows of validation/data call otherwise."""
PREFERRED = ("allocated memory", "reserved memory", "device memory")
METRICS = {"allocated memory": "allocated", "reserved memory": "reserved", "device memory": "nvidia-smi"}


def contribution(checked: Checked) -> str:
    """A line of JSON in the shape of validation/data/memory_cases.jsonl.gz.

    Raises InputError where the run states no memory.
    """
    found = {each.name: each for each in checked.quantities}
    measured = [found[name] for name in PREFERRED if name in found]
    if not measured:
        raise InputError(
            Mistake(
                "nothing to contribute",
                Place("--contribute"),
                "no file of the run states memory of a GPU",
                "a log with memory lines, nvidia-smi samples or a snapshot",
            )
        )
    row = _row(checked, measured)
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:12]
    return json.dumps({"id": f"own-{digest}", **row}) + "\n"


def _row(checked: Checked, measured: list[Quantity]) -> dict[str, object]:
    plan, problem, lay = checked.plan, checked.plan.problem, checked.plan.layout
    first, second = measured[0], measured[1] if len(measured) > 1 else None
    recomputed = sum(plan.recomputed)
    every = recomputed == sum(plan.layers)
    alike = len(set(plan.recomputed)) == 1
    adapter = problem.scenario.adapter
    return {
        "source": "contributed",
        "set": "dev",
        "tier": "core",
        "model": f"{problem.architecture.model_type} {problem.parameters.total / 1e9:.1f}B",
        "kind": "mla" if problem.architecture.is_mla else "moe" if problem.architecture.is_moe else "dense",
        "arch": _architecture(problem),
        "arch_complete": True,
        "params_b": round(problem.parameters.total / 1e9, 3),
        "engine": STACKS.get(problem.engine.id, problem.engine.id),
        "engine_detail": {
            "framework": f"{problem.engine.name} {problem.engine.version or ''}".strip(),
            "sharding": None,
            "version_date": None,
            "flags": [f"engine={problem.engine.id}", *(f"option={name}" for name in problem.scenario.engine_options)],
            "notes": None,
        },
        "gpu": problem.gpu.id,
        "gpu_detail": problem.gpu.name,
        "gpu_capacity_gib": round(problem.usable_gib, 3),
        "num_gpus": lay["num_gpus"],
        "layout": {
            "tp": lay["tensor_parallel"],
            "pp": lay["pipeline_parallel"],
            "vpp": lay["virtual_pipeline"],
            "cp": lay["context_parallel"],
            "ep": lay["expert_parallel"],
            "etp": lay["expert_tensor_parallel"] if problem.architecture.is_moe else None,
            "dp": lay["data_parallel"],
            "zero_stage": lay["zero_stage"],
            "fsdp": None,
            "offload": {"optimizer": True} if plan.named.optimizer_offload else None,
            "schedule": plan.named.schedule,
            "pipeline_layout": None,
        },
        "micro_batch_size": lay["micro_batch_size"],
        "global_batch_size": lay["global_batch_size"],
        "grad_accum": lay["num_micro_batches"],
        "sequence_length": lay["sequence_length"],
        "precision": problem.precision.id,
        "precision_detail": _precision(problem),
        "grads_fp32": problem.gradient_bytes == 4,
        "optimizer": plan.named.optimizer,
        "recompute": {
            "granularity": "full" if every else "partial" if recomputed else "none",
            "method": None,
            "num_layers": plan.recomputed[0] if recomputed and alike else None,
            "modules": list(plan.named.recompute_modules) or None,
            "every": None,
            "offload_activations": plan.named.activation_offload,
            "detail": None,
        },
        "flash_attention": problem.engine.fused_attention,
        "attention_detail": None,
        "sequence_parallel": plan.named.sequence_parallel,
        "peft": None if adapter is None else "lora",
        "lora": None if adapter is None else {"rank": adapter.rank, "targets": " ".join(adapter.targets)},
        "task": problem.scenario.task,
        "task_detail": None,
        "metric": {
            "memory_gib": round(first.measured, 3),
            "metric_class": METRICS[first.name],
            "rank_scope": "max",
            "metric_detail": f"largest of {first.statements} statements of the run",
            "scope_detail": None,
            "printed_unit": "GiB",
            "unit_certain": True,
            "static_lower_bound_gib": None,
            "second_gib": None if second is None else round(second.measured, 3),
            "second_detail": None if second is None else METRICS[second.name],
        },
        "outcome": "value",
        "tags": ["contributed"],
        "inferred": [],
        "missing": [
            *([] if alike or every else ["recompute.num_layers"]),
            *([] if len(set(plan.layers)) == 1 else ["layout.layers_per_stage"]),
        ],
        "complete": True,
        "class": "contributed",
    }


def _precision(problem: Problem) -> str | None:
    return "fp32 weights under autocast" if "autocast" in problem.scenario.engine_options else None


def _architecture(problem: Problem) -> dict[str, object]:
    """The network's shape in config.json's words; no name."""
    a = problem.architecture
    named = {
        name: getattr(a, name)
        for name in (
            *("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim"),
            *("intermediate_size", "vocab_size", "tie_word_embeddings", "gated_mlp", "hidden_act", "norm"),
        )
    }
    named["qkv_bias"], named["linear_bias"] = a.attention_bias, a.mlp_bias
    named["qk_norm"] = a.qk_norm != "none"
    if a.is_mla:
        for name in ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            named[name] = getattr(a, name)
    if a.is_moe:
        for name in ("num_experts", "num_experts_per_tok", "moe_intermediate_size", "first_k_dense_replace"):
            named[name] = getattr(a, name)
        named["shared_expert_intermediate_size"] = a.shared_expert_intermediate_size
    return named
