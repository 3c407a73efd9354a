"""A user's own machines: the links of a node from a file, curves from nccl-tests, and which GPUs a group gets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import log2
from typing import Annotated, Literal

from pydantic import Field

from planner.cluster.cluster import BUS_SHARE, PCIE_SHARE, Cluster
from planner.cluster.gpu_order import MOST_GPUS, best_order
from planner.cluster.nccl_tests import NcclTest, parse_nccl_test
from planner.cluster.node_graph import (
    NVLINK_HOP_US,
    PCIE_EDGE_US,
    Edge,
    Link,
    NodeGraph,
    direct_edges,
    nic_count,
    pcie_gb_per_s,
)
from planner.cluster.topo_matrix import matrix_edges
from planner.errors import InputError, Mistake, Place
from planner.formulas.collectives import DECLINE_PER_DOUBLING, REFERENCE_NODES, Curve, Operation
from planner.inputs.document import Document, named_in, parse_document, validate
from planner.inputs.examples import beside
from planner.inputs.files import read_bytes
from planner.inputs.measured import MeasuredTables
from planner.schema.base import Frozen
from planner.schema.catalog import Gpu, Node, NodeLinks
from planner.schema.scenario import Scenario

MOST_BYTES = 4 * 1024 * 1024
MOST_LISTED = 72
"""GPUs of one node in a file: an NVL72 rack."""
REACHED = {"nvlink": BUS_SHARE["switch"], "xgmi": BUS_SHARE["full_mesh"], **PCIE_SHARE, "network": 1.0}
"""Share of a link's rate that rings reach, by kind: what placement compares links by."""
LATENCY_WEIGHT = 1e-6
"""GB/s that a microsecond of latency counts, so that of equal links the nearer GPU is taken."""


End = Annotated[str, Field(min_length=1, max_length=40)]
"""Name of one end of a link."""


def _gpu(end: str) -> int | None:
    """Which GPU an end is; None for anything else."""
    return int(found[1]) if (found := re.fullmatch("gpu([0-9]+)", end)) else None


class LinkSpec(Frozen):
    """One link of an edge list."""

    between: tuple[End, End]
    """Its two ends: gpu0, gpu1, ..., or any other name (a switch, a socket) that further links share."""
    gb_per_s: float = Field(gt=0)
    """One direction, decimal GB/s, all parallel links of the pair together."""
    kind: Literal["nvlink", "xgmi", "pcie", "socket"]
    """socket is the link between two processors."""


class TopologySpec(Frozen):
    """An edge list: the links inside one node."""

    gpus: int = Field(ge=1, le=2**16)
    links: list[LinkSpec]


@dataclass(frozen=True)
class Own:
    """What the scenario's files say about its machines; with none, the node is the catalog's."""

    node: Node
    links: tuple[Edge, ...] | None = None
    """Of one node, instead of the catalog's."""
    curves: Mapping[tuple[str, int], Curve] = field(default_factory=dict)
    """Of nccl-tests inside one node, by operation and number of GPUs."""
    wanted: int | None = None
    """Size of the tensor-parallel groups, where the scenario pins it."""
    files: tuple[tuple[str, str], ...] = ()
    """(file, sha256)."""

    @property
    def nothing(self) -> bool:
        """Neither links nor curves are the user's: the node tells all."""
        return self.links is None and not self.curves

    def cluster(self, gpu: Gpu, num_gpus: int, tables: MeasuredTables) -> Cluster:
        """So many of these GPUs."""
        if self.nothing:
            return Cluster(self.node, gpu, num_gpus, tables=tables)
        return OwnCluster(self.node, gpu, num_gpus, self, tables=tables)


