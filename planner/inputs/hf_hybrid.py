"""Layers of one block alone in a `config.json` (Nemotron-H): which block each has, and the shape of Mamba-2."""

from __future__ import annotations

from planner.inputs.hf_families import Family
from planner.inputs.hf_keys import Config, fail

_LETTERS = {
    "mamba": "M",
    "linear_attention": "M",
    "attention": "*",
    "full_attention": "*",
    "mlp": "-",
    "moe": "E",
}
"""What transformers 5.23.0 and older files call the blocks (models/nemotron_h/configuration_nemotron_h.py)."""
_SHAPE = {
    "mamba_num_heads": ("mamba_num_heads",),
    "mamba_head_dim": ("mamba_head_dim",),
    "ssm_state_size": ("ssm_state_size",),
    "mamba_n_groups": ("mamba_n_groups", "n_groups"),
    "mamba_conv_kernel": ("mamba_d_conv", "conv_kernel"),
    "mamba_chunk_size": ("mamba_chunk_size", "chunk_size"),
}
_UNCOUNTED = {
    "residual_in_fp32": "a residual stream in fp32",
    "mamba_proj_bias": "biases in Mamba-2",
    "use_bias": "biases in Mamba-2",
}
"""Keys that, set, give such a network tensors that are not counted."""
_NEVER_MATTERS = (
    *("expand", "time_step_floor", "time_step_limit", "time_step_max", "time_step_min", "time_step_rank"),
    *("rescale_prenorm_residual", "use_mamba_kernels", "num_logits_to_keep", "mamba_hidden_act"),
    *("mamba_ssm_cache_dtype", "moe_shared_expert_overlap", "mamba_dt_limit", "mtp_hybrid_override_pattern"),
    *("n_shared_experts", "moe_latent_size", "mtp_layers_block_type"),
)


def hybrid_layers(config: Config, family: Family) -> dict[str, object]:
    """The pattern of layers and the shape of Mamba-2; nothing of other networks. Raises InputError for a block or a
    part that is not counted."""
    if not family.alone:
        return {}
    pattern, blocks = config.text("hybrid_override_pattern"), config.items("layers_block_type", "layer_types")
    if pattern is None:
        strange = [block for block in blocks if block not in _LETTERS]
        if strange or not blocks:
            what = f"block {strange[0]}" if strange else "missing hybrid_override_pattern or layers_block_type"
            raise fail(config, f"{what} (`layers_block_type`)", "it says which block each layer has")
        pattern = "".join(_LETTERS[str(block)] for block in blocks)
    for key, meaning in _UNCOUNTED.items():
        if config.flag(key):
            raise fail(config, f"the network has {meaning} (`{key}`)", "its tensors are not counted")
    if config.flag("use_conv_bias", "mamba_conv_bias") is False:
        raise fail(config, "the convolution has no bias (`use_conv_bias`)", "only one with a bias is counted")
    config.get(*_NEVER_MATTERS)
    shape = {field: config.whole(*names) for field, names in _SHAPE.items()}
    return {"hybrid_override_pattern": pattern, **shape, "no_positions": True}
