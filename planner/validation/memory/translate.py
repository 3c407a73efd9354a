"""The data's words for engines, GPUs, optimizers, adapters and switches in the planner's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from planner.validation.memory import networks
from planner.validation.memory.cases import Case

GPUS = {"h100-sxm5-96gb": "h100-96gb-500w"}
"""Ids of the data that the catalog calls otherwise."""


class NotExpressible(Exception):
    """Why a case cannot be written as a scenario."""


_ENGINES: dict[str, Callable[[Case], str]] = {
    "megatron-core": lambda c: "megatron-core" if c.layout["zero_stage"] else "megatron-core-replicated",
    "nanotron": lambda c: "nanotron",
    "torchtitan": lambda c: "fsdp1" if "FSDP1" in c.notes else "torchtitan",
    "fsdp2": lambda c: "prime-rl" if "prime" in f"{c.source} {c.framework}".lower() else "fsdp2",
    "fsdp1": lambda c: "fsdp1",
    "hf-single": lambda c: "deepspeed" if "deepspeed" in c.framework and c.peft != "lora" else "transformers",
    "litgpt": lambda c: "litgpt-fsdp" if c.layout["fsdp"] else "litgpt",
    "torchtune": lambda c: "torchtune-fsdp" if c.layout["zero_stage"] == 3 else "torchtune",
    "deepspeed-zero2": lambda c: "deepspeed",
    "deepspeed-zero3": lambda c: "deepspeed",
    "megatron-fsdp": lambda c: "megatron-fsdp",
}


def stated(case: Case, word: str) -> list[str]:
    """What a row of `planner check --contribute` says of its engine: `engine=ID`, `option=NAME`."""
    return [flag.partition("=")[2] for flag in case.flags if flag.startswith(f"{word}=")]


def options_of(case: Case, known: Iterable[str]) -> list[str]:
    """Switches of an engine file that are on in a case: those that it states, or else those that its words tell."""
    if stated(case, "engine"):
        return stated(case, "option")
    return [name for name, on in OPTIONS if name in known and on(case)]


def engine_of(case: Case) -> str:
    """Id of the engine file that speaks for this stack."""
    if own := stated(case, "engine"):
        return own[0]
    if case.engine not in _ENGINES:
        raise NotExpressible(f"no engine for {case.engine}")
    return _ENGINES[case.engine](case)


def zero_stage_of(case: Case) -> int:
    """FSDP cuts weights under every strategy; SHARD_GRAD_OP, which data calls stage 2, only keeps them gathered."""
    return 3 if case.engine == "litgpt" and case.layout["fsdp"] else case.layout["zero_stage"] or 0


def _shard_grad_op(case: Case) -> bool:
    return case.engine == "litgpt" and (case.layout["fsdp"] or {}).get("strategy") == "shard_grad_op"


def _thunder(case: Case) -> bool:
    """Compiled by lightning-thunder, alone or under dynamo."""
    if case.source != "thunder_litgpt_bench":
        return "thunder_" in case.framework
    return "thunder" in case.framework.rsplit(",", 1)[-1]


def _moonlight(case: Case) -> bool:
    """Megatron-Bridge's recipe of Moonlight reduces gradients and keeps moments in bf16, whatever the table says."""
    return case.source == "megatron_bridge" and case.model.startswith("Moonlight")


def _autocast(case: Case) -> bool:
    return "bf16-mixed" in case.precision_detail or "fp32 weights" in case.precision_detail


def _trainer_with_autocast(case: Case) -> bool:
    """The Trainer of 2023 in bf16; Qwen's finetune_qlora_single_gpu.sh takes fp16 by DeepSpeed, which casts none."""
    return case.source == "ms_swift_benchmark" or (case.source == "qwen1_readme" and case.peft != "qlora")


def ran_under_autocast(case: Case) -> bool:
    """Whether products ran in 16 bits by autocast; accelerated-peft asks for it (framework_plugin_bnb.py line 203)."""
    stated = "autocast" in case.precision_detail and "no autocast" not in case.precision_detail
    return stated or "accelerated-peft" in case.framework or _trainer_with_autocast(case)


def _liger(case: Case) -> bool:
    return "liger" in case.framework.lower()


def _fused_kernels(case: Case) -> bool:
    return "foak" in case.framework and not _liger(case)


def _jitted(case: Case) -> bool:
    return _compiled(case) or _thunder(case)


def _unchunked(case: Case) -> bool:
    """Scripts that call cross-entropy over all logits; beside a compiler that says so itself."""
    scripts = case.source == "thunder_litgpt_bench" or "extensions/thunder" in case.framework
    return scripts and not _jitted(case)


