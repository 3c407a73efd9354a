"""A restriction never makes the optimum better: over random decisions, and over the proofs that were wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from restrictions import breaches

from planner.costs.coefficients import RowCosts
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.search import search
from planner.search.space import build_space


@pytest.mark.parametrize("seed", [7000, 7006, 7007])
def test_a_restriction_never_makes_the_optimum_better(seed: int) -> None:
    _, found = breaches(seed)
    assert not found, found[0]


def asked(**changes: Any) -> Question:
    scenario: dict[str, Any] = {
        "name": "law",
        "task": "pretrain",
        "model": "moonlight-16b-a3b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 16, "sequence_length": 4096, "micro_batch_size": 1},
        "layout": {"tensor_parallel": 1, "pipeline_parallel": 2, "context_parallel": 1},
    } | changes
    return question_of(parse_document(str(scenario).replace("'", '"'), "law.yaml"), default_catalog())


@pytest.mark.parametrize("model", ["moonlight-16b-a3b", "deepseek-v3", "glm-4.5"])
def test_what_a_point_needs_does_not_depend_on_what_was_pinned(model: str) -> None:
    """Leading dense layers once counted as usual ones unless recomputation was pinned to none."""
    layout = {"tensor_parallel": 1, "pipeline_parallel": 2, "context_parallel": 1}
    half = {"moonlight-16b-a3b": 14, "deepseek-v3": 31, "glm-4.5": 46}[model]
    peaks = []
    for pin in ("any", 0, "all", [0, half]):
        question = asked(
            model=model,
            layout=layout | {"recomputed_layers": pin, "layers_per_stage": "free"},
            limits={"host_memory": False},
        )
        costs = RowCosts(question, build_space(question).layouts)
        total, rows = question.architecture.num_hidden_layers, np.zeros(3, dtype=np.int64)
        layers = np.array([[half, total - half]] * 3)
        peaks.append(costs.peak_bytes(rows, layers, np.stack([layers[0] * 0, layers[0] // 2, layers[0]])))
    for other in peaks[1:]:
        np.testing.assert_allclose(other, peaks[0], rtol=1e-12)


def test_expert_tensor_parallelism_is_open_without_tensor_parallelism() -> None:
    layouts = build_space(asked(model="qwen3-30b-a3b")).layouts
    assert set(layouts.expert_tensor_parallel.tolist()) == {1, 2, 4}


def test_every_listed_stage_is_held_to_its_chunks() -> None:
    """[7, 8, ..., 8, 7] in 7 chunks: chunks of 8 layers differ, which only a layout of every chunk can say."""
    layout = {"pipeline_parallel": 16, "virtual_pipeline": 7, "layers_per_stage": [7, *[8] * 14, 7]}
    machines = {"node": "hgx-h100-8", "num_gpus": 128}
    batch = {"global_batch_size": 128, "sequence_length": 8192, "micro_batch_size": 1}
    question = asked(model="llama3.1-405b", cluster=machines, batch=batch, layout=layout)
    assert len(build_space(question).layouts) > 0
    alike = question.first.engine.pipeline.model_copy(update={"uneven_chunks": False})
    from dataclasses import replace

    engine = question.first.engine.model_copy(update={"pipeline": alike})
    assert not len(build_space(replace(question.first, engine=engine).alone).layouts)


def test_chunks_that_do_not_divide_the_layers_are_tried_where_chunks_may_differ() -> None:
    """Phi-4-mini over V100 and L4: `any` once meant divisors of 32, and pinning 3 chunks was 1.4 % faster than 2."""
    pools = [{"node": node, "num_gpus": 8} for node in ("dgx1-v100", "l4-pcie-8")]
    layout = {"pipeline_parallel": 2, "context_parallel": 1, "tensor_parallel": 4, "later_stages_on": "any"}
    found = {}
    for chunks in ("any", 2, 3):
        question = asked(
            model="phi-4-mini",
            engine="slime",
            precision="fp16",
            cluster={"pools": pools, "rank_order": "any"},
            batch={"global_batch_size": 48, "sequence_length": 512, "micro_batch_size": 4},
            layout=layout | {"virtual_pipeline": chunks, "layers_per_stage": "free"},
            search={"near_tie": 0},
        )
        outcome = search(question, check_points=0)
        assert outcome.plan is not None
        assert outcome.status == "optimal"
        found[chunks] = outcome.plan.step_seconds, outcome.plan.layout["virtual_pipeline"]
    assert found["any"] == found[3]
    assert found["any"][0] == min(seconds for seconds, _ in found.values())
    assert found[2][0] > 1.01 * found[3][0]
