"""Which tensors a network and its adapters have: the conditions that engine files speak in."""

from __future__ import annotations

from planner.problem.formats import adapter_casts, format_bytes, mixed
from planner.problem.problem import Problem
from planner.schema.architecture import LayerKind
from planner.schema.beside_attention import beside_attention
from planner.schema.engine import Tensor

NORM_SCALED_IN_FP32 = ("gemma", "olmo2", "olmo3", "gpt_oss", "qwen3_next", "qwen3_5", "nemotron_h")
FUSED_QKV = ("phi3", "qwen", "gpt_neox", "falcon")
ONE_QKV_MATRIX = (*FUSED_QKV, "gpt2", "gpt_bigcode")
ONE_GATE_UP_MATRIX = ("phi3", "glm4")
FP32_ROUTER = ("deepseek", "glm4_moe", "nemotron_h")
SCORES_CHOSEN_EXPERTS = CLAMPED_GATE = ("gpt_oss",)
SIGMOID_OF_PRODUCT = ("deepseek_v3", "glm4_moe", "nemotron_h")
SHIFTED_NORM_WEIGHTS = ("gemma", "qwen3_next", "qwen3_5")
OWN_ROTARY_TABLES = ("glm4",)
ROUTES_AS_COMPUTED = (
    *("qwen2_moe", "olmoe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_next", "qwen3_5_moe_text", "gpt_oss"),
)
PLAIN_LOGITS = ("gpt_bigcode", "qwen")
OUTPUTS_IN_FP32 = ("nemotron_h",)
CAPPED_LOGITS = ("gemma2",)
EIGHT_GROUPS = ("deepseek_v3",)
ONE_GROUP = ("glm4_moe", "nemotron_h")
FP32_ROTARY_TABLES = NORMS_OUTPUTS_ONLY = ("olmo2", "olmo3")
ATTENTION_SINKS = ("gpt_oss",)
SCALED_QUERIES = ("ministral3",)
SHIFTED_LAYER_NORMS = ("nemotron",)
MADE_IN_STEPS = ("gelu_new", "relu2")
SOFTMAX_AS_COMPUTED = ("gpt2", *ATTENTION_SINKS)
PLAIN_ROUTER = ("deepseek_v2", "gpt_oss")
"""Families (how config.json's `model_type` begins) by what the modelling code of transformers 5.23.0 does."""


