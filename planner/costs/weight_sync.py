"""Seconds between generation and training: new weights for the rollout engines, one side asleep and the other awake."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.problem.awake_together import has_critic
from planner.problem.critics import critics_share
from planner.problem.layouts import Floats, Rollouts
from planner.problem.problem import Problem
from planner.schema.calibration import Phase
from planner.schema.rl_stack import TrainerPart
from planner.units import GB, GIB, MS_PER_S

ETHERNET_GB_PER_S = 1.25
"""A node for which the catalog knows no adapters has 10 Gbit Ethernet (assumed)."""


MOVED_SHARES: dict[TrainerPart, float] = {"weights": 4 / 16, "optimizer": 12 / 16}
"""Of the 16 B a parameter that a sleeping trainer moves: 16-bit weights and gradients, fp32 master and two moments."""


def weight_tensors(problem: Problem) -> int:
    """Named weight tensors of a checkpoint: matrices and norms of each layer, three for each expert, and the ends."""
    a = problem.architecture
    attention = (6 if a.is_mla else 4) + a.norms_per_layer + 2 * (a.qk_norm != "none")
    dense = problem.parameters.num_dense_layers if a.is_moe else a.num_hidden_layers
    if a.is_hybrid:
        mlp = 2 * (a.num_experts or 1) + a.is_moe + 2 * (a.shared_expert_intermediate_size > 0)
        return a.full_attention_layers * 5 + a.mamba_layers * 9 + a.mlp_layers * (mlp + 1) + 3
    experts = 3 * (a.num_experts or 0) + 1 + 3 * (a.shared_expert_intermediate_size > 0)
    return a.num_hidden_layers * attention + dense * 3 + (a.num_hidden_layers - dense) * experts + 3


def under_way_bytes(problem: Problem) -> tuple[float, float]:
    """(buckets, the largest tensor beside them) of a colocated trainer's weights on their way, on one GPU. [bytes]

    Transformers has gate and up of all experts of a layer in one tensor, Megatron a tensor an expert.
    """
    a, coloc = problem.architecture, problem.colocation
    joined = (2 if a.gated_mlp else 1) * a.hidden_size
    experts = a.num_experts or 0 if coloc.sync_stacked_experts else 1
    largest = float(max(a.vocab_size * a.hidden_size, joined * (a.moe_intermediate_size or 0) * experts))
    if not a.is_moe or a.first_k_dense_replace:
        largest = max(largest, float(joined * a.intermediate_size))
    bucket = coloc.sync_bucket_gib * GIB
    if coloc.sync_bucket_grows:
        bucket = max(bucket, largest * problem.weight_bytes)
    buckets, tensor = coloc.sync_buckets * bucket, largest * coloc.sync_tensor_bytes
    return buckets, max(tensor, _gathered_first_bytes(problem, largest) - buckets)


def _gathered_first_bytes(problem: Problem, largest: float) -> float:
    """What is gathered before the first bucket is filled: a unit and a copy of its largest tensor, or all. [bytes]"""
    p, coloc = problem.parameters, problem.colocation
    if not problem.trains_all_weights:
        return p.total * problem.base_weight_bytes * coloc.adapters_gather_network
    if not coloc.sync_copies_shards:
        return 0.0
    ends = p.embedding + p.lm_head
    layer = (p.total - ends) / problem.architecture.num_hidden_layers
    return max(ends, layer) * problem.weight_bytes + largest * problem.weight_bytes


def calibrated(problem: Problem, phase: Phase, item: Item) -> Item:
    """The item with the factor of the scenario's calibration on it."""
    factor = problem.factor(phase)
    if factor == 1:
        return item
    return Item(item.name, factor * item.amount, f"{item.source}; x {factor:.4g} by the calibration")


def switch_items(problem: Problem, choices: Rollouts) -> tuple[Item, ...]:
    """Seconds of weight sync, of putting one side to sleep and waking the other, and what a log adds to them.

    Weights travel as they are trained, whatever the rollout engine makes of them.
    """
    held = problem.parameters.total * problem.precision.weight_bytes
    items: tuple[Item, ...]
    if not problem.colocated:
        items = (
            calibrated(
                problem,
                "weight_sync",
                Item(ItemName.WEIGHT_SYNC, _broadcast(problem, choices, held), problem.separation.source),
            ),
        )
        return items + _logged(problem, choices)
    coloc = problem.colocation
    moved = held / choices.tensor_parallel / (coloc.sync_gb_per_s_per_gpu * GB)
    moved = moved + weight_tensors(problem) * coloc.sync_tensor_ms / MS_PER_S
    trainer = held * 8 / choices.num_gpus / (coloc.wake_gb_per_s * GB)
    shares = sum(share for part, share in MOVED_SHARES.items() if not problem.stays(part))
    trainer = trainer * (shares + (has_critic(problem) and not problem.stays("critic")) * critics_share(problem))
    sleeping = "trainer state of about 16 B a parameter to the host and back, twice; what stays on the GPU left out"
    items = (
        calibrated(problem, "weight_sync", Item(ItemName.WEIGHT_SYNC, moved + coloc.sync_fixed_seconds, coloc.source)),
        calibrated(problem, "switch", Item(ItemName.SLEEP_AND_WAKE, 2 * trainer, sleeping)),
    )
    return items + _logged(problem, choices)


def _broadcast(problem: Problem, choices: Rollouts, held: Floats | float) -> Floats:
    """Seconds until every rollout engine has the new weights.

    Where each GPU is sent its own shard: weights / rollout tensor_parallel / rate of one GPU. Otherwise all go
    through few adapters, bucket by bucket: weights / (share * rate of one adapter) and a time for each tensor;
    inside a node at least the rate of PCIe; stages send in turn. A share above 1 is cut at the adapters that a
    node has, and inside a node at 1. Between two kinds of nodes the slower adapter and the fewer of them count.
    """
    apart, rl = problem.separation, problem.scenario.rl
    if rl is not None and rl.weight_sync == "shards" and apart.shards is not None:
        own = held / choices.tensor_parallel / (apart.shards.gb_per_s * GB)
        return np.asarray(own + apart.shards.fixed_seconds)
    named = weight_tensors(problem) * apart.sync_tensor_ms / MS_PER_S
    ends = [node.nics for node in (problem.node, problem.trains_on) if node is not None]
    inside = choices.num_gpus + choices.training_gpus <= problem.node.gpus_per_node
    adapter = max(min(nics.gbit_per_s_each for nics in ends) / 8, ETHERNET_GB_PER_S)
    near = inside & (problem.trains_on is None)
    share = min(apart.sync_network_share, max(1, min(nics.count for nics in ends)))
    rate = np.where(near, min(share, 1.0) * max(adapter, problem.gpu.pcie_gb_per_s), share * adapter)
    return np.asarray(held / (rate * GB) + named + apart.sync_fixed_seconds)


def _logged(problem: Problem, choices: Rollouts) -> tuple[Item, ...]:
    known = problem.calibration
    if known is None or not known.other_seconds:
        return ()
    return (
        Item(
            ItemName.REWARDS_DATA_AND_LOGGING,
            np.zeros(len(choices)) + known.other_seconds,
            f"calibration: {known.source}",
        ),
    )
