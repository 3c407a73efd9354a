"""Sends between pipeline stages, each over the link it really crosses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from planner.costs.time.step_time import StepTime
from planner.costs.time.strides import hops_between_nodes
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.search.space import build_space


def problem(gpus: int, order: str = "default", **pins: int) -> Problem:
    """Llama-3.1-8B on nodes of eight H100."""
    scenario: dict[str, Any] = {
        "name": "hops",
        "task": "pretrain",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": gpus, "rank_order": order},
        "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 1},
        "layout": {"context_parallel": 1, "recomputed_layers": 0, "virtual_pipeline": 1, **pins},
    }
    return question_of(parse_document(str(scenario).replace("'", '"'), "hops.yaml"), default_catalog()).first


def first_row(whole: Problem) -> Layouts:
    return build_space(whole.alone).layouts.take(0).expand()


@pytest.mark.parametrize(
    ("gpus", "order", "tp", "pp", "leaves"),
    [
        (16, "default", 4, 4, [0, 1, 0, 1]),  # stages of 4 ranks, two to a node
        (16, "default", 2, 8, [0, 0, 0, 1, 0, 0, 0, 1]),
        (16, "default", 4, 2, [1, 1]),  # stages of 8 ranks fill a node each
        (16, "default", 1, 2, [1, 1]),
        (8, "default", 2, 4, [0, 0, 0, 0]),  # one node
        (32, "tp_pp_dp", 2, 4, [0, 0, 0, 0]),  # a pipeline in each node
        (32, "tp_pp_dp", 4, 4, [0, 1, 0, 1]),  # a pipeline over two nodes
    ],
)
def test_which_sends_leave_their_node(gpus: int, order: str, tp: int, pp: int, leaves: list[int]) -> None:
    whole = problem(gpus, order, tensor_parallel=tp, pipeline_parallel=pp)
    assert hops_between_nodes(whole, first_row(whole))[0].tolist() == leaves


def test_a_stage_pays_for_both_seams_beside_it() -> None:
    """Two stages a node: NVLink, network, NVLink; who sends and who receives waits for the whole of it."""
    whole = problem(16, tensor_parallel=4, pipeline_parallel=4)
    time = StepTime(whole, first_row(whole), np.arange(4)[None, :])
    near, far, again, _ = time.seams[0][0]
    assert near == again < far
    np.testing.assert_allclose(time.sends[0], [near, near + far, far + near, near], rtol=1e-12)
    np.testing.assert_allclose(time.filling, 0.0)


def test_interleaved_stages_send_round() -> None:
    """What is not hidden of each send, and once a step all seams there and back: the pipeline fills and drains."""
    whole = problem(16, tensor_parallel=4, pipeline_parallel=4, virtual_pipeline=2)
    row = first_row(whole)
    time = StepTime(whole, row, np.arange(4)[None, :])
    near, far, _, back = time.seams[0][0]
    assert back == far
    timing = whole.engine.timing
    assert 0 < timing.chunk_send_share < 1
    turns = 2 * timing.chunk_us * 1e-6
    seen = 2 * (timing.chunk_send_share * (near + far) + turns)
    filling = 2 * (1 - timing.chunk_send_share) * (2 * (near + far + near + back) - back)
    np.testing.assert_allclose(time.filling, filling, rtol=1e-12)
    heavy, light = (weight[0, 0] for weight in time.weights("train"))
    once = heavy * time.sends[0].max() + light * time.sends[0].sum()
    np.testing.assert_allclose(once, heavy * seen + light * 4 * seen + filling, rtol=1e-12)
