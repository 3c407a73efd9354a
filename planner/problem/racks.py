"""NVLink domains of several hosts, such as NVL72 racks, of which a job uses some trays only."""

from __future__ import annotations

from planner.schema.catalog import Node
from planner.schema.scenario import ClusterSpec, Pool


def asked_counts(machines: ClusterSpec | Pool) -> tuple[int, ...]:
    """Numbers of GPUs that are asked for by name; none where only a maximum is."""
    counts = machines.num_gpus
    if isinstance(counts, list):
        return tuple(sorted(set(counts)))
    return () if counts is None else (int(counts),)


def divides(count: int, gpus_per_node: int) -> bool:
    """Whether so many GPUs are whole nodes or an even share of one."""
    return gpus_per_node % count == 0 if count <= gpus_per_node else count % gpus_per_node == 0


def as_used(machines: ClusterSpec | Pool, node: Node) -> Node:
    """The node type as a job of the asked numbers of GPUs uses it: whole, or the largest power of two of its GPUs.

    A rack of 72 in trays of four takes jobs of 16, 32, 64 or 128 GPUs, which parallel degrees divide: of each rack 64
    GPUs are used, with their own adapters and host memory. Nodes of one host are used whole.
    """
    counts, whole = asked_counts(machines), node.gpus_per_node
    if node.gpus_per_host is None or all(divides(count, whole) for count in counts):
        return node
    part = 1 << (whole.bit_length() - 1)
    if not all(count % node.gpus_per_host == 0 and divides(count, part) for count in counts):
        return node
    memory = None if node.host_memory_gib is None else node.host_memory_gib * part / whole
    changed = {
        "name": f"{node.name}, {part} of {whole} GPUs used",
        "gpus_per_node": part,
        "nics": node.nics.model_copy(update={"count": node.nics.count * part // whole}),
        "host_memory_gib": memory,
    }
    return node.model_copy(update=changed)
