"""A Hugging Face `config.json` as an architecture, without importing transformers.

Names differ between families; the aliases follow transformers 5.23 and Megatron-Bridge's CONFIG_MAPPING. An unknown
`model_type` is fine as long as the fields that give the network its shape are there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from pydantic import ValidationError

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import Document
from planner.inputs.messages import explain
from planner.inputs.yaml_builder import PathKey
from planner.schema.catalog import MOST_LAYERS, Architecture

_SHAPE = {
    "hidden_size": ("hidden_size", "n_embd", "d_model", "dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab_size": ("vocab_size",),
}
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function")

_ALIASES = {
    "max_position_embeddings": _POSITIONS,
    "learned_positions": _POSITIONS,
    "hidden_act": _ACTIVATION,
    "num_experts": _EXPERTS,
    "num_experts_per_tok": _PER_TOKEN,
    "num_key_value_heads": ("num_kv_heads",),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
    "hidden_dropout": ("resid_pdrop",),
    "attention_dropout": ("attn_pdrop",),
    "hf_id": ("_name_or_path",),
}
"""Our fields, and further names of config.json for them."""

_NESTED = ("thinker_config", "text_config", "llm_config", "language_config")
_OTHER_NUMBERS = (
    *("num_key_value_heads", "num_kv_heads", "head_dim", "sliding_window", "sliding_window_pattern"),
    *("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
    *("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "moe_intermediate_size"),
    *("shared_expert_intermediate_size", "n_shared_experts", "num_shared_experts"),
    *("first_k_dense_replace", "decoder_sparse_step", "interleave_moe_layer_step"),
    *("num_nextn_predict_layers", "mtp_num_hidden_layers"),
)

_PLAIN_MLP = frozenset(("gpt2", "gpt_neox", "gpt_bigcode", "opt", "bloom", "falcon", "phi", "starcoder2", "gptj"))
_LAYER_NORM = frozenset((*_PLAIN_MLP, "stablelm", "cohere", "cohere2"))
_BIAS_EVERYWHERE = frozenset(("gpt2", "gpt_neox", "gpt_bigcode", "opt", "bloom", "phi", "starcoder2"))
_QKV_BIAS = frozenset(("qwen", "qwen2", "qwen2_moe", "gpt_oss", *_BIAS_EVERYWHERE))
_NO_OUT_BIAS = frozenset(("qwen", "qwen2", "qwen2_moe", "glm", "glm4", "glm4_moe"))
_HEAD_NORM = frozenset(("qwen3", "qwen3_moe", "gemma3", "gemma3_text"))
_FULL_NORM = frozenset(("olmo2", "olmo3", "olmoe"))
_FOUR_NORMS = frozenset(("gemma2", "gemma3", "gemma3_text", "glm4"))
_TIED_BY_DEFAULT = frozenset(("gpt2", "gemma", "gemma2", "gemma3", "gemma3_text", "opt", "bloom", "cohere", "cohere2"))
_UNSUPPORTED = {
    "linear_num_key_heads": "linear attention",
    "linear_num_value_heads": "linear attention",
    "mamba_d_state": "Mamba layers",
    "ssm_state_size": "Mamba layers",
    "hybrid_override_pattern": "Mamba layers",
    "is_encoder_decoder": "an encoder",
}


def architecture_from_hf_config(config: Mapping[str, Any] | Document, name: str | None = None) -> Architecture:
    """The language model that a config.json describes; name stands for the file in messages and becomes the id.

    Raises InputError with the line of what is missing, wrong or not a decoder-only transformer.
    """
    document = config if isinstance(config, Document) else Document(name or "", dict(config), "", _marks=None)
    outer: dict[str, Any] = document.data
    said = _Said(document, name or document.name, outer, ())
    while nested := next((key for key in _NESTED if isinstance(said.config.get(key), dict)), None):
        tied = {"tie_word_embeddings": said.config.get("tie_word_embeddings")}
        said = replace(said, config={**tied, **_set(said.config[nested])}, path=(*said.path, nested))
    said = replace(said, config=_set(said.config))
    config = said.config
    _refuse_wrong_numbers(said)
    _refuse_unsupported(said)
    fields = _shape(said)
    kind = str(config.get("model_type") or outer.get("model_type") or "unknown")
    fields |= _attention(config, fields, kind)
    fields |= _feed_forward(said, fields, kind)
    fields |= _details(config, fields, kind)
    digest = hashlib.sha256(json.dumps(outer, sort_keys=True, default=str).encode()).hexdigest()[:12]
    entry = {
        "id": said.name,
        "hf_id": outer.get("_name_or_path") or None,
        "model_type": kind,
        **fields,
        "sources": [{"ref": f"config.json given by the user: {said.name}", "date": "undated", "note": digest}],
    }
    try:
        return Architecture.model_validate(entry)
    except ValidationError as error:
        raise InputError(explain(error, entry, Architecture, said.place)) from None


@dataclass(frozen=True)
class _Said:
    """A config.json, or the part of one that describes the language model."""

    document: Document
    name: str
    config: dict[str, Any]
    path: tuple[PathKey, ...]
    """Keys of the file under which that part stands."""

    def place(self, path: tuple[PathKey, ...]) -> Place:
        """Line of a field, under any of its names."""
        key = next((alias for alias in self._names(path) if alias in self.config), None)
        return self.document.place((*self.path, *(() if key is None else (key, *path[1:]))))

    def _names(self, path: tuple[PathKey, ...]) -> tuple[str, ...]:
        name = str(path[0]) if path else ""
        return (name, *_SHAPE.get(name, ()), *_ALIASES.get(name, ()))

    def refuse(self, what: str, because: str | None = None, key: str = "") -> NoReturn:
        """Raise InputError at a key."""
        raise InputError(Mistake(f"{self.name}: {what}", self.place((key,)), because))


def _set(config: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that are null, which mean the same as absent ones."""
    return {key: value for key, value in config.items() if value is not None}