def _every_module_apart(case: Case) -> bool:
    """Where lightning-thunder's benchmark names no buckets: with blocks issue 474 would lie 3 to 20 % too high."""
    return case.source == "thunder_litgpt_bench" and case.layout["zero_stage"] == 3 and "bucketing" not in case.notes


def _until(case: Case, day: str) -> bool:
    """Before that day; a month alone counts as its end."""
    return f"{case.version_date}-31"[:10] < day


def _traced(case: Case) -> bool:
    """Torchtitan PR 2570 is the graph trainer's, by its title."""
    words = ("SimpleFSDP", "GraphTrainer", "fullgraph", "PR#2570")
    return any(word in case.notes + case.framework for word in words)


def _compiled(case: Case) -> bool:
    """Torchtitan PR 1625 was taken for compiled by its speed, but prints its command line, which compiles nothing."""
    stated = _added(case, "torch.compile") or ("inductor" in case.framework and not _thunder(case))
    return stated and "compile inferred from tps" not in case.notes


def _eager_loss(case: Case) -> bool:
    """Torchtitan compiled the loss from 22 October to 18 December 2024, and since 2 April 2025."""
    compiled = (not _until(case, "2024-10-22") and _until(case, "2024-12-18")) or not _until(case, "2025-04-02")
    return case.engine == "torchtitan" and not compiled


def _whole_logits(case: Case) -> bool:
    """Chunks came on 27 April 2026; PR 3429 of June measures the graph trainer with plain cross-entropy."""
    old = _until(case, "2026-04-27") or "plain CE loss" in case.notes
    return case.engine == "torchtitan" and old and not _eager_loss(case)


def _operators_recomputed_eagerly(case: Case) -> bool:
    return "op" in (case.recompute["modules"] or []) and not _compiled(case) and not _traced(case)


_LADDER = (
    "torch.compile",
    "chunked",
    "activation checkpointing",
    "optimizer step fused",
    "activation offloading",
    "8-bit AdamW",
)
"""Torchtune's table adds each technique on top of the previous one; its adapters have the first two (README)."""


def _added(case: Case, technique: str) -> bool:
    text = case.framework + case.task.replace(", compile", ", torch.compile")
    if "cumulative" not in text:
        return technique in text
    return any(step in text for step in _LADDER[_LADDER.index(technique) :])


def _torchtune_loss(case: Case) -> str:
    """Option of torchtune's loss: the README's ladder says it by its steps, other runs had their recipes' default.

    Chunks since commit 4fba6cd44 (PR 1390, 28 August 2024), LinearCrossEntropyLoss since 9c06c8bda (PR 2531, 30 April
    2025), in recipes/configs of pytorch/torchtune.
    """
    if "ladder" in case.notes or "chunked" in f"{case.notes} {case.framework} {case.task}":
        return "chunked_loss" if "chunked" in case.notes or _added(case, "chunked") else "whole_loss"
    return "whole_loss" if _until(case, "2024-08-28") else "chunked_loss" if _until(case, "2025-04-30") else "default"


def _te_cross_entropy(case: Case) -> bool:
    """Runs before Megatron-core 0.18.2 that do not say otherwise used Transformer Engine's fused cross-entropy."""
    return case.source not in ("megatron_ci_golden", "mlperf_training") and "cef" not in case.flags


