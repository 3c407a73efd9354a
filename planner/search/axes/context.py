"""Context parallelism: a sequence cut over ranks."""

from __future__ import annotations

import numpy as np

from planner.problem.choices import choose, divisors
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.search.axes.rule import Mask, Rule

SHORTEST_TOKENS = 1024
"""Degrees that leave a rank fewer tokens than this are not tried unless the scenario names them."""
YARN_POSITIONS = 4096
"""Positions of Megatron's yarn cache."""


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: divisors of the GPU count that leave each rank at least 1,024 tokens."""
    longest = max(w.sequence_length for w in problem.wishes)
    usual = divisors(num_gpus, max(1, longest // SHORTEST_TOKENS)) if problem.engine.context_parallel else [1]
    return choose(problem.scenario.layout.context_parallel, usual)


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.context_parallel == 1) | problem.engine.context_parallel)


def _sequence(problem: Problem, layouts: Layouts) -> Mask:
    cp = layouts.context_parallel
    return np.asarray((cp == 1) | (layouts.sequence_length % (2 * cp) == 0))


def _heads(problem: Problem, layouts: Layouts) -> Mask:
    a, cp = problem.architecture, layouts.context_parallel
    local = np.maximum(a.num_key_value_heads // layouts.tensor_parallel, 1)
    whole = a.num_attention_heads % (layouts.tensor_parallel * cp) == 0
    return np.asarray((cp == 1) | (whole & (local % cp == 0)))


def _copied_heads(problem: Problem, layouts: Layouts) -> Mask:
    a, cp = problem.architecture, layouts.context_parallel
    kv = a.num_key_value_heads
    return np.asarray((a.num_attention_heads % cp == 0) & ((kv % cp == 0) | (cp % kv == 0)))


def _balanced_halves(problem: Problem, layouts: Layouts) -> Mask:
    cp = layouts.context_parallel
    return np.asarray(layouts.sequence_length % (layouts.tensor_parallel * np.where(cp > 1, 2 * cp, 1)) == 0)


def _yarn_positions(problem: Problem, layouts: Layouts) -> Mask:
    a, cp = problem.architecture, layouts.context_parallel
    stretched = a.is_mla and a.rope_scaling is not None and a.rope_scaling.rope_type == "yarn"
    return np.asarray((cp == 1) | (not stretched) | (YARN_POSITIONS % (2 * cp) == 0))


def _positions(problem: Problem, layouts: Layouts) -> Mask:
    rows = problem.architecture.learned_positions
    return np.asarray((rows is None) | (layouts.sequence_length <= (rows or 0)))


RULES = (
    Rule(
        "context_parallel_supported",
        "context_parallel above 1 needs context parallelism in the engine",
        _supported,
        "catalogs/engines, context_parallel",
        by_engine=True,
    ),
    Rule(
        "positions_hold_sequence",
        "sequence_length is at most the number of learned positions",
        _positions,
        "Megatron-LM megatron/training/arguments.py:1314 (max_position_embeddings >= seq_length)",
    ),
)
ENGINE_RULES = (
    Rule(
        "sequence_divides_context",
        "sequence_length is a multiple of 2 * context_parallel",
        _sequence,
        "Megatron-LM megatron/training/arguments.py:1296",
    ),
    Rule(
        "positions_divide_context",
        f"with latent attention in yarn positions, {YARN_POSITIONS} is a multiple of 2 * context_parallel",
        _yarn_positions,
        "Megatron-LM core/models/common/embeddings/yarn_rotary_pos_embedding.py: the cache of "
        "original_max_position_embeddings (4096, no flag) is cut over context ranks",
    ),
    Rule(
        "heads_divide_context",
        "by all-to-all, each context rank takes whole heads: those of a tensor rank are a multiple of context_parallel",
        _heads,
        "Jacobs et al. 2023, arXiv:2309.14509; Transformer Engine AttnFuncWithCPAndQKVOA2A, key and value heads too",
    ),
    Rule(
        "heads_divide_ulysses",
        "num_attention_heads is a multiple of context_parallel; num_key_value_heads and it divide one another",
        _copied_heads,
        "verl models/transformers/monkey_patch.py:333-336 @b178a3cd",
    ),
    Rule(
        "sequence_divides_tensor_context",
        "sequence_length is a multiple of tensor_parallel, times 2 * context_parallel where that is above 1",
        _balanced_halves,
        "torchtitan trainer.py:300-316 (0.3.0)",
    ),
)
