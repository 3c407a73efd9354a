"""Whole layers of an engine that shards the weights themselves: gathered to be used, and unreduced behind it."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item, total
from planner.costs.memory.end_of_backward import END_OF_BACKWARD
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.weights import shards_in_transit
from planner.problem.layouts import Floats
from planner.problem.reference import REFERENCE, whole_copies
from planner.problem.whole_gradients import left_whole, staying_share


def gathered(stage: StageParameters, moment: str) -> tuple[Item, ...]:
    """Whole layers that lie gathered, and in the backward pass unreduced, at one moment. [bytes]"""
    problem, lay = stage.problem, stage.layouts
    zero = problem.engine.zero_three
    if zero is None:
        return ()
    p = problem.parameters
    a, unit = problem.architecture, stage.layer_share(p.moe_layer or p.dense_layer)
    mean = layer = unit[0] + unit[1]
    following = layer * max(0.0, zero.gathered_units - 1)
    if a.is_hybrid:
        layer = largest_neighbours(stage, 1)
        following = largest_neighbours(stage, round(zero.gathered_units)) - layer
    if zero.modules_apart:
        layer = 0.0 * layer + a.hidden_size * float(max(a.intermediate_size, a.query_width, a.mamba_projected))
        mean, following = layer, layer * max(0.0, zero.gathered_units - 1)
    embedding, head = _ends(stage)
    end = np.maximum(embedding, head) if zero.ends_apart else embedding + head
    largest = np.maximum(layer, end)
    staying = staying_share(problem, lay)
    others = np.where(staying > 0, stage.layers * mean * staying, following)
    packed = not problem.trains_all_weights and not problem.base_precision.trainable
    sent = problem.under_way
    held = problem.base_weight_bytes if packed else sent(zero.gathered_bytes)
    each = held * others + np.maximum(layer * held, end * sent(zero.gathered_bytes))
    if moment == "loss" and zero.modules_apart:
        each = each * (staying > 0)
    if problem.trains_all_weights and moment in ("backward", "recomputation", END_OF_BACKWARD):
        unreduced = layer if zero.root_gradient_bytes or moment == END_OF_BACKWARD else largest
        each = each + unreduced * zero.reduced_units * sent(zero.reduced_bytes)
        each = each + head * sent(zero.root_gradient_bytes)
    if moment == REFERENCE and whole_copies(problem):
        each = 0.0 * each  # the reference is gathered whole, and none of the policy's layers is (costs/memory/pairs.py)
    on = _sharded(stage)
    several = left_whole(problem, lay)
    # Flat parameters of layers that adapters stand in have gradients, embedding and head have none then.
    flat = zero.flat_parameters and not problem.trains_all_weights
    trained = mean * stage.layers if flat else stage.trainable[0] + stage.trainable[1]
    whole = trained * sent(zero.unreduced_bytes) * several
    if moment == "loss" and problem.trains_all_weights:
        whole = np.where(several, whole, head * sent(zero.head_gradient_bytes))
    return (
        Item(ItemName.GATHERED_LAYERS, np.where(on, each, 0.0), zero.source),
        Item(ItemName.GRADIENTS_NOT_YET_REDUCED, np.where(on, whole, 0.0), zero.source),
        *shards_in_transit(stage, largest),
    )


def largest_neighbours(stage: StageParameters, count: int) -> Floats:
    """The most parameters of so many layers in a row, each of one block alone, on one rank."""
    a = stage.problem.architecture
    each = {kind: np.add(*stage.of_kind(kind)) for kind in a.kinds}
    kinds = [a.kind_of(place) for place in range(a.num_hidden_layers)]
    rows = {tuple(sorted(kinds[place : place + count])) for place in range(len(kinds) - count + 1)}
    return np.asarray(np.maximum.reduce([np.asarray(sum(each[kind] for kind in row)) for row in rows]))


def root_units_gradient(stage: StageParameters, first_layer: tuple[Item, ...]) -> tuple[Item, ...]:
    """What the root unit's gradient, reduced last, takes beyond what is counted for the `first_layer`. [bytes]

    Embedding and head are one flat parameter there: at the end of the backward pass no layer is gathered any more.
    """
    zero = stage.problem.engine.zero_three
    if zero is None or not zero.root_reduced_bytes or not stage.problem.trains_all_weights:
        return ()
    root = sum(_ends(stage)) * stage.problem.under_way(zero.root_reduced_bytes)
    beside = total([item for item in first_layer if item.name != ItemName.GRADIENTS_NOT_YET_REDUCED])
    more = np.maximum(0.0, np.where(_sharded(stage), root, 0.0) - beside)
    return (Item(ItemName.GRADIENT_OF_THE_ROOT_UNIT, more, zero.source),)


def gathered_bytes(stage: StageParameters, parameters: Floats) -> Floats:
    """Bytes of these parameters gathered on a rank; none where nothing is sharded. [bytes]"""
    zero = stage.problem.engine.zero_three
    each = stage.problem.under_way(zero.gathered_bytes) if zero is not None else 0.0
    return np.where(_sharded(stage), parameters * each, 0.0)


def sharded_ends(stage: StageParameters) -> Floats:
    """Parameters of embedding and head on one rank of the stage, which the root unit holds."""
    return np.asarray(sum(_ends(stage)))


def _ends(stage: StageParameters) -> tuple[Floats, Floats]:
    """(embedding, head) parameters of the stage on one rank; a tied table is the embedding alone.

    A vision tower's blocks are units of their own, smaller than a layer; its projector stays with the root.

    Source: transformers 5.23.0 modeling_utils.py lines 1305 to 1325 and models/qwen2_5_vl/modeling_qwen2_5_vl.py line
    865 (_no_split_modules names Qwen2_5_VLVisionBlock), which accelerate 1.15.0 wraps (utils/fsdp_utils.py line 942).
    """
    p = stage.problem.parameters
    embedding, head = stage.end_parameters
    embedding = embedding - (p.vision - p.projector)
    return stage.is_first * embedding, stage.is_last * head


def _sharded(stage: StageParameters) -> Floats:
    zero = stage.problem.engine.zero_three
    away = zero is not None and zero.on_host != "nothing"
    return np.asarray((stage.layouts.zero_stage >= 3) & ((stage.shards[0] > 1) | away))
