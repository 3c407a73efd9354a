"""Sizes that parameters have on one rank: of weights, gradients, moments and copies, tensor by tensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.formulas.parameters import ALL_LINEAR, Adapted, adapted_attention, adapted_mlp
from planner.problem.state_bytes import FP32_BYTES
from planner.search.plan import Plan
from planner.search.space import build_space
from planner.units import GIB

BLOCK = 512
"""Sizes are rounded up to this (c10/cuda/CUDACachingAllocator.h, kMinBlockSize). [bytes]"""
NAMINGS: tuple[tuple[str, ...], ...] = ((ALL_LINEAR,), ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2"))
"""Matrices as Hugging Face has them, and as Megatron: query, key and value in one, gate and up in one."""


@dataclass(frozen=True)
class Role:
    """What is kept for each parameter of a kind."""

    item: ItemName
    bytes: float
    """An element."""
    shards: float
    """Ranks that it is cut over."""
    copies: int = 1


@dataclass(frozen=True)
class WeightSizes:
    """How many tensors of each size each item should have on one rank of a stage."""

    demand: Mapping[int, tuple[tuple[ItemName, int], ...]]
    """Bytes of a block: (item, how many), in the order weights, gradients, optimizer, copies."""
    buffers: Mapping[int, ItemName]
    """Sizes of buffers that hold a whole rank's weights, gradients or moments."""


def weight_sizes(plan: Plan, stage: int, naming: tuple[str, ...]) -> WeightSizes:
    """Sizes of everything that has a parameter's shape, on one rank of a stage; `naming` is one of NAMINGS."""
    found = list(_roles(plan, stage))
    tensors = _tensors(plan, stage, naming)
    demand: dict[int, dict[ItemName, int]] = {}
    for role in found:
        for elements, count in tensors.items():
            size = block_bytes(-(-elements // role.shards) * role.bytes)
            there = demand.setdefault(size, {})
            there[role.item] = there.get(role.item, 0) + count * role.copies
    total = sum(_parameters(plan, stage))
    buffers: dict[int, ItemName] = {}
    for role in found:
        buffers.setdefault(block_bytes(total / role.shards * role.bytes), role.item)
    return WeightSizes({size: tuple(items.items()) for size, items in demand.items()}, buffers)


def block_bytes(size: float) -> int:
    """What the allocator takes for a tensor of that size. [bytes]"""
    return max(BLOCK, -(-int(np.ceil(size)) // BLOCK) * BLOCK)


def _parameters(plan: Plan, stage: int) -> tuple[float, float]:
    memory = _stage(plan, stage)
    dense, expert = memory.parameters
    return float(np.sum(dense)), float(np.sum(expert))


def _stage(plan: Plan, stage: int) -> StageParameters:
    layouts = build_space(plan.problem.alone).layouts
    row = next((at for at in range(len(layouts)) if all(layouts.row(at)[k] == v for k, v in plan.layout.items())), 0)
    one, layers = layouts.take(row), np.asarray([plan.layers[stage]])
    return StageParameters(plan.problem, one, np.asarray([stage]), layers, layers * 0)


def _roles(plan: Plan, stage: int) -> Iterator[Role]:
    """Weights, gradients, moments and copies, with their bytes an element and how many ranks share them."""
    problem, layout = plan.problem, plan.layout
    shards = float(_stage(plan, stage).shards[0][0])
    zero = layout["zero_stage"]
    optimizer = problem.optimizers[layout["optimizer"]]
    cut = {level: shards if zero >= level else 1.0 for level in (1, 2, 3)}
    named = _ledger_bytes(plan, stage)
    frozen = problem.scenario.adapter is not None
    weights = ItemName.FROZEN_BASE_WEIGHTS if frozen else ItemName.WEIGHTS
    yield Role(weights, problem.base_weight_bytes if frozen else problem.weight_bytes, cut[3])
    if frozen:
        return
    yield Role(ItemName.GRADIENTS, problem.gradient_bytes, cut[2])
    if named.get(ItemName.OPTIMIZER):
        moments = problem.moment_bytes(optimizer, optimizer.state_bytes)
        several = 1 if optimizer.state_bytes == FP32_BYTES and not optimizer.own_format else 2
        if moments:
            yield Role(ItemName.OPTIMIZER, moments / several, cut[1], several)
        if master := problem.master_bytes(optimizer):
            yield Role(ItemName.OPTIMIZER, master, cut[1])
    if named.get(ItemName.COPIES_OF_WEIGHTS):
        yield Role(ItemName.COPIES_OF_WEIGHTS, problem.precision.activation_bytes, 1.0)


def _ledger_bytes(plan: Plan, stage: int) -> dict[str, float]:
    """The largest amount of each item of a stage, over its phases. [bytes]"""
    out: dict[str, float] = {}
    for phase in plan.memory:
        if phase.stage == stage:
            for entry in phase.items:
                out[entry.name] = max(out.get(entry.name, 0.0), entry.amount * GIB)
    return out


def _tensors(plan: Plan, stage: int, naming: tuple[str, ...]) -> Counter[int]:
    """Elements of each parameter tensor on one rank, and how many there are."""
    problem, layout = plan.problem, plan.layout
    a, tp, layers = problem.architecture, layout["tensor_parallel"], plan.layers[stage]
    leading = min(layers, problem.parameters.num_dense_layers) if a.is_moe and stage == 0 else 0
    dense = layers if not a.is_moe else leading
    out: Counter[int] = Counter()

    def add(matrices: tuple[Adapted, ...], count: int, cut: int) -> None:
        for matrix in matrices:
            out[matrix.inputs * matrix.outputs // (1 if matrix.cut == "neither" else cut)] += count

    add(adapted_attention(a, naming), layers, tp)
    add(adapted_mlp(a, naming, a.intermediate_size), dense, tp)
    if a.is_moe and layers > dense:
        width, local = a.moe_intermediate_size or 0, (a.num_experts or 1) // layout["expert_parallel"]
        each = adapted_mlp(a, naming, width)
        add(each, (layers - dense) * local, layout["expert_tensor_parallel"])
        for matrix in each:
            out[matrix.inputs * matrix.outputs * local // layout["expert_tensor_parallel"]] += layers - dense
        if a.shared_expert_intermediate_size:
            add(adapted_mlp(a, naming, a.shared_expert_intermediate_size), layers - dense, tp)
        out[a.hidden_size * (a.num_experts or 0)] += layers - dense
    out[a.hidden_size] += layers * (a.norms_per_layer + 2)
    vocab = padded_vocab_size(
        vocab_size=a.vocab_size, divisible_by=problem.engine.vocab_divisible_by, tensor_parallel=np.asarray(tp)
    )
    ends = (stage == 0) + (stage == len(plan.layers) - 1 and (not a.tie_word_embeddings or len(plan.layers) > 1))
    out[int(vocab) // tp * a.hidden_size] += int(ends)
    return Counter({elements: count for elements, count in out.items() if elements and count})
