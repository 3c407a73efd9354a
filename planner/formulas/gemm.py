"""Seconds of a matrix product from a measured grid, of the same device or of a relative.

Shapes follow a linear layer: `[m, k] x [k, n]`, m tokens, k input width, n output width. Every function takes scalars
or NumPy arrays alike and returns the same shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.units import GB, TERA

Array: TypeAlias = NDArray[np.float64]
Values: TypeAlias = float | Array

SIZEOF_BF16 = 2
REMEMBERED_SIZE = 1024
"""Shapes of at most so many products are remembered, beside what they take."""
NO_SHAPE = "a matrix product needs m, n and k of at least 1"


@dataclass(frozen=True, eq=False)
class GemmGrid:
    """A measured table of bf16 product times on one device."""

    device: str
    m: Array
    n: Array
    k: Array
    latency_ns: Array
    """As measured, indexed [m, n, k]; nan where the sweep has no value. [ns]"""
    peak_tflops: float
    """Dense bf16 peak of the device, vendor figure. [TFLOP/s]"""
    memory_gb_per_s: float
    """Memory bandwidth of the device, vendor figure. [GB/s]"""
    source: str
    date: str

    @cached_property
    def log_seconds(self) -> Array:
        """Natural logarithm of the seconds that interpolation uses, indexed [m, n, k].

        Missing corners are filled by `t[i, j] = t[i, j-1] * t[i-1, j] / t[i-1, j-1]` in (n, k). A shape that was
        measured slower than some shape at least as large in all three extents takes that one's time, because it could
        be padded to it: 4 to 12 % of the points of a device move, the median of those by 2 to 12 %. More work is
        then never faster.
        """
        table = self.latency_ns * 1e-9
        missing = np.argwhere(np.isnan(table))
        for i, j, h in missing:
            table[i, j, h] = table[i, j, h - 1] * table[i, j - 1, h] / table[i, j - 1, h - 1]
        for axis in range(3):
            table = np.flip(np.minimum.accumulate(np.flip(table, axis), axis=axis), axis)
        return np.asarray(np.log(table), dtype=np.float64)

    @cached_property
    def log_steps(self) -> tuple[Array, Array, Array]:
        """Natural logarithm of each extent over the one before it, of m, n and k."""
        of_m, of_n, of_k = (np.log(axis[1:] / axis[:-1]) for axis in (self.m, self.n, self.k))
        return of_m, of_n, of_k

    @cached_property
    def floor_seconds(self) -> float:
        """The fastest product of the sweep: launch and one tile. [s]"""
        return float(np.exp(self.log_seconds.min()))

    @cached_property
    def sustained_fraction(self) -> float:
        """Median share of the dense peak over large products, n and k from 2048 to 16384, m from 4096 to 16384."""
        m, n, k = np.meshgrid(self.m, self.n, self.k, indexing="ij")
        flop = 2 * m * n * k
        large = (m >= 4096) & (m <= 16384) & (n >= 2048) & (n <= 16384) & (k >= 2048) & (k <= 16384)
        share = flop / np.exp(self.log_seconds) / (self.peak_tflops * TERA)
        return float(np.median(share[large]))


def gemm_flop(*, m: Values, n: Values, k: Values) -> Values:
    """Floating-point operations of one product, `2 m n k`. [FLOP]"""
    return 2.0 * m * n * k


def gemm_bytes(*, m: Values, n: Values, k: Values, element_bytes: float = SIZEOF_BF16) -> Values:
    """Bytes that one product reads and writes once, `e (m k + k n + m n)`. [bytes]"""
    return element_bytes * (1.0 * m * k + 1.0 * k * n + 1.0 * m * n)


def grid_gemm_seconds(grid: GemmGrid, *, m: Values, n: Values, k: Values) -> Values:
    """Seconds of `[m, k] x [k, n]` in bf16 on the device of the grid. [s]

        inside the grid    log t trilinear in (log m, log n, log k), the same as interpolating efficiency so
        an extent below    t(clamped) * bytes(shape) / bytes(clamped), at least the fastest product of the sweep:
                           thin products are bound by memory, then by the launch
        an extent above    t(clamped) * flop(shape) / flop(clamped): constant efficiency

    Assumes warm weights are not cached between calls and a device at its power limit, as in the sweep. More work is
    never faster. Source: aiconfigurator sweeps at 095f58a5 (2026-08-21). Published number: H100 reaches 0.77 of 989
    TFLOP/s at m = 2048 to 4096 (median over n, k of 2048 to 16384).
    """
    shapes = [np.asarray(each, dtype=np.float64) for each in (m, n, k)]
    if max(each.size for each in shapes) > REMEMBERED_SIZE:
        return _like(_interpolated(grid, *shapes), m, n, k)
    return _like(_remembered(grid, *((each.shape, each.tobytes()) for each in shapes)), m, n, k)


@lru_cache(maxsize=2_048)
def _remembered(grid: GemmGrid, *shapes: tuple[tuple[int, ...], bytes]) -> Array:
    """`_interpolated` of arrays that are given by shape and bytes: a search asks for the same few products again."""
    found = _interpolated(grid, *(np.frombuffer(held).reshape(shape) for shape, held in shapes))
    found.flags.writeable = False
    return found


def _interpolated(grid: GemmGrid, shape_m: Array, shape_n: Array, shape_k: Array) -> Array:
    """The formula of `grid_gemm_seconds`. [s]"""
    if min(each.min(initial=1.0) for each in (shape_m, shape_n, shape_k)) < 1:
        raise ValueError(NO_SHAPE)
    inside_m, low_m, at_m = _cell(grid.m, grid.log_steps[0], shape_m)
    inside_n, low_n, at_n = _cell(grid.n, grid.log_steps[1], shape_n)
    inside_k, low_k, at_k = _cell(grid.k, grid.log_steps[2], shape_k)
    # The eight corners lie in the flat table at fixed distances from the lowest one.
    table, along_m, along_n = grid.log_seconds.reshape(-1), len(grid.n) * len(grid.k), len(grid.k)
    lowest = low_m * along_m + low_n * along_n + low_k
    log_seconds: Values = 0.0
    for step_m, weight_m in ((0, 1 - at_m), (along_m, at_m)):
        for step_n, weight_n in ((0, 1 - at_n), (along_n, at_n)):
            plane = table[lowest + (step_m + step_n)]
            above = table[lowest + (step_m + step_n + 1)]
            log_seconds = log_seconds + weight_m * weight_n * (plane + at_k * (above - plane))
    raised_m = np.maximum(shape_m, grid.m[0])
    raised_n = np.maximum(shape_n, grid.n[0])
    raised_k = np.maximum(shape_k, grid.k[0])
    more = raised_m * raised_n * raised_k / (inside_m * inside_n * inside_k)
    less = gemm_bytes(m=shape_m, n=shape_n, k=shape_k) / gemm_bytes(m=raised_m, n=raised_n, k=raised_k)
    return np.asarray(np.maximum(np.exp(log_seconds) * more * less, grid.floor_seconds))


@lru_cache(maxsize=64)
def scaled_grid(
    grid: GemmGrid,
    *,
    peak_tflops: float,
    memory_gb_per_s: float,
    sustained_fraction: float | None = None,
    element_bytes: float = SIZEOF_BF16,
) -> GemmGrid:
    """The grid of a device that has none of its own, from a relative's. [ns]

        t = floor + (t_grid - floor) * roof(this device) / roof(device of the grid)
        roof = sqrt((flop / peak)^2 + (bytes / bandwidth)^2)

    so a product bound by compute scales with peak FLOP/s, one bound by memory with bandwidth, and the launch stays.
    Where this device's own sustained fraction of its peak is known, the compute part is corrected by it. With another
    number format, give that format's peak and element size: fp8 products then borrow the efficiency of bf16 ones.

    Uncertainty, measured by predicting each measured device from a relative over its 3,240 shapes, relative error as
    median / p90, first without and then with the sustained fraction (which is taken from the device itself):

        A100 from H100       .11 / .32   .11 / .34      B300 from B200       .19 / .30   .04 / .14
        H100 from H200       .06 / .22   .06 / .20      GB200 from B200      .04 / .16   .04 / .16
        H200 from H100       .06 / .20   .05 / .19      L40S from RTX PRO    .22 / .36   .11 / .37
        B200 from B300       .17 / .26   .04 / .16      RTX PRO from L40S    .23 / .53   .11 / .27
        B200 from H100       .12 / .26   .09 / .23      L40S from A100       .27 / .61   .13 / .83

    Source: derived here from the aiconfigurator sweeps at 095f58a5.
    """
    m, n, k = np.meshgrid(grid.m, grid.n, grid.k, indexing="ij")
    flop = gemm_flop(m=m, n=n, k=k)
    compute = peak_tflops * TERA
    if sustained_fraction is not None:
        compute *= sustained_fraction / grid.sustained_fraction
    moved = gemm_bytes(m=m, n=n, k=k, element_bytes=element_bytes)
    here = np.hypot(flop / compute, moved / (memory_gb_per_s * GB))
    there = np.hypot(flop / (grid.peak_tflops * TERA), gemm_bytes(m=m, n=n, k=k) / (grid.memory_gb_per_s * GB))
    floor = grid.floor_seconds
    seconds = floor + (np.exp(grid.log_seconds) - floor) * here / there
    return replace(
        grid,
        device=f"scaled from {grid.device}",
        latency_ns=np.asarray(seconds * 1e9, dtype=np.float64),
        peak_tflops=peak_tflops,
        memory_gb_per_s=memory_gb_per_s,
    )


def scaled_gemm_seconds(
    grid: GemmGrid,
    *,
    m: Values,
    n: Values,
    k: Values,
    peak_tflops: float,
    memory_gb_per_s: float,
    sustained_fraction: float | None = None,
    element_bytes: float = SIZEOF_BF16,
) -> Values:
    """Seconds of `[m, k] x [k, n]` on a device without a grid of its own; see `scaled_grid`. [s]"""
    scaled = scaled_grid(
        grid,
        peak_tflops=peak_tflops,
        memory_gb_per_s=memory_gb_per_s,
        sustained_fraction=sustained_fraction,
        element_bytes=element_bytes,
    )
    return grid_gemm_seconds(scaled, m=m, n=n, k=k)


def grouped_gemm_seconds(grid: GemmGrid, *, experts: Values, tokens_per_expert: Values, n: Values, k: Values) -> Values:
    """Seconds of one grouped product over local experts, as a fused kernel runs it. [s]

        t = floor + E * (t(tokens, n, k) - floor)

    One launch for all experts, each at the efficiency of its own shape; assumes balanced experts. Optimistic: SimuMax
    measured 0.30 of peak for grouped against 0.49 for dense products on B200, so expect 1.0 to 1.6 times this.
    """
    floor = grid.floor_seconds
    one = grid_gemm_seconds(grid, m=np.maximum(tokens_per_expert, 1.0), n=n, k=k)
    return _like(floor + experts * (one - floor), experts, tokens_per_expert, n, k)


def _cell(axis: Array, log_steps: Array, extent: Array) -> tuple[Array, NDArray[np.intp], Array]:
    """The extent clamped to the axis, the index below it, and where it lies between the two in log space."""
    inside = np.minimum(np.maximum(extent, axis[0]), axis[-1])
    low = np.minimum(np.maximum(np.searchsorted(axis, inside, side="right") - 1, 0), len(axis) - 2)
    at = np.log(inside / axis[low]) / log_steps[low]
    return inside, low, at


def _like(result: Values, *inputs: Values) -> Values:
    """A plain float where every input was a scalar."""
    return result if any(isinstance(value, np.ndarray) for value in inputs) else float(result)