def _first(config: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if name in config), None)


def _refuse_unsupported(said: _Said) -> None:
    for key, meaning in _UNSUPPORTED.items():
        if said.config.get(key):
            said.refuse(f"the network has {meaning} (`{key}`)", "only decoder-only transformers can be planned", key)


def _refuse_wrong_numbers(said: _Said) -> None:
    config = said.config
    shape = [alias for aliases in _SHAPE.values() for alias in aliases]
    names = [*shape, *_EXPERTS, *_PER_TOKEN, *_POSITIONS, *_OTHER_NUMBERS]
    wrong = [key for key in names if key in config and (type(config[key]) is not int or not 0 <= config[key] < 10**9)]
    wrong += [key for key in shape if config.get(key) == 0]
    wrong += [key for key in _SHAPE["num_hidden_layers"] if type(config.get(key)) is int and config[key] > MOST_LAYERS]
    if wrong:
        because = f"they give the network its shape; it has at most {MOST_LAYERS:,} layers"
        said.refuse(f"{', '.join(dict.fromkeys(wrong))} must be whole numbers", because, wrong[0])


def _shape(said: _Said) -> dict[str, Any]:
    found = {field: _first(said.config, names) for field, names in _SHAPE.items()}
    missing = [" or ".join(_SHAPE[field]) for field, value in found.items() if value is None]
    if missing:
        said.refuse(f"missing {', '.join(missing)}", "these fields give the network its shape")
    return found


