"""Tensor parallelism, and the sequence parallelism that goes with it."""

from __future__ import annotations

import numpy as np

from planner.cluster.cluster import Cluster
from planner.problem.choices import choose, divisors
from planner.problem.layouts import Layouts, distinct
from planner.problem.problem import Problem
from planner.search.axes.rule import Mask, Rule

FP8_ROWS = 8
"""Rows of a weight come in multiples of this for products in fp8."""


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: divisors of the GPU count up to the number of heads."""
    usual = divisors(num_gpus, problem.architecture.num_attention_heads) if problem.engine.tensor_parallel else [1]
    return choose(problem.scenario.layout.tensor_parallel, usual)


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.tensor_parallel == 1) | problem.engine.tensor_parallel)


def _heads(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(problem.architecture.num_attention_heads % layouts.tensor_parallel == 0)


def _kv_heads(problem: Problem, layouts: Layouts) -> Mask:
    kv, tp = problem.architecture.num_key_value_heads, layouts.tensor_parallel
    return np.asarray((kv % tp == 0) | (tp % kv == 0))


def _projections(problem: Problem, layouts: Layouts) -> Mask:
    a = problem.architecture
    width = (a.num_attention_heads + 2 * a.num_key_value_heads) * a.head_dim
    return np.asarray(a.is_mla | (width % layouts.tensor_parallel == 0))


def _linear_heads(problem: Problem, layouts: Layouts) -> Mask:
    a, ranks = problem.architecture, layouts.tensor_parallel * layouts.context_parallel
    keys, values = a.linear_num_key_heads or 0, a.linear_num_value_heads or 0
    return np.asarray((not a.is_linear) | ((keys % ranks == 0) & (values % ranks == 0)))


def _fp8_projection(problem: Problem, layouts: Layouts) -> Mask:
    a = problem.architecture
    width = 2 * a.linear_key_width + 2 * a.linear_value_width + 2 * (a.linear_num_value_heads or 0)
    whole = width % (FP8_ROWS * layouts.tensor_parallel) == 0
    return np.asarray(whole | (problem.precision.compute != "fp8") | (not a.is_linear))


def _vocabulary(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(problem.architecture.vocab_size % layouts.tensor_parallel == 0)


def _whole_kv_heads(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(problem.architecture.num_key_value_heads % layouts.tensor_parallel == 0)


def _sequence(problem: Problem, layouts: Layouts) -> Mask:
    local = layouts.sequence_length // layouts.context_parallel
    return np.asarray((layouts.sequence_parallel == 0) | (local % layouts.tensor_parallel == 0))


def _asked_sequence_parallel(problem: Problem, layouts: Layouts) -> Mask:
    asked = problem.scenario.layout.sequence_parallel
    return np.asarray((layouts.tensor_parallel == 1) | (asked is None) | (layouts.sequence_parallel == asked))


def _overlap(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.sequence_parallel == 1)


def _inside_domain(problem: Problem, layouts: Layouts) -> Mask:
    keep = np.ones(len(layouts), dtype=bool)
    for gpus, tp in distinct(layouts.num_gpus, layouts.tensor_parallel)[0]:
        if not stays_inside(problem, gpus, tp):
            keep &= (layouts.num_gpus != gpus) | (layouts.tensor_parallel != tp)
    return np.asarray(keep)


def stays_inside(problem: Problem, num_gpus: int, ranks: int) -> bool:
    """May a tensor-parallel group have so many ranks under limits.tensor_parallel_inside_domain."""
    free = ranks == 1 or not problem.scenario.limits.tensor_parallel_inside_domain
    return free or (ranks <= num_gpus and _one_domain(problem.clusters[num_gpus], ranks))


def _one_domain(cluster: Cluster, tensor_parallel: int) -> bool:
    """Every tensor-parallel group on direct links of one node; on PCIe only where the node has nothing better."""
    group = cluster.group(tensor_parallel, 1)
    slow = group.slowest is not None and group.slowest.kind in ("pcie", "socket")
    return group.inside_domain and not (slow and cluster.inner.direct)


RULES = (
    Rule(
        "tensor_parallel_supported",
        "tensor_parallel above 1 needs tensor parallelism in the engine",
        _supported,
        "catalogs/engines, tensor_parallel",
        by_engine=True,
    ),
    Rule(
        "sequence_parallel_chosen",
        "with tensor_parallel above 1, sequence_parallel is what the scenario asks for, where the engine has it so",
        _asked_sequence_parallel,
        "catalogs/engines, sequence_parallel",
        by_engine=True,
    ),
    Rule(
        "tensor_parallel_inside_domain",
        "a tensor-parallel group stays inside one NVLink domain, or one host where there is no NVLink "
        "(limits.tensor_parallel_inside_domain)",
        _inside_domain,
        "docs/scenario.md, limits",
    ),
)
ENGINE_RULES = (
    Rule(
        "heads_divide_tensor",
        "num_attention_heads is a multiple of tensor_parallel",
        _heads,
        "Megatron-LM core/transformer/transformer_config.py:1323",
    ),
    Rule(
        "kv_heads_divide_tensor",
        "num_key_value_heads and tensor_parallel divide one another",
        _kv_heads,
        "Megatron-LM core/transformer/transformer_config.py:1338",
    ),
    Rule(
        "projections_divide_tensor",
        "the width of queries, keys and values together is a multiple of tensor_parallel",
        _projections,
        "Transformer Engine 2.17.1 pytorch/module/layernorm_linear.py: divide(out_features, tp_size)",
    ),
    Rule(
        "linear_heads_divide",
        "key and value heads of linear attention are a multiple of tensor_parallel times context_parallel",
        _linear_heads,
        "Megatron-LM core/transformer/transformer_config.py:1374-1382",
    ),
    Rule(
        "fp8_projection_divides",
        "in fp8, the projection into linear attention leaves each tensor-parallel rank a multiple of 8 rows",
        _fp8_projection,
        "TransformerEngine @d0067d0da transformer_engine/pytorch/utils.py:614-624, asked of the weight in "
        "module/layernorm_linear.py:184",
    ),
    Rule(
        "vocabulary_divides_tensor",
        "vocab_size, which is not padded, is a multiple of tensor_parallel",
        _vocabulary,
        "Megatron-LM core/tensor_parallel/utils.py:118; Megatron-Bridge models/gpt_provider.py:183 @8c46dc42",
    ),
    Rule(
        "kv_heads_multiple_of_tensor",
        "num_key_value_heads, and so num_attention_heads, is a multiple of tensor_parallel",
        _whole_kv_heads,
        "torchtitan models/common/decoder.py:195 @b5bcd76c; nanotron models/llama.py, CausalSelfAttention; "
        "Megatron-DeepSpeed megatron/model/transformer.py, ParallelAttention",
    ),
    Rule(
        "sequence_divides_tensor",
        "with sequence parallelism, the tokens of one context rank are a multiple of tensor_parallel",
        _sequence,
        "Megatron-LM core/tensor_parallel/mappings.py:74",
    ),
    Rule(
        "overlap_needs_sequence_parallel",
        "tp_comm_overlap needs tensor_parallel above 1 with sequence parallelism",
        _overlap,
        "Megatron-LM megatron/training/arguments.py:1401",
    ),
)
