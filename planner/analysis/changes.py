"""Small changes of a scenario: less headroom, more GPUs, a batch that every count divides."""

from __future__ import annotations

import math
from typing import Any

from planner.problem.machines import RESERVED_CLIFF
from planner.problem.problem import Problem, Question
from planner.problem.resolve import gpu_counts
from planner.schema.scenario import ClusterSpec, Pool


def round_batch(problem: Problem, size: int, steps: int = 1) -> int:
    """The least multiple of a batch that every GPU count and pinned micro-batch divides: the batch need not bind."""
    micro = problem.scenario.batch.micro_batch_size
    pinned = [micro] if isinstance(micro, int) else micro if isinstance(micro, list) else [1]
    return math.lcm(size, max(problem.num_gpus) * math.lcm(*pinned) * steps)


def less_headroom(problem: Problem, headroom_gib: float) -> tuple[tuple[str, Any], ...]:
    """Overrides that demand only so much headroom, the limit on reserved memory dropped where it stands in the way."""
    changes: tuple[tuple[str, Any], ...] = (("limits.headroom_gib", headroom_gib),)
    cliff = problem.usable_gib * (1 - RESERVED_CLIFF)
    if problem.scenario.limits.reserved_cliff and not problem.engine.expandable_segments and headroom_gib < cliff:
        changes = (*changes, ("limits.reserved_cliff", False))
    return changes


def networked(problem: Problem) -> bool:
    """Can several of these nodes be joined."""
    return problem.node.nics.gb_per_s_per_gpu > 0


def more_gpus(question: Question, times: int) -> tuple[tuple[str, Any], ...]:
    """Overrides that allow so many times the GPUs, of each pool, in whole nodes; one node where it has no adapters."""
    found: dict[str, Any] = {}
    for variant in question.problems:
        found |= dict(_more(variant, times))
    return tuple(found.items())


def machine_path(problem: Problem) -> str:
    """Where the scenario says how many of these machines there are, and how large."""
    for index, pool in enumerate(problem.scenario.cluster.pools or ()):
        if pool.node == problem.node.id:
            return f"cluster.pools[{index}]"
    return "cluster"


def machines_of(problem: Problem) -> ClusterSpec | Pool:
    """What the scenario says where `machine_path` points."""
    cluster = problem.scenario.cluster
    return next((pool for pool in cluster.pools or () if pool.node == problem.node.id), cluster)


def machine_counts(problem: Problem) -> tuple[int, ...]:
    """GPU counts that the scenario allows where `machine_path` points, ascending."""
    return gpu_counts(machines_of(problem), problem.node)


def _more(problem: Problem, times: int) -> tuple[tuple[str, Any], ...]:
    path, mine = machine_path(problem), machine_counts(problem)
    per_node, most = problem.node.gpus_per_node, max(mine)
    wanted = most * times
    if wanted > per_node:
        wanted = -(-wanted // per_node) * per_node if networked(problem) else max(per_node, most)
    counts = [n for n in (most * 2**i for i in range(1, 20)) if n <= wanted]
    legal = [n for n in counts if n % per_node == 0 or (n < per_node and per_node % n == 0)] or [wanted]
    return ((f"{path}.max_gpus", None), (f"{path}.num_gpus", sorted({*mine, *legal})))
