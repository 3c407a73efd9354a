"""Seconds of collectives: bus-bandwidth conversions, measured curves, rings, and the model across nodes.

Sizes follow nccl-tests: all-reduce counts the buffer, all-gather the whole output, reduce-scatter the whole input,
all-to-all everything one rank sends. Bandwidth is decimal GB/s. Scalars or NumPy arrays alike in, the same shape out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.units import GB, US_PER_S

Array: TypeAlias = NDArray[np.float64]
Values: TypeAlias = float | Array
Operation: TypeAlias = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]

RING_BASE_US = 8.4
"""Start of a ring in NCCL's own tuning model, protocol Simple (NCCL src/graph/tuning.cc at 01afd20a)."""
ACROSS_BASE_US = 30.0
ACROSS_DOUBLING_US = 90.0
"""Latency of an all-reduce across N nodes: 30 us + 90 us log2 N; least mean error over 30 published points."""
ONE_PASS = 0.5
"""All-gather, reduce-scatter and all-to-all pass the network once, an all-reduce twice."""
SLOW_START = 2.0
"""Factor on that latency for EFA and GPUDirect-TCPX(O): 0.42 to 0.49 ms at 4 nodes, 0.12 ms for all-gather at 2."""
DECLINE_PER_DOUBLING = 0.0035
"""Loss of peak bus bandwidth a doubling of nodes beyond 4: 376 to 366 from 32 to 8192 GPUs."""
REFERENCE_NODES = 4
"""Number of nodes at which peak bus bandwidths between nodes are published."""
LATENCY_PER_DOUBLING = 0.5
"""Growth of small-message time a doubling of ranks beyond the largest measured group (B200, 4 to 8: 0.4 to 0.7)."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Measured time of one collective over one group, by message size."""

    op: Operation
    num_gpus: int
    size_bytes: Array
    time_ns: Array
    """As measured. [ns]"""

    @cached_property
    def seconds(self) -> Array:
        """Time that interpolation uses: a larger message never takes less than a smaller one was seen to take. [s]"""
        return np.asarray(np.maximum.accumulate(self.time_ns) * 1e-9, dtype=np.float64)

    @cached_property
    def logs(self) -> tuple[Array, Array]:
        """Logarithms of size and seconds."""
        return np.log(self.size_bytes), np.log(self.seconds)

    @cached_property
    def last_bus_gb_per_s(self) -> float:
        """Bus bandwidth at the largest measured size. [GB/s]"""
        size, seconds = float(self.size_bytes[-1]), float(self.seconds[-1])
        return float(bus_bandwidth_gb_per_s(op=self.op, num_gpus=self.num_gpus, size_bytes=size, seconds=seconds))


def bus_factor(*, op: Operation, num_gpus: int) -> float:
    """Share of the message that a ring puts on the wire: 2(n-1)/n for all-reduce, (n-1)/n for the others. [1]"""
    return (2.0 if op == "all_reduce" else 1.0) * (num_gpus - 1) / num_gpus


def bus_bandwidth_gb_per_s(*, op: Operation, num_gpus: int, size_bytes: Values, seconds: Values) -> Values:
    """Bus bandwidth as nccl-tests prints it, `S f / T`. [GB/s]"""
    return size_bytes * bus_factor(op=op, num_gpus=num_gpus) / seconds / GB


def bus_seconds(*, op: Operation, num_gpus: int, size_bytes: Values, bus_gb_per_s: float) -> Values:
    """Seconds at a bus bandwidth, `S f / B`; no latency. [s]

    8 GPUs, 64 MiB, 362 GB/s: 2 * 7/8 * 67.1 MB / 362 GB/s = 324 us.
    """
    return size_bytes * bus_factor(op=op, num_gpus=num_gpus) / (bus_gb_per_s * GB)


def curve_seconds(curve: Curve, *, size_bytes: Values, peak_gb_per_s: float | None = None) -> Values:
    """Seconds of a message from a measured curve, log-log interpolated. [s]

    Under the smallest measured size the latency stays. Over the largest, each further byte moves at `peak_gb_per_s`,
    the published bus bandwidth of very large messages, or at the last measured one if that is higher or nothing is
    published: H200 460 GB/s at 512 MiB becomes 479 at 16 GiB with a peak of 480 (published: 480).
    """
    log_size, log_seconds = curve.logs
    size = np.maximum(np.asarray(size_bytes, dtype=np.float64), 1.0)
    seconds = np.exp(np.interp(np.log(size), log_size, log_seconds))
    peak = max(peak_gb_per_s or 0.0, curve.last_bus_gb_per_s)
    beyond = np.maximum(size - curve.size_bytes[-1], 0.0)
    return like(seconds + bus_seconds(op=curve.op, num_gpus=curve.num_gpus, size_bytes=beyond, bus_gb_per_s=peak))


