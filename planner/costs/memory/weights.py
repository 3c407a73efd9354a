"""Weights of one rank of a pipeline stage: what it holds of them, and what of it is under way from and to the host."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.problem.layouts import Floats

FROZEN_TOWER = (
    "frozen: gradients, buckets and optimizer state are made of what requires a gradient: Megatron-LM core_v0.19.0 "
    "core/distributed/distributed_data_parallel.py and core/optimizer/__init__.py; deepspeed 0.19.8 runtime/engine.py "
    "and runtime/zero (flat copies of the optimizer's groups alone); transformers 5.23.0 trainer.py, create_optimizer"
)


def sharded_weights(stage: StageParameters) -> tuple[Item, ...]:
    """Weights that a rank holds, on the GPU or on the host: of a frozen base, and those that train. [bytes]"""
    problem, states = stage.problem, stage.problem.engine.states
    nothing, ends = 0.0 * stage.layers, stage.all_ends
    if problem.trains_all_weights:
        weights = stage.sharded(stage.trainable, 3) * problem.weight_bytes
        if states.fp8_weights and problem.precision.compute == "fp8":
            wider = problem.precision.weight_bytes - problem.weight_bytes
            weights = weights + stage.sharded((stage.ends, nothing), 3) * wider
        return (Item(ItemName.WEIGHTS, weights, states.source), *_frozen_tower(stage))
    base = problem.base_precision
    inner = stage.parameters[0] - ends, stage.parameters[1]
    few_bits = problem.precision.weight_bytes if states.frozen_ends_bytes is None else states.frozen_ends_bytes
    outer_bytes = problem.base_weight_bytes if base.trainable else few_bits
    packed = problem.base_weight_bytes - _scales_bytes(stage)
    frozen = stage.sharded(inner, 3) * packed + stage.sharded((ends, nothing), 3) * outer_bytes
    weights = stage.sharded((stage.adapters[0], nothing), 3) * problem.adapter_weight_bytes
    weights = weights + stage.sharded((stage.trained_tables, nothing), 3) * problem.weight_bytes
    source = states.source if problem.base_as_weights else f"catalogs/precisions/{base.id}.yaml"
    return (
        Item(ItemName.FROZEN_BASE_WEIGHTS, frozen, source),
        Item(ItemName.WEIGHTS, weights, states.source),
    )


def _frozen_tower(stage: StageParameters) -> tuple[Item, ...]:
    """A vision tower that stays frozen while the rest trains: weights alone, cut where weights are. [bytes]"""
    problem = stage.problem
    if not problem.frozen_parameters:
        return ()
    held = stage.sharded((stage.frozen_tower, 0.0 * stage.layers), 3) * problem.frozen_bytes
    return (Item(ItemName.FROZEN_TOWER_WEIGHTS, held, FROZEN_TOWER),)


def _scales_bytes(stage: StageParameters) -> Floats:
    """Bytes a weight of a frozen base's scales, where they lie whole beside sharded weights; 0 elsewhere."""
    problem, lay = stage.problem, stage.layouts
    apart = (lay.data_parallel * lay.context_parallel > 1) | problem.weights_on_host
    scales = 0.0 if problem.base_as_weights else problem.base_precision.scales_bytes
    return np.asarray(scales * (lay.zero_stage >= 3) * apart)


def weights_here(stage: StageParameters) -> tuple[Item, ...]:
    """Weights that a rank holds on the GPU: nothing of shards that wait on the host but a frozen base's scales. [bytes]

    Scales of a base in few bits are no part of its parameter, and lie whole on each GPU that holds shards of it.
    """
    problem = stage.problem
    away = stage.layouts.zero_stage >= 3 if problem.weights_on_host else False
    items = [Item(i.name, np.where(away, 0.0, i.amount), i.source) for i in sharded_weights(stage)]
    if not problem.trains_all_weights and problem.base_precision.scales_bytes:
        frozen, *others = items
        scaled = stage.parameters[0] - stage.all_ends + stage.parameters[1]
        items = [Item(frozen.name, frozen.amount + scaled * _scales_bytes(stage), frozen.source), *others]
    return tuple(items)