OPTIONS: tuple[tuple[str, Callable[[Case], bool]], ...] = (
    ("bf16_gradients", lambda c: c.grads_fp32 is False or _moonlight(c) or "bf16 grad reduce" in c.precision_detail),
    ("bf16_moments", lambda c: _moonlight(c)),
    ("fine_grained_offloading", lambda c: "fgoffload" in c.flags),
    ("multi_token_prediction", lambda c: "mtp=1" in c.flags),
    ("unbalanced_routing", lambda c: _moonlight(c) or c.source == "megatron_ci_golden"),
    ("sequential_experts", lambda c: c.source == "megatron_ci_golden" and "groupedGEMM" not in c.flags),
    ("fp8_parameters", lambda c: "fp8 parameters" in c.precision_detail or "fp8-param-gather" in c.flags),
    ("te_cross_entropy_fusion", _te_cross_entropy),
    ("fp8_attention", lambda c: "fp8 dot-product attention" in c.precision_detail),
    ("fp8_activation_inputs", lambda c: "activation_func_fp8_input_store" in (c.recompute["detail"] or "")),
    ("native_cross_entropy_fusion", lambda c: "cef" in c.flags or c.source == "mlperf_training"),
    ("deferred_embedding_gradient", lambda c: "defer_embedding_wgrad" in c.model),
    ("two_optimizer_instances", lambda c: "distopt-inst=2" in c.flags),
    ("interleaved_groups_of_five", lambda c: "tunable_overlap" in c.model),
    ("unfused_gradient_accumulation", lambda c: "no-ga-fusion" in c.flags),
    ("unfused_attention", lambda c: not c.flash_attention or "impl=local" in c.flags),
    ("no_weight_gradient_buffers", lambda c: c.source == "mlperf_training"),
    ("a2a_context_parallel", lambda c: "cp_comm_type a2a" in c.notes),
    ("autocast", _autocast),
    ("mixed_precision", lambda c: "HF bf16 autocast" in c.precision_detail or c.engine == "torchtitan"),
    ("compile", _compiled),
    ("thunder", _thunder),
    ("whole_loss", _unchunked),
    ("packed_as_sent", lambda c: c.layout["fsdp"] is None and "extensions/thunder" in c.framework and _jitted(c)),
    ("every_module_apart", _every_module_apart),
    ("checkpoint_around_units", lambda c: "transformers 4.4" in c.framework),
    ("fused_head_upcast", lambda c: _liger(c) and "foak" in c.framework),
    ("fused_head", lambda c: _liger(c) and "foak" not in c.framework),
    ("fused_kernels", lambda c: _fused_kernels(c) and "transformers 4.48" not in c.framework),
    ("fused_kernels_upcast", lambda c: _fused_kernels(c) and "transformers 4.48" in c.framework),
    ("fused_adapters", lambda c: "foak" in c.framework and c.peft == "qlora"),
    ("fp32_norms", lambda c: "baseline-peft-bnb" in c.framework and c.layout["zero_stage"] != 3),
    ("old_bitsandbytes", lambda c: "bnb 0.41" in c.framework),
    ("eager_loss", _eager_loss),
    ("whole_logits", _whole_logits),
    ("whole_loss", lambda c: c.engine == "torchtune" and _torchtune_loss(c) == "whole_loss"),
    ("chunked_logits", lambda c: c.engine == "torchtitan" and "chunked cross entropy" in c.notes),
    ("every_kth_layer", lambda c: bool(c.recompute["every"])),
    ("chunked_loss", lambda c: c.engine == "torchtune" and _torchtune_loss(c) == "chunked_loss"),
    ("full_logits", lambda c: c.source == "prime_rl" and "sft" in c.task.lower()),
    ("no_expandable_segments", lambda c: c.engine == "torchtitan" and _until(c, "2024-06-12")),
    ("one_root_unit", lambda c: c.engine == "torchtitan" and _until(c, "2025-07-28")),
    ("ring_attention", lambda c: c.engine == "torchtitan" and c.layout["cp"] > 1 and _until(c, "2026-06-09")),
    ("traced", _traced),
    ("kept_absolute_values", lambda c: "eager float8" in c.notes and _until(c, "2025-02-04")),
    ("kept_collectives", _operators_recomputed_eagerly),
    ("no_reshard", lambda c: "reshard_after_forward never" in c.notes or _shard_grad_op(c)),
    ("fp8_all_gather", lambda c: "fp8 all-gather" in c.precision_detail),
    ("optimizer_in_backward", lambda c: "in backward" in c.optimizer.replace("-", " ")),
    ("offload_activations", lambda c: bool(c.recompute["offload_activations"])),
    ("synchronous_pipeline", lambda c: "after_pp_fix=False" in c.notes and c.layout["pp"] > 1),
    ("outputs_held", lambda c: c.source == "peft_method_comparison" or c.engine == "torchtitan"),
    ("shifted_logits", lambda c: "transformers 4.48" in c.framework),
    ("outputs_in_fp32", lambda c: _trainer_with_autocast(c)),
    ("variable_lengths", lambda c: c.source == "ms_swift_benchmark"),
    ("padding_free", lambda c: "padding-free" in c.framework),
)
"""Switch of an engine file, and which cases have it on. Taken where the engine knows it, ignored elsewhere."""


_OPTIMIZERS = (
    (r"galore", "galore"),
    (r"lisa", None),
    (r"lora-fa", "adamw"),
    (r"paged.*8-?bit", "paged-adamw-8bit"),
    (r"paged", "paged-adamw-32bit"),
    (r"4bit", None),
    (r"8bit", "adamw-8bit"),
    (r"muon", "muon"),
    (r"offload", None),
    (r"adam", "adamw"),
)


def optimizer_of(case: Case) -> str:
    """Id of the optimizer."""
    if own := stated(case, "optimizer"):
        return own[0]
    for pattern, name in _OPTIMIZERS:
        if re.search(pattern, case.optimizer, re.IGNORECASE):
            if name is None:
                raise NotExpressible(f"optimizer: {case.optimizer}")
            return "adamw-foreach" if name == "adamw" and _foreach(case) else name
    raise NotExpressible(f"optimizer: {case.optimizer or 'not stated'}")


