"""Matrix products and attention: measured points, laws, scaling, speed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from planner.errors import InputError
from planner.formulas import attention as att
from planner.formulas.gemm import grid_gemm_seconds, grouped_gemm_seconds, scaled_gemm_seconds, scaled_grid
from planner.inputs.catalog import shipped_folder
from planner.inputs.measured import MeasuredTables
from planner.schema.catalog import Gpu, Source

FOLDER = shipped_folder() / "measured"
TABLES = MeasuredTables((FOLDER,))
STEMS = ("a100_sxm", "b200_sxm", "b300_sxm", "gb200", "h100_sxm", "h200_sxm", "l40s", "rtx_pro_6000_server")


def shapes(count: int, low: float, high: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(np.floor(np.exp(rng.uniform(np.log(low), np.log(high), count))) for _ in range(3))


def test_every_device_is_there() -> None:
    assert TABLES.gemm_stems() == STEMS


# (device, m, n, k, microseconds): rows of the aiconfigurator sweep that no larger shape undercuts
MEASURED = [
    ("a100_sxm", 128, 256, 256, 4.53),
    ("a100_sxm", 4096, 4096, 4096, 548.9),
    ("h100_sxm", 2048, 4096, 4096, 93.74),
    ("h200_sxm", 4096, 4096, 4096, 176.13),
    ("b200_sxm", 8192, 4096, 4096, 172.75),
    ("l40s", 4096, 4096, 4096, 613.89),
]


@pytest.mark.parametrize(("stem", "m", "n", "k", "microseconds"), MEASURED)
def test_measured_points_are_reproduced(stem: str, m: int, n: int, k: int, microseconds: float) -> None:
    assert grid_gemm_seconds(TABLES.gemm_grid(stem), m=m, n=n, k=k) == pytest.approx(microseconds * 1e-6, rel=1e-9)


@pytest.mark.parametrize("stem", STEMS)
def test_all_points_equal_the_file_unless_a_larger_shape_was_faster(stem: str) -> None:
    grid = TABLES.gemm_grid(stem)
    m, n, k = np.meshgrid(grid.m, grid.n, grid.k, indexing="ij")
    known = ~np.isnan(grid.latency_ns)
    assert (~known).sum() == 9
    seconds = grid_gemm_seconds(grid, m=m, n=n, k=k)
    assert seconds.shape == grid.latency_ns.shape
    ratio = seconds[known] / (grid.latency_ns[known] * 1e-9)
    assert ratio.max() < 1 + 1e-9
    assert (ratio > 1 - 1e-9).mean() > 0.87
    assert ratio.mean() > 0.98
    raw = json.loads((FOLDER / f"gemm_{stem}.json").read_text(encoding="utf-8"))
    assert raw["date"] == "2026-08-21"
    assert "aiconfigurator" in raw["source"]


@pytest.mark.parametrize("stem", STEMS)
def test_more_work_is_never_faster(stem: str) -> None:
    grid = TABLES.gemm_grid(stem)
    m, n, k = shapes(4000, 8, 300_000)
    base = grid_gemm_seconds(grid, m=m, n=n, k=k)
    for factor in (1.01, 1.5, 2.0, 7.0):
        for more in ({"m": m * factor}, {"n": n * factor}, {"k": k * factor}):
            assert (grid_gemm_seconds(grid, **{"m": m, "n": n, "k": k, **more}) >= base * (1 - 1e-9)).all()


@pytest.mark.parametrize("stem", STEMS)
def test_never_above_peak(stem: str) -> None:
    grid = TABLES.gemm_grid(stem)
    m, n, k = shapes(4000, 16, 300_000)
    assert (2 * m * n * k / grid_gemm_seconds(grid, m=m, n=n, k=k) < grid.peak_tflops * 1e12).all()


def test_beyond_the_grid() -> None:
    grid = TABLES.gemm_grid("h100_sxm")
    edge = grid_gemm_seconds(grid, m=32768, n=8192, k=8192)
    assert grid_gemm_seconds(grid, m=131072, n=8192, k=8192) == pytest.approx(4 * edge)
    assert grid_gemm_seconds(grid, m=1, n=64, k=64) == grid.floor_seconds
    decode = grid_gemm_seconds(grid, m=1, n=16384, k=16384)  # bound by the 512 MiB of weights
    assert 2 * 16384**2 / 3.35e12 < decode < 1.6 * 2 * 16384**2 / 3.35e12
    with pytest.raises(ValueError, match="at least 1"):
        grid_gemm_seconds(grid, m=0, n=1, k=1)


# (device, share of dense peak at m = 4096, medians over n and k in 2048..16384): facts table of the sweep
@pytest.mark.parametrize(
    ("stem", "share"), [("a100_sxm", 0.79), ("h100_sxm", 0.77), ("b200_sxm", 0.66), ("l40s", 0.55)]
)
def test_published_efficiency(stem: str, share: float) -> None:
    grid = TABLES.gemm_grid(stem)
    width = grid.n[(grid.n >= 2048) & (grid.n <= 16384)]
    n, k = np.meshgrid(width, width)
    seconds = grid_gemm_seconds(grid, m=4096.0, n=n, k=k)
    assert np.median(2 * 4096 * n * k / seconds) / 1e12 / grid.peak_tflops == pytest.approx(share, abs=0.02)


def test_scalar_in_scalar_out() -> None:
    grid = TABLES.gemm_grid("h100_sxm")
    m, n, k = shapes(50, 32, 100_000)
    together = grid_gemm_seconds(grid, m=m, n=n, k=k)
    single = [grid_gemm_seconds(grid, m=float(a), n=float(b), k=float(c)) for a, b, c in zip(m, n, k, strict=True)]
    assert all(type(value) is float for value in single)
    assert np.allclose(together, single, rtol=1e-12)


# (device, relative, median, p90) of the relative error, as the docstring of scaled_grid states them
LEFT_OUT = [
    ("a100_sxm", "h100_sxm", 0.12, 0.35),
    ("h100_sxm", "h200_sxm", 0.06, 0.21),
    ("h200_sxm", "h100_sxm", 0.06, 0.20),
    ("b200_sxm", "b300_sxm", 0.05, 0.17),
    ("b300_sxm", "b200_sxm", 0.05, 0.15),
    ("gb200", "b200_sxm", 0.05, 0.17),
    ("l40s", "rtx_pro_6000_server", 0.12, 0.38),
    ("rtx_pro_6000_server", "l40s", 0.12, 0.28),
]


@pytest.mark.parametrize(("stem", "relative", "median", "p90"), LEFT_OUT)
def test_leave_one_device_out(stem: str, relative: str, median: float, p90: float) -> None:
    truth = TABLES.gemm_grid(stem)
    known = ~np.isnan(truth.latency_ns)
    m, n, k = (axis[known] for axis in np.meshgrid(truth.m, truth.n, truth.k, indexing="ij"))
    seconds = scaled_gemm_seconds(
        TABLES.gemm_grid(relative),
        m=m,
        n=n,
        k=k,
        peak_tflops=truth.peak_tflops,
        memory_gb_per_s=truth.memory_gb_per_s,
        sustained_fraction=truth.sustained_fraction,
    )
    error = np.abs(seconds / (truth.latency_ns[known] * 1e-9) - 1)
    assert np.median(error) < median
    assert np.quantile(error, 0.9) < p90


def test_a_better_device_is_never_slower() -> None:
    grid = TABLES.gemm_grid("h100_sxm")
    m, n, k = shapes(2000, 64, 100_000)
    base = grid_gemm_seconds(scaled_grid(grid, peak_tflops=500, memory_gb_per_s=2000), m=m, n=n, k=k)
    for peak, bandwidth in ((600, 2000), (500, 2500), (5000, 9000)):
        better = grid_gemm_seconds(scaled_grid(grid, peak_tflops=peak, memory_gb_per_s=bandwidth), m=m, n=n, k=k)
        assert (better <= base * (1 + 1e-9)).all()


def test_grouped_products() -> None:
    grid = TABLES.gemm_grid("h100_sxm")
    one = grid_gemm_seconds(grid, m=512, n=4096, k=2048)
    assert grouped_gemm_seconds(grid, experts=1, tokens_per_expert=512, n=4096, k=2048) == pytest.approx(one)
    eight = grouped_gemm_seconds(grid, experts=8, tokens_per_expert=512, n=4096, k=2048)
    assert grid_gemm_seconds(grid, m=4096, n=4096, k=2048) < eight < 8 * one
    assert grouped_gemm_seconds(grid, experts=8, tokens_per_expert=0, n=4096, k=2048) > 0


def gpu(**changes: object) -> Gpu:
    values: dict[str, object] = {
        "id": "test",
        "name": "test",
        "vendor": "nvidia",
        "chip": "Hopper sm_90",
        "memory_marketed_gb": 80,
        "usable_gib": 79,
        "memory_bandwidth_gb_per_s": 3350,
        "dense_tflops": {"bf16": 989, "fp8": 1979},
        "gemm_grid": "h100_sxm",
        "pcie_gb_per_s": 63,
        "sources": [Source(ref="test", date="2026-11-21")],
    }
    return Gpu.model_validate(values | changes)


def test_grid_of_a_device() -> None:
    own = gpu()
    assert TABLES.device_grid(own) is TABLES.gemm_grid("h100_sxm")
    fp8 = TABLES.device_grid(own, compute="fp8", element_bytes=1)
    big = {"m": 8192, "n": 8192, "k": 8192}
    assert grid_gemm_seconds(fp8, **big) == pytest.approx(
        grid_gemm_seconds(TABLES.device_grid(own), **big) / 2, rel=0.02
    )
    cousin = gpu(gemm_grid=None, dense_tflops={"bf16": 148}, memory_bandwidth_gb_per_s=4000)
    slow = TABLES.device_grid(cousin, relative=own)
    ratio = grid_gemm_seconds(slow, **big) / grid_gemm_seconds(TABLES.device_grid(own), **big)
    assert ratio == pytest.approx(989 / 148, rel=0.02)
    with pytest.raises(InputError, match="neither"):
        TABLES.device_grid(cousin)
    with pytest.raises(InputError, match="no peak"):
        TABLES.device_grid(own, compute="fp4")
    with pytest.raises(InputError, match="h100_sxm"):
        TABLES.gemm_grid("h100")


# (chip, sequence length, published forward TFLOP/s)
FORWARD = [
    ("Ampere sm_80", 312, 4096, 176),
    ("Hopper sm_90", 989, 1024, 398),
    ("Hopper sm_90", 989, 16384, 676),
    ("Blackwell sm_100", 2250, 4096, 1164),
    ("Ada sm_89", 362, 2048, 179),
]


@pytest.mark.parametrize(("chip", "peak", "length", "tflops"), FORWARD)
def test_attention_forward_rates(chip: str, peak: float, length: int, tflops: float) -> None:
    curve = att.attention_curve(chip=chip, peak_tflops=peak)
    work = {"sequence_length": length, "micro_batch_size": 16, "heads": 32, "kv_heads": 8, "head_dim": 128}
    seconds = att.flash_attention_seconds(curve, memory_gb_per_s=8000, **work)
    flop = 16 * 32 * 2 * length**2 * 128
    assert flop / (seconds - 3e-6) / 1e12 == pytest.approx(tflops, rel=1e-6)


def test_attention_backward_and_scaling() -> None:
    work = {"sequence_length": 8192, "micro_batch_size": 2, "heads": 32, "kv_heads": 8, "head_dim": 128}
    curve = att.attention_curve(chip="Hopper sm_90", peak_tflops=989)
    half = att.attention_curve(chip="Hopper sm_90", peak_tflops=989 / 2)
    own = att.attention_curve(chip="Hopper sm_90", peak_tflops=989, forward_tflops=338)
    forward = att.flash_attention_seconds(curve, memory_gb_per_s=3350, **work)
    backward = att.flash_attention_seconds(curve, memory_gb_per_s=3350, backward=True, **work)
    assert (backward - 3e-6) / (forward - 3e-6) == pytest.approx(2.5 / 0.72)
    for slower in (half, own):
        seconds = att.flash_attention_seconds(slower, memory_gb_per_s=3350, **work)
        assert seconds - 3e-6 == pytest.approx(2 * (forward - 3e-6))


def test_blackwell_trains_wide_heads_by_flash_attention_2() -> None:
    narrow = att.attention_curve(chip="Blackwell sm_100", peak_tflops=2250)
    assert att.attention_curve(chip="Blackwell sm_100", peak_tflops=2250, head_dim=192, value_head_dim=128) == narrow
    wide = att.attention_curve(chip="Blackwell sm_100", peak_tflops=2250, head_dim=192)
    assert wide == att.attention_curve(chip="Blackwell sm_100", peak_tflops=2250, kernel="flash2")
    assert max(wide.tflops) < min(narrow.tflops)
    hopper = att.attention_curve(chip="Hopper sm_90", peak_tflops=989, head_dim=256)
    assert hopper == att.attention_curve(chip="Hopper sm_90", peak_tflops=989)


def test_attention_laws() -> None:
    curve = att.attention_curve(chip="unknown", peak_tflops=312)
    length = np.array([1.0, 128, 512, 1024, 3000, 8192, 65536, 1_000_000])
    work = {"micro_batch_size": 1, "heads": 32, "kv_heads": 8, "head_dim": 128, "memory_gb_per_s": 2039.0}
    seconds = att.flash_attention_seconds(curve, sequence_length=length, **work)
    assert seconds.shape == length.shape
    assert (np.diff(seconds) > 0).all()
    one = att.flash_attention_seconds(curve, sequence_length=3000, **work)
    assert type(one) is float
    assert one == pytest.approx(seconds[4])
    windowed = att.flash_attention_seconds(curve, sequence_length=65536, window=4096, **work)
    assert windowed < seconds[6] / 5
    assert att.attended_pairs(sequence_length=4, window=2) == 6  # about 1 + 2 + 2 + 2 = 7, less half of the diagonal
    narrow = att.flash_attention_seconds(curve, sequence_length=4096, **{**work, "head_dim": 64, "heads": 64})
    assert narrow > att.flash_attention_seconds(curve, sequence_length=4096, **work)


def test_unfused_attention_is_slower_than_fused() -> None:
    curve = att.attention_curve(chip="Ampere sm_80", peak_tflops=312)
    work = {"sequence_length": 2048, "micro_batch_size": 4, "heads": 32, "head_dim": 128, "memory_gb_per_s": 2039.0}
    for backward in (False, True):
        fused = att.flash_attention_seconds(curve, kv_heads=32, backward=backward, **work)
        unfused = att.unfused_attention_seconds(gemm_tflops=250, backward=backward, **work)
        dropped = att.unfused_attention_seconds(gemm_tflops=250, backward=backward, dropout=True, **work)
        assert fused < unfused < dropped
    # 4 * 32 * 2048^2 scores, 4 * 128 FLOP and 8 bytes each, three launches
    scores = 4 * 32 * 2048**2
    expected = scores * 512 / 250e12 + scores * 8 / (0.8 * 2039e9) + 9e-6
    assert att.unfused_attention_seconds(gemm_tflops=250, **work) == pytest.approx(expected)


def test_memory_bound() -> None:
    assert att.memory_bound_seconds(size_bytes=1.6e9, memory_gb_per_s=2000) == pytest.approx(1e-3 + 3e-6)
