"""Seconds by the clock of this machine: not in the main suite, for a loaded machine must fail none of it.

Run with: python -m pytest tests/slow
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
from memory_problems import CATALOG, combinations, problem

from planner.cluster.cluster import Cluster
from planner.costs.coefficients import RowCosts
from planner.formulas.gemm import grid_gemm_seconds
from planner.formulas.schedule import simulate
from planner.inputs.document import parse_document
from planner.search.estimate import estimate
from planner.search.space import build_space


def least_seconds(work: Callable[[], object], times: int) -> float:
    """The fastest of several runs."""
    best = math.inf
    for _ in range(times):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def test_groups_of_a_large_cluster_take_milliseconds() -> None:
    node = CATALOG.find("nodes", "dgx-h100")
    cluster = Cluster(node, CATALOG.find("gpus", node.gpu), 131_072, tables=CATALOG.tables)

    def groups() -> None:
        for power in range(18):
            for step in range(18 - power):
                assert cluster.group(2**power, 2**step).size == 2**power

    assert least_seconds(groups, 1) < 1.0
    assert least_seconds(lambda: cluster.slowest_link([0, 131_071]), 1) < 0.05


def test_sixteen_stages_of_four_chunks_in_fifty_milliseconds() -> None:
    forward, backward = [0.25] * 64, [0.5] * 64
    assert least_seconds(lambda: simulate(stages=16, micro_batches=128, forward=forward, backward=backward), 5) < 0.05


def test_an_estimate_takes_milliseconds() -> None:
    documents = [parse_document(json.dumps(document), "memory.yaml") for document in combinations()]
    for document in documents:
        estimate(document, CATALOG)
    assert statistics.median(least_seconds(lambda d=d: estimate(d, CATALOG), 1) for d in documents) < 0.05


def test_ten_thousand_layouts_are_costed_in_a_second() -> None:
    """Coefficients of all moments and stages, every stage of every row: what the search needs."""
    batch = {"global_batch_size": 1024, "sequence_length": 16384}
    whole = problem(model="mixtral-8x22b", cluster={"node": "hgx-h100-8", "max_gpus": 256}, batch=batch)
    layouts = build_space(whole.alone).layouts
    assert len(layouts) > 1000
    layouts = layouts.take(np.resize(np.arange(len(layouts)), 10_000))

    def costed() -> None:
        costs = RowCosts(whole.alone, layouts)
        assert all(np.isfinite(c.end).all() for c in costs.memory.values())

    assert least_seconds(costed, 3) < 1.0


def test_ten_thousand_shapes_take_milliseconds() -> None:
    grid = CATALOG.tables.gemm_grid("h100_sxm")
    rng = np.random.default_rng(1)
    m, n, k = (np.exp(rng.uniform(np.log(16), np.log(200_000), 10_000)) for _ in range(3))
    assert least_seconds(lambda: grid_gemm_seconds(grid, m=m, n=n, k=k), 3) < 0.05