def between_seconds(
    low: Curve,
    high: Curve,
    *,
    num_gpus: int,
    size_bytes: Values,
    at: float,
    low_peak_gb_per_s: float | None = None,
    high_peak_gb_per_s: float | None = None,
) -> Values:
    """Seconds for a group size between two measured ones. [s]

        B = B_low + at (B_high - B_low),  T = S f(n) / B

    Bus bandwidths, not times, because they carry the ring and the in-switch reduction alike. At least the time of the
    smaller group where a larger one gains nothing (`at` = 0).
    """
    size = np.maximum(np.asarray(size_bytes, dtype=np.float64), 1.0)
    below = curve_seconds(low, size_bytes=size, peak_gb_per_s=low_peak_gb_per_s)
    above = curve_seconds(high, size_bytes=size, peak_gb_per_s=high_peak_gb_per_s)
    slow = bus_bandwidth_gb_per_s(op=low.op, num_gpus=low.num_gpus, size_bytes=size, seconds=below)
    fast = bus_bandwidth_gb_per_s(op=high.op, num_gpus=high.num_gpus, size_bytes=size, seconds=above)
    return like(size * bus_factor(op=low.op, num_gpus=num_gpus) / ((slow + at * (fast - slow)) * GB))


def beyond_seconds(
    curve: Curve, *, num_gpus: int, size_bytes: Values, bus_gb_per_s: float, curve_peak_gb_per_s: float | None = None
) -> Values:
    """Seconds for a group larger than any measured, inside one NVLink domain. [s]

        T = T_measured(S) * f(n)/f(n0) * B(n0)/B(n) + 0.5 log2(n/n0) T_measured(0)

    The measured shape, rescaled to the published large-message bandwidth of the larger group, plus latency that grows
    with the logarithm of the ranks. GB200 NVL72: 32 GPUs reach 850 GB/s (NVLS) or 680 (ring), measured curves end at
    4 GPUs.
    """
    ratio = bus_factor(op=curve.op, num_gpus=num_gpus) / bus_factor(op=curve.op, num_gpus=curve.num_gpus)
    ratio *= max(curve_peak_gb_per_s or 0.0, curve.last_bus_gb_per_s) / bus_gb_per_s
    latency = LATENCY_PER_DOUBLING * np.log2(num_gpus / curve.num_gpus) * float(curve.seconds[0])
    measured = curve_seconds(curve, size_bytes=size_bytes, peak_gb_per_s=curve_peak_gb_per_s)
    return like(measured * ratio + latency)


def ring_seconds(*, op: Operation, num_gpus: int, size_bytes: Values, bus_gb_per_s: float, hop_us: float) -> Values:
    """Seconds of a ring where nothing was measured by size: `8.4 us + steps * hop + S f / B`. [s]

    steps = 2(n-1) for all-reduce, n-1 for the others; hop is 3.4 us over NVLink, 5.7 over PCIe.
    Source: NCCL src/graph/tuning.cc at 01afd20a, protocol Simple. Fits to measured curves start at 16, 22 and 33 us
    for 2, 4 and 8 GPUs on NVLink; this gives 15, 29 and 56.
    """
    steps = (2 if op == "all_reduce" else 1) * (num_gpus - 1)
    start = (RING_BASE_US + steps * hop_us) / US_PER_S
    return start + bus_seconds(op=op, num_gpus=num_gpus, size_bytes=size_bytes, bus_gb_per_s=bus_gb_per_s)


NETWORK_HOP_US = 14.0
NVLINK_HOP_US = 3.4
"""One step of a ring across nodes and inside one (NCCL's tuning model, protocol Simple)."""


def ring_latency_seconds(*, num_gpus: int, num_nodes: int) -> float:
    """Latency of a one-pass ring, `nodes * 14 us + (GPUs - nodes) * 3.4 us`: gathers and scatters have no tree. [s]

    512 GPUs on 64 nodes: 2.4 ms. A cluster whose all-gather of one size falls from 175 to 44 GB/s between 64 and 512
    GPUs (nanotron's start-up test, H100 over EFA) shows this linear growth.
    """
    return (num_nodes * NETWORK_HOP_US + (num_gpus - num_nodes) * NVLINK_HOP_US) / US_PER_S


