"""A Hugging Face `config.json` as an architecture, without importing transformers.

Names differ between families; the aliases follow transformers 5.23 and Megatron-Bridge's CONFIG_MAPPING. An unknown
`model_type` is fine as long as the fields that give the network its shape are there. Every key is read, known to change
nothing, refused, or named in a caution of the architecture.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from planner.errors import InputError, Place
from planner.inputs.document import Document
from planner.inputs.hf_families import CAUTIONS, FAMILIES, KNOWN_LLAMAS, SAME_CODE, Family
from planner.inputs.hf_hybrid import hybrid_layers
from planner.inputs.hf_keys import Config, fail
from planner.inputs.hf_positions import POSITIONS, linear_layers, positions, windows
from planner.inputs.hf_vision import TowerParameters, vision_parameters
from planner.inputs.messages import explain
from planner.inputs.yaml_values import PathKey
from planner.schema.catalog import MOST_LAYERS, Architecture

_SHAPE = {
    "hidden_size": ("hidden_size", "n_embd", "n_embed", "d_model", "dim"),
    "num_hidden_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab_size": ("vocab_size", "padded_vocab_size"),
}
_NESTED = ("thinker_config", "text_config", "llm_config", "language_config")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_PER_TOKEN = (
    *("num_experts_per_tok", "num_experts_per_token", "experts_per_token"),
    *("moe_topk", "moe_k", "moe_top_k", "top_k_experts"),
)
_SHARED = ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts")
_SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size")
_WIDTH = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "multi_query_group_num")
_LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_EPSILON = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps", "layernorm_epsilon", "norm_eps", "norm_epsilon")
_ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act")
_BIAS = ("attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias", "use_bias", "bias")
_ATTENTION_DROPOUT = ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob")
_HIDDEN_DROPOUT = ("hidden_dropout", "resid_pdrop", "residual_dropout", "hidden_dropout_prob", "dropout")
_FURTHER = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
_NUMBERS = (
    *(alias for aliases in _SHAPE.values() for alias in aliases),
    *(*_EXPERTS, *_PER_TOKEN, *POSITIONS, *_SHARED, *_SHARED_WIDTH, *_WIDTH, *_KEY_HEADS, *_LATENT, *_FURTHER),
    *("head_dim", "sliding_window", "moe_intermediate_size", "first_k_dense_replace", "decoder_sparse_step"),
)

_ALIASES = {
    "max_position_embeddings": POSITIONS,
    "learned_positions": POSITIONS,
    "hidden_act": _ACTIVATION,
    "num_experts": _EXPERTS,
    "num_experts_per_tok": _PER_TOKEN,
    "num_key_value_heads": _KEY_HEADS,
    "intermediate_size": _WIDTH,
    "hidden_dropout": _HIDDEN_DROPOUT,
    "attention_dropout": _ATTENTION_DROPOUT,
    "norm_epsilon": _EPSILON,
    "hf_id": ("_name_or_path", "name_or_path"),
}
"""Our fields, and further names of config.json for them."""
SOUNDS_LIKE_A_SHAPE = re.compile(r"(_dim|_dims|_size|_width|_rank|_heads|_experts|_layers)$|^(num|n)_")
"""Keys that may add matrices to a network."""
UNKNOWN_TYPE = "model_type `{}` is not known: biases and norms are taken to be those of Llama unless keys say so."


@dataclass(frozen=True)
class Understood:
    """What a configuration file was taken for."""

    architecture: Architecture
    ignored: tuple[str, ...]
    """Keys known to change neither memory nor time."""
    left_out: tuple[str, ...]
    """Towers that `text_only` left out."""


def architecture_from_hf_config(config: Mapping[str, object] | Document, name: str | None = None) -> Architecture:
    """The language model that a config.json describes; name stands for the file in messages and becomes the id.

    Raises InputError, which names the key and its line, for a network that cannot be planned.
    """
    return understand_hf_config(config, name).architecture


def understand_hf_config(
    given: Mapping[str, object] | Document, name: str | None = None, *, text_only: bool = False, date: str = "undated"
) -> Understood:
    """The same with what was left aside. `text_only` leaves out towers; `date` is that of the file."""
    document = given if isinstance(given, Document) else Document(name or "", dict(given), "", _marks=None)
    name, whole = name or document.name, document.data
    towers = ("vision_config", "audio_config") if text_only else ()
    left_out = tuple(key for key in towers if whole.get(key) is not None)
    outer = Config(document, {key: value for key, value in whole.items() if key not in left_out})
    config, chain = outer, [outer]
    while (nested := config.inner(*_NESTED)) is not None:
        config.refuse_unplannable()
        chain.append(config := nested)
    _refuse_wrong_numbers(config)
    config.refuse_unplannable()
    kind = config.text("model_type") or outer.text("model_type") or "unknown"
    fields, cautions = _fields(config, chain, SAME_CODE.get(kind, kind))
    _refuse_unread_shapes(config, chain, SAME_CODE.get(kind, kind))
    digest = hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:12]
    entry = {
        "id": name,
        "hf_id": outer.text("_name_or_path", "name_or_path") or None,
        **fields,
        "cautions": [*cautions, *_unread(chain)],
        "sources": [{"ref": f"config.json given by the user: {name}", "date": date, "note": f"content {digest}"}],
    }
    try:
        architecture = Architecture.model_validate(entry)
    except ValidationError as error:
        raise InputError(explain(error, entry, Architecture, lambda path: _place(config, path))) from None
    ignored = {key for each in chain for key in each.data.keys() - each.asked} - set(_unread_keys(chain))
    return Understood(architecture, tuple(sorted(ignored)), left_out)


def _place(config: Config, path: tuple[PathKey, ...]) -> Place:
    """Line of one of our fields, under any of its names."""
    name = str(path[0]) if path else ""
    return config.place(name, *_SHAPE.get(name, ()), *_ALIASES.get(name, ()))


def _fields(config: Config, chain: list[Config], kind: str) -> tuple[dict[str, object], list[str]]:
    """(fields of the architecture, cautions)."""
    family, known = FAMILIES.get(kind, Family()), kind in FAMILIES or kind in KNOWN_LLAMAS
    if known:
        config.data = {**family.defaults, **config.data}
    shape = _shape(config)
    heads, hidden, layers = shape["num_attention_heads"], shape["hidden_size"], shape["num_hidden_layers"]
    tower, cautions = _vision(chain[0], chain, kind, hidden)
    placed, said = positions(config, family, _head_dim(config, heads, hidden))
    near, chunks = windows(config, family, layers)
    fields: dict[str, object] = {
        "model_type": kind,
        **shape,
        **_attention(config, family, heads, hidden),
        **_feed_forward(config, family, hidden, layers),
        **_details(config, chain, family),
        "vision_parameters": sum(tower),
        "projector_parameters": tower.projector,
        **placed,
        **near,
        **linear_layers(config, family, layers),
        **hybrid_layers(config, family),
    }
    own = [CAUTIONS[kind]] if kind in CAUTIONS else [] if known else [UNKNOWN_TYPE.format(kind)]
    return fields, [*own, *cautions, *said, *chunks]


def _refuse_unread_shapes(config: Config, chain: list[Config], kind: str) -> None:
    """Raise InputError for a key of an unknown network that sounds like a matrix and that nobody read: a count of
    parameters without it would be wrong in silence."""
    if kind in FAMILIES or kind in KNOWN_LLAMAS:
        return
    for key in _unread_keys(chain):
        if SOUNDS_LIKE_A_SHAPE.search(key):
            what = f"model_type {kind} is not known, and neither is the shape that its key `{key}` states"
            because = "what it adds to the parameters cannot be told"
            raise fail(
                config, what, because, "model_type: llama and no such key, where the network is a Llama all the same"
            )


def _refuse_wrong_numbers(config: Config) -> None:
    """Raise InputError for keys of the shape that hold no whole number (or a list of them)."""
    shape = [alias for aliases in _SHAPE.values() for alias in aliases]
    wrong = [key for key in _NUMBERS if key in config.data and not _is_count(config.data[key])]
    wrong += [key for key in shape if config.data.get(key) == 0]
    depths = {key: config.data[key] for key in _SHAPE["num_hidden_layers"] if key in config.data}
    wrong += [key for key, depth in depths.items() if isinstance(depth, int) and depth > MOST_LAYERS]
    if wrong:
        because = f"they give the network its shape; it has at most {MOST_LAYERS:,} layers"
        raise fail(config, f"{', '.join(dict.fromkeys(wrong))} must be whole numbers", because, key=wrong[0])


def _is_count(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_count(item) for item in value)
    return value is False or (type(value) is int and 0 <= value < 10**9)


def _shape(config: Config) -> dict[str, int]:
    found = {field: config.whole(*names) for field, names in _SHAPE.items()}
    missing = [" or ".join(_SHAPE[field]) for field, value in found.items() if value is None]
    if missing:
        raise fail(config, f"missing {', '.join(missing)}", "these fields give the network its shape")
    return {field: value for field, value in found.items() if value is not None}


def _head_dim(config: Config, heads: int, hidden: int) -> int:
    return config.whole("head_dim", "attention_head_dim", "kv_channels") or hidden // heads


def _attention(config: Config, family: Family, heads: int, hidden: int) -> dict[str, object]:
    inner = config.inner("attn_config")
    said = config.flag(*_BIAS)
    bias = said if said is not None else family.qkv_bias
    out_bias = config.flag("attention_out_bias")
    multi_query = config.flag("multi_query")
    if multi_query is None:
        multi_query = family.multi_query
    new_decoder = config.flag("new_decoder_architecture")
    keys = config.whole(*_KEY_HEADS)
    if keys is None and inner is not None:
        keys = inner.whole(*_KEY_HEADS)
    config.get("multi_query_attention")
    if keys is None:
        keys = 1 if multi_query and not new_decoder else heads
    found: dict[str, object] = {
        "num_key_value_heads": keys,
        "head_dim": _head_dim(config, heads, hidden),
        "attention_bias": bias,
        "attention_out_bias": out_bias if out_bias is not None else bias and family.out_bias,
        "attention_sinks": family.sinks,
        "qk_norm": family.qk_norm,
    }
    if config.flag("use_qk_norm", "qk_layernorm", "qk_norm") and family.qk_norm == "none":
        found["qk_norm"] = family.qk_norm_asked
    kind = config.text("qk_norm_type")
    if kind is not None and kind not in ("per_layer", "none"):
        raise fail(config, f"query and key norms `{kind}` are not known (`qk_norm_type`)")
    latent = {key: config.whole(key) for key in _LATENT}
    config.get("use_mla", "qk_head_dim")
    if latent["kv_lora_rank"] is not None:
        found |= latent
        found["v_head_dim"] = latent["v_head_dim"] or hidden // heads
        found["head_dim"] = (latent["qk_nope_head_dim"] or 0) + (latent["qk_rope_head_dim"] or 0) or found["head_dim"]
        found["num_key_value_heads"] = heads
    elif latent["v_head_dim"] not in (None, found["head_dim"]):
        raise fail(config, "values have another head size than keys (`v_head_dim`)")
    return found


def _feed_forward(config: Config, family: Family, hidden: int, layers: int) -> dict[str, object]:
    inner = config.inner("ffn_config") or config.none
    width = config.whole(*_WIDTH) or inner.whole(*_WIDTH)
    dense_width = config.whole("intermediate_size_mlp", "dense_intermediate_size")
    ratio = config.whole("expansion_ratio")
    if width is None and (ratio is not None or not family.gated):
        width = (ratio or 4) * hidden
    experts = config.whole(*_EXPERTS) or inner.whole(*_EXPERTS)
    said = config.flag("mlp_bias", "add_bias_linear", "use_bias", *(("bias",) if not family.gated else ()))
    bias = said if said is not None else family.mlp_bias
    if not experts:
        if width is None:
            raise fail(config, "missing intermediate_size", "it gives the MLP its width")
        width = width // 2 if family.halved_width else width
        return {"intermediate_size": width, "gated_mlp": family.gated, "mlp_bias": bias}
    expert_width = config.whole("moe_intermediate_size", "expert_intermediate_size") or width
    per_token = config.whole(*_PER_TOKEN) or inner.whole(*_PER_TOKEN)
    if expert_width is None or per_token is None:
        lacking = "moe_intermediate_size" if expert_width is None else "num_experts_per_tok"
        raise fail(config, f"missing {lacking}", f"the network has {experts} experts")
    shared = config.whole(*_SHARED_WIDTH)
    if shared is None:
        # One shared expert, as wide as a routed one, is always there in Llama 4, whose file has no key for it.
        shared = (config.whole(*_SHARED) or (dense_width is not None)) * expert_width
    score = config.text("scoring_func", "moe_router_activation_func")
    method = config.text("topk_method")
    correction = config.flag("use_routing_bias")
    if correction is None:
        correction = method == "noaux_tc" if method else family.correction_bias
    return {
        "intermediate_size": dense_width or width or expert_width,
        "gated_mlp": family.gated,
        "mlp_bias": bias,
        "router_bias": family.router_bias,
        "num_experts": experts,
        "num_experts_per_tok": per_token,
        "moe_intermediate_size": expert_width,
        "shared_expert_intermediate_size": shared,
        "shared_expert_gate": family.shared_gate,
        "first_k_dense_replace": _leading_dense_layers(config, layers),
        "scoring_func": score if score in ("softmax", "sigmoid") else family.scoring if score is None else None,
        "norm_topk_prob": config.flag("norm_topk_prob", "moe_renormalize") is not False,
        "routed_scaling_factor": config.real("routed_scaling_factor", "moe_router_scaling_factor") or 1.0,
        "n_group": config.whole("n_group", "num_expert_group") or 1,
        "topk_group": config.whole("topk_group") or 1,
        "router_correction_bias": correction,
    }


def _leading_dense_layers(config: Config, layers: int) -> int:
    """How many leading layers are dense; any other mix of dense and routed layers is refused by its key."""
    key = "mlp_only_layers"
    dense = {layer for layer in config.items(key) if isinstance(layer, int)}
    first = config.whole("first_k_dense_replace", "moe_layer_start_index") or 0
    dense |= set(range(min(layers, first)))
    step = config.whole("decoder_sparse_step") or 1
    if step > 1:
        key = "decoder_sparse_step"
        dense |= {layer for layer in range(layers) if (layer + 1) % step}
    for name in ("moe_layer_freq", "interleave_moe_layer_step", "moe_layer_interval", "moe_layer_frequency"):
        frequency = config.get(name)
        if isinstance(frequency, list):
            key, dense = name, dense | {layer for layer, routed in enumerate(frequency) if not routed}
        elif isinstance(frequency, int) and frequency > 1:
            key, dense = name, dense | {layer for layer in range(layers) if (layer + 1) % frequency}
    kinds = config.items("mlp_layer_types")
    if kinds:
        key, dense = "mlp_layer_types", dense | {layer for layer, kind in enumerate(kinds) if kind == "dense"}
    if dense != set(range(len(dense))):
        because = "only leading dense layers can be planned"
        raise fail(config, f"dense and mixture-of-experts layers alternate (`{key}`)", because)
    return len(dense)


def _details(config: Config, chain: list[Config], family: Family) -> dict[str, object]:
    activation = config.text(*_ACTIVATION) or family.activation
    if activation == "xielu":
        raise fail(config, "the activation xielu has parameters of its own (`hidden_act`)")
    if config.flag("do_layer_norm_before") is False:
        raise fail(config, "norms stand behind attention and MLP (`do_layer_norm_before: false`)")
    ties = [said for each in reversed(chain) if (said := each.flag("tie_word_embeddings")) is not None]
    parallel, norms = family.parallel, family.norms
    said = config.flag("use_parallel_residual", "parallel_attn", "use_parallel_block")
    two = config.flag("new_decoder_architecture") is True and config.whole("num_ln_in_parallel_attn") != 1
    if said is not None:
        parallel = said
        norms = family.parallel_norms if said and family.parallel_norms is not None and not two else norms
    vectors = 1 if config.flag("no_bias") and family.norm == "layernorm" else family.norm_vectors
    return {
        "tie_word_embeddings": ties[0] if ties else family.tied,
        "hidden_act": activation,
        "norm": family.norm,
        "norm_vectors": vectors,
        "norms_per_layer": norms,
        "norm_epsilon": config.real(*_EPSILON),
        "parallel_block": parallel,
        "embedding_norm": family.embedding_norm,
        "head_bias": config.flag("lm_head_bias") or family.head_bias,
        "num_nextn_predict_layers": config.whole(*_FURTHER) or 0,
        "attention_dropout": _dropout(config, family, *_ATTENTION_DROPOUT),
        "hidden_dropout": _dropout(config, family, *_HIDDEN_DROPOUT),
    }


def _dropout(config: Config, family: Family, *names: str) -> float:
    value = config.real(*names)
    return family.dropout if value is None else value


def _vision(outer: Config, chain: list[Config], kind: str, hidden: int) -> tuple[TowerParameters, list[str]]:
    tower = next((found for each in chain if (found := each.inner("vision_config")) is not None), None)
    if tower is None:
        names = outer.items("architectures")
        if len(chain) > 1 and any(str(name).endswith("ForConditionalGeneration") for name in names):
            text = "The file names a network with towers and describes none: the language model alone is counted."
            return TowerParameters(0, 0), [text]
        return TowerParameters(0, 0), []
    count = vision_parameters(outer, tower, outer.text("model_type") or kind, hidden)
    text = f"The vision tower ({sum(count):,} parameters) is counted as weights of the first stage, trained but where "
    said = [text + "`frozen` names it; its activations and its time depend on the images and are not in the figures."]
    return count, said + [f"vision_config: {text}" for text in _unread([tower])]


def _unread_keys(chain: list[Config]) -> list[str]:
    return [key for each in chain for key in each.unread()]


def _unread(chain: list[Config]) -> list[str]:
    """One caution with the keys that were not understood, if any."""
    keys = _unread_keys(chain)
    return [f"Keys of the file that were not understood: {', '.join(keys)}."] if keys else []
