"""Which physical GPUs a plan's ranks get, where the scenario describes the links of its nodes."""

from __future__ import annotations

from planner.cluster.own_machines import OwnCluster
from planner.report.json_text import JsonObject
from planner.search.plan import Plan


def _placed(plan: Plan) -> OwnCluster | None:
    cluster = plan.problem.clusters[plan.layout["num_gpus"]]
    return cluster if isinstance(cluster, OwnCluster) and cluster.own.links is not None else None


def placement_rows(plan: Plan) -> list[tuple[str, str]]:
    """The orders of ranks and GPUs for people; nothing where they are the usual ones."""
    cluster = _placed(plan)
    rows = [("order of ranks", "tp-cp-ep-pp-dp")] if plan.problem.scenario.cluster.rank_order == "tp_pp_dp" else []
    if cluster is None:
        return rows
    text = f"CUDA_VISIBLE_DEVICES={','.join(map(str, cluster.order))} with CUDA_DEVICE_ORDER=PCI_BUS_ID"
    group = cluster.group(plan.layout["tensor_parallel"], 1)
    if group.slowest is not None:
        text += f"; slowest link of a TP ring: {group.slowest.kind}, {group.slowest.gb_per_s:g} GB/s"
    return [*rows, ("order of GPUs", text)]


def placement_document(plan: Plan) -> JsonObject | None:
    """The order of GPUs as plain data; None where the node is the catalog's."""
    cluster = _placed(plan)
    if cluster is None:
        return None
    slowest = cluster.group(plan.layout["tensor_parallel"], 1).slowest
    return {
        "visible_devices": list(cluster.order),
        "tensor_ring_slowest_link": None if slowest is None else slowest.kind,
        "tensor_ring_slowest_gb_per_s": None if slowest is None else slowest.gb_per_s,
    }
