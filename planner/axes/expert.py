"""Expert parallelism and expert tensor parallelism of architectures with routed experts."""

from __future__ import annotations

import numpy as np

from planner.axes.rule import Mask, Rule, choose, divisors
from planner.layouts import Layouts
from planner.problem import Problem


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: common divisors of the expert count and the GPU count."""
    a = problem.architecture
    if not a.is_moe or not problem.engine.expert_parallel:
        return choose(problem.scenario.layout.expert_parallel, [1])
    return choose(
        problem.scenario.layout.expert_parallel,
        [d for d in divisors(a.num_experts or 1, num_gpus) if num_gpus % d == 0],
    )


def tensor_candidates(problem: Problem, tensor_parallel: int) -> list[int]:
    """Expert tensor parallelism tried: none, or that of the dense part."""
    usual = sorted({1, tensor_parallel}) if problem.architecture.is_moe else [1]
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
    usual = problem.scenario.cluster.rank_order == "default" or not problem.architecture.is_moe
    cut = layouts.expert_parallel * layouts.expert_tensor_parallel
    same = cut == layouts.tensor_parallel * layouts.context_parallel
    return np.asarray(usual | (layouts.pipeline_parallel == 1) | same)


def _sequence_parallel(problem: Problem, layouts: Layouts) -> Mask:
    dense = not problem.architecture.is_moe
    return np.asarray(dense | (layouts.tensor_parallel == 1) | (layouts.sequence_parallel == 1))


RULES = (
    Rule("expert_parallel_supported", "the engine and the architecture have experts to spread", _supported),
    Rule(
        "rank_order_keeps_stages",
        "cluster.rank_order tp_pp_dp needs expert_parallel * expert_tensor_parallel equal to tensor_parallel * "
        "context_parallel, so that experts have the same pipeline stages",
        _neighbouring_stages,
        "Megatron-LM core/parallel_state.py, initialize_model_parallel: ordering without pp last",
    ),
    Rule(
        "experts_divide",
        "num_experts is a multiple of expert_parallel",
        _divides,
        "Megatron-LM megatron/training/arguments.py:1600-1603",
    ),
    Rule(
        "expert_grid",
        "expert_parallel * expert_tensor_parallel divides the ranks of one pipeline stage",
        _grid,
        "Megatron-LM core/parallel_state.py:878-908",
    ),
)
ENGINE_RULES = (
    Rule(
        "moe_needs_sequence_parallel",
        "experts with tensor parallelism need sequence parallelism",
        _sequence_parallel,
        "Megatron-LM core/transformer/moe/moe_layer.py:629",
    ),
)
