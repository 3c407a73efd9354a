"""Machines of one kind that a problem runs on, and what one of their GPUs may hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from planner.cluster.cluster import Cluster
from planner.cluster.own_machines import Own
from planner.inputs.measured import MeasuredTables
from planner.schema.catalog import Gpu, Node

RESERVED_CLIFF = 0.88
"""Share of usable memory above which 19 of 19 published nanotron runs on H100 were 3 to 12 times slower: the allocator
flushes and retries. Source: Hugging Face ultra-scale benchmark table, validation/data/README.md."""
CLIFF_TEXT = (
    "limits.reserved_cliff: without expandable segments, runs above 88 % of usable memory were 3 to 12 times slower "
    "(19 of 19 published)"
)


MOST_KEPT = 32
"""Kinds of machines whose clusters are kept for the next question."""


class _Clusters(dict[int, Cluster]):
    """A cluster for each GPU count, made when it is asked for."""

    def __init__(self, own: Own, gpu: Gpu, tables: MeasuredTables) -> None:
        super().__init__()
        self.own, self.gpu, self.tables = own, gpu, tables

    def __missing__(self, count: int) -> Cluster:
        self[count] = self.own.cluster(self.gpu, count, self.tables)
        return self[count]

    def are_of(self, node: Node, gpu: Gpu, tables: MeasuredTables) -> bool:
        """Whether they are clusters of these machines as the catalog has them."""
        return self.own.node == node and self.gpu == gpu and self.tables == tables


_KEPT: list[_Clusters] = []
"""Those of the last kinds of machines asked for, the newest first: what a cluster worked out serves all questions."""


def _kept(node: Node, gpu: Gpu, tables: MeasuredTables) -> _Clusters:
    found = next((each for each in tuple(_KEPT) if each.are_of(node, gpu, tables)), None)
    if found is None:
        found = _Clusters(Own(node), gpu, tables)
        _KEPT.insert(0, found)
        del _KEPT[MOST_KEPT:]
    return found


@dataclass(frozen=True)
class Machines:
    """GPUs of one kind: how many, in which nodes, with how much memory."""

    node: Node
    gpu: Gpu
    grid_gpu: Gpu
    """The GPU whose measured GEMM grid is used: this one, or a relative that is scaled."""
    num_gpus: tuple[int, ...]
    """GPU counts that may train, ascending."""
    usable_gib: float
    """What the driver leaves to torch on one GPU. [GiB]"""
    headroom_gib: float
    """What the search keeps free on one GPU. [GiB]"""
    headroom_from: str
    """Where that number comes from."""
    tables: MeasuredTables
    """Measured products and collectives of the catalog that was asked."""
    demanded_headroom_gib: float = 0.0
    """What of `headroom_gib` the user demanded; the rest is usual, and given up where no layout keeps it. [GiB]"""
    usual_headroom_gib: float | None = None
    """What would be kept free, where `headroom_gib` had to be less. [GiB]"""
    own: Own | None = None
    """What the user's files say about the machines; `node` already follows them."""

    @property
    def limit_gib(self) -> float:
        """What one GPU may hold: usable memory less what must stay free. [GiB]"""
        return self.usable_gib - self.headroom_gib

    def keeping(self, headroom_gib: float) -> Machines:
        """The same machines with at most so much kept free of what nobody demanded. [GiB]"""
        kept = max(self.demanded_headroom_gib, min(self.headroom_gib, headroom_gib))
        usual = self.headroom_gib if self.usual_headroom_gib is None else self.usual_headroom_gib
        return self if kept == self.headroom_gib else replace(self, headroom_gib=kept, usual_headroom_gib=usual)

    @cached_property
    def clusters(self) -> dict[int, Cluster]:
        """A cluster for each GPU count."""
        if self.own is not None and not self.own.nothing:
            return _Clusters(self.own, self.gpu, self.tables)
        return _kept(self.node, self.gpu, self.tables)

    def covering(self, count: int) -> int:
        """The least share of a node, or number of whole nodes' GPUs, that holds so many GPUs."""
        per_node = self.node.gpus_per_node
        if count >= per_node:
            return -(-count // per_node) * per_node
        return next(n for n in range(count, per_node + 1) if per_node % n == 0)
