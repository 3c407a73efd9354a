"""GPU memory that NCCL's sends and receives take, connection by connection.

Whoever sends to a rank, or receives from it, is connected with it over several channels, and each connection has
buffers of its own. Inside a node the receiver allocates those of all three protocols and the sender a page of flags (on
A100 the copy is a read and the sender holds the large buffer: 6 + 6 MiB, the same sum). Between nodes all connections
of a communicator share a pool a direction. Nothing is allocated before the first send.

Source: NVIDIA/nccl v2.27.7-1 src/init.cc lines 618 to 630 (buffers, chunks), src/include/device.h lines 25, 93, 94,
110, 111, src/transport/p2p.cc lines 377 to 380 and 445 to 448 (one allocation a connection, in pages),
src/graph/paths.cc `ncclTopoGetNchannels` and `ncclTopoComputeP2pChannels`, src/enqueue.cc lines 2295 to 2332 (all
channels of a peer are connected at once), src/transport/net.cc lines 527 to 547 (pools). Inside a node the same in
v2.21.5-1 and v2.30.7-1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.units import KIB, MIB

STEPS = 8
LL_BYTES = 8 * 512 * STEPS * 16
"""Lines a thread, threads, steps, bytes a line."""
LL128_BYTES = 120 * 640 * STEPS * 8
"""Words a thread, threads, steps, bytes a word."""
SIMPLE_BYTES = 4 * MIB
FLAGS_BYTES = 4 * KIB
PAGE_BYTES = 2 * MIB
SWITCH_CHANNELS, FEW_CHANNELS = 32, 2
"""To one peer: twice the NVLinks between both, at most the communicator's 24 to 32 channels, as a power of two; 2 over
PCIe, and in a communicator that spans nodes."""
POOL_STEPS, POOL_CHUNK_BYTES = 16, 128 * KIB
"""Of each channel in the pool for what leaves a node."""


def connection_bytes() -> int:
    """Both ends' buffers on one rank that sends to a peer and receives from it over one channel. [bytes]"""
    receiving = LL_BYTES + LL128_BYTES + SIMPLE_BYTES + FLAGS_BYTES
    return sum(-(-each // PAGE_BYTES) * PAGE_BYTES for each in (receiving, FLAGS_BYTES))


def send_receive_bytes(
    peers: NDArray[Any], spans_nodes: NDArray[Any], behind_a_switch: NDArray[Any] | bool
) -> NDArray[np.float64]:
    """Of one communicator in which a rank exchanges with `peers` others of its node, and with further ones. [bytes]"""
    channels = np.where(np.asarray(behind_a_switch) & ~np.asarray(spans_nodes), SWITCH_CHANNELS, FEW_CHANNELS)
    pools = 2 * SWITCH_CHANNELS * POOL_STEPS * POOL_CHUNK_BYTES
    return np.asarray(peers * channels * float(connection_bytes()) + spans_nodes * pools, dtype=float)
