"""Which tensors a network and its adapters have: the conditions that engine files speak in."""

from __future__ import annotations

from planner.problem.problem import Problem
from planner.schema.engine import Tensor

NORM_SCALED_IN_FP32 = ("gemma", "olmo", "gpt_oss")


FUSED_QKV = ("phi3",)


FP32_ROUTER = ("deepseek", "glm4_moe")


SCORES_CHOSEN_EXPERTS = CLAMPED_GATE = ("gpt_oss",)


PLAIN_LOGITS = ("gpt_bigcode", "qwen")


PLAIN_ROUTER = ("deepseek_v2", "gpt_oss")
"""Families (how config.json's `model_type` begins) by what the modelling code of transformers 5.23.0 does."""


def applies(problem: Problem, when: str, *, moe_layer: bool) -> bool:
    """Does a tensor exist in this kind of layer; conditions on the layout are multiplied in by `shard_factor`."""
    a, adapter = problem.architecture, problem.scenario.adapter
    return {
        "always": True,
        "dense": not moe_layer,
        "moe": moe_layer,
        "shared_experts": moe_layer and a.shared_expert_intermediate_size > 0,
        "mla": a.is_mla,
        "not_mla": not a.is_mla,
        "gated": a.gated_mlp,
        "ungated": not a.gated_mlp,
        "gated_dense": a.gated_mlp and not moe_layer,
        "ungated_dense": not a.gated_mlp and not moe_layer,
        "gathered": True,
        "dropout": a.hidden_dropout > 0,
        "attention_dropout": a.attention_dropout > 0,
        "context_parallel": True,
        "expert_parallel": True,
        "fused_attention": problem.engine.fused_attention,
        "unfused_attention": not problem.engine.fused_attention,
        "tensor_parallel": True,
        "frozen_base": adapter is not None,
        "adapter_dropout": adapter is not None and adapter.dropout > 0,
        "dora": adapter is not None and adapter.variant == "dora",
        "lora_fa": adapter is not None and adapter.variant == "lora-fa",
        "trained_down": adapter is not None and adapter.variant != "lora-fa",
        "trained_head": adapter is None or "lm_head" in adapter.modules_to_save,
        "trainable_base": adapter is None
        or (problem.engine.quantised_base_keeps_inputs and not problem.base_precision.trainable),
        "qk_norm": a.qk_norm != "none",
        "upcast_logits": a.model_type not in PLAIN_LOGITS,
        "plain_logits": a.model_type in PLAIN_LOGITS,
        "rmsnorm": a.norm == "rmsnorm",
        "layernorm": a.norm == "layernorm",
        "norm_scaled_in_fp32": a.norm == "rmsnorm" and a.model_type.startswith(NORM_SCALED_IN_FP32),
        "norm_scaled_in_16bit": a.norm == "rmsnorm" and not a.model_type.startswith(NORM_SCALED_IN_FP32),
        "rotary": a.learned_positions is None,
        "fused_qkv": a.model_type.startswith(FUSED_QKV),
        "composed_gelu": a.hidden_act == "gelu_new",
        "fp32_router": a.is_moe and a.model_type.startswith(FP32_ROUTER),
        "scores_all_experts": a.is_moe and not a.model_type.startswith(SCORES_CHOSEN_EXPERTS),
        "expert_bias": a.is_moe and a.mlp_bias,
        "clamped_gate": a.model_type.startswith(CLAMPED_GATE),
        "normalised_router": a.is_moe and not a.model_type.startswith(PLAIN_ROUTER),
    }[when]


def conditions(tensor: Tensor) -> tuple[str, ...]:
    """The conditions of a tensor, all of which must hold."""
    return tuple(tensor.when) if isinstance(tensor.when, list) else (tensor.when,)
