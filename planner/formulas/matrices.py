"""The matrices of one layer by the names that adapters call them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.schema.catalog import Architecture

TWO_LINEAR_INPUTS = ("qwen3_next",)
"""Networks whose linear attention has two matrices that read the hidden size; those of others have four."""


def mlp_matrices(s: Architecture) -> dict[str, int]:
    """Names of MLP matrices, and how many MLP widths stand on the side that is not the hidden size."""
    names = {"up_proj": 1, "down_proj": 1, "linear_fc1": 2 if s.gated_mlp else 1, "linear_fc2": 1}
    if s.gated_mlp:
        return {"gate_proj": 1, **names, "gate_up_proj": 2}
    return {**names, "c_fc": 1, "c_proj": 1, "fc1": 1, "fc2": 1}


def attention_matrices(s: Architecture) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the attention matrices by name."""
    h, a = s.hidden_size, s.num_attention_heads
    if s.kv_lora_rank is not None:
        nope, rope, v = s.qk_nope_head_dim or 0, s.qk_rope_head_dim or 0, s.v_head_dim or 0
        query = {"q_proj": (h, a * (nope + rope))}
        if s.q_lora_rank is not None:
            query = {"q_a_proj": (h, s.q_lora_rank), "q_b_proj": (s.q_lora_rank, a * (nope + rope))}
        return {
            **query,
            "kv_a_proj_with_mqa": (h, s.kv_lora_rank + rope),
            "kv_b_proj": (s.kv_lora_rank, a * (nope + v)),
            "o_proj": (a * v, h),
            "linear_proj": (a * v, h),
        }
    query_width, key_width = a * s.head_dim, s.num_key_value_heads * s.head_dim
    into = query_width * (1 + s.attn_output_gate)  # queries and the gate behind attention are one matrix
    fused = (h, into + 2 * key_width)
    gpt2 = {} if s.gated_mlp else {"c_proj": (query_width, h)}
    return {
        **gpt2,
        "q_proj": (h, into),
        "k_proj": (h, key_width),
        "v_proj": (h, key_width),
        "o_proj": (query_width, h),
        "qkv_proj": fused,
        "c_attn": fused,
        "linear_qkv": fused,
        "linear_proj": (query_width, h),
    }


def linear_matrices(s: Architecture) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the matrices of linear attention or Mamba-2 by name; none where no layer has it.

    Source: transformers 5.23.0, Qwen3NextGatedDeltaNet (queries, keys, values and gate in one matrix, betas and decays
    in one), Qwen3_5GatedDeltaNet and NemotronHMamba2Mixer.
    """
    if s.is_hybrid:
        return {"in_proj": (s.hidden_size, s.mamba_projected), "out_proj": (s.mamba_width, s.hidden_size)}
    if not s.is_linear:
        return {}
    h, mixed, values = s.hidden_size, 2 * s.linear_key_width + s.linear_value_width, s.linear_value_width
    heads, out = s.linear_num_value_heads or 0, {"out_proj": (values, h)}
    if s.model_type in TWO_LINEAR_INPUTS:
        return {"in_proj_qkvz": (h, mixed + values), "in_proj_ba": (h, 2 * heads), **out}
    return {
        "in_proj_qkv": (h, mixed),
        "in_proj_z": (h, values),
        "in_proj_b": (h, heads),
        "in_proj_a": (h, heads),
        **out,
    }


def all_linear(s: Architecture) -> list[str]:
    """Names that `all-linear` spells out: every linear layer of a block, fused ones by their parts."""
    fused = {"qkv_proj", "c_attn", "c_proj", "linear_qkv", "linear_proj"}
    mlp = ["gate_proj", "up_proj", "down_proj"] if s.gated_mlp else ["up_proj", "down_proj"]
    return [*(name for name in attention_matrices(s) if name not in fused), *linear_matrices(s), *mlp]