def _attention(config: dict[str, Any], fields: dict[str, Any], kind: str) -> dict[str, Any]:
    heads = fields["num_attention_heads"]
    fused_bias = kind in _QKV_BIAS
    bias = bool(config.get("attention_bias", config.get("qkv_bias", config.get("use_bias", fused_bias))))
    sliding = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    kv_heads = 1 if config.get("multi_query") and "num_key_value_heads" not in config else heads
    out: dict[str, Any] = {
        "num_key_value_heads": config.get("num_key_value_heads", config.get("num_kv_heads", kv_heads)),
        "head_dim": config.get("head_dim", fields["hidden_size"] // heads),
        "attention_bias": bias,
        "attention_out_bias": bias and kind not in _NO_OUT_BIAS,
        "attention_sinks": kind == "gpt_oss",
        "qk_norm": "none",
        "sliding_window": sliding,
        "sliding_window_layers": _sliding_layers(config, fields["num_hidden_layers"], kind) if sliding else 0,
    }
    if kind in _HEAD_NORM or config.get("use_qk_norm") or config.get("qk_layernorm"):
        out["qk_norm"] = "head"
    elif kind in _FULL_NORM:
        out["qk_norm"] = "full"
    if "kv_lora_rank" in config:
        for key in ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            out[key] = config.get(key)
        out["head_dim"] = (out["qk_nope_head_dim"] or 0) + (out["qk_rope_head_dim"] or 0) or out["head_dim"]
        out["num_key_value_heads"] = heads
    return out


def _sliding_layers(config: dict[str, Any], layers: int, kind: str) -> int:
    types = config.get("layer_types")
    if isinstance(types, list):
        return sum(item == "sliding_attention" for item in types)
    pattern = config.get("sliding_window_pattern", {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6, "gemma3": 6}.get(kind))
    return layers - layers // pattern if isinstance(pattern, int) and pattern > 0 else layers


def _feed_forward(said: _Said, fields: dict[str, Any], kind: str) -> dict[str, Any]:
    config = said.config
    width = _first(config, ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"))
    plain = kind in _PLAIN_MLP
    if width is None and plain:
        width = 4 * fields["hidden_size"]
    experts = _first(config, _EXPERTS)
    if not experts:
        if width is None:
            said.refuse("missing intermediate_size", "it gives the MLP its width")
        return {
            "intermediate_size": width,
            "gated_mlp": not plain,
            "mlp_bias": bool(config.get("mlp_bias", kind in _BIAS_EVERYWHERE)),
        }
    expert_width = _first(config, ("moe_intermediate_size", "intermediate_size"))
    per_token = _first(config, _PER_TOKEN)
    if expert_width is None or per_token is None:
        lacking = "moe_intermediate_size" if expert_width is None else "num_experts_per_tok"
        said.refuse(f"missing {lacking}", f"the network has {experts} experts")
    shared = config.get("shared_expert_intermediate_size")
    if shared is None:
        shared = (config.get("n_shared_experts", config.get("num_shared_experts", 0)) or 0) * expert_width
    return {
        "intermediate_size": width or expert_width,
        "gated_mlp": True,
        "mlp_bias": bool(config.get("mlp_bias", kind == "gpt_oss")),
        "router_bias": kind == "gpt_oss",
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": expert_width,
        "shared_expert_intermediate_size": shared,
        "shared_expert_gate": kind == "qwen2_moe",
        "first_k_dense_replace": _leading_dense_layers(said, fields["num_hidden_layers"]),
    }


def _leading_dense_layers(said: _Said, layers: int) -> int:
    """How many leading layers are dense; any other mix of dense and routed layers is refused."""
    config = said.config
    listed = config.get("mlp_only_layers")
    dense = {layer for layer in listed if isinstance(layer, int)} if isinstance(listed, list) else set()
    dense |= set(range(min(layers, config.get("first_k_dense_replace", 0))))
    step = config.get("decoder_sparse_step", 1)
    if step > 1:
        dense |= {layer for layer in range(layers) if (layer + 1) % step}
    frequency = config.get("moe_layer_freq", config.get("interleave_moe_layer_step", 1))
    if isinstance(frequency, list):
        dense |= {layer for layer, routed in enumerate(frequency) if not routed}
    elif isinstance(frequency, int) and frequency > 1:
        dense |= {layer for layer in range(layers) if layer % frequency}
    if dense != set(range(len(dense))):
        because = "only leading dense layers can be planned"
        said.refuse("dense and mixture-of-experts layers alternate", because, "mlp_only_layers")
    return len(dense)


def _details(config: dict[str, Any], fields: dict[str, Any], kind: str) -> dict[str, Any]:
    activation = _first(config, _ACTIVATION) or ("gelu_new" if kind == "gpt2" else "silu")
    positions = _first(config, _POSITIONS)
    dropout = 0.1 if kind == "gpt2" else 0.0
    return {
        "max_position_embeddings": positions,
        "learned_positions": positions if kind in ("gpt2", "gpt_bigcode") else None,
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", kind in _TIED_BY_DEFAULT)),
        "hidden_act": str(activation),
        "norm": "layernorm" if kind in _LAYER_NORM else "rmsnorm",
        "norms_per_layer": 4 if kind in _FOUR_NORMS else 2,
        "num_nextn_predict_layers": _first(config, ("num_nextn_predict_layers", "mtp_num_hidden_layers")) or 0,
        "attention_dropout": config.get("attention_dropout", config.get("attn_pdrop", dropout)),
        "hidden_dropout": config.get("hidden_dropout", config.get("resid_pdrop", dropout)),
    }
