"""A user's own machines: links from a file, the order of GPUs, nccl-tests instead of the catalog's curves."""

from __future__ import annotations

import json
from itertools import combinations, pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cli import run

from planner.cluster.gpu_order import best_order, best_ring, has_ring
from planner.cluster.nccl_tests import parse_nccl_test
from planner.cluster.own_machines import OwnCluster
from planner.cluster.topo_matrix import matrix_edges
from planner.errors import InputError
from planner.formulas.collectives import bus_factor
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.problem import Problem
from planner.problem.resolve import question_of

MIXTRAL = str(Path(__file__).resolve().parents[2] / "scenarios" / "mixtral8x7b_64xh100.yaml")
PAIRS = "a100-pcie-nvbridge-pairs"
CROSSED = """\
\tGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\t X \tPIX\tNV12\tSYS\tPXB\t0-31\t0\t\tN/A
GPU1\tPIX\t X \tSYS\tNV12\tPXB\t0-31\t0\t\tN/A
GPU2\tNV12\tSYS\t X \tPIX\tSYS\t32-63\t1\t\tN/A
GPU3\tSYS\tNV12\tPIX\t X \tSYS\t32-63\t1\t\tN/A
NIC0\tPXB\tPXB\tSYS\tSYS\t X \t\t\t\t

Legend:

  X    = Self
"""
DGX1 = """\
\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tGPU4\tGPU5\tGPU6\tGPU7\tmlx5_0\tmlx5_1\tCPU Affinity\tNUMA Affinity\x1b[0m
GPU0\tX\tNV1\tNV2\tNV1\tSYS\tSYS\tSYS\tNV2\tNODE\tSYS\t0-23,48-71\t0
GPU1\tNV1\tX\tNV1\tNV2\tSYS\tSYS\tNV2\tSYS\tNODE\tSYS\t0-23,48-71\t0
GPU2\tNV2\tNV1\tX\tNV2\tSYS\tNV1\tSYS\tSYS\tPIX\tSYS\t0-23,48-71\t0
GPU3\tNV1\tNV2\tNV2\tX\tNV1\tSYS\tSYS\tSYS\tPIX\tSYS\t0-23,48-71\t0
GPU4\tSYS\tSYS\tSYS\tNV1\tX \tNV2\tNV2\tNV1\tSYS\tNODE\t24-47,72-95\t1
GPU5\tSYS\tSYS\tNV1\tSYS\tNV2\tX \tNV1\tNV2\tSYS\tNODE\t24-47,72-95\t1
GPU6\tSYS\tNV2\tSYS\tSYS\tNV2\tNV1\tX \tNV1\tSYS\tPIX\t24-47,72-95\t1
GPU7\tNV2\tSYS\tSYS\tSYS\tNV1\tNV2\tNV1\tX \tSYS\tPIX\t24-47,72-95\t1
"""
SWITCHED = "\n".join(
    ["\t" + "\t".join(f"GPU{i}" for i in range(8)) + "\tCPU Affinity"]
    + [f"GPU{i}\t" + "\t".join("X" if i == j else "NV18" for j in range(8)) + "\t0-55" for i in range(8)]
)


def scenario(folder: Path, cluster: str, layout: str = "pipeline_parallel: 1", more: str = "") -> str:
    path = folder / "run.yaml"
    path.write_text(
        "name: own\ntask: sft\nmodel: llama3.1-8b\nengine: megatron-core\noptimizer: sgd\n"
        f"cluster: {{{cluster}}}\nbatch: {{global_batch_size: 32, sequence_length: 2048}}\nlayout: {{{layout}}}\n{more}"
    )
    return str(path)


def problem(folder: Path, cluster: str, **files: str) -> Problem:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return question_of(load(scenario(folder, cluster))).first


def refused(folder: Path, cluster: str, **files: str) -> str:
    with pytest.raises(InputError) as caught:
        problem(folder, cluster, **files)
    return str(caught.value)


