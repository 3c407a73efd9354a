"""Seconds of running single modules of a layer forward once more (selective recomputation)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planner.costs.time.layer import LayerTime
from planner.problem.layouts import Floats
from planner.units import US_PER_S


def _attention(layer: LayerTime, moe_layer: bool) -> Floats:
    return layer.attention("forward")


def _norms(layer: LayerTime, moe_layer: bool) -> Floats:
    return layer.norms("forward")


def _mlp(layer: LayerTime, moe_layer: bool) -> Floats:
    """Of dense layers only."""
    if moe_layer:
        return np.zeros(np.shape(layer.tokens))
    width = layer.problem.architecture.intermediate_size
    return layer.mlp_products("forward", moe_layer=False) + layer.activation("forward", width)


def _experts(layer: LayerTime, moe_layer: bool) -> Floats:
    """The whole expert layer: both exchanges, permutations and products, or its launches, and a wait for counts.

    Source: Megatron-LM @d98e8a64 megatron/core/transformer/moe/moe_layer.py lines 650 to 716 (route, shared experts,
    dispatch, experts and combine under one checkpoint, which runs them again).
    """
    if not moe_layer:
        return np.zeros(np.shape(layer.tokens))
    busy = layer.mlp_products("forward", moe_layer=True) + layer.mlp_elementwise("forward", moe_layer=True)
    busy = busy + layer.expert_collectives()
    timing = layer.problem.engine.timing
    launched = timing.launched_share * timing.expert_host_us / US_PER_S
    return np.asarray(np.maximum(busy, launched) + timing.expert_sync_us / US_PER_S)


def _expert_activation(layer: LayerTime, moe_layer: bool) -> Floats:
    a = layer.problem.architecture
    return layer.activation("forward", float(moe_layer) * (a.num_experts_per_tok or 0) * (a.moe_intermediate_size or 0))


def _shared_experts(layer: LayerTime, moe_layer: bool) -> Floats:
    a, tp = layer.problem.architecture, layer.layouts.tensor_parallel
    width = a.shared_expert_intermediate_size * float(moe_layer)
    if not width:
        return np.zeros(np.shape(layer.tokens))
    wide, hidden = (2 if a.gated_mlp else 1), np.asarray(a.hidden_size)
    up = layer.kernels.linear(tokens=layer.tokens, out=wide * width / tp, into=hidden, which="forward")
    down = layer.kernels.linear(tokens=layer.tokens, out=hidden, into=width / tp, which="forward")
    return up + down + layer.activation("forward", width)


def _latent_up(layer: LayerTime, moe_layer: bool) -> Floats:
    a, tp = layer.problem.architecture, layer.layouts.tensor_parallel
    up = a.num_attention_heads * ((a.qk_nope_head_dim or 0) + (a.v_head_dim or 0))
    sides = [(up, a.kv_lora_rank or 0), (a.query_width, a.q_lora_rank or 0)]
    seconds = np.zeros(np.shape(layer.tokens))
    for out, into in sides:
        if a.is_mla and into:
            one = layer.kernels.linear(tokens=layer.tokens, out=out / tp, into=np.asarray(into), which="forward")
            seconds = seconds + one
    return seconds


def _every_other_product(layer: LayerTime, moe_layer: bool) -> Floats:
    """torchtitan's `op`: all but what its list keeps, which is attention and every other matrix product."""
    products = layer.mlp_products("forward", moe_layer=moe_layer) + layer.attention_products("forward")
    return products / 2 + layer.elementwise("forward", moe_layer=moe_layer)


MODULES: dict[str, Callable[[LayerTime, bool], Floats]] = {
    "core_attn": _attention,
    "layernorm": _norms,
    "mlp": _mlp,
    "moe": _experts,
    "moe_act": _expert_activation,
    "shared_experts": _shared_experts,
    "mla_up_proj": _latent_up,
    "op": _every_other_product,
}
"""By the names that engine files give them; a test asks that every name has its function."""


def selective_seconds(layer: LayerTime, *, moe_layer: bool) -> Floats:
    """One more forward pass of the scenario's modules of one usual layer and micro-batch. [s]

    Source: Megatron-LM core/transformer/transformer_config.py, recompute_modules; torchtitan
    distributed/activation_checkpoint.py, selective op.
    """
    seconds = np.zeros(np.shape(layer.tokens))
    for name in layer.problem.scenario.layout.recompute_modules:
        seconds = seconds + MODULES[name](layer, moe_layer)
    return seconds