def _foreach(case: Case) -> bool:
    """torch's own default on CUDA, Trainer's before torch 2.8 (6 August 2025)."""
    named = "fused" in case.optimizer or not (_until(case, "2025-08-06") or case.source == "peft_method_comparison")
    return engine_of(case) in ("transformers", "transformers-ddp", "fsdp1") and not named


_MODULES = {
    "c_attn": ["q_proj", "k_proj", "v_proj"],
    "qkv": ["q_proj", "k_proj", "v_proj"],
    "query": ["q_proj"],
    "key": ["k_proj"],
    "value": ["v_proj"],
    "projection": ["o_proj"],
    "c_proj": ["o_proj", "down_proj"],
    "w1": ["up_proj"],
    "w2": ["gate_proj"],
    "mlp": ["gate_proj", "up_proj", "down_proj"],
    "q": ["q_proj"],
    "k": ["k_proj"],
    "v": ["v_proj"],
    "o": ["o_proj"],
    "gate": ["gate_proj"],
    "up": ["up_proj"],
    "down": ["down_proj"],
}
_FUSED = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")
"""Megatron's names, one module each."""
_ONE_ATTENTION_MATRIX = {"qwen": {"c_attn", "c_proj", "w1", "w2"}, "gpt_bigcode": {"c_attn", "c_proj", "c_fc"}}
"""Module names of families whose queries, keys and values are one matrix: others name nothing there (Qwen's
modeling_qwen.py; transformers 5.23.0 models/gpt_bigcode)."""
_ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def adapter_of(case: Case) -> dict[str, Any] | None:
    """The adapter block of the scenario, or None for full training."""
    if case.peft is None:
        return None
    if case.peft not in ("lora", "qlora", "dora"):
        raise NotExpressible(f"adapter method {case.peft}")
    lora = case.lora or {}
    if not lora.get("rank"):
        raise NotExpressible("adapter rank not stated")
    # Adapters trained at once hold as much as one of the sum of their ranks.
    targets, rank = _targets(lora.get("targets"), case), int(lora["rank"])
    base: dict[str, Any] = {"rank": rank * int(lora.get("concurrent") or 1), "targets": targets}
    if dropped := re.search(r"dropout ?([0-9.]+)", str(lora.get("detail") or "")):
        base["dropout"] = float(dropped.group(1))
    if lora.get("trainable_embeddings"):
        base["modules_to_save"] = ["embed_tokens", "lm_head"]
    if case.peft == "dora" or case.optimizer == "lora-fa":
        base["variant"] = "dora" if case.peft == "dora" else "lora-fa"
    quantised = lora.get("base_quant")
    if lora.get("base_precision"):
        base["base_precision"] = lora["base_precision"]
    elif case.peft == "qlora" or quantised:
        base["base_precision"] = _base_precision(str(quantised or "nf4"))
    elif _autocast(case):
        base["base_precision"] = "fp32"
    elif case.source == "prime_rl":
        base["base_precision"] = "fp32"  # the frozen base is sharded in fp32 like everything else
    return base


def _targets(text: str | None, case: Case) -> list[str]:
    own = _ONE_ATTENTION_MATRIX.get(networks.family_of(case))
    linear = _ALL if case.arch["gated_mlp"] else [name for name in _ALL if name != "gate_proj"]
    if own:
        linear = ["c_attn", *(name for name in linear if name not in ("q_proj", "k_proj", "v_proj"))]
    if text is None or text.upper().startswith("ALL"):
        return linear
    if "DEFAULT" in text:
        return ["c_attn"] if own else ["q_proj", "k_proj", "v_proj"]
    names: list[str] = []
    for word in re.findall(r"[a-z_0-9]+", text.lower()):
        if own:
            names += ["c_attn"] if word == "c_attn" else _MODULES[word] if word in own and word in _MODULES else []
        elif word in _ALL or word in _FUSED:
            names.append(word)
        else:
            names += _MODULES.get(word, [])
    return [name for name in dict.fromkeys(names) if name in linear or name in _FUSED] or linear


def _base_precision(text: str) -> str:
    lowered = text.lower()
    if "fp8" in lowered:
        return "fp8-weights"
    if "bnb.nf4" in lowered and "dq" not in lowered:
        return "nf4-single"
    if "nf4" in lowered or "bnb" in lowered:
        return "nf4"
    if "int8" in lowered:
        return "int8"
    return "int4"
