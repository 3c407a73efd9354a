"""Measuring a machine, with an imitated device and clock: repeats, spread, limits, files, and that plans use them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from run_cli import run

from planner.analysis.calibrate.device import (
    COLLECTIVES,
    GEMM_K,
    GEMM_M,
    GEMM_N,
    GRAPH_REPEATS,
    LEAST,
    MESSAGE_BYTES,
    MOST,
    Job,
    Measured,
    attention_flop,
    fastest,
    measure,
    percentile,
    queued,
    sample,
    summarised,
)
from planner.analysis.calibrate.device_files import files
from planner.errors import InputError
from planner.formulas.gemm import grid_gemm_seconds
from planner.inputs.catalog import default_catalog
from planner.inputs.catalog_check import check_catalog
from planner.inputs.document import load
from planner.inputs.files import write_folder
from planner.schema.catalog import Gpu, Node
from planner.search.estimate import estimate

ROOT = Path(__file__).resolve().parents[3]
RL = str(ROOT / "scenarios" / "qwen7b_rl_8gpu.yaml")


def lasting(seconds: float) -> Job:
    """Work that always takes that long."""
    return lambda repeats: [seconds] * repeats


class Clock:
    """Seconds that pass only when the device works."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Imitation:
    """A device that runs products at 200 TFLOP/s after 10 us, and everything else at fixed times."""

    def __init__(self, clock: Clock, num_gpus: int = 4) -> None:
        self.clock, self.num_gpus = clock, num_gpus

    def facts(self) -> dict[str, str]:
        return {"device": "Imitation", "driver": "1.0", "torch": "none"}

    def total_bytes(self) -> float:
        return 70.0 * 2**30

    def _job(self, seconds: float) -> Job:
        def work(repeats: int) -> list[float]:
            self.clock.now += repeats * seconds
            return [seconds * (1 + 0.01 * (place % 3)) for place in range(repeats)]

        return work

    def gemm(self, m: int, n: int, k: int) -> Job:
        return self._job(1e-5 + 2.0 * m * n * k / 200e12)

    def attention(self, batch: int, heads: int, tokens: int, head_size: int, backward: bool) -> Job:
        return self._job(attention_flop(batch, heads, tokens, head_size) / (100e12 if backward else 300e12))

    def copy(self, size_bytes: int) -> Job:
        return self._job(2 * size_bytes / 3e12)

    def collective(self, op: str, num_gpus: int, sizes: Sequence[int], repeats: int) -> list[list[float]]:
        return [self._job(2e-5 + size / 1e11)(repeats) for size in sizes]

    def training(self, hidden: int, feed_forward: int, heads: int, tokens: int) -> tuple[Job, Callable[[], float]]:
        return self._job(0.01), lambda: 5.0 * 2**30


def imitated(num_gpus: int = 4) -> Measured:
    clock = Clock()
    return measure(Imitation(clock, num_gpus), clock=clock)


def gpu_and_node() -> tuple[Gpu, Node]:
    catalog = default_catalog()
    return catalog.find("gpus", "h100-sxm5-80gb"), catalog.find("nodes", "hgx-h100-8")


def test_statistics_by_hand() -> None:
    assert percentile([1, 2, 3, 4, 5], 0.9) == pytest.approx(4.6)
    found = summarised([5, 1, 3, 2, 4])
    assert (found.seconds, found.repeats) == (3, 5)
    assert found.spread == pytest.approx((4.6 - 1.4) / 3)
    assert attention_flop(1, 2, 10, 4) == 2 * 2 * 100 * 4


@pytest.mark.parametrize(("seconds", "repeats"), [(1e-6, MOST), (2e-3, 15), (1.0, LEAST)])
def test_short_work_is_repeated_more_often(seconds: float, repeats: int) -> None:
    assert sample(lambda count: [seconds] * count).repeats == repeats


def test_short_work_is_timed_in_a_row_so_that_the_launch_is_not_measured() -> None:
    launch, work = 8e-6, 3e-6
    found = sample(queued(lasting(max(launch, work)), lambda: lasting(launch + GRAPH_REPEATS * work)))
    assert found.seconds == pytest.approx(work + launch / GRAPH_REPEATS)

    def no_row() -> Job:
        raise AssertionError("long work is timed as it is")

    assert sample(queued(lasting(0.01), no_row)).seconds == 0.01


def test_the_faster_kernel_counts_and_one_that_refuses_is_passed_over() -> None:
    def refusing(repeats: int) -> list[float]:
        raise RuntimeError("no kernel for this shape")

    slow, quick = lasting(2.0), lasting(1.0)
    assert fastest({"flash": slow, "cudnn": quick}, RuntimeError) == ("cudnn", quick)
    assert fastest({"flash": slow, "cudnn": refusing}, RuntimeError) == ("flash", slow)
    with pytest.raises(RuntimeError, match="no kernel"):
        fastest({"flash": refusing}, RuntimeError)