def nccl_output(op: str, gpus: int, bus: float, hosts: int = 1, latency_us: float = 20.0) -> str:
    program = {"all_to_all": "alltoall"}.get(op, op)
    lines = [
        f"# Collective test starting: {program}_perf",
        "# nThread 1 nGpus 1 minBytes 1048576",
        "#",
        "# Using devices",
    ]
    lines += [
        f"#  Rank {i:2d} Group  0 Pid   {100 + i} on      host{i * hosts // gpus} device  {i} [0x07] NVIDIA A100"
        for i in range(gpus)
    ]
    lines += [
        "NCCL version 2.20.5+cuda12.4",
        "#       size         count      type   redop    root" + "     time   algbw   busbw #wrong" * 2,
        "#        (B)    (elements)                          " + "     (us)  (GB/s)  (GB/s)       " * 2,
    ]
    factor = bus_factor(op=op, num_gpus=gpus)  # type: ignore[arg-type]
    for power in range(20, 33):
        us = latency_us + 2**power * factor / (bus * 1e3)
        algorithm = 2**power / us / 1e3
        row = f"{2**power:12d} {2**power // 4:12d} float sum -1 {us:9.2f} {algorithm:7.2f} {algorithm * factor:7.2f} 0"
        lines.append(row + f" {us:9.2f} {algorithm:7.2f} {algorithm * factor:7.2f} 0")
        lines.append("host0:100:100 [0] NCCL INFO something in between")
    return "\n".join([*lines, "# Out of bounds values : 0 OK", "# Avg bus bandwidth    : 100.0", "#"])


def test_crossed_bridges_are_put_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "topo.txt").write_text(CROSSED)
    path = scenario(tmp_path, f"node: {PAIRS}, num_gpus: 4, topology: topo.txt")
    page = run("solve", path)
    assert page.code == 0, page.err
    assert "CUDA_VISIBLE_DEVICES=0,2,1,3 with CUDA_DEVICE_ORDER=PCI_BUS_ID" in " ".join(page.out.split())
    found = json.loads(run("solve", path, "--format", "json").out)
    assert found["plan"]["placement"] == {
        "visible_devices": [0, 2, 1, 3],
        "tensor_ring_slowest_link": "nvlink",
        "tensor_ring_slowest_gb_per_s": 300.0,
    }
    assert len(found["provenance"]["catalog"]["topo.txt"]) == 64
    catalog = json.loads(run("solve", path, "--set", "cluster.topology=null", "--format", "json").out)
    assert catalog["plan"]["placement"] is None
    assert catalog["plan"]["time"]["step_seconds"] == pytest.approx(found["plan"]["time"]["step_seconds"], rel=1e-3)


def test_half_a_node_is_the_better_half(tmp_path: Path) -> None:
    cluster = problem(tmp_path, f"node: {PAIRS}, num_gpus: 2, topology: topo.txt", topo__txt=CROSSED).clusters[2]
    assert isinstance(cluster, OwnCluster)
    assert cluster.order == (0, 2)
    slowest = cluster.group(2, 1).slowest
    assert slowest is not None
    assert slowest.kind == "nvlink"


def test_the_matrix_of_the_catalogs_own_node_changes_nothing(tmp_path: Path) -> None:
    own = problem(tmp_path, "node: hgx-h100-8, num_gpus: 16, topology: topo.txt", topo__txt=SWITCHED)
    plain = problem(tmp_path, "node: hgx-h100-8, num_gpus: 16")
    assert own.node == plain.node
    for size, stride in ((2, 1), (8, 1), (16, 1), (2, 8), (2, 4)):
        for op in ("all_reduce", "all_to_all"):
            seconds = [
                p.clusters[16].collective_seconds(op, p.clusters[16].group(size, stride), 1e8) for p in (own, plain)
            ]
            assert seconds[0] == seconds[1]


def test_a_dead_link_slows_the_groups_that_need_it(tmp_path: Path) -> None:
    cluster = "node: hgx-h100-8, num_gpus: 8, topology: topo.txt"
    lines = SWITCHED.splitlines()
    lines[1] = lines[1].replace("NV18", "NV9")
    lines[2:] = [line.replace("NV18", "NV9", 1) for line in lines[2:]]
    hurt = problem(tmp_path, cluster, topo__txt="\n".join(lines)).clusters[8]
    assert isinstance(hurt, OwnCluster)
    slowest = hurt.group(8, 1).slowest
    assert slowest is not None
    assert slowest.gb_per_s == 225
    whole = problem(tmp_path, cluster, topo__txt=SWITCHED).clusters[8]
    assert hurt.collective_seconds("all_reduce", hurt.group(8, 1), 1e9) > whole.collective_seconds(
        "all_reduce", whole.group(8, 1), 1e9
    )


def test_the_cube_mesh_of_a_matrix() -> None:
    catalog = default_catalog()
    count, edges = matrix_edges(
        DGX1, "topo.txt", catalog.find("nodes", "dgx1-v100"), catalog.find("gpus", "v100-sxm2-32gb")
    )
    fast = {edge.ends: edge.gb_per_s for edge in edges if edge.kind == "nvlink"}
    assert count == 8
    assert len(fast) == 16
    assert len(edges) == 28
    assert fast["gpu0", "gpu2"] == 50
    assert fast["gpu0", "gpu1"] == 25
    assert {e.kind for e in edges if e.ends == ("gpu0", "gpu4")} == {"socket"}


