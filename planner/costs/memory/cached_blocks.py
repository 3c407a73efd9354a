"""Freed blocks that an allocator keeps, beside its usual share, because no later tensor of the step fits into them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item, total
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.stage_tensors import StageTensors
from planner.problem.layouts import Floats


def cached_blocks(stage: StageTensors, name: str, state: tuple[Item, ...], live: tuple[Item, ...]) -> list[Item]:
    """What is kept beside `live`, the ledger of that moment, on a stage whose standing ledger is `state`. [bytes]"""
    engine = stage.problem.engine
    reserve, items = engine.reserve, []
    if reserve.gradients_apart:
        kept, there = (total([i for i in part if i.name == ItemName.GRADIENTS]) for part in (state, live))
        items.append(Item(ItemName.ROOM_KEPT_FOR_GRADIENTS, kept - there, reserve.source))
    if engine.cached:
        blocks = stage.is_last * stage.sizes.of(engine.cached, moe_layer=False)
        items.append(Item(ItemName.CACHED_BLOCKS_OF_OTHER_LENGTHS, blocks, engine.cached[0].source))
    if reserve.step_blocks and name != "optimizer" and stage.problem.trains_all_weights:
        sources = "; ".join(block.source for block in reserve.step_blocks)
        items.append(Item(ItemName.BLOCKS_OF_THE_STEP, _step_blocks(stage), sources))
    return items


def reduced_at_once(stage: StageParameters) -> tuple[Item, ...]:
    """Copies of all gradients that ranks reduce in one message, live in the step. [bytes]"""
    blocks = [block for block in stage.problem.engine.reserve.step_blocks if block.of == "whole"]
    return tuple(
        Item(ItemName.GRADIENTS_BEING_REDUCED, _reduced_elements(stage) * block.bytes, block.source) for block in blocks
    )


def _reduced_elements(stage: StageParameters) -> Floats:
    """Elements of all gradients of a rank where it has others to reduce them with, else 0."""
    several = stage.layouts.data_parallel * stage.layouts.context_parallel > 1
    return np.asarray(several * (stage.trainable[0] + stage.trainable[1]))


def largest_weight(stage: StageParameters) -> Floats:
    """Elements of the largest single weight of a stage on one rank: a table, or a matrix of the MLP or of q, k and v.

    Dense networks alone: an expert's matrices are smaller.
    """
    a, tensor = stage.problem.architecture, stage.layouts.tensor_parallel
    inner = a.intermediate_size * (1 + (a.gated_mlp and stage.problem.engine.fused_projections))
    matrix = a.hidden_size * max(inner, a.query_width + 2 * a.key_value_width)
    return np.asarray(np.maximum(matrix / tensor, stage.largest_table))


def _step_blocks(stage: StageTensors) -> Floats:
    """All blocks made for the step, its layers cut evenly over stages: one number for a row and stage. [bytes]"""
    lay = stage.layouts
    layers = stage.layers * 0 + stage.problem.architecture.num_hidden_layers / lay.pipeline_parallel
    usual = StageParameters(stage.problem, lay, stage.stage, layers, layers * 0)
    weight, shard = largest_weight(stage), usual.sharded(usual.trainable, 1)
    whole = _reduced_elements(usual)
    elements = {"weight": weight, "part": np.minimum(weight, shard), "shard": shard, "whole": whole}
    wanted = []
    for block in stage.problem.engine.reserve.step_blocks:
        many = elements[block.of] if block.of != "bucket" else np.minimum(block.elements or np.inf, whole)
        wanted.append((np.asarray(many * block.bytes), block.stays))
    return best_fit(wanted)


def best_fit(wanted: Iterable[tuple[Floats, bool]]) -> Floats:
    """Bytes of the blocks that one allocation after another makes; what stays takes its part of a block away.

    Each takes the smallest free block that is large enough, or makes one of its size (get_free_block and alloc_block of
    c10/cuda/CUDACachingAllocator.cpp; blocks of more than 10 MiB are made as large as asked for).
    """
    free: list[Floats] = []
    made: Floats = np.zeros(())
    for size, stays in wanted:
        room: Floats = np.full(np.shape(size), np.inf)
        for block in free:
            room = np.where((block >= size) & (block < room), block, room)
        new = np.isinf(room)
        made = made + np.where(new, size, 0.0)
        taken, left = new, []
        for block in free:
            here = ~taken & (block == room) & stays
            taken = taken | here
            left.append(np.where(here, block - size, block))
        free = left if stays else [*left, np.where(new, size, 0.0)]
    return np.asarray(made)
