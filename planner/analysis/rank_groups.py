"""Which ranks work together under a plan: the groups of each parallel axis, in the order in which ranks are laid out.

Ranks of a stage count tensor, context and data parallelism, innermost first; experts take the same ranks in another
order (expert tensor, expert, copies). Stages lie outermost, or between context and data parallelism (`tp_pp_dp`).
Source: Megatron-LM core/parallel_state.py, RankGenerator; a device mesh of (data, tensor) is the same with fewer axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.cluster.rank_group import RankGroup
from planner.search.plan import Plan

Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class RankAxis:
    """All groups of one parallel axis."""

    name: str
    shared: str
    """What the ranks of a group share or exchange."""
    groups: Ranks
    """[groups, ranks of a group]"""
    placed: RankGroup | None
    """The worst placed group with what holds it back; None where stages lie on two kinds of machines."""

    @property
    def group_of(self) -> Ranks:
        """Group of every rank."""
        out = np.empty(self.groups.size, dtype=np.int64)
        out[self.groups] = np.arange(len(self.groups))[:, None]
        return out


def stage_grid(plan: Plan) -> Ranks:
    """Ranks by [stage, data, context, tensor]."""
    lay = plan.layout
    inner = (lay["context_parallel"], lay["tensor_parallel"])
    ranks, stages = np.arange(lay["num_gpus"], dtype=np.int64), lay["pipeline_parallel"]
    if plan.named.rank_order == "tp_pp_dp":
        return ranks.reshape(-1, stages, *inner).swapaxes(0, 1)
    return ranks.reshape(stages, -1, *inner)


def rank_axes(plan: Plan) -> list[RankAxis]:
    """The axes along which a plan splits its work, innermost first; those of one rank are left out."""
    grid, lay = stage_grid(plan), plan.layout
    stages, copies = len(grid), grid.shape[1]
    experts = grid.reshape(stages, -1, lay["expert_parallel"], lay["expert_tensor_parallel"])
    found = [
        ("tensor parallel", "each matrix, cut in parts", _along(grid, 3)),
        ("context parallel", "each sequence, cut in parts", _along(grid, 2)),
        ("data parallel", "copies of the weights: gradients are summed, optimizer state is sharded", _along(grid, 1)),
        ("pipeline parallel", "stages of layers, one after the other", _along(grid, 0)),
    ]
    if plan.problem.architecture.is_moe:
        found.insert(2, ("expert parallel", "experts, tokens travel between them", _along(experts, 2)))
    if lay["context_parallel"] > 1:
        both = grid.reshape(stages, copies * lay["context_parallel"], -1)
        found.insert(-1, ("data and context parallel", "shards of the optimizer state", _along(both, 1)))
    return [
        RankAxis(name, shared, groups, _placed(plan, groups)) for name, shared, groups in found if len(groups[0]) > 1
    ]


def _along(grid: Ranks, axis: int) -> Ranks:
    """Ranks that differ in one axis only, sorted by the first of each group."""
    groups = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
    return groups[np.argsort(groups[:, 0], kind="stable")]


def _placed(plan: Plan, groups: Ranks) -> RankGroup | None:
    if plan.problem.later is not None or len(groups[0]) < 2:
        return None
    cluster = plan.problem.clusters[plan.layout["num_gpus"]]
    return cluster.group(len(groups[0]), int(groups[0][1] - groups[0][0]))