class OwnNodeGraph(NodeGraph):
    """Links of one node as a file gives them, its GPUs renamed to their place in rank order."""

    def __init__(self, node: Node, gpu: Gpu, links: Sequence[Edge], order: Sequence[int]) -> None:
        place = {f"gpu{physical}": f"gpu{rank}" for rank, physical in enumerate(order)}
        spare = (f"gpu{physical}" for physical in range(node.gpus_per_node) if physical not in order)
        place |= {name: f"gpu{len(order) + index}" for index, name in enumerate(spare)}
        first = [replace(e, ends=(place.get(e.ends[0], e.ends[0]), place.get(e.ends[1], e.ends[1]))) for e in links]
        adapters = nic_count(node)
        for nic in range(adapters):
            ends = (f"nic{nic}", f"gpu{nic * node.gpus_per_node // adapters}")
            first.append(Edge(ends, "pcie", max(pcie_gb_per_s(node, gpu), node.nics.gbit_per_s_each / 8), PCIE_EDGE_US))
        super().__init__(node, gpu, first)
        count = node.gpus_per_node
        pairs = {(x.kind, x.gb_per_s) for a in range(count) for b in range(a) for x in (self.pair(a, b),)}
        self.uniform = len(pairs) <= 1

    def reached(self, first: int, second: int) -> float:
        """What placement compares two GPUs by. [GB/s]"""
        link = self.pair(first, second)
        return link.gb_per_s * REACHED[link.kind] - LATENCY_WEIGHT * link.latency_us

    def crosses_sockets(self, members: Sequence[int]) -> bool:
        """Whether some pair of these GPUs talks across processor sockets."""
        return any(self.pair(a, b).kind == "socket" for a in members for b in members if a < b)

    def ring_gb_per_s(self, members: Sequence[int], link: Link) -> float:
        """What one GPU can send inside the group: direct links to members together, at least the slowest link."""
        return max(link.gb_per_s, super().ring_gb_per_s(members, link))


@dataclass(frozen=True, eq=False)
class OwnCluster(Cluster):
    """A cluster whose nodes are as the user's files say."""

    own: Own

    @cached_property
    def order(self) -> tuple[int, ...]:
        """Physical GPUs of a node in rank order, as `nvidia-smi` counts them."""
        count, graph = self.node.gpus_per_node, self._as_counted
        used = min(self.num_gpus, count)
        if isinstance(graph, OwnNodeGraph) and not graph.uniform:
            return best_order(count, used, graph.reached, self.own.wanted)
        return tuple(range(used))

    @cached_property
    def _as_counted(self) -> NodeGraph:
        """Links of one node, GPUs as `nvidia-smi` counts them."""
        links, count = self.own.links, self.node.gpus_per_node
        return super().inner if links is None else OwnNodeGraph(self.node, self.gpu, links, range(count))

    @cached_property
    def inner(self) -> NodeGraph:
        """Links of one node, GPUs in rank order."""
        links = self.own.links
        return super().inner if links is None else OwnNodeGraph(self.node, self.gpu, links, self.order)

    @cached_property
    def _curves(self) -> Mapping[tuple[str, int], Curve]:
        measured = {op for op, _ in self.own.curves}
        kept = {key: curve for key, curve in super()._curves.items() if key[0] not in measured}
        return {**kept, **self.own.curves}

    def _applies(self, op: Operation, link: Link, members: Sequence[int], size: int) -> bool:
        """Own curves were taken on the first GPUs of a node; they hold where the ring is no slower than theirs."""
        if op not in {name for name, _ in self.own.curves}:
            return super()._applies(op, link, members, size)
        theirs = self._as_counted.ring(range(min(size, self.node.gpus_per_node)))
        return link.gb_per_s * REACHED[link.kind] >= theirs.gb_per_s * REACHED[theirs.kind]


