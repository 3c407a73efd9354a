"""Floating-point operations that a network needs for one trained token, whatever an engine computes again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from planner.formulas.parameters import ArchitectureParameters, lora_parameters

if TYPE_CHECKING:
    from planner.schema.catalog import Architecture

CONVENTION = "attention in full, frozen weights 4 FLOP a parameter and token, recomputation left out"
"""What `model_flop_per_token` counts, in words."""


def model_flop_per_token(
    architecture: Architecture,
    parameters: ArchitectureParameters,
    sequence_length: float,
    *,
    frozen: bool = False,
    trained_head: bool = True,
    adapter_parameters: int = 0,
) -> float:
    """Model FLOP of forward and backward pass for one token. [FLOP]

        6 N + 12 L a d s        N: parameters that a token meets in products (no input embedding), L layers that attend,
                                a d: width of the queries, s: tokens of its sequence (attention counted in full)
        + 18 M n k v            M layers with linear attention, n states of k times v: read for the key, written, read
                                for the query
        + 12 M w N              M layers of Mamba-2, w channels of N numbers each: written and read
        4 N + 6 n + 12 L a d s  where N is frozen under n parameters of adapters: a frozen weight has no gradient of its
                                own, so that its backward pass is one product and not two
        + 2 V h                 where the head is trained whole beside adapters

    Source: Chowdhery et al. 2022, arXiv:2204.02311, appendix B; the frozen case follows from counting the products.
    """
    used = parameters.active_per_token - parameters.embedding - parameters.beside_embedding
    used += parameters.embedding if architecture.tie_word_embeddings else 0
    attention = 12 * architecture.full_attention_layers * architecture.query_width * sequence_length
    state = (architecture.linear_key_head_dim or 0) * architecture.linear_value_width
    attention += 18 * architecture.linear_layers * state
    attention += 12 * architecture.mamba_layers * architecture.mamba_width * (architecture.ssm_state_size or 0)
    if not frozen:
        return float(6 * used + attention)
    head = 2 * architecture.vocab_size * architecture.hidden_size if trained_head else 0
    return float(4 * used + head + 6 * adapter_parameters + attention)


def adapter_parameters_met(architecture: Architecture, rank: int, targets: Iterable[str]) -> int:
    """Parameters of adapters that one token meets: of routed experts those that it visits. [elements]"""
    visited = architecture
    if architecture.is_moe:
        visited = architecture.model_copy(update={"num_experts": architecture.num_experts_per_tok})
    return lora_parameters(visited, rank, tuple(targets))
