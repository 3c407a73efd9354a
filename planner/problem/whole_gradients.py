"""Gradients of sharded weights that no micro-batch but a step's last reduces: whole on each rank until then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem


def left_whole(problem: Problem, layouts: Layouts) -> NDArray[np.bool_]:
    """Where the last micro-batch of a step alone reduces gradients, by the engine's file (`zero_three.unreduced`)."""
    zero = problem.engine.zero_three
    if zero is None or zero.unreduced == "never":
        return np.zeros(np.shape(layouts.num_micro_batches), dtype=bool)
    between = zero.unreduced == "between micro-batches"
    return np.asarray(layouts.num_micro_batches > 1 if between else layouts.pipeline_parallel > 1)


def reducing_share(problem: Problem, layouts: Layouts) -> Floats:
    """Share of a stage's backward passes that reduce gradients: all of them, or the last one of a step.

    A step repeats a pass m + (p - 1) / v times (planner/costs/time/step_time.py), of which that one is to make one.
    """
    passes = layouts.num_micro_batches + (layouts.pipeline_parallel - 1) / layouts.virtual_pipeline
    return np.where(left_whole(problem, layouts), 1 / np.maximum(passes, 1), 1.0)