def edge_list(*links: tuple[str, str, float, str], gpus: int = 4) -> str:
    rows = [f"  - {{between: [{a}, {b}], gb_per_s: {rate}, kind: {kind}}}" for a, b, rate, kind in links]
    return "\n".join([f"gpus: {gpus}", "links:", *rows])


TREE = [(f"gpu{i}", f"socket{i % 2}", 25.0, "pcie") for i in range(4)] + [("socket0", "socket1", 20.0, "socket")]


def test_an_edge_list_of_gpus_and_sockets(tmp_path: Path) -> None:
    text = edge_list(*TREE, ("gpu0", "gpu3", 100.0, "nvlink"), ("gpu1", "gpu2", 100.0, "nvlink"))
    cluster = problem(tmp_path, "node: l40s-pcie-4, num_gpus: 4, topology: links.yaml", links__yaml=text).clusters[4]
    assert isinstance(cluster, OwnCluster)
    assert cluster.order == (0, 3, 1, 2)
    assert cluster.inner.pair(0, 1).gb_per_s == 100
    assert cluster.inner.pair(0, 2).kind in ("pcie", "socket")
    assert set(cluster.graph([0]).nodes) >= {"node0/gpu0", "node0/socket1"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.txt", "hello\n", ["t.txt:1", "holds no GPU matrix"]),
        ("t.txt", CROSSED.replace("NV12", "NV13"), ["t.txt:2", "NV13 on a GPU with 12 NVLinks"]),
        ("t.txt", CROSSED.replace("PIX", "FOO"), ["t.txt:2", "unknown link FOO"]),
        ("t.txt", CROSSED.replace("PIX", "PXB", 1), ["t.txt:2", "GPU0 reaches GPU1 by PXB, and back by PIX"]),
        ("t.txt", "\n".join(CROSSED.splitlines()[:4]), ["t.txt:1", "4 GPUs across, 3 down"]),
        ("t.txt", CROSSED.replace("\tPIX\tSYS\t32-63\t1\t\tN/A\nGPU3", "\nGPU3"), ["t.txt:4", "ends before GPU3"]),
        ("t.yaml", edge_list(("gpu0", "gpu9", 1, "pcie")), ["t.yaml:3", "gpu9 does not exist"]),
        ("t.yaml", edge_list(("gpu0", "gpu1", 1, "pcie")), ["no way from gpu0 to gpu2"]),
        ("t.yaml", edge_list(("gpu0", "gpu0", 1, "pcie")), ["t.yaml:3", "to itself"]),
        ("t.yaml", edge_list(("gpu0", "gpu1", 1, "pcie"), ("gpu1", "gpu0", 1, "pcie")), ["t.yaml:4", "linked twice"]),
        ("t.yaml", edge_list(("gpu0", "gpu1", 1, "wire")), ["t.yaml:3", "kind"]),
        ("none.txt", None, ["none.txt: no such file", "run.yaml:6"]),
    ],
)
def test_bad_topologies_are_refused_with_their_line(
    tmp_path: Path, name: str, text: str | None, said: list[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    message = refused(tmp_path, f"node: {PAIRS}, num_gpus: 4, topology: {name}")
    for part in said:
        assert part in message


def matrix(words: list[list[str]]) -> str:
    names = [f"GPU{i}" for i in range(len(words))]
    rows = [["", *names], *([name, *row] for name, row in zip(names, words, strict=True))]
    return "\n".join("\t".join(row) for row in rows)


def test_racks_need_equal_links(tmp_path: Path) -> None:
    words = [["X" if i == j else "NV18" for j in range(18)] for i in range(18)]
    cluster = "node: gb200-nvl72, num_gpus: 18, topology: t.txt"
    whole = problem(tmp_path, cluster, t__txt=matrix(words))
    assert whole.clusters[18].group(18, 1).slowest.gb_per_s == 900  # type: ignore[union-attr]
    for other in range(1, 18):
        words[0][other] = words[other][0] = "NV9"
    assert "unequal links" in refused(tmp_path, cluster, t__txt=matrix(words))
    many = [["X" if i == j else "NV18" for j in range(73)] for i in range(73)]
    assert "a node of 73 GPUs" in refused(tmp_path, cluster, t__txt=matrix(many))


def test_a_bond_on_a_gpu_without_nvlink_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "node: l40s-pcie-4, num_gpus: 4, topology: t.txt", t__txt=CROSSED)
    assert "has no NVLink" in message
    assert "t.txt:2" in message


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, dict[tuple[int, int], float]]:
    count = draw(st.integers(2, 6))
    rates = {pair: draw(st.sampled_from([10.0, 20.0, 50.0])) for pair in combinations(range(count), 2)}
    return count, rates | {(b, a): rate for (a, b), rate in rates.items()}


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_blocks_have_the_fastest_slowest_ring(
    graph: tuple[int, dict[tuple[int, int], float]], data: st.DataObject
) -> None:
    count, rates = graph
    wanted = data.draw(st.sampled_from([size for size in range(2, count + 1) if count % size == 0]))

    def rate(a: int, b: int) -> float:
        return rates[a, b]

    def worst(order: tuple[int, ...]) -> float:
        return min(best_ring(order[at : at + wanted], rate) for at in range(0, count, wanted))

    order = best_order(count, count, rate, wanted)
    assert sorted(order) == list(range(count))
    assert worst(order) == max(worst(other) for other in permutations(range(count)))


