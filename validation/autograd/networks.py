"""Networks of the catalog as Hugging Face configurations, without a download: the fields of catalogs/models/*.yaml."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from planner.schema.catalog import Architecture

ATTENTION = "witness_attention"
"""Name under which `saved_bytes` registers its stub of a flash-attention kernel."""
BLOCKS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
"""What transformers calls the letters of hybrid_override_pattern."""
LONGEST = 1 << 20
"""Rows of a learned position embedding here, so that every network can be asked about any length."""


def configuration(
    architecture: Architecture,
    *,
    layers: int,
    moe_layer: bool,
    dropout: bool,
    linear: bool | None = None,
    block: str | None = None,
) -> PretrainedConfig:
    """The config.json of an architecture with that many layers, all of one kind (routed experts, or a dense MLP;
    linear attention, attention, or where nothing is said both as the network has them; one `block` alone)."""
    a = architecture
    fields: dict[str, Any] = {
        "hidden_size": a.hidden_size,
        "num_hidden_layers": layers,
        "num_attention_heads": a.num_attention_heads,
        "num_key_value_heads": a.num_key_value_heads,
        "head_dim": a.head_dim,
        "intermediate_size": a.intermediate_size,
        "vocab_size": a.vocab_size,
        "max_position_embeddings": a.max_position_embeddings or 8192,
        "hidden_act": a.hidden_act,
        "attention_bias": a.attention_bias,
        "tie_word_embeddings": a.tie_word_embeddings,
        "attention_dropout": a.attention_dropout if dropout else 0.0,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    if a.model_type == "gpt2":
        fields = {
            "n_embd": a.hidden_size,
            "n_layer": layers,
            "n_head": a.num_attention_heads,
            "n_inner": a.intermediate_size,
            "n_positions": LONGEST,
            "vocab_size": a.vocab_size,
            "activation_function": a.hidden_act,
            "attn_pdrop": a.attention_dropout if dropout else 0.0,
            "resid_pdrop": a.hidden_dropout if dropout else 0.0,
            "embd_pdrop": a.hidden_dropout if dropout else 0.0,
        }
    if a.model_type.startswith("gemma"):
        fields["hidden_activation"] = a.hidden_act
    if a.is_moe:
        fields |= {
            "num_experts": a.num_experts,
            "num_local_experts": a.num_experts,
            "n_routed_experts": a.num_experts,
            "num_experts_per_tok": a.num_experts_per_tok,
            "moe_intermediate_size": a.moe_intermediate_size,
            "first_k_dense_replace": 0 if moe_layer else layers,
            "use_qk_norm": a.qk_norm != "none",
            "norm_topk_prob": a.norm_topk_prob,
        }
        if a.model_type == "glm4_moe_lite":
            fields["mlp_layer_types"] = ["sparse" if moe_layer else "dense"] * layers
        if a.model_type == "qwen3_moe" and not moe_layer:
            fields["mlp_only_layers"] = list(range(layers))
        if a.shared_expert_intermediate_size:
            fields["n_shared_experts"] = a.shared_expert_intermediate_size // (a.moe_intermediate_size or 1)
    if a.is_linear:
        fields |= {
            "layer_types": [_attends(a, layer, linear) for layer in range(layers)],
            "linear_num_key_heads": a.linear_num_key_heads,
            "linear_num_value_heads": a.linear_num_value_heads,
            "linear_key_head_dim": a.linear_key_head_dim,
            "linear_value_head_dim": a.linear_value_head_dim,
            "linear_conv_kernel_dim": a.linear_conv_kernel_dim,
            "shared_expert_intermediate_size": a.shared_expert_intermediate_size,
        }
    if a.is_hybrid:
        pattern = a.hybrid_override_pattern or ""
        blocks = [BLOCKS[pattern[layer]] if block is None else block for layer in range(layers)]
        fields |= {
            "layers_block_type": blocks,
            "mlp_hidden_act": a.hidden_act,
            "mamba_num_heads": a.mamba_num_heads,
            "mamba_head_dim": a.mamba_head_dim,
            "ssm_state_size": a.ssm_state_size,
            "n_groups": a.mamba_n_groups,
            "conv_kernel": a.mamba_conv_kernel,
            "chunk_size": a.mamba_chunk_size,
            "moe_shared_expert_intermediate_size": a.shared_expert_intermediate_size,
            "n_group": a.n_group,
            "topk_group": a.topk_group,
        }
        del fields["num_hidden_layers"]
    if a.is_mla:
        fields |= {
            "q_lora_rank": a.q_lora_rank,
            "kv_lora_rank": a.kv_lora_rank,
            "qk_nope_head_dim": a.qk_nope_head_dim,
            "qk_rope_head_dim": a.qk_rope_head_dim,
            "v_head_dim": a.v_head_dim,
            "head_dim": a.qk_rope_head_dim,
        }
    if a.model_type == "falcon":
        del fields["head_dim"]
    fields |= {ours: value for ours, value in _of_family(a, dropout=dropout).items() if value is not None}
    config = AutoConfig.for_model(a.model_type, **fields)
    config._attn_implementation = ATTENTION
    return config


def _of_family(a: Architecture, *, dropout: bool) -> dict[str, Any]:
    """Fields that only some configuration classes have; the others leave them aside."""
    hidden = a.hidden_dropout if dropout else 0.0
    wide = {"ffn_hidden_size": a.intermediate_size, "num_kv_heads": a.num_key_value_heads, "bias": a.mlp_bias}
    of_type: dict[str, dict[str, Any]] = {
        "falcon": {**wide, "multi_query": True, "new_decoder_architecture": a.num_key_value_heads > 1, "alibi": False},
        "gpt_neox": {"rotary_pct": a.partial_rotary_factor, "use_parallel_residual": a.parallel_block},
        "starcoder2": {"use_bias": a.mlp_bias, "residual_dropout": hidden, "sliding_window": None},
        "stablelm": {"use_qkv_bias": a.attention_bias, "qk_layernorm": a.qk_norm != "none"},
        "seed_oss": {"attention_out_bias": a.attention_out_bias, "residual_dropout": hidden},
        "qwen2_moe": {"shared_expert_intermediate_size": a.shared_expert_intermediate_size},
    }
    shared = {"hidden_dropout": hidden, "resid_pdrop": hidden, "embd_pdrop": 0.0, "embedding_dropout": 0.0}
    return {"partial_rotary_factor": a.partial_rotary_factor, **shared, **of_type.get(a.model_type, {})}


def _attends(a: Architecture, layer: int, linear: bool | None) -> str:
    """Which attention a layer has: the one that is asked for, or every fourth (say) full attention."""
    full = (layer + 1) % (a.full_attention_interval or 1) == 0 if linear is None else not linear
    return "full_attention" if full else "linear_attention"
