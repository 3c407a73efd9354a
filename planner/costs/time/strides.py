"""How far apart the ranks of a group lie, in the order that the scenario gives the parallel axes.

Megatron's usual order is tp-cp-ep-dp-pp, first one innermost: pipeline stages are as far apart as can be.
`cluster.rank_order: tp_pp_dp` is tp-cp-ep-pp-dp (--use-tp-pp-dp-mapping): stages are neighbours, data-parallel ranks
far apart. Tensor, context and expert groups lie alike in both.
Source: Megatron-LM core/parallel_state.py, RankGenerator.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from planner.problem.layouts import Floats, Ints, Layouts, distinct
from planner.problem.problem import Problem


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


def hops_between_nodes(problem: Problem, layouts: Layouts) -> Ints:
    """1 where the send from a stage to the next leaves the node, from the last one to the first; [rows, stages].

    Ranks of a stage that work on one micro-batch lie together, so its send is as slow as the one of them that leaves.
    Of the pipelines that run side by side, the one that leaves most often counts: the step waits for it. Layouts have
    shape [rows, 1].
    """
    inner = layouts.tensor_parallel * layouts.context_parallel
    depth, step = layouts.pipeline_parallel, pipeline_stride(problem, layouts)
    apart = inner * depth if stages_are_neighbours(problem) else inner
    keys, inverse = distinct(layouts.num_gpus, depth, inner, step, apart)
    width = problem.node.gpus_per_node
    found = np.zeros((len(keys), int(depth.max(initial=1))), dtype=np.int64)
    for index, key in enumerate(keys):
        found[index, : key[1]] = _leaves(*key, width)
    return found[inverse]


@lru_cache(maxsize=4096)
def _leaves(gpus: int, length: int, ranks: int, stride: int, between: int, width: int) -> tuple[int, ...]:
    """Of one pipeline of `length` stages: 1 for each send that leaves its node of `width` GPUs."""
    count = max(1, gpus // (length * ranks))
    starts = np.unique(np.arange(count, dtype=np.int64) * between % width)
    # [pipelines, stages, ranks of a stage]; what repeats every node need not be looked at twice
    first = starts[:, None, None] + np.arange(length)[None, :, None] * stride + np.arange(min(ranks, width))
    here, there = first // width, np.roll(first, -1, axis=1) // width
    leaves = np.any(here != there, axis=2)
    return tuple(leaves[np.argmax(leaves.sum(axis=1))].astype(int).tolist())


def seams_beside(seams: Floats, layouts: Layouts, stage: Ints) -> tuple[Floats, Floats]:
    """What stands for the seams (before, behind) each stage: nothing at the pipeline's ends unless chunks wrap.

    `seams` from each stage to the next, [rows or 1, stages of the longest pipeline]; layouts of shape [rows, 1].
    """
    depth, wraps = layouts.pipeline_parallel, layouts.virtual_pipeline > 1
    here = np.broadcast_to(np.minimum(stage, depth - 1), (len(layouts), stage.shape[-1]))
    whole = np.broadcast_to(seams, (len(layouts), np.shape(seams)[-1]))
    before = np.take_along_axis(whole, (here - 1) % depth, axis=1) * (wraps | (stage != 0))
    return before, np.take_along_axis(whole, here, axis=1) * (wraps | (stage != depth - 1))
