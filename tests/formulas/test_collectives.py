"""Formulas of collectives: the ring by hand, measured points, tables across nodes, laws."""

from __future__ import annotations

import json

import numpy as np
import pytest

from planner.errors import InputError
from planner.formulas import collectives as col
from planner.inputs.catalog import shipped_folder
from planner.inputs.measured import MeasuredTables
from planner.units import GB, GIB, MIB

FOLDER = shipped_folder() / "measured"
TABLES = MeasuredTables((FOLDER,))
OPS: tuple[col.Operation, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def test_bus_factor_by_hand() -> None:
    assert col.bus_factor(op="all_reduce", num_gpus=4) == 1.5
    assert col.bus_factor(op="all_gather", num_gpus=4) == 0.75
    assert col.bus_factor(op="all_to_all", num_gpus=1) == 0


def test_ring_by_hand() -> None:
    # 8 GPUs, all-reduce of 80 MB at 100 GB/s: 8.4 + 14 * 3.4 us, 140 MB on the wire in 1.4 ms
    seconds = col.ring_seconds(op="all_reduce", num_gpus=8, size_bytes=80e6, bus_gb_per_s=100, hop_us=3.4)
    assert seconds == pytest.approx((8.4 + 14 * 3.4) * 1e-6 + 1.4e-3)
    back = col.bus_bandwidth_gb_per_s(op="all_reduce", num_gpus=8, size_bytes=80e6, seconds=1.4e-3)
    assert back == pytest.approx(100)
    assert col.bus_seconds(op="all_gather", num_gpus=2, size_bytes=2 * GB, bus_gb_per_s=100) == pytest.approx(0.01)


# (device, op, GPUs, MiB, bus bandwidth as published in GB/s)
POINTS = [
    ("A100-SXM4-80GB", "all_reduce", 8, 64, 197.3),
    ("A100-SXM4-80GB", "all_gather", 4, 512, 191.6),
    ("H100-SXM-80GB", "all_reduce", 8, 512, 445.0),
    ("H100-SXM-80GB", "reduce_scatter", 8, 64, 292.5),
    ("H200-SXM", "all_to_all", 8, 512, 311.1),
    ("B200-SXM", "all_reduce", 8, 16, 296.4),
    ("RTX-PRO-6000-Server-PCIe5", "all_reduce", 2, 512, 38.6),
]


@pytest.mark.parametrize(("device", "op", "gpus", "mib", "bus"), POINTS)
def test_measured_points(device: str, op: col.Operation, gpus: int, mib: int, bus: float) -> None:
    curve = TABLES.nccl_curves(device)[op, gpus]
    seconds = col.curve_seconds(curve, size_bytes=float(mib * MIB))
    found = col.bus_bandwidth_gb_per_s(op=op, num_gpus=gpus, size_bytes=mib * MIB, seconds=seconds)
    assert found == pytest.approx(bus, rel=1e-3)


def test_every_measured_point_is_reproduced_or_raised_to_a_smaller_message_time() -> None:
    raw = json.loads((FOLDER / "nccl.json").read_text(encoding="utf-8"))
    assert raw["date"] == "2026-08-21"
    assert "aiconfigurator" in raw["source"]
    assert sum(len(entry["time_ns"]) for entry in raw["curves"]) == 2100
    exact = 0
    for device in TABLES.nccl_devices():
        for curve in TABLES.nccl_curves(device).values():
            seconds = col.curve_seconds(curve, size_bytes=curve.size_bytes) * 1e9
            assert np.allclose(seconds, np.maximum.accumulate(curve.time_ns), rtol=1e-9)
            exact += int(np.isclose(seconds, curve.time_ns, rtol=1e-9).sum())
    assert exact > 0.8 * 2100
    with pytest.raises(InputError, match="H200-SXM"):
        TABLES.nccl_curves("H200")


def test_curve_between_and_beyond_its_points() -> None:
    curve = TABLES.nccl_curves("H200-SXM")["all_reduce", 8]
    middle = col.curve_seconds(curve, size_bytes=48.0 * MIB)
    assert col.curve_seconds(curve, size_bytes=32.0 * MIB) < middle < col.curve_seconds(curve, size_bytes=64.0 * MIB)
    assert col.curve_seconds(curve, size_bytes=1.0) == col.curve_seconds(curve, size_bytes=512.0)
    huge = col.curve_seconds(curve, size_bytes=16.0 * GIB, peak_gb_per_s=480)
    found = col.bus_bandwidth_gb_per_s(op="all_reduce", num_gpus=8, size_bytes=16 * GIB, seconds=huge)
    assert found == pytest.approx(480, rel=0.01)  # published: 480 at 16 GiB
    assert col.curve_seconds(curve, size_bytes=16.0 * GIB) > huge


# GPUs, then bus bandwidth at 16 MiB, 64 MiB, 256 MiB, 1 GiB, 16 GiB: H100 with 8 x 400G InfiniBand, read off plots
INFINIBAND = [
    pytest.param(32, (115, 217, 273, 338, 355), id="arxiv-2411.13055-32"),
    pytest.param(512, (45, 137, 247, 304, 350), id="arxiv-2411.13055-512"),
    pytest.param(4096, (40, 112, 220, 286, 346), id="arxiv-2411.13055-4096"),
    pytest.param(32, (126, 230, 314, 351, 376), id="gtc24-nvlstree-32"),
    pytest.param(1024, (45, 125, 255, 332, 372), id="gtc24-nvlstree-1024"),
    pytest.param(8192, (33, 107, 217, 307, 366), id="gtc24-nvlstree-8192"),
]
MEBIBYTES = np.array([16, 64, 256, 1024, 16384]) * MIB


def across(
    op: col.Operation, gpus: int, size: np.ndarray | float, nic: float, eff: float, slow: bool = False
) -> np.ndarray:
    bus = col.across_bus_gb_per_s(nic_gb_per_s=nic, efficiency=eff, num_nodes=gpus // 8)
    seconds = col.across_seconds(
        op=op, num_gpus=gpus, num_nodes=gpus // 8, size_bytes=size, bus_gb_per_s=bus, slow_start=slow
    )
    return np.asarray(col.bus_bandwidth_gb_per_s(op=op, num_gpus=gpus, size_bytes=size, seconds=seconds))


@pytest.mark.parametrize(("gpus", "published"), INFINIBAND)
def test_infiniband_tables(gpus: int, published: tuple[float, ...]) -> None:
    error = across("all_reduce", gpus, MEBIBYTES, 400, 370 / 400) / np.array(published) - 1
    assert np.abs(error).mean() < 0.085
    assert np.abs(error[3:]).max() < 0.12
    assert np.abs(error).max() < 0.21


def test_efa_table() -> None:
    # 4 x P6-B200, all-reduce, stas00/ml-engineering at 744d01e1
    size = np.array([16, 64, 256, 512, 1024, 4096, 16384]) * MIB
    error = (
        across("all_reduce", 32, size, 400, 381.8 / 400, slow=True) / np.array([64.4, 157, 229, 327, 362, 377, 382]) - 1
    )
    assert np.abs(error[3:]).max() < 0.05
    assert np.abs(error).mean() < 0.10
    assert np.abs(error).max() < 0.35  # the table dips at 256 MiB


def test_tcpxo_table() -> None:
    # 2 x a3-mega, all-gather, dstackai/dstack at 30a0dd56
    size = np.array([8, 16, 64, 256, 1024, 8192]) * MIB
    error = across("all_gather", 16, size, 200, 188.5 / 200, slow=True) / np.array([47, 77, 141, 165, 182, 188.5]) - 1
    assert np.abs(error).max() < 0.06


def test_all_to_all_across_nodes() -> None:
    # GTC25 S72583: 4 nodes of 8 x 400G, 48 GB/s of bus bandwidth; 0.74 of 50 GB/s carries the 24/31 that cross
    seconds = col.across_all_to_all_seconds(
        num_gpus=32, num_nodes=4, gpus_per_node=8, size_bytes=float(GIB), nic_gb_per_s_per_gpu=0.74 * 50
    )
    bus = col.bus_bandwidth_gb_per_s(op="all_to_all", num_gpus=32, size_bytes=GIB, seconds=seconds)
    assert bus == pytest.approx(48, rel=0.02)


@pytest.mark.parametrize("op", OPS)
def test_laws(op: col.Operation) -> None:
    size = 2.0 ** np.arange(0, 40, 0.5)
    for device in TABLES.nccl_devices():
        curves = TABLES.nccl_curves(device)
        for number in (2, 4):
            assert (np.diff(col.curve_seconds(curves[op, number], size_bytes=size)) >= 0).all()
        beyond = col.beyond_seconds(curves[op, 4], num_gpus=32, size_bytes=size, bus_gb_per_s=600)
        assert (np.diff(beyond) >= 0).all()
        between = col.between_seconds(curves[op, 2], curves[op, 4], num_gpus=3, size_bytes=size, at=0.5)
        pair, four = (col.curve_seconds(curves[op, n], size_bytes=size) for n in (2, 4))
        assert (between >= np.minimum(pair, four) * 0.999).all()
        assert (between <= np.maximum(pair, four) * 1.08).all()
    slow = col.ring_seconds(op=op, num_gpus=8, size_bytes=size, bus_gb_per_s=100, hop_us=3.4)
    fast = col.ring_seconds(op=op, num_gpus=8, size_bytes=size, bus_gb_per_s=200, hop_us=3.4)
    large = col.ring_seconds(op=op, num_gpus=16, size_bytes=size, bus_gb_per_s=100, hop_us=3.4)
    assert (fast < slow).all()
    assert (large > slow).all()
    if op != "all_to_all":
        nodes = [
            col.across_seconds(op=op, num_gpus=8 * n, num_nodes=n, size_bytes=size, bus_gb_per_s=350)
            for n in (2, 4, 64)
        ]
        assert (nodes[0] < nodes[1]).all()
        assert (nodes[1] < nodes[2]).all()


def test_scalar_equals_vector() -> None:
    curve = TABLES.nccl_curves("B200-SXM")["all_gather", 8]
    size = np.array([100.0, 5e5, 3e7, 4e9])
    for values, single in (
        (col.curve_seconds(curve, size_bytes=size), [col.curve_seconds(curve, size_bytes=s) for s in size.tolist()]),
        (
            col.beyond_seconds(curve, num_gpus=72, size_bytes=size, bus_gb_per_s=600),
            [col.beyond_seconds(curve, num_gpus=72, size_bytes=s, bus_gb_per_s=600) for s in size.tolist()],
        ),
    ):
        assert isinstance(values, np.ndarray)
        assert all(type(value) is float for value in single)
        assert np.allclose(values, single, rtol=1e-12)


def test_point_to_point() -> None:
    seconds = col.point_to_point_seconds(size_bytes=1e9, link_gb_per_s=100, efficiency=0.8, latency_us=10)
    assert seconds == pytest.approx(10e-6 + 0.0125)
