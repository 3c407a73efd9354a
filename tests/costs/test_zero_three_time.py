"""Time that ZeRO-3 takes beside its collectives: hooks of every module, and the step of an optimizer on the host."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.costs.memory.stage_memory import StageMemory
from planner.costs.time.layer import HOST_GB_PER_S, LayerTime
from planner.costs.time.modules import modules
from planner.costs.time.update import UpdateTime
from planner.inputs.document import Document, parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.search.space import build_space
from planner.units import GB, US_PER_S

SCENARIO = """
name: sharded
task: sft
model: llama3-8b
engine: deepspeed
cluster: {node: hgx-a100-8, num_gpus: 8}
batch: {global_batch_size: 8, sequence_length: 512, micro_batch_size: 1}
layout: {zero_stage: 3, tensor_parallel: 1, pipeline_parallel: 1, context_parallel: 1, recomputed_layers: all}
"""
LORA = {"rank": 16, "targets": ["q_proj", "v_proj"]}


def asked(**changes: object) -> Document:
    document = parse_document(SCENARIO, "sharded.yaml")
    data = {**document.data, **changes}
    return replace(document, data={**data, "layout": {**document.data["layout"], **dict(changes.get("layout") or {})}})


def host_seconds(problem: Problem) -> float:
    return float(LayerTime(problem, build_space(problem.alone).layouts.take(0).expand()).host().reshape(-1)[0])


def test_each_module_with_weights_has_hooks() -> None:
    """Seven projections and two norms; two matrices more for each adapted projection."""
    full, lora = question_of(asked()).first, question_of(asked(adapter=LORA)).first
    assert (modules(full), modules(lora)) == (9, 13)
    plain = question_of(asked(layout={"zero_stage": 2})).first
    each = full.engine.timing.sharded_module_us / US_PER_S
    assert host_seconds(full) - host_seconds(plain) == pytest.approx(9 * each)
    assert host_seconds(lora) - host_seconds(plain) == pytest.approx(13 * each)


@pytest.mark.parametrize(("num_gpus", "gb_per_s"), [(8, HOST_GB_PER_S / 8), (1, 36.0)])
def test_a_step_on_the_host_moves_its_bytes_at_the_rate_of_one_process(num_gpus: int, gb_per_s: float) -> None:
    """30 bytes a parameter of Adam and 24 of what DeepSpeed does beside it; 16-bit weights back, fp32 gradients out."""
    changes = {"cluster": {"node": "hgx-a100-8", "num_gpus": num_gpus}}
    problem = question_of(asked(layout={"optimizer_offload": True}, **changes)).first
    layouts = build_space(problem.alone).layouts.take(0).expand()
    stage, layers = np.zeros((1, 1), dtype=np.int64), np.full((1, 1), 32)
    memory = StageMemory(problem, layouts, stage, layers, layers)
    found = float(UpdateTime(problem, layouts, stage, LayerTime(problem, layouts)).optimizer(memory).reshape(-1)[0])
    local = problem.parameters.total / num_gpus
    copied = (problem.weight_bytes + problem.gradient_bytes) * local / (0.8 * problem.gpu.pcie_gb_per_s * GB)
    assert found - copied == pytest.approx(54 * local / (gb_per_s * GB), rel=1e-3)
