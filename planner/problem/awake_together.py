"""The rollout engine of a problem whose trainer is awake beside it: one choice, what is open is spelt out before."""

from __future__ import annotations

import numpy as np

from planner.problem.choices import choose
from planner.problem.layouts import Layouts, Rollouts
from planner.problem.problem import Problem
from planner.problem.variants import may_be_awake_together, syncs_beside_weights
from planner.problem.variants import sends_from_gpu as stack_sends_from_gpu
from planner.schema.engine import Engine, RolloutEngine
from planner.schema.scenario import Scenario


def spelt_out(
    scenario: Scenario, trainer: Engine, engine: RolloutEngine | None, heads: int, gpus_per_node: int
) -> Scenario:
    """The scenario with lists where it leaves the rollout engine open beside a trainer that is awake.

    What the engine takes is missing to the trainer, so that each value is a variant of its own. Where only the
    trainer's weights lie beside those that wake, its degree alone decides what it takes.
    """
    awake = may_be_awake_together(scenario, trainer)
    if scenario.rl is None or engine is None or not (awake or syncs_beside_weights(scenario, trainer)):
        return scenario
    asked = scenario.rl.rollout
    powers = sorted({*(2**k for k in range(engine.max_concurrency.bit_length())), engine.max_concurrency})
    update: dict[str, object] = {}
    if not isinstance(asked.tensor_parallel, int | list):
        degrees = [degree for degree in range(1, gpus_per_node + 1) if heads % degree == 0]
        update["tensor_parallel"] = choose(asked.tensor_parallel, degrees)
    if awake and asked.gpu_memory_utilization == "any":
        update["gpu_memory_utilization"] = list(engine.fractions)
    if awake and asked.max_concurrency is not None and not isinstance(asked.max_concurrency, int | list):
        update["max_concurrency"] = choose(asked.max_concurrency, powers)
    rollout = asked.model_copy(update=update)
    return scenario.model_copy(update={"rl": scenario.rl.model_copy(update={"rollout": rollout})})


def beside_each_row(problem: Problem, layouts: Layouts) -> Rollouts:
    """The one rollout choice beside each row of the layouts, whatever their shape, in one column.

    Beside a trainer that sleeps while samples are made its memory fraction and requests are not told.
    """
    rl, engine = problem.scenario.rl, problem.rollout_engine
    assert rl is not None
    assert engine is not None
    gpus, asked = np.ravel(layouts.num_gpus), rl.rollout
    same, awake = np.ones_like(gpus), problem.awake_together
    share = float(str(asked.gpu_memory_utilization)) if awake else 0.0
    most = int(str(asked.max_concurrency or engine.max_concurrency)) if awake else engine.max_concurrency
    return Rollouts(
        num_gpus=gpus,
        wish=np.ravel(layouts.wish),
        tensor_parallel=same * int(str(asked.tensor_parallel)),
        gpu_memory_utilization=same * share,
        max_concurrency=same * most,
        training_gpus=gpus,
        variant=np.ravel(layouts.variant),
    )


def sends_from_gpu(problem: Problem) -> bool:
    """The trainer's own weights lie on a shared GPU, as its layout holds them, while the rollout engine's wake."""
    return problem.is_rl and problem.colocated and stack_sends_from_gpu(problem.scenario, problem.colocation)


def has_critic(problem: Problem) -> bool:
    """Whether a critic is trained beside the policy."""
    rl = problem.scenario.rl
    return rl is not None and rl.algorithm == "ppo"


def sleeping_critic_gib(problem: Problem) -> float:
    """What a critic's own process leaves on the policy's GPUs while others work; 0 without one. [GiB]"""
    if not has_critic(problem) or not problem.colocated or not problem.colocation.critic_in_own_process:
        return 0.0
    return problem.colocation.trainer_residual_gib


def keeps_reference(problem: Problem) -> bool:
    """Whether a frozen reference's weights never leave the GPU."""
    return copies_reference(problem) and problem.stays("reference")


def copies_reference(problem: Problem) -> bool:
    """Whether a frozen reference has weights of its own; the base of adapters is one that has none."""
    rl, coloc = problem.scenario.rl, problem.engine.colocation
    is_base = coloc is not None and coloc.reference_is_base and problem.scenario.adapter is not None
    return rl is not None and rl.reference_model and not is_base


def rollouts_sleep(problem: Problem) -> bool:
    """Whether a colocated rollout engine leaves the GPU while the trainer works."""
    rl = problem.scenario.rl
    return rl is None or rl.rollout.sleeps


def graphs_left_gib(problem: Problem) -> float:
    """CUDA graphs that would lie in a sleeping engine's residual, and are not captured. [GiB]"""
    rl, engine = problem.scenario.rl, problem.rollout_engine
    return 0.0 if rl is None or engine is None or rl.rollout.cuda_graphs else engine.graph_gib