def test_everything_is_measured_and_nothing_is_left_out() -> None:
    found = imitated()
    assert len(found.gemm) == len(GEMM_M) * len(GEMM_N) * len(GEMM_K)
    assert set(found.collectives) == {(op, count) for op in COLLECTIVES for count in (2, 4)}
    assert found.copy_gb_per_s == pytest.approx(3000, rel=0.02)
    assert found.attention_tflops == pytest.approx(300, rel=0.02)
    assert found.worst_spread == pytest.approx(0.02, abs=0.002)
    assert found.left_out == ()
    assert not imitated(1).collectives


def test_a_limit_leaves_parts_out_by_name_but_never_a_hole_in_the_grid() -> None:
    clock = Clock()
    whole = Clock()
    measure(Imitation(whole), clock=whole)
    products = Clock()
    device = Imitation(products)
    for m in GEMM_M:
        for n in GEMM_N:
            for k in GEMM_K:
                sample(device.gemm(m, n, k))
    found = measure(Imitation(clock), clock=clock, limit_s=products.now + 1e-9)
    assert found.left_out[-1] == "collectives"
    assert "memory bandwidth" in found.left_out
    short = Clock()
    with pytest.raises(InputError, match="matrix products took"):
        measure(Imitation(short), clock=short, limit_s=products.now / 2)


def test_files_are_read_back_and_plans_use_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, node = gpu_and_node()
    shipped = estimate(load(RL))
    curve = default_catalog().tables.nccl_curves("H100-SXM-80GB")["all_to_all", 8]
    texts = files(imitated(), gpu, node, "2026-11-21")
    assert set(texts) == {
        "measured/gemm_own_h100_sxm5_80gb.json",
        "measured/device_own_h100_sxm5_80gb.yaml",
        "measured/nccl.json",
        "gpus/h100-sxm5-80gb.yaml",
    }
    write_folder(str(tmp_path), texts)
    monkeypatch.setenv("PLANNER_CATALOGS", str(tmp_path))
    catalog = default_catalog()
    assert not check_catalog(catalog)
    own = catalog.find("gpus", "h100-sxm5-80gb")
    assert (own.gemm_grid, own.usable_gib) == ("own_h100_sxm5_80gb", 70.0)
    assert own.attention_forward_tflops == pytest.approx(297, rel=0.02)
    assert own.dense_tflops == gpu.dense_tflops
    grid = catalog.tables.gemm_grid("own_h100_sxm5_80gb")
    expected = (1e-5 + 2 * 2048 * 4096 * 4096 / 200e12) * 1.01
    assert grid_gemm_seconds(grid, m=2048, n=4096, k=4096) == pytest.approx(expected, rel=0.01)
    curves = catalog.tables.nccl_curves("H100-SXM-80GB")
    assert curves["all_reduce", 4].seconds[-1] == pytest.approx((2e-5 + MESSAGE_BYTES[-1] / 1e11) * 1.01, rel=0.02)
    assert curves["all_to_all", 8] is curve  # what was not measured stays
    plan = estimate(load(RL))
    products = {e.name: e.amount for e in plan.time}["matrix products"]
    assert products > 1.5 * {e.name: e.amount for e in shipped.time}["matrix products"]
    assert "measured/gemm_own_h100_sxm5_80gb.json" in dict(plan.problem.provenance)
    monkeypatch.delenv("PLANNER_CATALOGS")
    assert estimate(load(RL)).step_seconds == pytest.approx(shipped.step_seconds)


def test_the_record_says_how_it_was_measured() -> None:
    from planner.inputs.document import parse_document

    gpu, _ = gpu_and_node()
    texts = files(imitated(1), gpu, None, "2026-11-21")
    assert "measured/nccl.json" not in texts
    record = parse_document(texts["measured/device_own_h100_sxm5_80gb.yaml"], "record").data
    assert (record["driver"], record["date"]) == ("1.0", "2026-11-21")
    assert [row["layers"] for row in record["training_steps"]] == ["small", "large"]
    assert record["training_steps"][0]["peak_gib"] == 5.0
    grid = json.loads(texts["measured/gemm_own_h100_sxm5_80gb.json"])
    assert len(grid["latency_ns"]) == len(GEMM_M) * len(GEMM_N)
    assert all(len(row) == len(GEMM_K) for row in grid["latency_ns"])


def test_without_torch_or_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = run("calibrate", "--device", "--gpu", "l40s", "--out", str(tmp_path / "own"))
    assert done.code == 2
    assert "needs torch" in done.err or "needs a GPU" in done.err
    assert run("calibrate", RL, "--device").code == 2
