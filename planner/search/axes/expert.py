"""Expert parallelism and expert tensor parallelism of architectures with routed experts."""

from __future__ import annotations

import numpy as np

from planner.problem.choices import choose, divisors
from planner.problem.layouts import Layouts, distinct
from planner.problem.problem import Problem
from planner.search.axes.rule import Mask, Rule
from planner.search.axes.tensor import stays_inside


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: common divisors of the expert count and the GPU count."""
    a = problem.architecture
    if not a.is_moe or not problem.engine.expert_parallel:
        return choose(problem.scenario.layout.expert_parallel, [1])
    return choose(
        problem.scenario.layout.expert_parallel,
        [d for d in divisors(a.num_experts or 1, num_gpus) if num_gpus % d == 0],
    )


def tensor_candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Expert tensor parallelism tried: divisors of the experts' width whose group stays where a tensor one may."""
    usual = [1]
    if problem.architecture.is_moe and problem.engine.expert_parallel:
        width = problem.architecture.moe_intermediate_size or 1
        usual = [d for d in divisors(num_gpus, width) if width % d == 0 and stays_inside(problem, num_gpus, d)]
    return choose(problem.scenario.layout.expert_tensor_parallel, usual)


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    none = (layouts.expert_parallel == 1) & (layouts.expert_tensor_parallel == 1)
    return np.asarray(none | (problem.engine.expert_parallel and problem.architecture.is_moe))


def _divides(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((problem.architecture.num_experts or layouts.expert_parallel) % layouts.expert_parallel == 0)


def _grid(problem: Problem, layouts: Layouts) -> Mask:
    cut = layouts.expert_parallel * layouts.expert_tensor_parallel
    ranks = layouts.tensor_parallel * layouts.context_parallel * layouts.data_parallel
    return np.asarray(ranks % cut == 0)


def _neighbouring_stages(problem: Problem, layouts: Layouts) -> Mask:
    usual = problem.scenario.cluster.rank_order == "default"
    # A dense network has an expert grid too: one expert rank, cut over the tensor-parallel ranks.
    experts = layouts.expert_parallel * layouts.expert_tensor_parallel
    cut = experts if problem.architecture.is_moe else layouts.tensor_parallel
    same = cut == layouts.tensor_parallel * layouts.context_parallel
    return np.asarray(usual | (layouts.pipeline_parallel == 1) | same)


def _width(problem: Problem, layouts: Layouts) -> Mask:
    width = problem.architecture.moe_intermediate_size or 1
    return np.asarray((not problem.architecture.is_moe) | (width % layouts.expert_tensor_parallel == 0))


def _inside_domain(problem: Problem, layouts: Layouts) -> Mask:
    keep = np.ones(len(layouts), dtype=bool)
    for gpus, etp in distinct(layouts.num_gpus, layouts.expert_tensor_parallel)[0]:
        if not stays_inside(problem, gpus, etp):
            keep &= (layouts.num_gpus != gpus) | (layouts.expert_tensor_parallel != etp)
    return np.asarray(keep)


def _sequence_parallel(problem: Problem, layouts: Layouts) -> Mask:
    dense = not problem.architecture.is_moe
    return np.asarray(dense | (layouts.tensor_parallel == 1) | (layouts.sequence_parallel == 1))


def _bias(problem: Problem, layouts: Layouts) -> Mask:
    biased = problem.architecture.is_moe and problem.architecture.mlp_bias
    return np.asarray((layouts.expert_tensor_parallel == 1) | (not biased))


def _one_or_all(problem: Problem, layouts: Layouts) -> Mask:
    cut = layouts.expert_tensor_parallel
    return np.asarray((cut == 1) | (cut == layouts.tensor_parallel))


def _dispatched(problem: Problem, layouts: Layouts) -> Mask:
    several = layouts.expert_parallel * layouts.expert_tensor_parallel > 1
    return np.asarray(several | (not problem.architecture.is_moe))


def _overlap_experts(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.expert_parallel > 1)


def _overlap_chunks(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.pipeline_parallel == 1) | (layouts.virtual_pipeline > 1))


