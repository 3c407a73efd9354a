"""What the links inside a node do to the choice of tensor parallelism."""

from __future__ import annotations

import json
from typing import Any

import pytest

from planner.cluster.cluster import Cluster
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.search.axes.tensor import RULES
from planner.search.search import search
from planner.search.space import build_space
from planner.units import MIB


def problem(node: str, gpus: Any, **changes: Any) -> Problem:
    scenario = {
        "name": "links",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": node, "num_gpus": gpus},
        "batch": {"global_batch_size": 16, "sequence_length": 8192},
        "limits": {"headroom_gib": 4, "host_memory": False},
    } | changes
    return question_of(parse_document(json.dumps(scenario), "links.yaml")).first


def degrees(found: Problem) -> list[int]:
    return sorted(set(build_space(found.alone).layouts.tensor_parallel.tolist()))


BRIDGED = "a100-pcie-nvbridge-pairs"
NO_PIPELINE = {"pipeline_parallel": 1, "context_parallel": 1}


def test_four_bridged_cards_reduce_three_times_slower_than_two() -> None:
    catalog = default_catalog()
    node = catalog.find("nodes", BRIDGED)
    cluster = Cluster(node, catalog.find("gpus", node.gpu), 4, tables=catalog.tables)
    two, four = (cluster.collective_seconds("all_reduce", cluster.group(n, 1), 64.0 * MIB) for n in (2, 4))
    assert four >= 3 * two


def test_tensor_parallel_is_needed_and_two_is_chosen() -> None:
    """With 6 GiB to stay free, one card cannot hold 8 billion parameters, two bridged ones can, four are slower."""
    limits = {"headroom_gib": 6, "host_memory": False, "tensor_parallel_inside_domain": False}
    one, any_, four = (
        search(problem(BRIDGED, 4, layout=NO_PIPELINE | {"tensor_parallel": choice}, limits=limits).alone)
        for choice in (1, "any", 4)
    )
    assert one.status == "infeasible"
    assert any_.plan is not None
    assert four.plan is not None
    assert any_.plan.layout["tensor_parallel"] == 2
    assert four.plan.step_seconds > 1.3 * any_.plan.step_seconds


@pytest.mark.parametrize(
    ("node", "gpus", "inside", "anywhere"),
    [
        (BRIDGED, 4, [1, 2], [1, 2, 4]),
        ("h100-pcie-nvbridge-pairs", 8, [1, 2], [1, 2, 4, 8]),
        ("l40s-pcie-8", 8, [1, 2, 4, 8], [1, 2, 4, 8]),
        ("rtx-4090-box", 4, [1, 2, 4], [1, 2, 4]),
        ("hgx-a100-4", 8, [1, 2, 4], [1, 2, 4, 8]),
        ("hgx-h100-8", 16, [1, 2, 4, 8], [1, 2, 4, 8, 16]),
        ("dgx1-v100", 8, [1, 2, 4, 8], [1, 2, 4, 8]),
        ("gb200-nvl72", 72, [1, 2, 4, 8], [1, 2, 4, 8]),
    ],
)
def test_tensor_parallel_stays_inside_one_domain(node: str, gpus: int, inside: list[int], anywhere: list[int]) -> None:
    """NVLink domain where the node has NVLink; the host where it has none. Off where the scenario says so."""
    batch = {"global_batch_size": 144 if gpus == 72 else 16, "sequence_length": 8192}
    shared: dict[str, Any] = {"batch": batch, "precision": "fp16" if node == "dgx1-v100" else "bf16"}
    off = {"tensor_parallel_inside_domain": False, "host_memory": False}
    on = {"tensor_parallel_inside_domain": True, "host_memory": False}
    assert degrees(problem(node, gpus, limits=on, **shared)) == inside
    assert degrees(problem(node, gpus, limits=off, **shared)) == anywhere


def test_the_rule_is_named_where_it_removes_something() -> None:
    space = build_space(problem(BRIDGED, 4).alone)
    removed = {removed.rule: removed.count for removed in space.removed}
    assert removed["tensor_parallel_inside_domain"] > 0
    assert "tensor_parallel_inside_domain" in {rule.name for rule in RULES}
