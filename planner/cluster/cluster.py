"""A cluster of equal nodes: which links a group of ranks uses, and how long its collectives take.

Ranks fill nodes in order. A *domain* is one catalog entry of nodes: an NVLink domain or, without one, a host (an
NVL72 rack is one domain of 72 GPUs). Nothing here grows with the number of GPUs; `Cluster.graph` builds only the
nodes it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.cluster.node_graph import NETWORK_EDGE_US, PCIE_EDGE_US, Link, NodeGraph, nic_count
from planner.cluster.rank_group import RankGroup
from planner.errors import InputError, Mistake, Place
from planner.formulas import collectives as formulas
from planner.formulas.collectives import Curve, Operation, Values
from planner.inputs.measured import MeasuredTables
from planner.schema.catalog import Gpu, Node
from planner.units import GIB, gbit_per_s_to_gb_per_s

if TYPE_CHECKING:
    from networkx import Graph

NVLS_SHARE = {5: 0.46, 6: 0.65, 7: 0.86}
"""Where all-reduce of 5 to 7 GPUs lies between 4 (ring) and 8 (in switch): H200 363, 414, 436, 460, 473 GB/s."""
NVLS_FIRST = {450.0: 5, 900.0: 6}
"""Smallest group that the switch reduces for, by NVLink rate of a GPU (H200 5, B200 6)."""
BUS_SHARE = {"switch": 0.8, "full_mesh": 0.7, "hybrid_cube_mesh": 0.8, "bridged_pairs": 0.64}
"""Bus bandwidth of a large ring over spec where the node has no figure: A100 0.78, H200 0.82, MI300X 0.70, V100 0.81,
A100 pair 0.64."""
PCIE_SHARE = {"pcie": 0.66, "socket": 0.40}
"""The same over PCIe inside one socket and across sockets (SimuMax, A100 PCIe: 20.8 and 12.5 of 31.5 GB/s)."""
STAGED_SHARE = 0.5
"""What is left of it where the driver forbids peer-to-peer copies and all bytes pass host memory; an assumption."""
GATHER_OVER_REDUCE = 0.9
"""Ring all-gather and reduce-scatter over ring all-reduce at 512 MiB (GB200 0.90, H100 0.96, A100 0.92)."""
NIC_EFFICIENCY = 0.93
TCP_EFFICIENCY = 0.8
"""Share of NIC line rate that rings reach where the node has no figure: published 0.89 to 0.96; TCP 10 of 12.5."""
ALL_TO_ALL_EFFICIENCY = 0.74
"""The same for all-to-all (GTC25 S72583, 8 x 200G and 8 x 400G)."""
HUGE = 16 * GIB
"""Message size at which bandwidth is all that counts. [bytes]"""
SEND_EFFICIENCY = {"nvlink": 0.85, "xgmi": 0.75, "pcie": 0.87, "socket": 0.6, "network": 0.9}
SEND_LATENCY_US = {"network": 20.0}
SEND_LATENCY_INSIDE_US = 10.0
"""Point to point: 10 us inside a node (aiconfigurator), 20 us across (calculon)."""


@dataclass(frozen=True, eq=False)
class Cluster:
    """A number of GPUs in nodes of one type, joined by one fabric."""

    node: Node
    gpu: Gpu
    num_gpus: int
    tables: MeasuredTables = field(kw_only=True)
    """Measured collectives of the catalog that was asked."""

    def __post_init__(self) -> None:
        if self.num_gpus < 1:
            raise ValueError("a cluster needs at least one GPU")

    @property
    def num_nodes(self) -> int:
        """Nodes that hold the GPUs, the last perhaps not full."""
        return -(-self.num_gpus // self.node.gpus_per_node)

    @cached_property
    def inner(self) -> NodeGraph:
        """Links of one node."""
        return NodeGraph(self.node, self.gpu)

    @cached_property
    def _groups(self) -> dict[tuple[int, int], RankGroup]:
        return {}

    @cached_property
    def _curves(self) -> Mapping[tuple[str, int], Curve]:
        name = self.node.links.measured_as
        return {} if name is None else self.tables.nccl_curves(name)

    def graph(self, hosts: Sequence[int]) -> Graph:
        """networkx graph of these nodes and the fabric; vertices `node3/gpu0`, `node3/nic1`, `rail1`, `spine`."""
        import networkx  # 150 ms, only readers of the graph pay them

        graph = networkx.Graph(node=self.node.id, fabric=self.node.nics.fabric)
        line = gbit_per_s_to_gb_per_s(self.node.nics.gbit_per_s_each)
        for host in hosts:
            if not 0 <= host < self.num_nodes:
                raise ValueError(f"node {host} is not one of {self.num_nodes}")
            for edge in self.inner.edges:
                attributes: dict[str, Any] = {"kind": edge.kind, "gb_per_s": edge.gb_per_s}
                ends = tuple(f"node{host}/{end}" for end in edge.ends)
                graph.add_edge(*ends, latency_us=edge.latency_us, **attributes)
            for nic in range(nic_count(self.node)):
                ends = (f"node{host}/nic{nic}", f"rail{nic}")
                graph.add_node(ends[0], rail=nic)
                graph.add_edge(*ends, kind="network", gb_per_s=line, latency_us=NETWORK_EDGE_US)
                graph.add_edge(ends[1], "spine", kind="network", gb_per_s=line * self.num_nodes, latency_us=1.0)
        return graph

    def slowest_link(self, ranks: Sequence[int]) -> Link:
        """The slowest link that the best ring over these ranks crosses."""
        if len(set(ranks)) < 2 or min(ranks) < 0 or max(ranks) >= self.num_gpus:
            raise ValueError(f"needs two or more distinct ranks of {self.num_gpus}")
        homes: dict[int, list[int]] = {}
        for rank in sorted(set(ranks)):
            homes.setdefault(rank // self.node.gpus_per_node, []).append(rank % self.node.gpus_per_node)
        return self._slowest([tuple(members) for members in homes.values()])

    def _slowest(self, homes: Sequence[tuple[int, ...]]) -> Link:
        if len(homes) == 1:
            return self.inner.ring(homes[0])
        found = [self.inner.ring(members, closed=False) for members in dict.fromkeys(homes) if len(members) > 1]
        return min([*found, self.network_link], key=lambda link: link.gb_per_s)

    @property
    def network_link(self) -> Link:
        """From one node to another over a GPU's own share of the adapters."""
        latency = 2 * (2 * PCIE_EDGE_US + NETWORK_EDGE_US)
        return Link("network", self.node.nics.gb_per_s_per_gpu, latency, ("nic0", "fabric"), inside_domain=False)

    def group(self, size: int, stride: int) -> RankGroup:
        """The worst placed group of this size and stride."""
        key = (size, stride)
        if key not in self._groups:
            self._groups[key] = self._worst(size, stride)
        return self._groups[key]

    def _worst(self, size: int, stride: int) -> RankGroup:
        if size < 1 or stride < 1 or (size - 1) * stride >= self.num_gpus:
            raise ValueError(f"{size} ranks with stride {stride} do not fit into {self.num_gpus} GPUs")
        width = self.node.gpus_per_node
        if size == 1:
            return RankGroup(1, stride, 1, 1, True, None, 0.0, 0.0, 1.0, (0,), None)
        blocks = range(min(max(1, self.num_gpus // (size * stride)), width // gcd(size * stride, width)))
        offsets = range(min(stride, width, self.num_gpus - (size - 1) * stride))
        starts = sorted({(block * size * stride + offset) % width for block in blocks for offset in offsets})
        seen = {self._homes(start, size, stride): None for start in starts}
        return max((self._describe(size, stride, *homes) for homes in seen), key=_worse)

    def _homes(self, start: int, size: int, stride: int) -> tuple[int, tuple[tuple[int, ...], ...]]:
        """Number of domains, and the distinct sets of local indices in them."""
        width = self.node.gpus_per_node
        last = start + (size - 1) * stride
        domains = size if stride >= width else last // width - start // width + 1
        count = min(size, 2 * width)
        ranks = start + np.arange(count) * stride
        if size > 2 * width:  # the pattern repeats; the first and last domains show every set there is
            head = ranks[ranks // width < ranks[-1] // width]
            tail = last - np.arange(count) * stride
            ranks = np.concatenate([head, np.sort(tail[tail // width > tail[-1] // width])])
        sets: dict[int, list[int]] = {}
        for rank in ranks.tolist():
            sets.setdefault(rank // width, []).append(rank % width)
        return domains, tuple(sorted({tuple(members) for members in sets.values()}))

    def _describe(self, size: int, stride: int, domains: int, homes: tuple[tuple[int, ...], ...]) -> RankGroup:
        larger = [members for members in homes if len(members) > 1]
        inner = [self.inner.ring(members) for members in larger]
        fewest = min(homes, key=len)
        slowest = self._slowest(homes) if domains == 1 else self._slowest([*homes, ()])
        ring = min(map(self.inner.ring_gb_per_s, larger, inner), default=0.0)
        width, share = min(self.node.gpus_per_node, self.num_gpus), self.node.nics.gb_per_s_per_gpu
        sisters = width / len(fewest)
        adapters = nic_count(self.node) * width / self.node.gpus_per_node
        name = self.node.links.measured_as
        measured = domains == 1 and name is not None and self._holds(slowest, fewest, size)
        return RankGroup(
            size=size,
            stride=stride,
            num_domains=domains,
            gpus_per_domain=len(fewest),
            inside_domain=domains == 1,
            slowest=slowest,
            ring_gb_per_s=ring,
            nic_gb_per_s=0.0 if domains == 1 else share * len(fewest),
            concurrent_per_nic=max(1.0, sisters / adapters) if domains > 1 and adapters else 1.0,
            members=fewest,
            curve=(name, size) if measured and name is not None and ("all_reduce", size) in self._curves else None,
        )

    def collective_seconds(self, op: Operation, group: RankGroup, size_bytes: Values) -> Values:
        """Seconds of one collective over a group; sizes as nccl-tests counts them, 0 bytes take no time. [s]"""
        if group.size == 1:
            return formulas.like(np.zeros_like(np.asarray(size_bytes, dtype=np.float64)))
        seconds = (
            self._inside(op, group, group.size, size_bytes)
            if group.inside_domain
            else self._across(op, group, size_bytes)
        )
        return formulas.like(np.where(np.asarray(size_bytes) > 0, seconds, 0.0))

    def point_to_point_seconds(self, pair: RankGroup | Link | tuple[int, int], size_bytes: Values) -> Values:
        """Seconds of one send between two ranks, over a link, or between the worst neighbours of a group. [s]"""
        link = pair if isinstance(pair, Link) else getattr(pair, "slowest", None)
        if isinstance(pair, tuple) and pair[0] != pair[1]:
            link = self.slowest_link(pair)
        if link is None:
            return formulas.like(np.zeros_like(np.asarray(size_bytes, dtype=np.float64)))
        seconds = formulas.point_to_point_seconds(
            size_bytes=size_bytes,
            link_gb_per_s=self._wired(link.gb_per_s),
            efficiency=SEND_EFFICIENCY[link.kind] * self._staged(link),
            latency_us=SEND_LATENCY_US.get(link.kind, SEND_LATENCY_INSIDE_US),
        )
        return formulas.like(np.where(np.asarray(size_bytes) > 0, seconds, 0.0))

    def _across(self, op: Operation, group: RankGroup, size_bytes: Values) -> Values:
        slow_start = any(word in self.node.nics.fabric.lower() for word in ("efa", "tcp"))
        local = group.gpus_per_domain
        nic = self._wired(group.nic_gb_per_s)
        inside = self._inside(op, group, local, size_bytes) if local > 1 else 0.0
        if op == "all_to_all":
            across = formulas.across_all_to_all_seconds(
                num_gpus=group.size,
                num_nodes=group.num_domains,
                gpus_per_node=local,
                size_bytes=size_bytes,
                nic_gb_per_s_per_gpu=nic / local * self._efficiency(op),
                slow_start=slow_start,
            )
            return np.maximum(across, inside)
        bus = formulas.across_bus_gb_per_s(
            nic_gb_per_s=nic, efficiency=self._efficiency(op), num_nodes=group.num_domains
        )
        if local > 1:
            ring = float(self._inside(op, group, local, float(HUGE)))
            most = formulas.bus_bandwidth_gb_per_s(op=op, num_gpus=local, size_bytes=HUGE, seconds=ring)
            bus = min(bus, float(most))
        across = formulas.across_seconds(
            op=op,
            num_gpus=group.size,
            num_nodes=group.num_domains,
            size_bytes=size_bytes,
            bus_gb_per_s=bus,
            slow_start=slow_start,
        )
        return np.maximum(across, inside)

    def _efficiency(self, op: Operation) -> float:
        """Share of NIC line rate that this operation reaches in large messages."""
        figures, width = self.node.bus_gb_per_s_inter, self.node.gpus_per_node
        line = self.node.nics.gb_per_s_per_gpu * width
        if op == "all_to_all":
            figure = figures.get("all_to_all")
            if figure is None or line <= 0:
                return ALL_TO_ALL_EFFICIENCY
            nodes = formulas.REFERENCE_NODES
            return figure * (nodes - 1) * width / (nodes * width - 1) / self.node.nics.gb_per_s_per_gpu
        for name in (op, "all_reduce", "all_gather", "reduce_scatter"):
            if name in figures and line > 0:
                return figures[name] / line
        fabric = self.node.nics.fabric.lower()
        return TCP_EFFICIENCY if "tcp" in fabric and "tcpx" not in fabric else NIC_EFFICIENCY

    def _inside(self, op: Operation, group: RankGroup, size: int, size_bytes: Values) -> Values:
        """Seconds among `size` members in one domain."""
        link = self.inner.ring(group.members) if len(group.members) > 1 else group.slowest
        assert link is not None  # a group of one never comes here
        if self._applies(op, link, group.members, size):
            return self._measured(op, group, size, size_bytes)
        bus = self._published(op, size, link) or self._share(op, link) * max(group.ring_gb_per_s, link.gb_per_s)
        hop = link.latency_us
        return formulas.ring_seconds(op=op, num_gpus=size, size_bytes=size_bytes, bus_gb_per_s=bus, hop_us=hop)

    def _measured(self, op: Operation, group: RankGroup, size: int, size_bytes: Values) -> Values:
        sizes = sorted(number for name, number in self._curves if name == op)
        low = max((n for n in sizes if n <= size), default=sizes[0])
        high = min((n for n in sizes if n >= size), default=sizes[-1])
        peak_low, peak_high = self._peak(op, low), self._peak(op, high)
        first, second = self._curves[op, low], self._curves[op, high]
        if size > sizes[-1]:
            bus = self._figure(op, size, nearest=True) or max(peak_low or 0.0, first.last_bus_gb_per_s)
            seconds = formulas.beyond_seconds(
                first, num_gpus=size, size_bytes=size_bytes, bus_gb_per_s=bus, curve_peak_gb_per_s=peak_low
            )
        elif low == high:
            seconds = formulas.curve_seconds(first, size_bytes=size_bytes, peak_gb_per_s=peak_low)
        else:
            at = (size - low) / (high - low)
            if op == "all_reduce" and self.node.links.in_network_reduction and size in NVLS_SHARE:
                rate = self.node.links.gb_per_s_per_gpu or 0.0
                at = NVLS_SHARE[size] if size >= NVLS_FIRST.get(rate, 5) else 0.0
            seconds = formulas.between_seconds(
                first,
                second,
                num_gpus=size,
                size_bytes=size_bytes,
                at=at,
                low_peak_gb_per_s=peak_low,
                high_peak_gb_per_s=peak_high,
            )
        full = self.node.links.gb_per_s_per_gpu or 0.0
        if self.node.links.kind == "full_mesh" and 0 < group.ring_gb_per_s < full:
            # a measured group had every link of its GPUs; here only those to its members
            bus = max(peak_low or 0.0, first.last_bus_gb_per_s)
            seconds = seconds + formulas.bus_seconds(
                op=op, num_gpus=size, size_bytes=size_bytes, bus_gb_per_s=bus / (full / group.ring_gb_per_s - 1)
            )
        return seconds

    def _peak(self, op: Operation, size: int) -> float | None:
        """Bus bandwidth of very large messages of a measured curve: published, or grown as the nearest published."""
        known = [n for name, n in self._curves if name == op and self._figure(op, n) is not None]
        if not known:
            return None
        nearest = min(known, key=lambda n: abs(n - size))
        growth = (self._figure(op, nearest) or 0.0) / self._curves[op, nearest].last_bus_gb_per_s
        return self._curves[op, size].last_bus_gb_per_s * max(growth, 1.0)

    def _applies(self, op: Operation, link: Link, members: Sequence[int], size: int) -> bool:
        """Whether measured curves of this operation describe this group."""
        return any(name == op for name, _ in self._curves) and self._holds(link, members, size)

    def _holds(self, link: Link, members: Sequence[int], size: int) -> bool:
        """Whether measured curves, taken on the best links and inside one socket first, describe this group."""
        kind = self.node.links.kind
        if kind == "bridged_pairs":
            return link.kind in ("nvlink", "xgmi")
        if kind in ("pcie_tree", "none"):
            return size > self.node.links.gpus_per_socket or not self.inner.crosses_sockets(members)
        return True

    def _figure(self, op: str, size: int, *, nearest: bool = False) -> float | None:
        """Published large-message bus bandwidth inside the node, of this or of the nearest larger group."""
        figures = self.node.bus_gb_per_s_intra
        sizes = [size]
        if nearest:
            known = {int(name.split("_")[-1]) for name in figures if name.split("_")[-1].isdigit()}
            sizes = sorted(known, key=lambda n: (n < size, abs(n - size)))
        for number in sizes:
            if f"{op}_{number}" in figures:
                return figures[f"{op}_{number}"]
            if nearest and op in ("all_gather", "reduce_scatter") and f"all_reduce_{number}_ring" in figures:
                return GATHER_OVER_REDUCE * figures[f"all_reduce_{number}_ring"]
        return None

    def _published(self, op: Operation, size: int, link: Link) -> float | None:
        """Bus bandwidth that the node entry gives for this group."""
        if link.kind in ("pcie", "socket"):
            figures = self.node.links.pcie_bus_gb_per_s
            reach = max(size, self.node.links.gpus_per_socket + 1) if link.kind == "socket" else size
            larger = [figures[n] for n in sorted(figures) if n >= reach] or [figures[n] for n in sorted(figures)[-1:]]
            return larger[0] * self._staged(link) if larger else None
        return self._figure(op, size)

    def _share(self, op: Operation, link: Link) -> float:
        """Bus bandwidth of a large ring over the spec of its links."""
        if link.kind in ("pcie", "socket"):
            return PCIE_SHARE[link.kind] * self._staged(link)
        whole = self._figure(op, self.node.gpus_per_node) or self._figure("all_reduce", self.node.gpus_per_node)
        full = self.inner.ring_gb_per_s(range(self.node.gpus_per_node), link)
        usual = BUS_SHARE.get(self.node.links.kind, 0.8)
        return min(whole / full, 0.85) if whole and full and self.node.links.kind != "bridged_pairs" else usual

    def _staged(self, link: Link) -> float:
        return STAGED_SHARE if link.kind in ("pcie", "socket") and not self.gpu.peer_to_peer else 1.0

    def _wired(self, gb_per_s: float) -> float:
        if gb_per_s <= 0:
            what = f"node {self.node.id} has no network adapters, but a group spans several of them"
            raise InputError(
                Mistake(
                    what=what,
                    where=Place(f"node type {self.node.id}"),
                    attempt=f"at most {self.node.gpus_per_node} GPUs, or a node with nics",
                )
            )
        return gb_per_s


def _worse(group: RankGroup) -> tuple[float, ...]:
    """Order of placements from good to bad."""
    slowest = group.slowest.gb_per_s if group.slowest is not None else float("inf")
    sockets = group.slowest is not None and group.slowest.kind == "socket"
    return (group.num_domains, -slowest, sockets, -group.gpus_per_domain, -group.ring_gb_per_s)
