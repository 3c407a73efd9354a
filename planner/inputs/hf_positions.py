"""Positions of a `config.json`: rotary base and scaling, learned tables, ALiBi, and windows of attention."""

from __future__ import annotations

from planner.inputs.hf_families import Family
from planner.inputs.hf_keys import Config, fail

POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "model_max_length")
_SCALINGS = ("llama3", "yarn", "longrope", "linear", "dynamic")
_UNSCALED = ("default", "mrope", "none", "None")
_OPTIONAL = ("low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim")
_KINDS_OF_LAYERS = ("full_attention", "sliding_attention", "chunked_attention")
_LINEAR = "linear_attention"
_LINEAR_SHAPE = (
    *("linear_num_key_heads", "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim"),
    "linear_conv_kernel_dim",
)


def positions(config: Config, family: Family, head_dim: int) -> tuple[dict[str, object], list[str]]:
    """(fields of the architecture, cautions)."""
    longest = config.whole(*POSITIONS)
    alibi = config.flag("alibi")
    attention = config.inner("attn_config")
    if attention is not None and alibi is None:
        alibi = attention.flag("alibi")
    alibi = family.alibi if alibi is None else alibi
    learned = family.learned or (config.flag("learned_pos_emb") is True and not alibi)
    found: dict[str, object] = {
        "max_position_embeddings": longest,
        "alibi": alibi,
        "learned_positions": None if longest is None or not learned else longest + family.extra_positions,
    }
    parameters = _rope_parameters(config)
    scaling, cautions = _scaling(config, parameters, longest)
    rotary = config.whole("rotary_dim")
    outer = config.real("partial_rotary_factor", "rotary_pct", "rope_pct")
    share = parameters.real("partial_rotary_factor") or outer
    base = parameters.real("rope_theta") or config.real("rope_theta", "rotary_emb_base")
    if base is None and attention is not None:
        base = attention.real("rope_theta")
    if alibi or learned:
        return found, cautions
    found["rope_theta"] = base
    found["rope_scaling"] = scaling
    found["partial_rotary_factor"] = share or (rotary / head_dim if rotary else family.rotary)
    return found, cautions


def _rope_parameters(config: Config) -> Config:
    """`rope_parameters` of transformers 5, or the older `rope_scaling`; of layers that attend to everything."""
    found = config.inner("rope_parameters", "rope_scaling")
    config.get("rope_scaling", "rope_parameters")
    if found is None:
        return config.none
    return found.inner(_KINDS_OF_LAYERS[0]) or found


def _scaling(config: Config, rope: Config, longest: int | None) -> tuple[dict[str, object] | None, list[str]]:
    kind = rope.text("rope_type", "type") or "default"
    first = config.whole("original_max_position_embeddings")
    original = rope.whole("original_max_position_embeddings") or first
    if kind == "su":
        kind = "longrope"
    if kind in _UNSCALED:
        return None, []
    if kind not in _SCALINGS:
        return None, [f"rope_scaling.rope_type `{kind}` is not known: launch files carry no rotary scaling."]
    factor = rope.real("factor")
    if original is None and longest is not None:
        original = int(longest / factor) if kind == "linear" and factor else longest
    if factor is None and longest is not None and original:
        factor = longest / original
    if not factor or not original:
        return None, ["rope_scaling has no factor or no first length: launch files carry no rotary scaling."]
    found: dict[str, object] = {
        "rope_type": kind, "factor": factor, "original_max_position_embeddings": original,
    }  # fmt: skip
    found |= {key: value for key in _OPTIONAL if (value := rope.real(key)) is not None}
    return found, []


def windows(config: Config, family: Family, layers: int) -> tuple[dict[str, object], list[str]]:
    """How far layers look, and how many of them look no further. Raises InputError for layers of another kind."""
    switched_on = config.flag("use_sliding_window")
    window, first = config.whole("sliding_window"), config.whole("max_window_layers")
    chunk = config.whole("attention_chunk_size")
    kinds, pattern = config.items("layer_types"), config.get("sliding_window_pattern")
    turned = config.items("no_rope_layers")
    known = (*_KINDS_OF_LAYERS, *((_LINEAR,) if family.linear else ()))
    strange = [kind for kind in kinds if kind not in known and not family.alone]
    if strange:
        raise fail(config, f"the network has layers of another kind (`layer_types`: {strange[0]})")
    if chunk:
        near = sum(1 for kind in kinds if kind == "chunked_attention") if kinds else sum(map(bool, turned))
        near = near if kinds or turned else layers - layers // 4
        text = f"Attention in chunks (attention_chunk_size) is timed as a window of {chunk:,} tokens, which is more."
        return {"sliding_window": chunk, "sliding_window_layers": min(near, layers)}, [text] if near else []
    if not window or switched_on is False or (family.window_asked and not switched_on):
        return {"sliding_window": None, "sliding_window_layers": 0}, []
    if kinds:
        near = sum(kind == "sliding_attention" for kind in kinds)
    elif isinstance(pattern, str) and pattern:
        near = sum(pattern[layer % len(pattern)] == "L" for layer in range(layers))
    elif first is not None and switched_on:
        near = max(0, layers - first)
    else:
        period = pattern if type(pattern) is int else family.window_period
        near = layers - layers // period if period > 0 else layers
    return {"sliding_window": window, "sliding_window_layers": near}, []


def linear_layers(config: Config, family: Family, layers: int) -> dict[str, object]:
    """Which layers have linear attention, and its shape; nothing of networks without such layers. Raises InputError for
    another order of layers than the last of each so many attending."""
    if not family.linear:
        return {}
    kinds, said = config.items("layer_types"), config.whole("full_attention_interval")
    full = [place + 1 for place, kind in enumerate(kinds) if kind != _LINEAR]
    interval = full[0] if full else said or family.linear
    whole = kinds in ([], [_kind(place, interval) for place in range(layers)])
    if not whole or layers % interval or said not in (None, interval):
        because = "only layers of which the last of each so many attends can be planned"
        raise fail(config, "layers of linear and of full attention alternate in no such order (`layer_types`)", because)
    config.get("mamba_ssm_dtype", "attn_output_gate", "output_gate_type", "mlp_only_layers")
    shape = {name: config.whole(name) for name in _LINEAR_SHAPE}
    return {"full_attention_interval": interval, **shape, "attn_output_gate": True}


def _kind(place: int, interval: int) -> str:
    """The kind of the layer at that place, counted from 0."""
    return _LINEAR if (place + 1) % interval else _KINDS_OF_LAYERS[0]
