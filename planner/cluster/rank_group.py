"""A group of ranks that talk to each other: how it lies in the nodes and what it is held back by."""

from __future__ import annotations

from dataclasses import dataclass, field

from planner.cluster.node_graph import Link


@dataclass(frozen=True)
class RankGroup:
    """Ranks 0, stride, 2 stride, ...: the worst placed of all groups of this size and stride in the cluster."""

    size: int
    stride: int
    num_domains: int
    """Domains (nodes) that the group spans."""
    gpus_per_domain: int
    """GPUs of the group in the domain that holds fewest of them."""
    inside_domain: bool
    slowest: Link | None
    """What the best ring over the group is held back by; none for one rank."""
    ring_gb_per_s: float
    """What one GPU can send to the others inside its domain, spec."""
    nic_gb_per_s: float
    """Line rate from one domain into the network for this group, when all its sister groups run too."""
    concurrent_per_nic: float
    """Sister groups that use one adapter at the same time, at least 1."""
    members: tuple[int, ...] = field(repr=False)
    """Local indices in the domain that holds fewest."""
    curve: tuple[str, int] | None
    """Device and number of GPUs of the measured curve that holds exactly here."""
