"""Seconds of one layer against figures made by hand from its shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.catalog import default_catalog
from planner.costs.layer import LayerTime
from planner.costs.time import StepTime
from planner.pipeline import problem_of
from planner.problem import Problem
from planner.read import parse_document
from planner.space import build_space


def problem(**changes: Any) -> Problem:
    """Llama-3.1-8B on one node of eight H100."""
    scenario: dict[str, Any] = {
        "name": "layer",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 8, "sequence_length": 32768, "micro_batch_size": 1},
        "layout": {"tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 4, "recomputed_layers": 0},
    } | changes
    text = str(scenario).replace("'", '"').replace("True", "true")
    return problem_of(parse_document(text, "layer.yaml"), default_catalog())


def layer_of(whole: Problem) -> LayerTime:
    return LayerTime(whole, build_space(whole).layouts.take(0).expand())


def test_context_by_heads_is_four_all_to_alls_in_sight() -> None:
    """8,192 tokens a rank in 16 bit: queries and output 4,096 wide, keys and values 1,024."""
    whole = problem(engine_options=["a2a_context_parallel"])
    layer = layer_of(whole)
    cluster = whole.clusters[8]
    group = cluster.group(4, 1)
    sent = [8192 * 2.0 * width for width in (4096, 1024, 1024, 4096)]
    expected = sum(float(cluster.collective_seconds("all_to_all", group, size)) for size in sent)
    seen, behind = layer.context_collectives("forward")
    assert float(seen[0, 0]) == pytest.approx(expected, rel=1e-12)
    assert not behind.any()
    assert (layer.context_collectives("backward")[0] == seen).all()
    ring = layer_of(problem())
    assert (layer.attention("forward") < ring.attention("forward")).all()  # whole sequences, nothing to merge


def test_a_second_of_attention_covers_one_collective() -> None:
    """What the ring hides behind is not left for the gradient reduction."""
    whole = problem()
    time = StepTime(whole, build_space(whole).layouts.take(0).expand(), np.zeros((1, 1), dtype=np.int64))
    names = ("matrix products", "attention", "elementwise kernels", "tensor-parallel collectives")
    rows = [row for row in time.train if row.name in names]
    layer = layer_of(whole)
    for which, free, kernels in (
        ("forward", time.free[0], sum(row.recomputed for row in rows)),
        ("backward", time.free[1], sum(row.layer - row.recomputed for row in rows)),
    ):
        behind = layer.context_collectives(which)[1]  # type: ignore[arg-type]
        assert behind > 0
        assert free == pytest.approx(kernels - behind, rel=1e-12)