def load_own(document: Document, scenario: Scenario, node: Node, gpu: Gpu) -> Own:
    """Read the files that `cluster:` names, found relative to the scenario.

    Raises InputError with file and line for a file that is missing or wrong.
    """
    spec, files, folder = scenario.cluster, [], beside(document.name, ".")
    links: tuple[Edge, ...] | None = None
    if spec.topology is not None:
        text, digest = _text(document, spec.topology, "topology")
        files.append((spec.topology, digest))
        with named_in(folder, folder / spec.topology):
            count, links = _links(text, spec.topology, node, gpu)
        if count > MOST_LISTED:
            raise InputError(Mistake(f"a node of {count} GPUs", Place(spec.topology, 1), f"at most {MOST_LISTED}"))
        _all_joined(count, links, spec.topology)
        node = node.model_copy(update={"gpus_per_node": count, **_shape(node, gpu, count, links)})
        if count > MOST_GPUS and not OwnNodeGraph(node, gpu, links, range(count)).uniform:
            because = f"rings over unequal links are searched among at most {MOST_GPUS} GPUs"
            raise InputError(Mistake(f"a node of {count} GPUs with unequal links", Place(spec.topology, 1), because))
    curves: dict[tuple[str, int], Curve] = {}
    for index, name in enumerate(spec.nccl_tests):
        text, digest = _text(document, name, "nccl_tests", index)
        files.append((name, digest))
        with named_in(folder, folder / name):
            test = parse_nccl_test(text, name)
        key = (test.curve.op, test.curve.num_gpus)
        if test.num_nodes > 1:
            node = _between(node, test)
        elif key in curves or test.curve.num_gpus > node.gpus_per_node:
            because = "another file measures the same" if key in curves else f"a node has {node.gpus_per_node} GPUs"
            raise InputError(Mistake(f"{name}: {key[0]} over {key[1]} GPUs of one host", Place(name, 1), because))
        else:
            curves[key] = test.curve
    if curves:
        own = {op for op, _ in curves}
        kept = {k: v for k, v in node.bus_gb_per_s_intra.items() if not any(k.startswith(op) for op in own)}
        node = node.model_copy(update={"bus_gb_per_s_intra": kept})
    pinned = scenario.layout.tensor_parallel
    wanted = pinned if isinstance(pinned, int) and pinned > 1 else None
    return Own(node, links, curves, wanted, tuple(files))


def _text(document: Document, name: str, *path: str | int) -> tuple[str, str]:
    """(content, sha256) of a file that the scenario names."""
    place = document.place(("cluster", *path))
    raw = read_bytes(beside(document.name, name), place, most_bytes=MOST_BYTES)
    try:
        return raw.decode("utf-8-sig"), hashlib.sha256(raw).hexdigest()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(Mistake(f"{name} is not UTF-8 text", Place(name, line))) from None


def _links(text: str, name: str, node: Node, gpu: Gpu) -> tuple[int, tuple[Edge, ...]]:
    """(GPUs, links) of an edge list in YAML, or of a matrix of `nvidia-smi topo -m`."""
    if not name.endswith((".yaml", ".yml")):
        return matrix_edges(text, name, node, gpu)
    document = parse_document(text, name)
    spec = validate(document, TopologySpec)
    seen: dict[frozenset[str], int] = {}
    for index, link in enumerate(spec.links):
        first, second = link.between
        place = document.place(("links", index))
        for end in link.between:
            if (_gpu(end) or 0) >= spec.gpus:
                raise InputError(
                    Mistake(f"{end} does not exist", place, f"gpus: {spec.gpus} are gpu0 to gpu{spec.gpus - 1}")
                )
        if first == second:
            raise InputError(Mistake(f"a link from {first} to itself", place))
        if frozenset(link.between) in seen:
            what = f"{first} and {second} are linked twice"
            raise InputError(Mistake(what, place, "gb_per_s counts all parallel links together"))
        seen[frozenset(link.between)] = index
    hop = {"nvlink": NVLINK_HOP_US, "xgmi": NVLINK_HOP_US, "pcie": PCIE_EDGE_US, "socket": PCIE_EDGE_US}
    edges = []
    for link in spec.links:
        ends = [end for end in link.between if _gpu(end) is not None]
        latency = hop[link.kind] / (2 if len(ends) < 2 and link.kind in ("nvlink", "xgmi") else 1)
        edges.append(Edge(link.between, link.kind, link.gb_per_s, latency))
    return spec.gpus, tuple(edges)