def what_applies(problem: Problem, *, moe_layer: bool, kind: LayerKind = "full") -> dict[str, bool]:
    """Each condition and whether it holds in this kind of layer; those on the layout are multiplied in by
    `shard_factor`. Of layers of one block alone, an MLP's have no attention and the others neither MLP nor experts."""
    a, adapter = problem.architecture, problem.scenario.adapter
    said = beside_attention(problem.engine, a)
    wide = format_bytes(problem, "computed") > 2
    linear, attends, has_mlp = kind == "linear", kind in ("full", "attention"), kind not in ("mamba", "attention")
    moe_layer = moe_layer and has_mlp
    padded = a.is_mla and a.v_head_dim != a.head_dim and not wide
    narrow_router = mixed(problem) and a.model_type.startswith(SIGMOID_OF_PRODUCT)
    casts_stream, casts_products = adapter_casts(problem)
    norms_outputs = a.model_type.startswith(NORM_SCALED_IN_FP32) and (
        a.norms_per_layer > 2 or a.model_type in NORMS_OUTPUTS_ONLY
    )
    repeated = problem.engine.fused_qkv and a.num_key_value_heads < a.num_attention_heads
    softmax_in_fp32 = not a.model_type.startswith(SOFTMAX_AS_COMPUTED) or (
        mixed(problem) if a.model_type in ATTENTION_SINKS else problem.engine.autocast
    )
    fused = not repeated and (problem.engine.fused_qkv or a.model_type in FUSED_QKV)
    return {
        "always": True,
        "linear_attention": linear,
        "full_attention": attends,
        "mamba": kind == "mamba",
        "block_alone": a.is_hybrid,
        "token_mixer": kind != "mlp",
        "linear_heads_cut": said is None or said.heads_cut,
        "linear_layers_whole": said is not None and not said.heads_cut,
        "gated_attention": a.attn_output_gate and attends,
        "dense": not moe_layer and has_mlp,
        "moe": moe_layer,
        "shared_experts": moe_layer and a.shared_expert_intermediate_size > 0,
        "gated_shared_experts": moe_layer and a.shared_expert_gate,
        "mla": a.is_mla,
        "not_mla": not a.is_mla,
        "gated": a.gated_mlp,
        "ungated": not a.gated_mlp,
        "gated_dense": a.gated_mlp and not moe_layer and has_mlp,
        "ungated_dense": not a.gated_mlp and not moe_layer and has_mlp,
        "gathered": True,
        "dropout": a.hidden_dropout > 0,
        "attention_dropout": a.attention_dropout > 0,
        "context_parallel": True,
        "expert_parallel": True,
        "fused_attention": problem.engine.fused_attention,
        "unfused_attention": not problem.engine.fused_attention,
        "softmax_in_fp32": softmax_in_fp32,
        "softmax_as_computed": not softmax_in_fp32,
        "half_precision": problem.precision.id == "fp16" and not wide,
        "attention_sinks": a.model_type in ATTENTION_SINKS,
        "two_masks": 0 < (a.sliding_window_layers or 0) < a.num_hidden_layers,
        "tensor_parallel": True,
        "frozen_base": adapter is not None,
        "gradient_added": adapter is None,
        "adapter_dropout": adapter is not None and adapter.dropout > 0,
        "dora": adapter is not None and adapter.variant == "dora",
        "lora_fa": adapter is not None and adapter.variant == "lora-fa",
        "trained_down": adapter is not None and adapter.variant != "lora-fa",
        "trained_head": adapter is None or "lm_head" in adapter.modules_to_save,
        "trainable_base": adapter is None
        or (problem.engine.quantised_base_keeps_inputs and not problem.base_precision.trainable),
        "blocks_in_turn": not a.parallel_block,
        "own_mlp_input": has_mlp and (not a.parallel_block or a.norms_per_layer > 1),
        "untied": not a.tie_word_embeddings,
        "qk_norm": a.qk_norm != "none",
        "outputs_in_fp32": a.model_type in OUTPUTS_IN_FP32,
        "upcast_logits": a.model_type not in PLAIN_LOGITS,
        "plain_logits": a.model_type in PLAIN_LOGITS,
        "rmsnorm": a.norm == "rmsnorm",
        "layernorm": a.norm == "layernorm",
        "norm_scaled_in_fp32": a.norm == "rmsnorm" and a.model_type.startswith(NORM_SCALED_IN_FP32),
        "norm_scaled_in_16bit": a.norm == "rmsnorm" and not a.model_type.startswith(NORM_SCALED_IN_FP32),
        "norms_outputs_in_fp32": norms_outputs,
        "norms_inputs_only": not norms_outputs,
        "rotary": a.learned_positions is None and not a.no_positions,
        "learned_positions": a.learned_positions is not None,
        "fp32_rotary_tables": a.model_type in FP32_ROTARY_TABLES,
        "scaled_queries": a.model_type in SCALED_QUERIES,
        "fused_qkv": fused,
        "repeated_heads": repeated,
        "heads_as_made": not repeated,
        "made_logits_stay": problem.engine.made_logits_stay,
        "composed_gelu": a.hidden_act == "gelu_new",
        "cast_gradient_stays": a.parallel_block or (not a.gated_mlp and a.hidden_act not in MADE_IN_STEPS),
        "squared_relu": a.hidden_act == "relu2",
        "shifted_layer_norms": a.model_type in SHIFTED_LAYER_NORMS,
        "fp32_router": a.is_moe and a.model_type.startswith(FP32_ROUTER),
        "group_limited": a.model_type.startswith((*EIGHT_GROUPS, *ONE_GROUP)),
        "eight_groups": a.model_type.startswith(EIGHT_GROUPS),
        "one_group": a.model_type.startswith(ONE_GROUP),
        "scores_all_experts": a.is_moe and not a.model_type.startswith(SCORES_CHOSEN_EXPERTS),
        "expert_bias": a.is_moe and a.mlp_bias,
        "clamped_gate": a.model_type.startswith(CLAMPED_GATE),
        "mixed": mixed(problem),
        "not_mixed": not mixed(problem),
        "computed_in_16bit": not wide,
        "computed_in_fp32": wide,
        "padded_values": padded,
        "whole_up_projection": a.is_mla and not padded,
        "router_in_16bit": narrow_router,
        "router_in_fp32": not narrow_router,
        "routes_as_computed": narrow_router or a.model_type in ROUTES_AS_COMPUTED,
        "routes_in_fp32": not narrow_router and a.model_type not in ROUTES_AS_COMPUTED,
        "shifted_norm_weights": a.model_type.startswith(SHIFTED_NORM_WEIGHTS),
        "own_rotary_tables": a.model_type in OWN_ROTARY_TABLES,
        "scores_chosen_experts": a.is_moe and a.model_type.startswith(SCORES_CHOSEN_EXPERTS),
        "capped_logits": a.model_type in CAPPED_LOGITS,
        "adapter_casts_stream": casts_stream,
        "adapter_reads_stream": not casts_stream,
        "adapter_casts_products": casts_products,
        "adapter_reads_products": not casts_products,
        "normalised_router": a.is_moe and a.norm_topk_prob and not a.model_type.startswith(PLAIN_ROUTER),
    }


def conditions(tensor: Tensor) -> tuple[str, ...]:
    """The conditions of a tensor, all of which must hold."""
    return tuple(tensor.when) if isinstance(tensor.when, list) else (tensor.when,)


def modules_that_free(problem: Problem) -> tuple[str, ...]:
    """Modules of the engine whose recomputation drops some tensor of this network, in its file's order."""
    a = problem.architecture
    kinds = [what_applies(problem, moe_layer=moe, kind=kind) for moe in {False, a.is_moe} for kind in a.kinds]
    freed = {
        module
        for tensor in problem.engine.saved
        if any(all(kind[when] for when in conditions(tensor)) for kind in kinds)
        for module in tensor.unless_recomputed
    }
    return tuple(module for module in problem.engine.recompute_modules if module in freed)
