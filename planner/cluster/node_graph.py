"""The links inside one node as a list of edges, and the best ring over some of its GPUs."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from planner.cluster.gpu_order import best_ring
from planner.schema.catalog import Gpu, Node
from planner.units import gbit_per_s_to_gb_per_s

EdgeKind: TypeAlias = Literal["nvlink", "xgmi", "pcie", "socket", "network"]

NVLINK_HOP_US = 3.4
PCIE_EDGE_US = 1.4
NETWORK_EDGE_US = 4.2
"""Latency of an edge, so that a path adds up to NCCL's hop in its tuning model: NVLink 3.4 us, PCIe 5.7 (four edges),
network 14.0 (GPU, PCIe switch, NIC, fabric and back down)."""


@dataclass(frozen=True)
class Edge:
    """One physical link, both directions alike."""

    ends: tuple[str, str]
    kind: EdgeKind
    gb_per_s: float
    """One direction."""
    latency_us: float


@dataclass(frozen=True)
class Link:
    """What a pair or a ring is held back by: the slowest edge on its way."""

    kind: EdgeKind
    gb_per_s: float
    """One direction; over the network, the share of one GPU."""
    latency_us: float
    """Of the whole way between the two GPUs, not only of this edge."""
    ends: tuple[str, str]
    inside_domain: bool


def pcie_gb_per_s(node: Node, gpu: Gpu) -> float:
    """PCIe path of one GPU, one direction. [GB/s]"""
    if node.links.pcie_gb_per_s is not None:
        return node.links.pcie_gb_per_s
    if node.links.kind == "pcie_tree" and node.links.gb_per_s_per_gpu is not None:
        return node.links.gb_per_s_per_gpu
    return gpu.pcie_gb_per_s


def direct_edges(node: Node, gpu: Gpu) -> Iterator[Edge]:
    """NVLink or Infinity Fabric edges of a node."""
    links, kind = node.links, fast_kind(gpu)
    count = node.gpus_per_node
    per_gpu = links.gb_per_s_per_gpu or gpu.nvlink_gb_per_s or 0.0
    if links.kind == "switch":
        for index in range(count):
            yield Edge((f"gpu{index}", "nvswitch"), kind, per_gpu, NVLINK_HOP_US / 2)
    elif links.kind == "full_mesh":
        per_pair = links.gb_per_s_per_pair or per_gpu / max(count - 1, 1)
        for first in range(count):
            for second in range(first + 1, count):
                yield Edge((f"gpu{first}", f"gpu{second}"), kind, per_pair, NVLINK_HOP_US)
    elif links.kind == "bridged_pairs":
        for first in range(0, count - 1, 2):
            yield Edge((f"gpu{first}", f"gpu{first + 1}"), kind, links.gb_per_s_per_pair or per_gpu, NVLINK_HOP_US)
    elif links.kind == "hybrid_cube_mesh":
        for first, second, number in links.edges:
            rate = number * (links.gb_per_s_per_link or 0.0)
            yield Edge((f"gpu{first}", f"gpu{second}"), kind, rate, NVLINK_HOP_US)


def host_edges(node: Node, gpu: Gpu) -> Iterator[Edge]:
    """PCIe tree and network adapters of a node: GPU - PCIe switch - socket - other socket, NIC beside its GPUs."""
    count, rate = node.gpus_per_node, pcie_gb_per_s(node, gpu)
    per_switch, per_socket = node.links.gpus_per_pcie_switch, node.links.gpus_per_socket
    for index in range(count):
        yield Edge((f"gpu{index}", f"pcie{index // per_switch}"), "pcie", rate, PCIE_EDGE_US)
    for switch in range(-(-count // per_switch)):
        yield Edge((f"pcie{switch}", f"socket{switch * per_switch // per_socket}"), "pcie", rate, PCIE_EDGE_US)
    sockets = -(-count // per_socket)
    for first in range(sockets):
        for second in range(first + 1, sockets):
            yield Edge((f"socket{first}", f"socket{second}"), "socket", rate, PCIE_EDGE_US)
    adapters = nic_count(node)
    for nic in range(adapters):
        switch = nic * count // adapters // per_switch
        line = gbit_per_s_to_gb_per_s(node.nics.gbit_per_s_each)
        yield Edge((f"nic{nic}", f"pcie{switch}"), "pcie", max(rate, line), PCIE_EDGE_US)


def nic_count(node: Node) -> int:
    """Adapters of the whole domain; the catalog may count those of one host of it."""
    each = gbit_per_s_to_gb_per_s(node.nics.gbit_per_s_each)
    if each <= 0 or node.nics.gb_per_s_per_gpu <= 0:
        return 0
    return max(1, round(node.nics.gb_per_s_per_gpu * node.gpus_per_node / each))


def fast_kind(gpu: Gpu) -> EdgeKind:
    """What the direct links of this vendor are called."""
    return "xgmi" if gpu.vendor == "amd" else "nvlink"


class NodeGraph:
    """Edges of one node type, widest paths between its GPUs, best rings over some of them."""

    def __init__(self, node: Node, gpu: Gpu, edges: Sequence[Edge] | None = None) -> None:
        self.node = node
        fast = direct_edges(node, gpu) if edges is None else (e for e in edges if e.kind in ("nvlink", "xgmi"))
        self.direct = tuple(edge for edge in fast if edge.gb_per_s > 0)
        self.edges = self.direct + tuple(host_edges(node, gpu)) if edges is None else tuple(edges)
        self.uniform = node.links.kind in ("switch", "full_mesh") and bool(self.direct)
        self._around: dict[str, list[tuple[str, Edge]]] = {}
        for edge in self.edges:
            first, second = edge.ends
            self._around.setdefault(first, []).append((second, edge))
            self._around.setdefault(second, []).append((first, edge))
        self._pairs: dict[tuple[int, int], Link] = {}
        self._rates = {frozenset(edge.ends): edge.gb_per_s for edge in self.direct}

    def pair(self, first: int, second: int) -> Link:
        """The slowest edge on the widest way between two GPUs; a way never leads through a third GPU."""
        key = (0, 1) if self.uniform else (min(first, second), max(first, second))
        if key not in self._pairs:
            self._pairs[key] = self._widest(*key)
        return self._pairs[key]

    def _widest(self, first: int, second: int) -> Link:
        start, goal = f"gpu{first}", f"gpu{second}"
        queue: list[tuple[float, float, int, str, Edge | None]] = [(-float("inf"), 0.0, 0, start, None)]
        done: set[str] = set()
        ticket = 0
        while queue:
            width, latency, _, place, slowest = heapq.heappop(queue)
            if place == goal and slowest is not None:
                return Link(slowest.kind, slowest.gb_per_s, latency, slowest.ends, inside_domain=True)
            if place in done or (place != start and place.startswith("gpu")):
                continue
            done.add(place)
            for neighbour, edge in self._around[place]:
                worst = edge if slowest is None else min(edge, slowest, key=_badness)
                ticket += 1
                heapq.heappush(queue, (max(width, -edge.gb_per_s), latency + edge.latency_us, ticket, neighbour, worst))
        raise ValueError(f"no way from {start} to {goal}")

    def ring(self, members: Sequence[int], *, closed: bool = True) -> Link:
        """Slowest link of the best ring (or of the best chain, if not closed) over these GPUs."""
        if self.uniform or len(members) == 2:
            return self.pair(members[0], members[1])
        slowest = best_ring(members, lambda a, b: self.pair(a, b).gb_per_s, closed=closed)
        links = (self.pair(a, b) for a in members for b in members if a != b)
        return max((x for x in links if x.gb_per_s == slowest), key=lambda x: (x.kind, x.latency_us))

    def step(self, stride: int, num_gpus: int) -> Link:
        """The slowest link from a GPU to the one `stride` further on, among the first `num_gpus`."""
        pairs = 1 if self.uniform else num_gpus - stride
        return min((self.pair(i, i + stride) for i in range(pairs)), key=lambda link: link.gb_per_s)

    def crosses_sockets(self, members: Sequence[int]) -> bool:
        """Whether these GPUs hang on more than one processor socket."""
        return len({member // self.node.links.gpus_per_socket for member in members}) > 1

    def ring_gb_per_s(self, members: Sequence[int], link: Link) -> float:
        """What one GPU can send inside the group: all its links to members, or the slowest link. [GB/s]"""
        if self.node.links.kind == "switch" or link.kind not in ("nvlink", "xgmi"):
            return link.gb_per_s
        return min(
            sum(self._rates.get(frozenset((f"gpu{a}", f"gpu{b}")), 0.0) for b in members if b != a) for a in members
        )


def _badness(edge: Edge) -> tuple[float, bool]:
    """Slowest first; of equal edges the one between sockets counts."""
    return edge.gb_per_s, edge.kind != "socket"
