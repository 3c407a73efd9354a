"""Node graphs, groups and their collectives, over hand-built nodes of every kind of link."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from planner.cluster.cluster import Cluster
from planner.errors import InputError
from planner.formulas.collectives import Operation, bus_bandwidth_gb_per_s
from planner.inputs.catalog import default_catalog, shipped_folder
from planner.inputs.measured import MeasuredTables
from planner.schema.catalog import Gpu, Node, Source
from planner.units import GIB, MIB

TABLES = MeasuredTables((shipped_folder() / "measured",))
SOURCE = [Source(ref="test", date="2026-11-21")]
OPS: tuple[Operation, ...] = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")
DGX1 = [
    (0, 1, 1), (0, 2, 1), (0, 3, 2), (0, 4, 2), (1, 2, 2), (1, 3, 1), (1, 5, 2), (2, 3, 2),
    (2, 6, 1), (3, 7, 1), (4, 5, 1), (4, 6, 1), (4, 7, 2), (5, 6, 2), (5, 7, 1), (6, 7, 2),
]  # fmt: skip


def make_gpu(**changes: Any) -> Gpu:
    values: dict[str, Any] = {
        "id": "test",
        "name": "test",
        "vendor": "nvidia",
        "chip": "Hopper sm_90",
        "memory_marketed_gb": 80,
        "usable_gib": 79,
        "memory_bandwidth_gb_per_s": 3350,
        "dense_tflops": {"bf16": 989},
        "pcie_gb_per_s": 63,
        "sources": SOURCE,
    }
    return Gpu.model_validate(values | changes)


def make_node(gpus: int, links: dict[str, Any], nic: tuple[int, float, float, str], **changes: Any) -> Node:
    count, gbit, per_gpu, fabric = nic
    nics = {"count": count, "gbit_per_s_each": gbit, "fabric": fabric, "gb_per_s_per_gpu": per_gpu}
    values: dict[str, Any] = {"id": "t", "name": "t", "gpu": "test", "gpus_per_node": gpus, "sources": SOURCE}
    return Node.model_validate(values | {"links": links, "nics": nics} | changes)


IB = (8, 400.0, 50.0, "IB NDR")
SWITCH = {"kind": "switch", "gb_per_s_per_gpu": 450, "in_network_reduction": True}
NODES: dict[str, tuple[Node, Gpu]] = {
    "h100": (
        make_node(
            8,
            SWITCH | {"measured_as": "H100-SXM-80GB"},
            IB,
            bus_gb_per_s_intra={"all_reduce_8": 480, "all_gather_8": 361, "reduce_scatter_8": 363, "all_reduce_4": 363},
            bus_gb_per_s_inter={"all_reduce": 370, "all_to_all": 48},
        ),
        make_gpu(),
    ),
    "plain-switch": (make_node(8, {"kind": "switch", "gb_per_s_per_gpu": 300}, (8, 200, 25, "IB HDR")), make_gpu()),
    "b200": (
        make_node(8, SWITCH | {"gb_per_s_per_gpu": 900, "measured_as": "B200-SXM"}, (8, 400, 50, "EFA v4")),
        make_gpu(),
    ),
    "nvl72": (
        make_node(
            72,
            SWITCH | {"gb_per_s_per_gpu": 900, "measured_as": "GB200 (1 tray, 4 GPU)"},
            (4, 400, 50, "IB NDR"),
            gpus_per_host=4,
            bus_gb_per_s_intra={
                "all_reduce_32": 850,
                "all_reduce_32_ring": 680,
                "all_to_all_32": 640,
                "all_reduce_4": 628,
            },
        ),
        make_gpu(),
    ),
    "h100-4": (
        make_node(
            4,
            {"kind": "full_mesh", "gb_per_s_per_gpu": 450, "gb_per_s_per_pair": 150, "measured_as": "H100-SXM-80GB"},
            (4, 400, 50, "IB NDR"),
        ),
        make_gpu(),
    ),
    "mi300x": (
        make_node(
            8,
            {"kind": "full_mesh", "gb_per_s_per_gpu": 448, "gb_per_s_per_pair": 64},
            (8, 400, 50, "RoCE"),
            bus_gb_per_s_intra={"all_reduce_8": 312.9, "all_reduce_2": 47.7},
        ),
        make_gpu(vendor="amd", chip="CDNA3 gfx942"),
    ),
    "pairs": (
        make_node(
            8,
            {
                "kind": "bridged_pairs",
                "gb_per_s_per_pair": 300,
                "pcie_gb_per_s": 31.5,
                "measured_as": "A100-SXM4-80GB",
                "pcie_bus_gb_per_s": {2: 20.9, 4: 20.8, 8: 12.5},
            },
            (1, 100, 1.5625, "IB EDR"),
        ),
        make_gpu(pcie_gb_per_s=31.5),
    ),
    "dgx1": (
        make_node(
            8,
            {"kind": "hybrid_cube_mesh", "gb_per_s_per_link": 25, "edges": DGX1, "pcie_gb_per_s": 15.75},
            (4, 100, 6.25, "IB EDR"),
            bus_gb_per_s_intra={"all_reduce_8": 122},
        ),
        make_gpu(pcie_gb_per_s=15.75),
    ),
    "pcie": (
        make_node(
            8,
            {"kind": "pcie_tree", "gb_per_s_per_gpu": 63, "measured_as": "RTX-PRO-6000-Server-PCIe5"},
            (2, 400, 12.5, "RoCE"),
        ),
        make_gpu(),
    ),
    "geforce": (
        make_node(8, {"kind": "pcie_tree", "gb_per_s_per_gpu": 31.5}, (1, 100, 1.5625, "TCP")),
        make_gpu(peer_to_peer=False),
    ),
    "alone": (make_node(1, {"kind": "none"}, (1, 100, 12.5, "EFA")), make_gpu()),
}  # fmt: skip


def make(name: str, gpus: int = 64) -> Cluster:
    node, gpu = NODES[name]
    return Cluster(node=node, gpu=gpu, num_gpus=gpus, tables=TABLES)


def bus(cluster: Cluster, op: Operation, size: int, stride: int, size_bytes: float) -> float:
    seconds = cluster.collective_seconds(op, cluster.group(size, stride), size_bytes)
    return float(bus_bandwidth_gb_per_s(op=op, num_gpus=size, size_bytes=size_bytes, seconds=seconds))


@pytest.mark.parametrize("name", NODES)
def test_graph_of_every_kind(name: str) -> None:
    import networkx

    cluster = make(name, 8 * NODES[name][0].gpus_per_node)
    graph = cluster.graph([0, 3])
    assert networkx.is_connected(graph)
    gpus = [vertex for vertex in graph if "/gpu" in vertex]
    assert len(gpus) == 2 * cluster.node.gpus_per_node
    for _, _, data in graph.edges(data=True):
        assert data["gb_per_s"] > 0
        assert data["latency_us"] > 0
        assert data["kind"] in ("nvlink", "xgmi", "pcie", "socket", "network")
    assert all("rail" in graph.nodes[vertex] for vertex in graph if "/nic" in vertex)
    with pytest.raises(ValueError, match="not one of 8"):
        cluster.graph([8])


@pytest.mark.parametrize("name", ["plain-switch", "h100-4", "pairs", "dgx1", "pcie"])
def test_widest_ways_agree_with_networkx(name: str) -> None:
    import networkx

    cluster = make(name)
    graph = cluster.graph([0])
    count = cluster.node.gpus_per_node
    for first in range(count):
        for second in range(first + 1, count):
            others = [f"node0/gpu{index}" for index in range(count) if index not in (first, second)]
            allowed = graph.subgraph([v for v in graph if v not in others])
            tree = networkx.maximum_spanning_tree(allowed, weight="gb_per_s")
            way = networkx.shortest_path(tree, f"node0/gpu{first}", f"node0/gpu{second}")
            width = min(tree.edges[a, b]["gb_per_s"] for a, b in pairwise(way))
            assert cluster.slowest_link([first, second]).gb_per_s == width


# (node, ranks, kind, GB/s)
LINKS = [
    ("h100", [0, 5], "nvlink", 450),
    ("h100", [0, 1, 8, 9], "network", 50),
    ("h100-4", [0, 1, 2], "nvlink", 150),
    ("mi300x", [0, 7], "xgmi", 64),
    ("pairs", [0, 1], "nvlink", 300),
    ("pairs", [0, 2], "pcie", 31.5),
    ("pairs", [0, 1, 2, 3], "pcie", 31.5),
    ("pairs", [0, 1, 4, 5], "socket", 31.5),
    ("dgx1", [0, 3], "nvlink", 50),
    ("dgx1", [0, 1], "nvlink", 25),
    ("dgx1", [0, 5], "socket", 15.75),
    ("dgx1", [0, 1, 2, 3], "nvlink", 25),
    ("dgx1", list(range(8)), "nvlink", 50),  # 0 3 2 1 5 6 7 4, double links all the way
    ("pcie", [0, 1], "pcie", 63),
    ("pcie", [3, 4], "socket", 63),
    ("alone", [0, 1], "network", 12.5),
]


@pytest.mark.parametrize(("name", "ranks", "kind", "rate"), LINKS)
def test_slowest_link(name: str, ranks: list[int], kind: str, rate: float) -> None:
    link = make(name).slowest_link(ranks)
    assert (link.kind, link.gb_per_s) == (kind, rate)
    assert link.inside_domain is (kind != "network")
    assert link.latency_us > 0


# (node, GPUs, size, stride, domains, GPUs a domain, kind)
GROUPS = [
    ("h100", 64, 8, 1, 1, 8, "nvlink"),
    ("h100", 64, 8, 8, 8, 1, "network"),
    ("h100", 64, 16, 4, 8, 2, "network"),
    ("h100", 64, 64, 1, 8, 8, "network"),
    ("h100", 24, 3, 1, 2, 1, "network"),
    ("h100", 8, 3, 1, 1, 3, "nvlink"),
    ("h100", 65536, 8192, 8, 8192, 1, "network"),
    ("nvl72", 576, 8, 8, 2, 1, "network"),  # ranks 64, 72, ...
    ("nvl72", 576, 8, 9, 1, 8, "nvlink"),
    ("nvl72", 576, 16, 1, 2, 8, "network"),
    ("pairs", 8, 2, 1, 1, 2, "nvlink"),
    ("pairs", 8, 2, 2, 1, 2, "pcie"),
    ("pairs", 8, 2, 4, 1, 2, "socket"),
    ("dgx1", 8, 4, 1, 1, 4, "nvlink"),
    ("dgx1", 8, 2, 4, 1, 2, "nvlink"),
    ("dgx1", 8, 2, 1, 1, 2, "nvlink"),
]


@pytest.mark.parametrize(("name", "gpus", "size", "stride", "domains", "local", "kind"), GROUPS)
def test_groups(name: str, gpus: int, size: int, stride: int, domains: int, local: int, kind: str) -> None:
    group = make(name, gpus).group(size, stride)
    assert (group.num_domains, group.gpus_per_domain) == (domains, local)
    assert group.slowest is not None
    assert group.slowest.kind == kind
    assert group.inside_domain is (domains == 1)


def test_worst_group_agrees_with_listing_all_of_them() -> None:
    for name, gpus in (("h100", 96), ("pairs", 48), ("dgx1", 24), ("pcie", 16)):
        cluster = make(name, gpus)
        for size in (2, 3, 4, 6, 8, 12):
            for stride in (1, 2, 3, 4, 6, 8):
                if gpus % (size * stride):
                    continue
                every = [
                    [block * size * stride + offset + index * stride for index in range(size)]
                    for block in range(gpus // (size * stride))
                    for offset in range(stride)
                ]
                spans = [len({rank // 8 for rank in ranks}) for ranks in every]
                rates = [
                    cluster.slowest_link(r).gb_per_s for r, span in zip(every, spans, strict=True) if span == max(spans)
                ]
                group = cluster.group(size, stride)
                assert group.num_domains == max(spans)
                assert group.slowest is not None
                assert group.slowest.gb_per_s == min(rates)


def test_rails_and_shared_adapters() -> None:
    cluster = make("h100")
    strided, contiguous = cluster.group(8, 8), cluster.group(64, 1)
    assert strided.nic_gb_per_s == 50
    assert contiguous.nic_gb_per_s == 400
    assert strided.concurrent_per_nic == contiguous.concurrent_per_nic == 1
    assert make("dgx1").group(8, 8).concurrent_per_nic == 2
    assert make("pairs").group(8, 8).concurrent_per_nic == 8
    # eight strided groups at once move as much as one contiguous group of the same bytes a node
    one = cluster.collective_seconds("all_reduce", strided, GIB)
    assert bus(cluster, "all_reduce", 8, 8, GIB) == pytest.approx(370 / 8, rel=0.03)
    assert one > cluster.collective_seconds("all_reduce", contiguous, GIB) * 4


# (op, size, MiB, GB/s): measured on H100, nccl-tests; 16 GiB from published peaks
INSIDE = [
    ("all_reduce", 2, 512, 318.3, 0.001),
    ("all_reduce", 8, 64, 361.9, 0.001),
    ("all_gather", 4, 512, 317.7, 0.001),
    ("all_to_all", 8, 16, 194.0, 0.001),
    ("all_reduce", 8, 16384, 480, 0.01),
    ("all_gather", 8, 16384, 361, 0.01),
    ("all_reduce", 5, 8192, 414, 0.02),
    ("all_reduce", 6, 8192, 436, 0.02),
    ("all_reduce", 7, 8192, 460, 0.02),
]


@pytest.mark.parametrize(("op", "size", "mib", "expected", "tolerance"), INSIDE)
def test_inside_a_node(op: Operation, size: int, mib: int, expected: float, tolerance: float) -> None:
    assert bus(make("h100", 8), op, size, 1, mib * MIB) == pytest.approx(expected, rel=tolerance)


def test_switch_reduces_from_six_on_b200() -> None:
    cluster = make("b200", 8)
    four, five, six = (bus(cluster, "all_reduce", size, 1, 512 * MIB) for size in (4, 5, 6))
    assert five == pytest.approx(four, rel=0.01)
    assert six > 1.05 * five


def test_nvl72_reaches_its_published_bandwidth() -> None:
    cluster = make("nvl72", 72)
    assert bus(cluster, "all_reduce", 32, 1, 16 * GIB) == pytest.approx(850, rel=0.03)
    assert bus(cluster, "all_to_all", 32, 1, 16 * GIB) == pytest.approx(640, rel=0.03)
    assert bus(cluster, "all_gather", 32, 1, 16 * GIB) == pytest.approx(0.9 * 680, rel=0.03)
    small = [cluster.collective_seconds("all_reduce", cluster.group(n, 1), 512) for n in (4, 8, 32, 72)]
    assert all(type(seconds) is float for seconds in small)
    assert cluster.group(4, 1).curve == ("GB200 (1 tray, 4 GPU)", 4)
    assert cluster.group(8, 1).curve is None


# (GPUs, nodes' all-reduce bandwidth at 1 and 16 GiB), H100 with InfiniBand, arXiv 2411.13055
@pytest.mark.parametrize(("gpus", "gib_1", "gib_16"), [(32, 338, 355), (512, 304, 350), (4096, 286, 346)])
def test_across_nodes_at_large_sizes(gpus: int, gib_1: float, gib_16: float) -> None:
    cluster = make("h100", gpus)
    assert bus(cluster, "all_reduce", gpus, 1, GIB) == pytest.approx(gib_1, rel=0.12)
    assert bus(cluster, "all_reduce", gpus, 1, 16 * GIB) == pytest.approx(gib_16, rel=0.05)


def test_all_to_all_across_nodes() -> None:
    assert bus(make("h100", 32), "all_to_all", 32, 1, 4 * GIB) == pytest.approx(48, rel=0.01)
    two = bus(make("h100", 16), "all_to_all", 16, 1, 4 * GIB)
    assert 60 < two < 90  # plain NCCL; DeepEP reaches 90 there


def test_mesh_gives_a_subset_only_its_own_links() -> None:
    cluster = make("mi300x", 8)
    assert bus(cluster, "all_reduce", 8, 1, 4 * GIB) == pytest.approx(312.9, rel=0.01)
    assert bus(cluster, "all_reduce", 2, 1, 4 * GIB) == pytest.approx(47.7, rel=0.01)
    assert bus(cluster, "all_gather", 4, 1, 4 * GIB) == pytest.approx(3 * 64 * 0.7, rel=0.02)
    four = make("h100-4", 4)
    assert bus(four, "all_reduce", 4, 1, 512 * MIB) == pytest.approx(350.2, rel=0.001)
    assert bus(four, "all_reduce", 2, 1, 512 * MIB) == pytest.approx(318.3 / 3, rel=0.02)


def test_bridged_pairs() -> None:
    cluster = make("pairs", 8)
    pair = cluster.collective_seconds("all_reduce", cluster.group(2, 1), 64 * MIB)
    four = cluster.collective_seconds("all_reduce", cluster.group(4, 1), 64 * MIB)
    apart = cluster.collective_seconds("all_reduce", cluster.group(2, 2), 64 * MIB)
    assert four > 3 * pair
    assert apart > 3 * pair
    assert bus(cluster, "all_reduce", 4, 1, GIB) == pytest.approx(20.8, rel=0.01)
    assert bus(cluster, "all_reduce", 8, 1, GIB) == pytest.approx(12.5, rel=0.01)
    assert bus(cluster, "all_reduce", 2, 4, GIB) == pytest.approx(12.5, rel=0.01)


def test_hybrid_cube_mesh() -> None:
    cluster = make("dgx1", 8)
    assert bus(cluster, "all_reduce", 8, 1, GIB) == pytest.approx(122, rel=0.01)
    assert cluster.group(8, 1).ring_gb_per_s == 150
    assert cluster.group(4, 1).ring_gb_per_s == 100


def test_no_peer_to_peer_is_slower() -> None:
    geforce, allowed = make("geforce", 8), Cluster(NODES["geforce"][0], make_gpu(), 8, tables=TABLES)
    assert bus(geforce, "all_reduce", 4, 1, GIB) == pytest.approx(bus(allowed, "all_reduce", 4, 1, GIB) / 2, rel=0.01)


def test_sizes_of_nothing_cost_nothing() -> None:
    cluster = make("h100")
    alone, group = cluster.group(1, 1), cluster.group(8, 1)
    assert cluster.collective_seconds("all_reduce", alone, 1e9) == 0
    assert cluster.point_to_point_seconds(alone, 1e9) == 0
    assert cluster.point_to_point_seconds((3, 3), 1e9) == 0
    assert cluster.collective_seconds("all_reduce", group, 0) == 0
    both = cluster.collective_seconds("all_reduce", group, np.array([0.0, 1e6]))
    assert both[0] == 0 < both[1]
    with pytest.raises(ValueError, match="do not fit"):
        cluster.group(64, 2)
    bare = Cluster(make_node(8, SWITCH, (0, 0, 0, "none")), make_gpu(), 16, tables=TABLES)
    group = bare.group(16, 1)
    with pytest.raises(InputError, match="network"):
        bare.collective_seconds("all_reduce", group, 1e6)


def test_point_to_point() -> None:
    cluster = make("h100")
    inside = cluster.point_to_point_seconds((0, 1), 1e9)
    across = cluster.point_to_point_seconds((0, 8), 1e9)
    assert inside == pytest.approx(10e-6 + 1 / (450 * 0.85))  # STAS: 376 of 450 GB/s
    assert across == pytest.approx(20e-6 + 1 / 45)
    assert cluster.point_to_point_seconds(cluster.group(4, 16), 1e9) == across
    sizes = np.array([1e3, 1e6, 1e9])
    assert np.allclose(
        cluster.point_to_point_seconds((0, 8), sizes),
        [cluster.point_to_point_seconds((0, 8), s) for s in sizes.tolist()],
    )


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("op", OPS)
def test_laws(name: str, op: Operation) -> None:
    cluster = make(name, 4 * NODES[name][0].gpus_per_node)
    width = cluster.node.gpus_per_node
    sizes = 2.0 ** np.arange(6, 38)
    by_size = {}
    for size in (2, 3, 4, 6, 8, 16, 4 * width):
        for stride in (1, 2, 8, width):
            if (size - 1) * stride >= cluster.num_gpus:
                continue
            group = cluster.group(size, stride)
            seconds = cluster.collective_seconds(op, group, sizes)
            by_size[size, stride] = (group, seconds)
            assert (np.diff(seconds) >= -1e-12).all(), (size, stride)
            single = [cluster.collective_seconds(op, group, s) for s in sizes.tolist()]
            assert all(type(value) is float for value in single)
            assert np.allclose(single, seconds, rtol=1e-12)
    for (size, stride), (group, seconds) in by_size.items():
        whole = by_size.get((size, 1))
        if whole is None or not whole[0].inside_domain or group.inside_domain:
            continue
        inner = whole[0].ring_gb_per_s
        if group.nic_gb_per_s <= 0.3 * inner:  # the same ranks, spread over a slower link
            assert (seconds[10:] >= whole[1][10:]).all(), (size, stride)


@pytest.mark.parametrize("op", OPS)
def test_a_faster_link_is_never_slower(op: Operation) -> None:
    sizes = 2.0 ** np.arange(6, 38)
    for links, faster in (
        ({"kind": "switch", "gb_per_s_per_gpu": 300}, {"kind": "switch", "gb_per_s_per_gpu": 450}),
        ({"kind": "full_mesh", "gb_per_s_per_pair": 64}, {"kind": "full_mesh", "gb_per_s_per_pair": 100}),
        ({"kind": "pcie_tree", "gb_per_s_per_gpu": 31.5}, {"kind": "pcie_tree", "gb_per_s_per_gpu": 63}),
    ):
        for nic, quicker in (((8, 200, 25.0, "IB"), (8, 400, 50.0, "IB")),):
            slow = Cluster(make_node(8, links, nic), make_gpu(), 64, tables=TABLES)
            for node in (make_node(8, faster, nic), make_node(8, links, quicker), make_node(8, faster, quicker)):
                fast = Cluster(node, make_gpu(), 64, tables=TABLES)
                for size, stride in ((2, 1), (4, 1), (8, 1), (8, 8), (64, 1), (16, 4)):
                    before = slow.collective_seconds(op, slow.group(size, stride), sizes)
                    after = fast.collective_seconds(op, fast.group(size, stride), sizes)
                    assert (after <= before * (1 + 1e-12)).all()


@pytest.mark.parametrize("op", OPS)
def test_larger_groups_are_never_faster_on_the_same_link(op: Operation) -> None:
    sizes = 2.0 ** np.arange(10, 36)
    for name, counts in (("plain-switch", (2, 3, 4, 8)), ("geforce", (2, 4, 8))):  # 3 cards may span both sockets
        cluster = make(name, 8)
        times = [cluster.collective_seconds(op, cluster.group(size, 1), sizes) for size in counts]
        assert all((more >= less).all() for less, more in pairwise(times))
    if op != "all_reduce":  # in-switch reduction does make an all-reduce of 8 faster than one of 4
        cluster = make("h100", 8)
        times = [cluster.collective_seconds(op, cluster.group(size, 1), sizes[14:]) for size in (2, 4, 8)]
        assert all((more >= less).all() for less, more in pairwise(times))
    cluster = make("h100", 512)
    times = [cluster.collective_seconds(op, cluster.group(size, 8), sizes) for size in (2, 4, 16, 64)]
    assert all((more >= less).all() for less, more in pairwise(times))


def catalog_nodes() -> list[str]:
    return sorted(path.stem for path in shipped_folder().joinpath("nodes").glob("*.yaml"))


@pytest.mark.parametrize("name", catalog_nodes())
def test_every_node_of_the_catalog(name: str) -> None:
    catalog = default_catalog()
    node: Node = catalog.find("nodes", name)
    gpu: Gpu = catalog.find("gpus", node.gpu)
    width = node.gpus_per_node
    nodes = 4 if node.nics.gb_per_s_per_gpu > 0 else 1
    cluster = Cluster(node, gpu, nodes * width, tables=TABLES)
    assert cluster.graph([0]).number_of_nodes() > width
    sizes = 2.0 ** np.arange(6, 36)
    for size in sorted({2, 4, 8, width, 2 * width, 4 * width} - {1}):
        for stride in (1, 2, width):
            if (size - 1) * stride >= cluster.num_gpus or (nodes == 1 and size * stride > width):
                continue
            group = cluster.group(size, stride)
            for op in OPS:
                seconds = cluster.collective_seconds(op, group, sizes)
                assert (seconds > 0).all()
                assert (np.diff(seconds) >= -1e-12).all()
                if group.inside_domain:  # no figure beats the links, in-switch reduction of an all-reduce aside
                    found = bus(cluster, op, size, stride, float(sizes[-1]))
                    reduced = op == "all_reduce" and node.links.in_network_reduction
                    assert found < group.ring_gb_per_s * (1.2 if reduced else 1.0), (size, stride, op)
            assert cluster.point_to_point_seconds(group, 1e6) > 0


def test_catalog_figures_come_back() -> None:
    catalog = default_catalog()
    for name in catalog_nodes():
        node: Node = catalog.find("nodes", name)
        gpu: Gpu = catalog.find("gpus", node.gpu)
        one, four = (Cluster(node, gpu, count * node.gpus_per_node, tables=TABLES) for count in (1, 4))
        for op in OPS:
            for size in range(2, node.gpus_per_node + 1):
                published = node.bus_gb_per_s_intra.get(f"{op}_{size}")
                if published is not None:
                    assert bus(one, op, size, 1, 16 * GIB) == pytest.approx(published, rel=0.06), (name, op, size)
            if op in node.bus_gb_per_s_inter:
                found = bus(four, op, four.num_gpus, 1, 16 * GIB)
                assert found == pytest.approx(node.bus_gb_per_s_inter[op], rel=0.03), (name, op)


def test_networkx_is_loaded_only_for_a_graph() -> None:
    code = "import sys, planner.cluster.cluster; sys.exit('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