def cached_fp8_copies(stage: StageParameters) -> tuple[Item, ...]:
    """fp8 copies of 16-bit layers' weights, kept from micro-batch to micro-batch and from step to step. [bytes]

    Frozen weights are cast as trained ones are; embedding and head are not.

    Source: Megatron-LM core/extensions/transformer_engine.py lines 1338 to 1344 @d98e8a64d (a micro-batch is called the
    first or not, unless disable_parameter_transpose_cache); TransformerEngine pytorch/module/base.py, quantize_weight
    with `cache` at d0067d0da: a copy is made once and written over.
    """
    problem, states = stage.problem, stage.problem.engine.states
    if not _cast_to_fp8(stage) or states.fp8_copies != "cached":
        return ()
    copies = (stage.parameters[0] - stage.all_ends + stage.parameters[1]) * problem.fp8_copies
    return (Item(ItemName.FP8_COPIES_OF_WEIGHTS, copies, states.source),)


def _cast_to_fp8(stage: StageParameters) -> bool:
    """Whether fp8 products take copies of layers' weights that are kept in 16 bits."""
    problem = stage.problem
    kept = problem.engine.states.fp8_weights or not (problem.trains_all_weights or problem.base_precision.trainable)
    return problem.precision.compute == "fp8" and not kept


def passing_fp8_copies(stage: StageParameters, name: str, in_flight: Floats) -> tuple[Item, ...]:
    """fp8 copies that each micro-batch makes for itself: of kept layers they wait for its backward pass. [bytes]

    Those of a recomputed layer are gone with its forward pass and lie there again while it is rebuilt; where modules of
    a layer are recomputed all of it counts as kept (the safe side).

    Source: TransformerEngine v2.18 pytorch/module/linear.py lines 415 to 446 (rows and columns at once where the input
    needs a gradient), 597 to 619 (saved for backward) and 1883 (no cache where no micro-batch is called the first).
    """
    if not _cast_to_fp8(stage) or stage.problem.engine.states.fp8_copies != "of each micro-batch":
        return ()
    p = stage.problem.parameters
    layer = p.moe_layer or p.dense_layer
    each = sum(stage.layer_share(layer)) * stage.problem.fp8_copies
    waiting = (in_flight - (name == "recomputation")) * (stage.layers - stage.recomputed) * each
    rebuilt = each * (name == "recomputation")
    shape = np.zeros(np.broadcast_shapes(np.shape(waiting), np.shape(rebuilt), np.shape(stage.layers)))
    return (Item(ItemName.FP8_COPIES_OF_WEIGHTS, waiting + rebuilt + shape, stage.problem.engine.states.source),)


def shards_in_transit(stage: StageParameters, unit: Floats) -> tuple[Item, ...]:
    """The shard of one unit's weights on its way in, and of its gradients on their way out, where shards wait on the
    host. [bytes]"""
    problem, zero = stage.problem, stage.problem.engine.zero_three
    if zero is None or not problem.weights_on_host:
        return ()
    trains = problem.trains_all_weights
    held = problem.weight_bytes if trains else problem.base_weight_bytes
    out = problem.gradient_bytes * (problem.gradients_leave_at_once and trains)
    moved = np.where(stage.layouts.zero_stage >= 3, unit / stage.shards[0] * (held + out), 0.0)
    return (Item(ItemName.SHARDS_BETWEEN_HOST_AND_GPU, moved, zero.source),)


def reduction_buckets(stage: StageParameters) -> Floats:
    """Buckets as large as all gradients, in the format of what trains: adapters in their own. [bytes]

    Source: torch/csrc/distributed/c10d/reducer.cpp, initialize_buckets. Torch 2.13.0's own reducer, run over a frozen
    bf16 matrix: 4,096 bytes for 1,024 parameters of fp32 adapters, 4,096 for 2,048 of a bf16 head beside them.
    """
    problem, (dense, experts) = stage.problem, stage.trainable
    several = stage.layouts.data_parallel * stage.layouts.context_parallel > 1
    stated = problem.under_way(problem.engine.states.reduction_bucket_bytes)
    buckets = (dense + experts) * stated
    if problem.scenario.adapter is not None:
        buckets = buckets + (dense - stage.trained_tables) * max(0.0, problem.adapter_gradient_bytes - stated)
    return np.asarray(buckets * several)
