"""Pinned host memory: torch gives each pinned tensor the next power of two of its bytes, and keeps what is freed.

    rounded(b) = 2^ceil(log2 b)

Source: torch 2.13.0 ATen/core/CachingHostAllocator.h, lines 300 to 310 (pinned_max_round_threshold has no limit by
default, c10/core/AllocatorConfig.h line 361).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from planner.costs.memory.stage_parameters import StageParameters
from planner.formulas.matrices import attention_matrices
from planner.formulas.parameters import LATENTS
from planner.problem.layouts import Floats
from planner.schema.catalog import Architecture

Pinned = Literal["tensors", "buffers"]
"""Each weight a pinned tensor of its own, or all of one kind (dense, experts) of a model chunk in one."""


def rounded(size: Floats) -> Floats:
    """What torch takes for one pinned tensor; nothing for none. [bytes]"""
    some = np.maximum(np.asarray(size, dtype=float), 1.0)
    return np.where(np.asarray(size) > 0, np.exp2(np.ceil(np.log2(some))), 0.0)


def added_by_rounding(stage: StageParameters, parameters: tuple[Floats, Floats], each: float, pinned: Pinned) -> Floats:
    """What rounding adds to so many (dense, expert) parameters of one rank with `each` bytes a parameter. [bytes]

    One tensor a weight: the mix of the network's matrices stands for the stage's, and a piece that the edge of a shard
    cuts counts as its whole tensor does. Vectors are left out.
    """
    if pinned == "buffers":
        chunks = stage.layouts.virtual_pipeline
        held = [np.asarray(many) * each for many in parameters]
        return np.asarray(sum(chunks * rounded(one / chunks) - one for one in held))
    shares = (_added_share(stage, each, experts=experts) for experts in (False, True))
    return np.asarray(sum(many * each * share for many, share in zip(parameters, shares, strict=True)))


def _added_share(stage: StageParameters, each: float, *, experts: bool) -> Floats:
    """Bytes that rounding adds over bytes that were asked for, of the dense part or of the routed experts."""
    lay = stage.layouts
    cut = lay.expert_tensor_parallel if experts else lay.tensor_parallel
    asked, taken = np.zeros(np.shape(cut)), np.zeros(np.shape(cut))
    for elements, count, whole in weight_matrices(stage.problem.architecture, experts=experts):
        size = elements * each / (1 if whole else cut)
        asked, taken = asked + count * size, taken + count * rounded(np.broadcast_to(size, np.shape(cut)))
    return np.asarray(taken / np.maximum(asked, 1.0) - (asked > 0))


def weight_matrices(architecture: Architecture, *, experts: bool) -> Iterator[tuple[int, int, bool]]:
    """(elements, how many in the network, whole on each tensor-parallel rank) of the matrices as Megatron holds them.

    Query, key and value are one, gate and up are one, each routed expert has two of its own.
    """
    a = architecture
    fused = 2 if a.gated_mlp else 1
    routed = a.num_hidden_layers - a.first_k_dense_replace if a.is_moe else 0
    if experts:
        width, count = a.moe_intermediate_size or 0, routed * (a.num_experts or 0)
        yield from ((fused * width * a.hidden_size, count, False), (width * a.hidden_size, count, False))
        return
    named = attention_matrices(a)
    # Of latent attention every matrix is one of its own; its last has two names.
    latent = [name for name in named if name != "linear_proj"]
    for name in latent if a.kv_lora_rank is not None else ("linear_qkv", "linear_proj"):
        rows, columns = named[name]
        yield rows * columns, a.num_hidden_layers, name in LATENTS
    for width, count in (
        (a.intermediate_size, a.num_hidden_layers - routed),
        (a.shared_expert_intermediate_size, routed),
    ):
        if width and count:
            yield from ((fused * width * a.hidden_size, count, False), (width * a.hidden_size, count, False))
    yield a.vocab_size * a.hidden_size, 1 if a.tie_word_embeddings else 2, False
