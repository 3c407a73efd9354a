"""Host memory of one node: copies of weights, offloaded optimizer state and activations, checkpoint staging."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item, total
from planner.costs.memory.optimizer import optimizer_bytes, paged
from planner.costs.memory.pinned import added_by_rounding
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import offloaded_bytes
from planner.costs.memory.weights import sharded_weights
from planner.problem.awake_together import copies_reference, has_critic
from planner.problem.critics import critics_share
from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem
from planner.problem.state_bytes import FP32_BYTES

OS_GIB = 16.0
"""Operating system, Python processes and data loading of one node (assumed)."""
ROUNDING = "each pinned tensor takes the next power of two (torch ATen/core/CachingHostAllocator.h)"


def _rounding_of_state(memory: StageMemory, pinned_bytes: float) -> Floats:
    """What rounding adds to fp32 weights, and to as many more fp32 tensors, of one rank's shard. [bytes]"""
    on = memory.layouts.zero_stage >= 1
    dense, expert = (
        np.where(on, many / shards, many) for many, shards in zip(memory.trainable, memory.shards, strict=True)
    )
    return pinned_bytes / FP32_BYTES * added_by_rounding(memory, (dense, expert), FP32_BYTES, "tensors")


def host_ledger(problem: Problem, layouts: Layouts) -> tuple[Item, ...]:
    """Host memory of the fullest node for each row, stages even. [bytes]

    Where leading layers are dense and the rest route, the first stage is the emptiest, and the second is taken.
    Copies are kept by each rank, so they are replicated over data parallelism. Staging of a checkpoint holds the
    weights of the node's ranks once more in 16 bit. What torch's rounding of pinned tensors adds is an item of its own
    (planner/costs/memory/pinned.py); DeepSpeed's flat pinned buffers are counted as asked for. Offloaded activations
    are those of the first stage, which has most micro-batches in flight, its layers not recomputed unless all are.

    Source: planner/schema/engine.py, Colocation and States.host_gradient_bytes.
    """
    a = problem.architecture
    even = np.asarray(-(-a.num_hidden_layers // layouts.pipeline_parallel))
    lighter = a.is_moe and problem.parameters.num_dense_layers > 0
    stage = np.where(layouts.pipeline_parallel > 1, int(lighter), 0)
    memory = StageMemory(problem, layouts, stage, even, np.zeros_like(even))
    per_host = problem.node.gpus_per_host or problem.node.gpus_per_node
    ranks = np.minimum(layouts.num_gpus, per_host)
    held_weights = memory.sharded(memory.parameters, 3)
    items = [Item(ItemName.SYSTEM, np.ones(len(layouts)) * OS_GIB * 2**30, "assumed")]
    coloc, rounding = problem.engine.colocation, np.zeros(len(layouts))
    if problem.scenario.rl is not None and coloc is not None:
        for name in coloc.host_weight_copies:
            if name == "reference" and (not copies_reference(problem) or problem.stays("reference")):
                continue
            if name == "actor" and problem.stays("weights"):
                continue
            copy = ranks * held_weights * _copied_bytes(problem, name)
            items.append(Item(f"weight copy ({name})", copy, coloc.source))
            if name in coloc.pinned_copies:
                pinned, stored = coloc.pinned_copies[name], _copied_bytes(problem, name)
                rounding += ranks * added_by_rounding(memory, memory.parameters, stored, pinned)
    if has_critic(problem) and not problem.stays("critic"):
        items += _sleeping_critic(problem, ranks, held_weights, optimizer_bytes(memory))
    state, held = memory.sharded(memory.trainable, 1), optimizer_bytes(memory)
    asleep = problem.is_rl and problem.colocated
    states = problem.engine.states
    if problem.weights_on_host and problem.engine.zero_three is not None:
        shards = np.where(layouts.zero_stage >= 3, ranks * total(sharded_weights(memory)), 0.0)
        items.append(Item(ItemName.WEIGHTS_ON_THE_HOST, shards, problem.engine.zero_three.source))
    if problem.optimizer_on_host:
        items.append(Item(ItemName.OPTIMIZER_ON_THE_HOST, ranks * held, "state of this node's ranks"))
        width = problem.gradient_bytes if problem.gradients_on_host else states.host_gradient_bytes
        if states.gradients_follow_optimizer:  # those that are added up, beside fp32 ones for the step
            adds_up = (layouts.zero_stage >= 3) | ((layouts.zero_stage == 2) & (layouts.num_micro_batches > 1))
            width = width + adds_up * problem.gradient_bytes
        gradients = np.asarray(ranks * state * width)
        if problem.gradients_on_host and not problem.gradients_leave_at_once:
            gradients = np.where(layouts.zero_stage >= 3, ranks * total(sharded_weights(memory)), gradients)
        items.append(Item(ItemName.GRADIENTS_FOR_THE_OPTIMIZER_ON_THE_HOST, gradients, states.source))
        if states.host_pinned_bytes:
            rounding += ranks * _rounding_of_state(memory, states.host_pinned_bytes)
    elif asleep and not problem.stays("optimizer"):
        items.append(Item(ItemName.SLEEPING_TRAINERS_OPTIMIZER, ranks * held, "state of this node's ranks"))
        if coloc is not None and coloc.sleeping_gradients_on_host:
            left = ranks * memory.sharded(memory.trainable, 2) * problem.gradient_bytes
            left = left * (1 + has_critic(problem) * critics_share(problem))
            items.append(Item(ItemName.SLEEPING_TRAINERS_GRADIENTS, left, coloc.source))
    elif states.optimizer_returns:
        items.append(Item(ItemName.OPTIMIZER_ON_THE_HOST, ranks * held, "state of this node's ranks"))
    elif np.any(out := paged(problem)[layouts.optimizer]):
        items.append(
            Item(ItemName.PAGED_OPTIMIZER_STATE, np.where(out, ranks * held, 0.0), "catalogs/optimizers: paged")
        )
    if problem.engine.offloaded or problem.engine.offloaded_stub:
        kept, stub = offloaded_bytes(problem, layouts)
        each = stub if problem.scenario.layout.recomputed_layers == "all" else np.maximum(kept, stub)
        first = StageMemory(problem, layouts, np.zeros_like(even), even, np.zeros_like(even))
        waiting = ranks * first.in_flight * even * each
        items.append(
            Item(ItemName.OFFLOADED_ACTIVATIONS, waiting, "engine file: what activation_offload takes off the GPU")
        )
    if np.any(rounding):
        items.append(Item(ItemName.ROUNDING_OF_PINNED_MEMORY, rounding, ROUNDING))
    items.append(_checkpoint(memory, ranks, held_weights))
    return tuple(items)


def _checkpoint(memory: StageMemory, ranks: Floats, held_weights: Floats) -> Item:
    """What a checkpoint takes on its way to the disk. [bytes]

    Of adapters a checkpoint holds themselves alone (peft @5d602fd src/peft/peft_model.py line 303): replicated ranks
    copy no more; shards are gathered first, the frozen base in the format in which it is held.
    """
    if memory.problem.trains_all_weights:
        return Item(ItemName.CHECKPOINT_STAGING, ranks * held_weights * 2.0, "16-bit weights this node's ranks hold")
    *_, adapters = weights = sharded_weights(memory)
    staged = np.where(memory.layouts.zero_stage >= 3, total(weights), adapters.amount)
    return Item(ItemName.CHECKPOINT_STAGING, ranks * staged, "adapters; behind shards the frozen base as it is held")


def _sleeping_critic(problem: Problem, ranks: Floats, weights: Floats, state: Floats) -> list[Item]:
    """Weights and optimizer of a critic while the policy works: the policy's by their parameters. [bytes]"""
    source = problem.colocation.source
    share = critics_share(problem)
    copied = ranks * weights * _copied_bytes(problem, "critic") * share
    optimizer = Item(ItemName.SLEEPING_CRITICS_OPTIMIZER, ranks * state * share, source)
    if "weights" in problem.colocation.critic_keeps:
        return [optimizer]
    return [Item("weight copy (critic)", copied, source), optimizer]


def _copied_bytes(problem: Problem, name: str) -> float:
    """Bytes a parameter of a named copy of weights."""
    return problem.colocation.host_weight_bytes.get(name, problem.precision.weight_bytes)
