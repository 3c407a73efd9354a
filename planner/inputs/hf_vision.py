"""Parameters of vision towers and their projectors, from the `vision_config` of a `config.json`.

Source: modelling code of transformers 5.23.0 (qwen2_5_vl, qwen3_vl, qwen3_5, siglip with gemma3, llama4, pixtral with
mistral3); each formula equals the count of the whole published model in tests/inputs/hf_configs.json.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from planner.inputs.hf_keys import Config, fail


class TowerParameters(NamedTuple):
    """Parameters of a vision tower. [elements]"""

    tower: int
    """All but the projector."""
    projector: int
    """What turns its patches into tokens of the language model: a merger with those of deeper layers, or matrices."""


def vision_parameters(outer: Config, tower: Config, kind: str, hidden_size: int) -> TowerParameters:
    """Parameters of the tower and its projector into `hidden_size`. [elements]

    Raises InputError, which names `vision_config`, for a tower that is not known.
    """
    if kind not in _TOWERS:
        because = f"towers are counted for {', '.join(sorted(_TOWERS))}"
        attempt = "planner model import FILE --text-only plans the language model alone"
        raise fail(outer, f"the vision tower of `{kind}` is not known (`vision_config`)", because, attempt)
    return _TOWERS[kind](outer, tower, hidden_size)


def _need(config: Config, name: str, default: int | None = None) -> int:
    value = config.whole(name)
    if value is None and default is None:
        raise fail(config, f"missing vision_config.{name}", "it gives the vision tower its shape")
    return value if value is not None else default or 0


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _qwen2_5(outer: Config, tower: Config, hidden_size: int) -> TowerParameters:
    h, f = _need(tower, "hidden_size", 1280), _need(tower, "intermediate_size", 3420)
    depth, merge = _need(tower, "depth", 32), _need(tower, "spatial_merge_size", 2) ** 2
    tower.get("out_hidden_size", "num_heads", "hidden_act", "num_attention_heads")
    pixels = _need(tower, "temporal_patch_size", 2) * _need(tower, "patch_size", 14) ** 2
    patches = (tower.whole("in_chans", "in_channels") or 3) * pixels * h
    block = 2 * h + _linear(h, 3 * h) + _linear(h, h) + 2 * _linear(h, f) + _linear(f, h)
    merger = h + _linear(h * merge, h * merge) + _linear(h * merge, hidden_size)
    return TowerParameters(patches + depth * block, merger)


def _qwen3(outer: Config, tower: Config, hidden_size: int) -> TowerParameters:
    h, f = _need(tower, "hidden_size", 1152), _need(tower, "intermediate_size", 4304)
    depth, merge = _need(tower, "depth", 27), _need(tower, "spatial_merge_size", 2) ** 2
    tower.get("out_hidden_size", "num_heads", "hidden_act")
    pixels = _need(tower, "temporal_patch_size", 2) * _need(tower, "patch_size", 16) ** 2
    patches = _linear(_need(tower, "in_channels", 3) * pixels, h) + _need(tower, "num_position_embeddings", 2304) * h
    block = 4 * h + _linear(h, 3 * h) + _linear(h, h) + _linear(h, f) + _linear(f, h)
    wide = h * merge
    merger = _linear(wide, wide) + _linear(wide, hidden_size)
    deep = len(tower.items("deepstack_visual_indexes"))
    return TowerParameters(patches + depth * block, (2 * h + merger) + deep * (2 * wide + merger))


def _siglip(outer: Config, tower: Config, hidden_size: int) -> TowerParameters:
    h, f = _need(tower, "hidden_size"), _need(tower, "intermediate_size")
    patch = _need(tower, "patch_size")
    tower.get("num_attention_heads", "hidden_act", "layer_norm_eps", "attention_dropout")
    positions = (_need(tower, "image_size") // patch) ** 2
    block = 4 * h + 4 * _linear(h, h) + _linear(h, f) + _linear(f, h)
    head = 0
    if tower.flag("vision_use_head") is not False:  # a probe, attention over it, a norm and an MLP
        head = h + 4 * _linear(h, h) + 2 * h + _linear(h, f) + _linear(f, h)
    embeddings = _linear((tower.whole("num_channels") or 3) * patch**2, h) + positions * h
    return TowerParameters(embeddings + _need(tower, "num_hidden_layers") * block + 2 * h + head, h * hidden_size + h)


def _llama4(outer: Config, tower: Config, hidden_size: int) -> TowerParameters:
    h, f = _need(tower, "hidden_size"), _need(tower, "intermediate_size")
    patch = _need(tower, "patch_size")
    tower.get("num_attention_heads", "hidden_act", "norm_eps", "attention_dropout", "rope_theta", "rope_parameters")
    tower.get("projector_dropout", "vision_feature_select_strategy", "multi_modal_projector_bias")
    shuffle = tower.real("pixel_shuffle_ratio") or 0.5
    positions = (_need(tower, "image_size") // patch) ** 2 + 1
    block = 4 * h + 4 * _linear(h, h) + _linear(h, f) + _linear(f, h)
    wide, out = _need(tower, "projector_input_dim"), _need(tower, "projector_output_dim")
    adapter = _linear(int(h / shuffle**2), wide, bias=False) + _linear(wide, out, bias=False)
    patches = (tower.whole("num_channels") or 3) * patch**2 * h + h + positions * h + 4 * h
    return TowerParameters(
        patches + _need(tower, "num_hidden_layers") * block + adapter, _need(tower, "vision_output_dim") * hidden_size
    )


def _pixtral(outer: Config, tower: Config, hidden_size: int) -> TowerParameters:
    h, f = _need(tower, "hidden_size"), _need(tower, "intermediate_size")
    tower.get("num_attention_heads", "head_dim", "hidden_act", "image_size", "attention_dropout", "rope_theta")
    tower.get("rope_parameters")
    outer.get("projector_hidden_act")
    patches = (tower.whole("num_channels") or 3) * _need(tower, "patch_size") ** 2 * h + h
    block = 2 * h + 4 * h * h + 3 * h * f
    bias = bool(outer.flag("multimodal_projector_bias"))
    merge = (outer.whole("spatial_merge_size") or 2) ** 2
    projector = h + h * merge * h + _linear(h, hidden_size, bias=bias) + _linear(hidden_size, hidden_size, bias=bias)
    return TowerParameters(patches + _need(tower, "num_hidden_layers") * block, projector)


_TOWERS: dict[str, Callable[[Config, Config, int], TowerParameters]] = {
    "gemma3": _siglip,
    "llama4": _llama4,
    "mistral3": _pixtral,
    "qwen2_5_vl": _qwen2_5,
    "qwen3_5": _qwen3,
    "qwen3_5_moe": _qwen3,
    "qwen3_vl": _qwen3,
    "qwen3_vl_moe": _qwen3,
}
"""By the model_type of the whole model."""