@settings(max_examples=100, deadline=None)
@given(graphs(), st.sampled_from([10.0, 20.0, 50.0]), st.booleans())
def test_rings_are_found_where_there_are_some(
    graph: tuple[int, dict[tuple[int, int], float]], least: float, closed: bool
) -> None:
    count, rates = graph

    def works(path: tuple[int, ...]) -> bool:
        steps = list(pairwise(path)) + ([(path[-1], path[0])] if closed and count > 2 else [])
        return all(rates[step] >= least for step in steps)

    found = has_ring(range(count), lambda a, b: rates[a, b] >= least, closed=closed)
    assert found == any(works(path) for path in permutations(range(count)))


def test_equal_links_keep_the_usual_order() -> None:
    assert best_order(8, 8, lambda a, b: 10.0) == tuple(range(8))
    assert best_order(8, 4, lambda a, b: 10.0, 2) == (0, 1, 2, 3)


def test_own_measurements_replace_the_curves(tmp_path: Path) -> None:
    files: dict[str, Any] = {"reduce__txt": nccl_output("all_reduce", 8, 200)}
    own = problem(tmp_path, "node: hgx-h100-8, num_gpus: 8, nccl_tests: [reduce.txt]", **files)
    plain = problem(tmp_path, "node: hgx-h100-8, num_gpus: 8")
    sizes = np.array([2.0**20, 2.0**26, 2.0**34])
    mine, usual = own.clusters[8], plain.clusters[8]
    measured = mine.collective_seconds("all_reduce", mine.group(8, 1), sizes)
    expected = 20e-6 + sizes * 1.75 / 200e9
    assert measured == pytest.approx(expected, rel=0.01)
    for op in ("all_gather", "all_to_all"):
        kept, catalog = (c.collective_seconds(op, c.group(8, 1), 1e8) for c in (mine, usual))
        assert kept == catalog
    assert own.provenance != plain.provenance
    assert "reduce.txt" in dict(own.provenance)


def test_a_run_over_several_hosts_sets_the_figure_between_nodes(tmp_path: Path) -> None:
    text = nccl_output("all_reduce", 32, 180, hosts=4)
    own = problem(tmp_path, "node: hgx-h100-8, num_gpus: 32, nccl_tests: [between.txt]", between__txt=text)
    assert own.node.bus_gb_per_s_inter["all_reduce"] == pytest.approx(180, rel=0.01)
    cluster = own.clusters[32]
    seconds = cluster.collective_seconds("all_reduce", cluster.group(32, 1), 2.0**34)
    assert seconds == pytest.approx(2.0**34 * 31 / 16 / 180e9, rel=0.02)


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_an_all_to_all_over_hosts_comes_back_as_measured(tmp_path: Path, hosts: int) -> None:
    text = nccl_output("all_to_all", 8 * hosts, 40, hosts=hosts)
    own = problem(tmp_path, f"node: hgx-h100-8, num_gpus: {8 * hosts}, nccl_tests: [a.txt]", a__txt=text)
    cluster = own.clusters[8 * hosts]
    size = 2.0**34
    seconds = cluster.collective_seconds("all_to_all", cluster.group(8 * hosts, 1), size)
    assert seconds == pytest.approx(size * (8 * hosts - 1) / (8 * hosts) / 40e9, rel=0.02)


def test_a_measured_pair_says_nothing_about_pairs_on_slower_links(tmp_path: Path) -> None:
    text = nccl_output("all_reduce", 2, 220)
    own = problem(tmp_path, f"node: {PAIRS}, num_gpus: 4, nccl_tests: [a.txt]", a__txt=text)
    cluster = own.clusters[4]
    near, far = (cluster.collective_seconds("all_reduce", cluster.group(2, stride), 2.0**30) for stride in (1, 2))
    assert near == pytest.approx(2.0**30 / 220e9, rel=0.01)
    assert far > 5 * near