def across_latency_seconds(*, op: Operation, num_nodes: int, slow_start: bool = False) -> float:
    """Latency of a collective across nodes: `30 us + 90 us log2 N` for all-reduce, half for one pass. [s]

    Derived from H100 InfiniBand plots (arXiv 2411.13055; GTC24 S62129): 0.19 ms at 4 nodes, 0.65 at 64, 0.74 at 512.
    `slow_start` doubles it, for EFA and GPUDirect-TCPX(O).
    """
    base = ACROSS_BASE_US + ACROSS_DOUBLING_US * float(np.log2(num_nodes))
    return base * (1.0 if op == "all_reduce" else ONE_PASS) * (SLOW_START if slow_start else 1.0) / US_PER_S


def across_bus_gb_per_s(*, nic_gb_per_s: float, efficiency: float, num_nodes: int) -> float:
    """Large-message bus bandwidth across nodes: the NICs of the group in one node, less 0.35 % a doubling.

    Published at 4 nodes over the line rate of all NICs: 0.89 to 0.96, e.g. 370 of 400 GB/s on DGX H100. [GB/s]
    """
    doublings = max(0.0, float(np.log2(num_nodes / REFERENCE_NODES)))
    return nic_gb_per_s * efficiency / (1 + DECLINE_PER_DOUBLING * doublings)


def across_seconds(
    *,
    op: Operation,
    num_gpus: int,
    num_nodes: int,
    size_bytes: Values,
    bus_gb_per_s: float,
    slow_start: bool = False,
) -> Values:
    """Seconds of an all-reduce, all-gather or reduce-scatter across nodes as one flat ring a NIC. [s]

        T = alpha(N) + S f(n) / B

    B is the slower of the network (`across_bus_gb_per_s`) and the ring inside a node. NCCL overlaps the two, so the
    phases of a hierarchical scheme do not add: run one after the other they would give 200 to 220 GB/s on DGX H100,
    measured 346 to 376.

    Error against published bus bandwidths, with the NIC efficiency of one catalog figure for all of a fabric: H100
    InfiniBand, 32 to 8192 GPUs, 16 MiB to 16 GiB, 30 points: mean 5 %, worst 18 % (32 GPUs, 256 MiB); 4 x P6-B200 over
    EFA, 1 MiB to 16 GiB, 8 points: mean 7 %, worst 27 % (256 MiB, where the table itself dips); all-gather on 2 x
    a3-mega over TCPXO, 6 points: worst 5 %. Below 1 MiB nothing measured across nodes backs it: an upper bound.
    """
    latency = across_latency_seconds(op=op, num_nodes=num_nodes, slow_start=slow_start)
    if op in ("all_gather", "reduce_scatter"):
        latency = max(latency, ring_latency_seconds(num_gpus=num_gpus, num_nodes=num_nodes))
    return latency + bus_seconds(op=op, num_gpus=num_gpus, size_bytes=size_bytes, bus_gb_per_s=bus_gb_per_s)


def across_all_to_all_seconds(
    *,
    num_gpus: int,
    num_nodes: int,
    gpus_per_node: int,
    size_bytes: Values,
    nic_gb_per_s_per_gpu: float,
    slow_start: bool = False,
) -> Values:
    """Seconds of an all-to-all across nodes: what leaves the node goes through the GPU's own NIC share. [s]

        T = alpha(N) / 2 + S (n - g) / n / nic

    `nic_gb_per_s_per_gpu` is the rate reached. Published for plain NCCL on 4 nodes: 24 GB/s of bus bandwidth with 8 x
    200G and 48 with 8 x 400G (GTC25 S72583); as 24/31 of it crosses, both NICs run at 0.74 of line rate. DeepEP over
    8 x 400G: 90 logical GB/s on 2 nodes, 61 on 4, that is 0.96 of line rate.
    """
    crossing = size_bytes * (num_gpus - gpus_per_node) / num_gpus
    latency = across_latency_seconds(op="all_to_all", num_nodes=num_nodes, slow_start=slow_start)
    return latency + crossing / (nic_gb_per_s_per_gpu * GB)


def point_to_point_seconds(*, size_bytes: Values, link_gb_per_s: float, efficiency: float, latency_us: float) -> Values:
    """Seconds of one send: `latency + S / (efficiency * link)`. [s]

    Reached: 0.83 to 0.91 of NVLink (A100 274 of 300, H100 376 of 450, GB200 746 of 900), 0.88 of PCIe 5, 0.9 of a NIC.
    """
    return latency_us / US_PER_S + size_bytes / (link_gb_per_s * efficiency * GB)


def like(result: Values) -> Values:
    """A plain float for a scalar result."""
    return result if isinstance(result, np.ndarray) and result.ndim else float(result)
