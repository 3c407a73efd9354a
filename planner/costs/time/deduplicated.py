"""Copies of a token that an exchange between experts' ranks sends, where a library sends it once to a node or rank."""

from __future__ import annotations

import numpy as np

from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem

DEDUPLICATED_RATE = 0.96 / 0.74
"""Rate of an exchange between nodes by a library that sends tokens once, over that of NCCL: shares of the line rate
that DeepEP and NCCL print (planner/formulas/collectives.py, across_all_to_all_seconds)."""


def sent_copies(problem: Problem, layouts: Layouts) -> tuple[Floats, Floats]:
    """(copies of a token that travel, rate of the library over NCCL's).

    Where the engine sends a token once to each node, of `k` copies over N nodes of the group only
    `N (1 - (1 - 1/N)^k)` travel; inside a node the same over its ranks, where it sends a token once to each. A
    router that looks at `topk_group` of `n_group` groups of experts reaches fewer nodes.
    """
    a, timing = problem.architecture, problem.engine.timing
    chosen = a.num_experts_per_tok or 1
    if not timing.expert_deduplication:
        return np.asarray(float(chosen)), np.asarray(1.0)
    width = problem.node.gpus_per_node
    nodes = np.maximum(layouts.expert_parallel * layouts.expert_tensor_parallel / width, 1.0)
    ranks = layouts.expert_parallel * 1.0
    inside = ranks * (1 - (1 - 1 / ranks) ** chosen) if timing.rank_deduplication else chosen
    missed = 1 - a.topk_group / a.n_group
    reached = nodes * (1 - missed ** np.maximum(a.n_group / nodes, 1.0))
    copies = np.where(nodes > 1, reached * (1 - (1 - 1 / np.maximum(reached, 1.0)) ** chosen), inside)
    return copies, np.where(nodes > 1, DEDUPLICATED_RATE, 1.0)