GOOD = nccl_output("all_gather", 8, 200)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.txt", "nothing", ["a.txt:1", "is no output of nccl-tests"]),
        ("a.txt", GOOD.replace("all_gather_perf", "sweep"), ["a.txt:1", "which collective a.txt measures"]),
        ("a.txt", GOOD.replace("all_gather", "all_reduce"), ["is no all_reduce over 8 GPUs", "busbw / algbw is 0.875"]),
        ("a.txt", GOOD.split("#       size")[0], ["a.txt:", "has no table"]),
        ("a.txt", "\n".join(GOOD.splitlines()[:16]), ["a curve needs two"]),
        ("a.txt", GOOD + "\n" + GOOD, ["a second table"]),
        ("a.txt", GOOD.replace("float sum -1", "float sum -1 n/a", 1), ["a.txt:16"]),
        ("a.txt", GOOD.replace("host0 device  0", "host1 device  0", 1), ["8 ranks on 2 hosts"]),
    ],
)  # fmt: skip
def test_bad_measurements_are_refused_with_their_line(tmp_path: Path, name: str, text: str, said: list[str]) -> None:
    message = refused(
        tmp_path, f"node: hgx-h100-8, num_gpus: 8, nccl_tests: [{name}]", **{name.replace(".", "__"): text}
    )
    for part in said:
        assert part in message


def test_the_name_of_a_file_may_say_the_collective() -> None:
    text = GOOD.replace("all_gather_perf", "sweep")
    test = parse_nccl_test(text, "runs/all_gather_8.txt")
    assert (test.curve.op, test.curve.num_gpus, test.num_nodes) == ("all_gather", 8, 1)
    assert test.curve.last_bus_gb_per_s == pytest.approx(200, rel=0.01)


def test_the_same_measurement_twice_is_refused(tmp_path: Path) -> None:
    message = refused(tmp_path, "node: hgx-h100-8, num_gpus: 8, nccl_tests: [a.txt, b.txt]", a__txt=GOOD, b__txt=GOOD)
    assert "another file measures the same" in message


PINNED = (
    "tensor_parallel: 2, pipeline_parallel: 4, data_parallel: 8, context_parallel: 1, zero_stage: 1, "
    "virtual_pipeline: 1, recomputed_layers: 0"
)


def test_neighbouring_stages_send_inside_a_node_and_reduce_across(tmp_path: Path) -> None:
    path = scenario(tmp_path, "node: hgx-h100-8, num_gpus: 64", PINNED)
    times = {}
    for order in ("default", "tp_pp_dp"):
        chosen = ["--set", "batch.micro_batch_size=1", "--set", f"cluster.rank_order={order}"]
        found = json.loads(run("estimate", path, *chosen, "--format", "json").out)["plan"]
        assert found["layout"]["rank_order"] == order
        times[order] = {item["name"]: item["seconds"] for item in found["time"]["items"]}
        assert ("tp-cp-ep-pp-dp" in run("estimate", path, "-vv", *chosen).out) == (order == "tp_pp_dp")
    assert times["tp_pp_dp"]["pipeline sends"] < times["default"]["pipeline sends"] / 3
    assert times["tp_pp_dp"]["data-parallel collectives"] > times["default"]["data-parallel collectives"]
    same = ("matrix products", "tensor-parallel collectives", "optimizer step")
    assert all(times["default"][name] == times["tp_pp_dp"][name] for name in same)


def test_the_launcher_writes_the_order_of_ranks(tmp_path: Path) -> None:
    path = scenario(tmp_path, "node: hgx-h100-8, num_gpus: 64", PINNED.replace("data_parallel: 8, ", ""))
    flag = "--use-tp-pp-dp-mapping"
    chosen = ["--to", "megatron", "--set", "optimizer=adamw", "--set", "cluster.rank_order=tp_pp_dp"]
    assert flag in run("launch", path, *chosen).out
    assert flag not in run("launch", path, *chosen[:4]).out


def test_experts_keep_their_stages_when_stages_are_neighbours() -> None:
    changes = ["cluster.rank_order=tp_pp_dp", "cluster.num_gpus=64", "layout.pipeline_parallel=4"]
    found = run("solve", MIXTRAL, *(w for c in changes for w in ("--set", c)), "--format", "json")
    layout = json.loads(found.out)["plan"]["layout"]
    assert layout["expert_parallel"] * layout["expert_tensor_parallel"] == (
        layout["tensor_parallel"] * layout["context_parallel"]
    )
