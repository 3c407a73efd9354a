"""The network that Megatron's own options state, where no model of the catalog has that shape."""

from __future__ import annotations

import re

from pydantic import ValidationError

from planner.inputs.catalog import Catalog
from planner.launch.network import LINEAR_SHAPE, VARIANT
from planner.launch.reading.found import Found
from planner.launch.reading.scenario import known_model, model_of
from planner.schema.catalog import Architecture

OWN = "network-of-its-lines"
"""Id of a network that a launch file states."""
TOKENIZERS = {"gpt2bpetokenizer": 50257, "llama2tokenizer": 32000}
"""Tokens of Megatron's tokenizers that have one vocabulary (training/tokenizer of core_v0.19.0)."""
NAMES_OF_TOKENIZERS = ("--tokenizer-model", "--tokenizer-name-or-path")
GROUP = 64
"""What a gated MLP's usual width is a multiple of (arguments.py of core_v0.19.0, ffn_hidden_size)."""


def vocabulary(found: Found, catalog: Catalog) -> int | None:
    """Tokens of the vocabulary: as a line says, else those of the tokenizer that a line names."""
    said = found.number("--vocab-size") or found.number("--padded-vocab-size")
    if said:
        return said
    kind = (found.text("--tokenizer-type") or "").lower()
    if kind in TOKENIZERS:
        return TOKENIZERS[kind]
    for name in NAMES_OF_TOKENIZERS:
        option = found.options.get(name)
        known = model_of(option.text, catalog) if option is not None and option.known and option.text else None
        model = known_model(known, catalog) if known is not None else None
        if model is not None:
            return model.vocab_size
    return None


def usual_width(found: Found, hidden: int) -> int:
    """Width of the MLP where no line says it: four times the hidden size, of a gated one two thirds of that."""
    return int(4 * hidden * 2 / 3 / GROUP) * GROUP if found.has("--swiglu") else 4 * hidden


def network_of(found: Found, catalog: Catalog) -> Architecture | None:
    """The network of a file's options, with Megatron's defaults where they are silent; None where sizes are."""
    layers, hidden, heads = (found.number(f"--{name}") for name in ("num-layers", "hidden-size", "num-attention-heads"))
    tokens = vocabulary(found, catalog)
    if not (layers and hidden and heads and tokens):
        return None
    gated, bias = found.has("--swiglu"), not found.has("--disable-bias-linear")
    inner = found.number("--ffn-hidden-size") or usual_width(found, hidden)
    positions = found.number("--max-position-embeddings") or found.number("--seq-length") or 1
    rotary = found.text("--position-embedding-type") == "rope" or found.has("--use-rotary-position-embeddings")
    rotary = rotary or found.text("--position-embedding-type") in ("yarn", "mrope", "none")
    fields: dict[str, object] = {
        "id": OWN,
        "model_type": OWN,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": _groups(found, heads),
        "head_dim": found.number("--kv-channels") or max(hidden // heads, 1),
        "intermediate_size": inner,
        "vocab_size": tokens,
        "max_position_embeddings": positions,
        "tie_word_embeddings": not found.has("--untie-embeddings-and-output-weights"),
        "gated_mlp": gated,
        "norm": "rmsnorm" if found.text("--normalization") == "RMSNorm" else "layernorm",
        "qk_norm": "head" if found.has("--qk-layernorm") else "none",
        "learned_positions": None if rotary else positions,
        "attention_bias": bias or found.has("--add-qkv-bias"),
        "attention_out_bias": bias,
        "mlp_bias": bias,
        "attention_dropout": found.real("--attention-dropout", 0.1),
        "hidden_dropout": found.real("--hidden-dropout", 0.1),
        "sources": [{"ref": "options of the launch file", "date": "undated"}],
    }
    fields |= _experts(found, inner, layers) | _latent(found) | _linear(found)
    try:
        return Architecture.model_validate(fields)
    except ValidationError:
        return None


def _groups(found: Found, heads: int) -> int:
    if not (found.has("--group-query-attention") or "--num-query-groups" in found.options):
        return heads
    return found.number("--num-query-groups", 1) or 1


def _experts(found: Found, inner: int, layers: int) -> dict[str, object]:
    experts = found.number("--num-experts")
    if not experts:
        return {}
    return {
        "num_experts": experts,
        "num_experts_per_tok": found.number("--moe-router-topk", 2),
        "moe_intermediate_size": found.number("--moe-ffn-hidden-size") or inner,
        "shared_expert_intermediate_size": found.number("--moe-shared-expert-intermediate-size") or 0,
        "shared_expert_gate": found.has("--moe-shared-expert-gate"),
        "first_k_dense_replace": _dense(found.text("--moe-layer-freq") or "1", layers),
    }


def _dense(frequency: str, layers: int) -> int:
    """Dense layers before the first that routes: `([0]*3+[1]*58)`, `[0]+[1]*26`."""
    match = re.match(r"\(?\[0\](?:\*(\d{1,4}))?\+", frequency.replace(" ", ""))
    return min(int(match[1] or 1), layers) if match is not None else 0


def _linear(found: Found) -> dict[str, object]:
    """Linear attention as Megatron's own options state it, a list of layers left to them."""
    fields: dict[str, object] = {"attn_output_gate": found.has("--attention-output-gate")}
    every = found.number("--linear-attention-freq")
    if found.text("--experimental-attention-variant") != VARIANT or not every:
        return fields
    usual = {"linear_conv_kernel_dim": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32}
    shape = {field: found.number(option, usual.get(field, 128)) for option, field in LINEAR_SHAPE}
    return {**fields, "full_attention_interval": every, **shape}


def _latent(found: Found) -> dict[str, object]:
    if not found.has("--multi-latent-attention"):
        return {}
    plain, turned = found.number("--qk-head-dim", 128) or 128, found.number("--qk-pos-emb-head-dim", 64) or 64
    return {
        "q_lora_rank": found.number("--q-lora-rank"),
        "kv_lora_rank": found.number("--kv-lora-rank", 32),
        "qk_nope_head_dim": plain,
        "qk_rope_head_dim": turned,
        "v_head_dim": found.number("--v-head-dim", 128),
        "head_dim": plain + turned,
    }
