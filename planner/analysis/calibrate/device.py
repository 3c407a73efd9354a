"""Measure a machine: which products, copies, attention, collectives and layers, how often, and what comes of it.

All timing goes through `Device`, so that the arithmetic can be tested without a GPU; `torch_device` is the real one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from planner.errors import InputError, Mistake, Place
from planner.units import GB, MIB

Job = Callable[[int], list[float]]
"""Runs a piece of work so many times and returns the seconds of each. [s]"""

GEMM_M = (128, 512, 2048, 8192, 32768)
GEMM_N = (256, 1024, 2048, 4096, 8192, 16384, 51200)
GEMM_K = (256, 1024, 2048, 4096, 8192, 16384, 51200)
"""Corners of the grids in catalogs/measured, every second or third value between."""
ATTENTION = ((1, 32, 4096, 128), (1, 64, 8192, 128), (1, 32, 16384, 128), (4, 32, 2048, 64))
"""(batch, heads, tokens, head size), causal."""
COPY_BYTES = (64 * MIB, 1024 * MIB)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
MESSAGE_BYTES = tuple(512 * 4**power for power in range(11))
"""512 B to 512 MiB, sizes as nccl-tests counts them."""
LAYERS = {"small": (2048, 5632, 16), "large": (8192, 28672, 64)}
"""Hidden size, feed-forward size and heads of the decoder layers that are trained for a few steps."""
LAYER_TOKENS = 4096
WARM_UP = 2
AIM_SECONDS = 0.03
"""Time one measurement should take at least, within LEAST and MOST repeats."""
LEAST, MOST = 3, 30
SHORT_SECONDS = 200e-6
"""Work below this is timed in a row of copies: its launch takes the host longer than the work takes the GPU. [s]"""
GRAPH_REPEATS = 20
"""Copies in such a row."""


class Device(Protocol):
    """A GPU, or something that pretends to be one."""

    num_gpus: int

    def facts(self) -> dict[str, str]:
        """Name, driver, versions, clocks."""

    def total_bytes(self) -> float:
        """Memory that torch sees. [bytes]"""

    def gemm(self, m: int, n: int, k: int) -> Job:
        """One bf16 product [m, k] x [k, n]."""

    def attention(self, batch: int, heads: int, tokens: int, head_size: int, backward: bool) -> Job:
        """Causal attention forward, or forward and backward."""

    def copy(self, size_bytes: int) -> Job:
        """One copy inside device memory."""

    def collective(self, op: str, num_gpus: int, sizes: Sequence[int], repeats: int) -> list[list[float]]:
        """Seconds of a collective by size and repeat."""

    def training(self, hidden: int, feed_forward: int, heads: int, tokens: int) -> tuple[Job, Callable[[], float]]:
        """One step of two decoder layers, and the peak memory since it was made. [bytes]"""


@dataclass(frozen=True)
class Sample:
    """One measured quantity."""

    seconds: float
    """Median of the repeats. [s]"""
    spread: float
    """(90th - 10th percentile) / median."""
    repeats: int


@dataclass(frozen=True)
class Measured:
    """All that was measured on one machine."""

    facts: Mapping[str, str]
    total_bytes: float
    gemm: Mapping[tuple[int, int, int], Sample]
    attention: Mapping[tuple[int, int, int, int], tuple[Sample, Sample]]
    """Forward, and forward with backward, by (batch, heads, tokens, head size)."""
    copy: Mapping[int, Sample]
    collectives: Mapping[tuple[str, int], Mapping[int, Sample]]
    layers: Mapping[str, tuple[Sample, float]]
    """Seconds of a step and its peak bytes."""
    left_out: tuple[str, ...]
    """Parts for which no time was left."""

    @property
    def copy_gb_per_s(self) -> float:
        """Memory bandwidth of the fastest copy, bytes read and written. [GB/s]"""
        return max((2 * size / sample.seconds / GB for size, sample in self.copy.items()), default=0.0)

    @property
    def attention_tflops(self) -> float:
        """Best rate of causal attention forward, FLOP of the causal half only. [TFLOP/s]"""
        return max(
            (attention_flop(*shape) / pair[0].seconds / 1e12 for shape, pair in self.attention.items()), default=0.0
        )

    @property
    def worst_spread(self) -> float:
        """90th percentile of the spread over all products."""
        spreads = sorted(sample.spread for sample in self.gemm.values())
        return percentile(spreads, 0.9)


def attention_flop(batch: int, heads: int, tokens: int, head_size: int) -> float:
    """FLOP of causal attention forward: two products of half a tokens x tokens matrix, `2 b h s^2 d`. [FLOP]"""
    return 2.0 * batch * heads * tokens * tokens * head_size


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours, as numpy does; the values are in ascending order."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def summarised(seconds: Sequence[float]) -> Sample:
    """Median and spread of repeats."""
    ordered = sorted(seconds)
    middle = median(ordered)
    return Sample(middle, (percentile(ordered, 0.9) - percentile(ordered, 0.1)) / middle, len(ordered))


def sample(job: Job) -> Sample:
    """Warm up, then repeat for about AIM_SECONDS."""
    first = min(job(WARM_UP))
    return summarised(job(max(LEAST, min(MOST, round(AIM_SECONDS / max(first, 1e-9))))))


def queued(job: Job, row: Callable[[], Job]) -> Job:
    """The job itself; where it is short, the time of one of GRAPH_REPEATS copies in a row that is launched at once."""
    job(WARM_UP)
    if min(job(LEAST)) > SHORT_SECONDS:
        return job
    copies = row()
    return lambda repeats: [seconds / GRAPH_REPEATS for seconds in copies(repeats)]


def fastest(jobs: Mapping[str, Job], refusal: type[Exception]) -> tuple[str, Job]:
    """The quickest of several ways to the same result, by its median; those that raise `refusal` are left out.

    Raises the last refusal where every way refuses.
    """
    found: dict[str, float] = {}
    last: Exception | None = None
    for name, job in jobs.items():
        try:
            job(WARM_UP)
            found[name] = median(job(LEAST))
        except refusal as error:
            last = error
    if last is not None and not found:
        raise last
    best = min(found, key=lambda name: found[name])
    return best, jobs[best]


def measure(
    device: Device,
    *,
    limit_s: float = 600.0,
    progress: Callable[[str], None] = lambda text: None,
    clock: Callable[[], float] = time.monotonic,
) -> Measured:
    """Measure everything within a limit; products come first, what does not fit in time is left out and named.

    Raises InputError where not even the products fit.
    """
    start = clock()
    left_out: list[str] = []

    def late(part: str) -> bool:
        if clock() - start < limit_s:
            return False
        if part not in left_out:
            left_out.append(part)
        return True

    shapes = [(m, n, k) for m in GEMM_M for n in GEMM_N for k in GEMM_K]
    gemm = {}
    for place, shape in enumerate(shapes, 1):
        if late("matrix products"):
            raise InputError(
                Mistake(
                    f"{place - 1} of {len(shapes)} matrix products took {limit_s:g} s",
                    where=Place("--time-limit"),
                    because="a grid with holes would be wrong in between",
                    attempt="an idle GPU, or a larger --time-limit",
                )
            )
        progress(f"matrix products {place}/{len(shapes)}")
        gemm[shape] = sample(device.gemm(*shape))
    attention = {}
    for case in ATTENTION:
        if not late("attention"):
            progress("attention")
            attention[case] = (
                sample(device.attention(*case, backward=False)),
                sample(device.attention(*case, backward=True)),
            )
    copies = {}
    for size in COPY_BYTES:
        if not late("memory bandwidth"):
            progress("memory bandwidth")
            copies[size] = sample(device.copy(size))
    layers = {}
    for name, sizes in LAYERS.items():
        if not late("training steps"):
            progress(f"training steps, {name} layers")
            job, peak = device.training(*sizes, LAYER_TOKENS)
            layers[name] = (sample(job), peak())
    groups = [1 << power for power in range(1, 11) if 1 << power <= device.num_gpus]
    collectives: dict[tuple[str, int], dict[int, Sample]] = {}
    for count in groups:
        for op in COLLECTIVES:
            if not late("collectives"):
                progress(f"{op} over {count} GPUs")
                repeats = device.collective(op, count, MESSAGE_BYTES, 10)
                collectives[op, count] = {
                    size: summarised(each) for size, each in zip(MESSAGE_BYTES, repeats, strict=True)
                }
    return Measured(device.facts(), device.total_bytes(), gemm, attention, copies, collectives, layers, tuple(left_out))
