"""Trainer and rollout engine awake on one GPU: parts of the one that stay there while the other works.

    samples are generated, weights are taken over    the rollout engine's ledger + what of the trainer does not leave
    weights are taken over                           + the trainer's weights, where its stack sends them from the GPU
    the trainer works                                the trainer's ledger + what the rollout engine keeps

Source: verl @1dda039b9 verl/workers/engine/base.py lines 318 to 328 (param_offload moves weights and gradients,
optimizer_offload the optimizer's state) and verl/workers/config/engine.py (both are off by default);
rollout.free_cache_engine.
"""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item, total
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.rollout import WEIGHT_SYNC, RolloutCosts
from planner.problem.awake_together import (
    beside_each_row,
    graphs_left_gib,
    has_critic,
    keeps_reference,
    rollouts_sleep,
    sends_from_gpu,
    sleeping_critic_gib,
)
from planner.problem.critics import critics_share
from planner.units import GIB

WEIGHTS = (
    ItemName.WEIGHTS,
    ItemName.FROZEN_BASE_WEIGHTS,
    ItemName.FROZEN_TOWER_WEIGHTS,
    ItemName.FP8_COPIES_OF_WEIGHTS,
    ItemName.WEIGHT_GRADIENT_BUFFERS,
)
"""What a trainer's state calls its weights and what goes with them."""
SENT = WEIGHTS[:-1]
"""What of them is there while they are sent."""


def awake_rollouts(stage: StageParameters, moment: str) -> tuple[Item, ...]:
    """The one rollout choice of the problem beside each row, in the shape of the rows. [bytes]"""
    problem, shape = stage.problem, np.shape(stage.layouts.num_gpus)
    choices = beside_each_row(problem, stage.layouts)
    found = RolloutCosts(problem, choices).ledger(moment)
    return tuple(Item(i.name, np.reshape(np.broadcast_to(i.amount, len(choices)), shape), i.source) for i in found)


def beside_rollouts(stage: StageParameters, moment: str, state: tuple[Item, ...]) -> tuple[Item, ...]:
    """What a GPU holds while the rollout engine is awake beside parts of the trainer, whose whole is `state`. [bytes]

    Gradients stay with the weights where they lie in a buffer of their own; elsewhere they are dropped after a step.
    """
    problem = stage.problem
    kept: set[str] = set()
    if problem.stays("weights"):
        kept |= {*WEIGHTS, *((ItemName.GRADIENTS,) if problem.colocation.gradients_with_weights else ())}
    if problem.stays("optimizer"):
        kept.add(ItemName.OPTIMIZER)
    if moment == WEIGHT_SYNC and sends_from_gpu(problem):
        kept |= {*SENT}
    stays = tuple(item for item in state if item.name in kept)
    copies: tuple[Item, ...] = ()
    if moment == WEIGHT_SYNC and problem.colocation.sync_copies_shards and problem.trains_all_weights:
        sent = total([item for item in state if item.name in SENT])
        copies = (Item(ItemName.COPIES_OF_SHARDS_TO_BE_SENT, sent, problem.colocation.source),)
    return (*awake_rollouts(stage, moment), *stays, *copies, *other_networks(stage, state))


def while_scoring(stage: StageParameters, state: tuple[Item, ...]) -> tuple[Item, ...]:
    """What of a trainer's state is on the GPU in a pass without gradients, before the update. [bytes]

    Gradients that appear in the backward pass are gone; a colocated stack brings what its file says only to train.
    """
    problem = stage.problem
    away = {ItemName.GRADIENTS} if problem.engine.states.gradients_appear else set()
    if problem.colocated:
        coloc = problem.colocation
        stays = {"gradients": problem.stays("weights") and coloc.gradients_with_weights}
        stays["optimizer"] = problem.stays("optimizer")
        names = {"gradients": ItemName.GRADIENTS, "optimizer": ItemName.OPTIMIZER}
        away |= {names[part] for part in coloc.scores_without if not stays[part]}
    return tuple(item for item in state if item.name not in away)


def other_networks(stage: StageParameters, state: tuple[Item, ...]) -> tuple[Item, ...]:
    """Weights of the frozen reference, and what a critic keeps between steps, where they never leave the GPU. [bytes]

    A critic keeps what a policy's `state` does between steps, a head more than it has. While it is trained it has the
    policy's activations and no logits, so that no moment of its own is fuller than one of the policy's.
    """
    problem, found = stage.problem, []
    if keeps_reference(problem):
        held = stage.sharded(stage.parameters, 3) * problem.precision.weight_bytes
        found.append(Item(ItemName.REFERENCE_WEIGHTS, held, problem.colocation.source))
    if has_critic(problem) and problem.stays("critic"):
        gone = () if problem.colocation.gradients_with_weights else (ItemName.GRADIENTS,)
        shared = (ItemName.LIBRARY_WORKSPACES, ItemName.WEIGHT_GRADIENT_BUFFERS)
        kept = total([item for item in state if item.name not in (*gone, *shared)]) * critics_share(problem)
        found.append(Item(ItemName.CRITIC, kept, problem.colocation.source))
    elif has_critic(problem) and "weights" in problem.colocation.critic_keeps:
        weights = total([item for item in state if item.name in SENT]) * critics_share(problem)
        found.append(Item(ItemName.CRITIC, weights, problem.colocation.source))
    return tuple(found)


def rollouts_beside(stage: StageParameters) -> tuple[Item, ...]:
    """What the rollout engine keeps while the trainer works: a residual where it sleeps, else all of it. [bytes]

    Without CUDA graphs none of them are left in the residual.
    """
    problem = stage.problem
    if not rollouts_sleep(problem):
        return tuple(i for i in awake_rollouts(stage, "rollout") if i.name != ItemName.SLEEPING_TRAINER)
    coloc = problem.colocation
    left = max(0.0, coloc.rollout_residual_gib - graphs_left_gib(problem))
    engine = Item(ItemName.SLEEPING_ROLLOUT_ENGINE, np.asarray(left * GIB), coloc.source)
    critic = sleeping_critic_gib(problem)
    return (engine, *([Item(ItemName.SLEEPING_CRITIC, np.asarray(critic * GIB), coloc.source)] if critic else ()))
