"""Copies of sharded state: hybrid sharding, and several instances of a distributed optimizer."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem


def sharded_copies(problem: Problem, layouts: Layouts) -> Floats:
    """Groups of data-parallel ranks that each keep all state between them.

    Where a group is the ranks of one node: as many as nodes that the ranks which share weights span.
    """
    count = problem.engine.states.optimizer_instances
    ranks = layouts.data_parallel * layouts.context_parallel
    if count != "nodes":
        return np.asarray(count + 0.0 * ranks)
    inside = np.maximum(1, problem.node.gpus_per_node // layouts.tensor_parallel)
    return np.asarray(np.maximum(1.0, ranks / inside))


def copies_of(problem: Problem, row: Mapping[str, int]) -> int:
    """The same of one row of layouts."""
    one = Layouts(**{name: np.array([value]) for name, value in row.items()})
    return int(sharded_copies(problem, one)[0])
