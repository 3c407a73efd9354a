"""How far apart the ranks of a group lie, in the order that the scenario gives the parallel axes.

Megatron's usual order is tp-cp-ep-dp-pp, first one innermost: pipeline stages are as far apart as can be.
`cluster.rank_order: tp_pp_dp` is tp-cp-ep-pp-dp (--use-tp-pp-dp-mapping): stages are neighbours, data-parallel ranks
far apart. Tensor, context and expert groups lie alike in both.
Source: Megatron-LM core/parallel_state.py, RankGenerator.
"""

from __future__ import annotations

import numpy as np

from planner.layouts import Ints, Layouts
from planner.problem import Problem


def stages_are_neighbours(problem: Problem) -> bool:
    """Whether pipeline stages lie inside data parallelism."""
    return problem.scenario.cluster.rank_order == "tp_pp_dp"


def pipeline_stride(problem: Problem, layouts: Layouts) -> Ints:
    """Ranks from one stage to the next."""
    if stages_are_neighbours(problem):
        return np.asarray(layouts.tensor_parallel * layouts.context_parallel)
    return np.asarray(layouts.num_gpus // layouts.pipeline_parallel)


def data_strides(problem: Problem, layouts: Layouts) -> tuple[Ints, Ints]:
    """Ranks from one to the next of those that share (dense, expert) weights.

    With neighbouring stages, groups that mix context and data parallelism are taken as evenly spread; their context
    ranks really lie closer together.
    """
    apart = layouts.pipeline_parallel if stages_are_neighbours(problem) else 1
    grid = layouts.expert_parallel * layouts.expert_tensor_parallel
    return np.asarray(layouts.tensor_parallel * apart), np.asarray(grid * apart)