def _overlap_format(problem: Problem, layouts: Layouts) -> Mask:
    return np.full(len(layouts), problem.precision.weight_bytes <= 2)


RULES = (
    Rule(
        "expert_parallel_supported",
        "expert_parallel and expert_tensor_parallel above 1 need experts, in the architecture and in the engine",
        _supported,
        "catalogs/engines, expert_parallel; Megatron-LM megatron/training/arguments.py:1600",
        by_engine=True,
    ),
    Rule(
        "rank_order_keeps_stages",
        "cluster.rank_order tp_pp_dp needs expert_parallel * expert_tensor_parallel (tensor_parallel in a dense "
        "network) equal to tensor_parallel * context_parallel, so that experts have the same pipeline stages",
        _neighbouring_stages,
        "Megatron-LM core/parallel_state.py:901, initialize_model_parallel: ordering without pp last",
    ),
    Rule(
        "experts_divide",
        "num_experts is a multiple of expert_parallel",
        _divides,
        "Megatron-LM megatron/training/arguments.py:1600-1603; torchtitan models/common/decoder.py:204 @b5bcd76c",
    ),
    Rule(
        "expert_width_divides",
        "an expert's width is a multiple of expert_tensor_parallel",
        _width,
        "Megatron-LM core/tensor_parallel/layers.py, ColumnParallelLinear: divide(output_size, world_size)",
    ),
    Rule(
        "expert_tensor_inside_domain",
        "an expert's tensor-parallel group stays inside one NVLink domain, or one host where there is no NVLink "
        "(limits.tensor_parallel_inside_domain)",
        _inside_domain,
        "docs/scenario.md, limits",
    ),
    Rule(
        "expert_grid",
        "expert_parallel * expert_tensor_parallel divides the ranks of one pipeline stage",
        _grid,
        "Megatron-LM core/parallel_state.py:878-908; torchtitan distributed/parallel_dims.py:188 @b5bcd76c",
    ),
)
ENGINE_RULES = (
    Rule(
        "moe_needs_sequence_parallel",
        "experts with tensor parallelism need sequence parallelism",
        _sequence_parallel,
        "Megatron-LM core/transformer/moe/moe_layer.py:629",
    ),
    Rule(
        "biased_experts_are_whole",
        "experts with biases need expert_tensor_parallel 1",
        _bias,
        "Megatron-LM core/transformer/transformer_config.py: bias in MoE is only supported when ETP is 1",
    ),
    Rule(
        "experts_cut_as_tensor",
        "expert_tensor_parallel is 1 or tensor_parallel",
        _one_or_all,
        "torchtitan distributed/parallel_dims.py (0.2): ETP=TP or ETP=1; 0.3 has no degree of its own for it",
    ),
    Rule(
        "dispatcher_needs_ranks",
        "the flex dispatcher over DeepEP needs expert_parallel * expert_tensor_parallel above 1",
        _dispatched,
        "Megatron-LM core/transformer/moe/token_dispatcher.py:1770",
    ),
    Rule(
        "expert_overlap_needs_experts",
        "moe_a2a_overlap needs expert_parallel above 1",
        _overlap_experts,
        "Megatron-LM core/transformer/transformer_config.py, overlap_moe_expert_parallel_comm",
    ),
    Rule(
        "expert_overlap_needs_chunks",
        "moe_a2a_overlap needs virtual_pipeline above 1 where there is a pipeline",
        _overlap_chunks,
        "Megatron-LM core/transformer/transformer_config.py, overlap_moe_expert_parallel_comm",
    ),
    Rule(
        "expert_overlap_needs_16bit",
        "moe_a2a_overlap needs bf16 or fp16 weights",
        _overlap_format,
        "Megatron-LM core/transformer/transformer_config.py, overlap_moe_expert_parallel_comm",
    ),
)
