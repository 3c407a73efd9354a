"""The rollout engine of a problem whose trainer is awake beside it: one choice, which the scenario names."""

from __future__ import annotations

import numpy as np

from planner.problem.layouts import Layouts, Rollouts
from planner.problem.problem import Problem


def beside_each_row(problem: Problem, layouts: Layouts) -> Rollouts:
    """The one rollout choice beside each row of the layouts, whatever their shape, in one column."""
    rl, engine = problem.scenario.rl, problem.rollout_engine
    assert rl is not None
    assert engine is not None
    gpus, asked = np.ravel(layouts.num_gpus), rl.rollout
    same = np.ones_like(gpus)
    return Rollouts(
        num_gpus=gpus,
        wish=np.ravel(layouts.wish),
        tensor_parallel=same * int(str(asked.tensor_parallel)),
        gpu_memory_utilization=same * float(str(asked.gpu_memory_utilization)),
        max_concurrency=same * int(str(asked.max_concurrency or engine.max_concurrency)),
        training_gpus=gpus,
        variant=np.ravel(layouts.variant),
    )


def keeps_reference(problem: Problem) -> bool:
    """Whether a frozen reference's weights never leave the GPU."""
    rl = problem.scenario.rl
    return rl is not None and rl.reference_model and problem.stays("reference")


def rollouts_sleep(problem: Problem) -> bool:
    """Whether a colocated rollout engine leaves the GPU while the trainer works."""
    rl = problem.scenario.rl
    return rl is None or rl.rollout.sleeps


def graphs_left_gib(problem: Problem) -> float:
    """CUDA graphs that would lie in a sleeping engine's residual, and are not captured. [GiB]"""
    rl, engine = problem.scenario.rl, problem.rollout_engine
    return 0.0 if rl is None or engine is None or rl.rollout.cuda_graphs else engine.graph_gib
