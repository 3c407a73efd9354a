"""Buffers of NCCL's communicators, outside the allocator.

Collectives take about as much of every group, measured: 342 to 392 MiB, of which a ring's 24 channels of 12 MiB are
288. Sends and receives take buffers a peer (`formulas/communicators.py`): pipelines, rings of keys and values (each
neighbour has a communicator of its own where torch's sends are not batched), and all-to-all, which sends to everyone.
"""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.time.strides import pipeline_stride
from planner.formulas.communicators import send_receive_bytes
from planner.problem.layouts import Floats, Ints
from planner.units import GIB

SOURCE = "formulas/communicators.py: NCCL v2.27.7, buffers of each channel and peer"


def nccl_buffers(stage: StageParameters) -> tuple[Item, Item]:
    """Of collectives, and of sends and receives; [rows, stages]. [bytes]"""
    lay, over = stage.layouts, stage.problem.engine.overhead
    groups = sum(
        (degree > 1).astype(float)
        for degree in (
            lay.tensor_parallel,
            lay.pipeline_parallel,
            lay.data_parallel * lay.context_parallel,
            lay.context_parallel,
            lay.expert_parallel,
        )
    )
    shape = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(stage.stage)))
    sent = _pipeline(stage) + _context(stage) + _experts(stage)
    return (
        Item(ItemName.NCCL_BUFFERS, shape + groups * over.nccl_gib_per_group * GIB, over.source),
        Item(ItemName.NCCL_SEND_AND_RECEIVE_BUFFERS, shape + sent, SOURCE),
    )


def _in_node(stage: StageParameters, size: Ints, stride: Ints) -> Ints:
    """Ranks of a group in one node, itself included."""
    width = stage.problem.node.gpus_per_node
    return np.asarray(np.clip(-(-width // stride), 1, size))


def _bytes(stage: StageParameters, peers: Ints, spans: Ints, size: Ints) -> Floats:
    """Of one communicator of so many ranks, with so many peers in its node."""
    gpu, kind = stage.problem.gpu, stage.problem.node.links.kind
    near = peers * gpu.peer_to_peer
    switched = (kind == "switch") | ((kind == "bridged_pairs") & (size == 2))
    return (gpu.vendor == "nvidia") * send_receive_bytes(near, spans, switched)


def _pipeline(stage: StageParameters) -> Floats:
    lay = stage.layouts
    size, wraps = lay.pipeline_parallel, lay.virtual_pipeline > 1
    inside = _in_node(stage, size, pipeline_stride(stage.problem, lay))
    neighbours = np.where(wraps, 2, (stage.stage > 0) + 1 * (stage.stage < size - 1))
    return _bytes(stage, np.minimum(neighbours, inside - 1), (inside < size) & (size > 1), size)


def _context(stage: StageParameters) -> Floats:
    lay, engine = stage.layouts, stage.problem.engine
    size = lay.context_parallel
    inside = _in_node(stage, size, lay.tensor_parallel)
    spans = (inside < size) & (size > 1)
    if engine.context_by_heads:
        return _bytes(stage, inside - 1, spans, size)
    if not engine.context_by_sends:
        return np.zeros(np.shape(size))
    # A neighbour's communicator has two ranks, so that one inside the node has all channels wherever the ring goes.
    pair = np.full(np.shape(size), 2)
    near = _bytes(stage, np.minimum(2, inside - 1), 0 * size > 0, pair)
    return near + _bytes(stage, 0 * size, spans, pair)


def _experts(stage: StageParameters) -> Floats:
    lay, engine = stage.layouts, stage.problem.engine
    if engine.timing.expert_deduplication:
        return np.zeros(np.shape(lay.expert_parallel))
    size = lay.expert_parallel
    inside = _in_node(stage, size, lay.expert_tensor_parallel)
    return _bytes(stage, inside - 1, (inside < size) & (size > 1), size)