def _all_joined(count: int, links: Sequence[Edge], name: str) -> None:
    """Refuse a node whose GPUs cannot all reach one another without passing through a third GPU."""
    near: dict[str, list[str]] = {}
    for edge in links:
        for end, other in (edge.ends, edge.ends[::-1]):
            near.setdefault(end, []).append(other)
    for first in range(count):
        reached, frontier = {f"gpu{first}"}, [f"gpu{first}"]
        while frontier:
            fresh = [x for x in near.get(frontier.pop(), ()) if x not in reached]
            reached.update(fresh)
            frontier += [x for x in fresh if _gpu(x) is None]
        for second in range(count):
            if f"gpu{second}" not in reached:
                because = "data does not travel through a third GPU"
                attempt = "state the PCIe links too: gpu, switch and socket"
                raise InputError(Mistake(f"no way from gpu{first} to gpu{second}", Place(name, 1), because, attempt))


def _shape(node: Node, gpu: Gpu, count: int, links: Sequence[Edge]) -> dict[str, object]:
    """What else of the node changes: measured figures stay only where the file shows the catalog's links."""
    direct = [edge for edge in links if edge.kind in ("nvlink", "xgmi")]
    through = [edge for edge in direct if "nvswitch" in edge.ends]
    rates = {edge.gb_per_s for edge in direct}
    known = node.links
    shown, listed = ({frozenset(e.ends): e.gb_per_s for e in edges} for edges in (direct, direct_edges(node, gpu)))
    if shown == listed and count == node.gpus_per_node:
        return {}
    if through and len(through) == len(direct) == count and len(rates) == 1:
        if known.kind == "switch" and rates == {known.gb_per_s_per_gpu}:
            return {}
        return {"links": NodeLinks(kind="switch", gb_per_s_per_gpu=rates.pop()), "bus_gb_per_s_intra": {}}
    ends = [end for edge in direct for end in edge.ends]
    paired = direct and len(set(ends)) == len(ends)
    if paired and known.kind == "bridged_pairs" and rates == {known.gb_per_s_per_pair or known.gb_per_s_per_gpu}:
        return {}
    kind: Literal["hybrid_cube_mesh", "pcie_tree"] = "hybrid_cube_mesh" if direct else "pcie_tree"
    links_now = NodeLinks(
        kind=kind,
        pcie_gb_per_s=known.pcie_gb_per_s,
        gpus_per_pcie_switch=known.gpus_per_pcie_switch,
        gpus_per_socket=known.gpus_per_socket,
    )
    return {"links": links_now, "bus_gb_per_s_intra": {}}


def _between(node: Node, test: NcclTest) -> Node:
    """The node with its figure between nodes as measured: the bus bandwidth of the largest message.

    The catalog's figures are of 4 nodes; more nodes lose 0.35 % a doubling, and of an all-to-all another share crosses.
    """
    curve, nodes = test.curve, test.num_nodes
    width = curve.num_gpus // nodes
    figure = curve.last_bus_gb_per_s
    if curve.op == "all_to_all":
        figure *= (nodes - 1) * width / (nodes * width - 1)
        whole = node.gpus_per_node
        figure *= (REFERENCE_NODES * whole - 1) / ((REFERENCE_NODES - 1) * whole)
    else:
        figure *= 1 + DECLINE_PER_DOUBLING * max(0.0, log2(nodes / REFERENCE_NODES))
        figure *= node.gpus_per_node / width
    return node.model_copy(update={"bus_gb_per_s_inter": {**node.bus_gb_per_s_inter, curve.op: figure}})
