"""Seconds of one layer against figures made by hand from its shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.costs.time.adapters import AdapterTime
from planner.costs.time.kernels import Pass
from planner.costs.time.layer import LayerTime
from planner.costs.time.step_time import StepTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.search.space import build_space


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
    return question_of(parse_document(text, "layer.yaml"), default_catalog()).first


def layer_of(whole: Problem) -> LayerTime:
    return LayerTime(whole, build_space(whole.alone).layouts.take(0).expand())


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
    time = StepTime(whole, build_space(whole.alone).layouts.take(0).expand(), np.zeros((1, 1), dtype=np.int64))
    names = ("matrix products", "attention", "elementwise kernels", "tensor-parallel collectives")
    rows = [row for row in time.train if row.name in names]
    layer = layer_of(whole)
    for which, free, kernels in (
        ("forward", time.free[0], sum(row.recomputed for row in rows)),
        ("backward", time.free[1], sum(row.layer - row.recomputed for row in rows)),
    ):
        behind = layer.context_collectives(which)[1]
        assert behind > 0
        assert free == pytest.approx(kernels - behind, rel=1e-12)


ADAPTED = {
    "task": "sft",
    "engine": "transformers",
    "engine_options": ["adapters_as_computed"],
    "cluster": {"node": "hgx-h100-8", "num_gpus": 1},
    "batch": {"global_batch_size": 8, "sequence_length": 2048, "micro_batch_size": 4},
    "layout": {"recomputed_layers": 0},
}


def adapters_of(whole: Problem) -> AdapterTime:
    assert whole.scenario.adapter is not None
    return AdapterTime(whole, layer_of(whole), whole.scenario.adapter)


def test_an_adapter_is_two_thin_products_forward_and_four_back() -> None:
    """8,192 tokens through q_proj, 4096 x 4096, at rank 16; sums read two 16-bit tensors and write one."""
    whole = problem(**ADAPTED, adapter={"rank": 16, "targets": ["q_proj"]})
    time, k = adapters_of(whole), layer_of(whole).kernels
    t, h, r = (np.asarray(float(x)) for x in (8192, 4096, 16))
    factor = whole.engine.elementwise_factor
    forward = k.gemm(m=t, n=r, k=h) + k.gemm(m=t, n=h, k=r) + k.elementwise(factor * 6 * t * h)
    assert time.products("forward", moe_layer=False)[0, 0] == pytest.approx(float(forward), rel=1e-12)
    backward = k.gemm(m=t, n=r, k=h) + 2 * k.gemm(m=h, n=r, k=t) + k.gemm(m=t, n=h, k=r)
    backward = backward + k.elementwise(factor * 6 * t * h)
    assert time.products("backward", moe_layer=False)[0, 0] == pytest.approx(float(backward), rel=1e-12)


def test_what_adapters_cost_rises_with_what_they_do() -> None:
    def seconds(**adapter: Any) -> float:
        whole = problem(**ADAPTED, adapter={"rank": 16} | adapter)
        time = StepTime(whole, build_space(whole.alone).layouts.take(0).expand(), np.zeros((1, 1), dtype=np.int64))
        return float(np.ravel(sum(row.layer for row in time.train))[0])

    plain = seconds()
    assert seconds(variant="lora-fa") < plain < seconds(variant="dora")
    assert seconds(targets=["q_proj"]) < seconds(targets=["q_proj", "v_proj"]) < plain < seconds(rank=256)
    assert plain < seconds(base_precision="nf4")
    full = problem(**ADAPTED)
    time = StepTime(full, build_space(full.alone).layouts.take(0).expand(), np.zeros((1, 1), dtype=np.int64))
    assert plain < float(np.ravel(sum(row.layer for row in time.train))[0])  # no weight gradients of the base


def test_experts_carry_adapters_of_their_own() -> None:
    """Mixtral: two experts a token, so twice the tokens of a dense MLP and eight matrices of each kind."""
    times = {}
    for targets in (["q_proj"], ["q_proj", "up_proj"]):
        whole = problem(**ADAPTED | {"model": "mixtral-8x7b"}, adapter={"rank": 16, "targets": targets})
        times[len(targets)] = float(adapters_of(whole).products("forward", moe_layer=True)[0, 0])
    k = layer_of(whole).kernels
    t, h, f, r = (np.asarray(float(x)) for x in (8192 * 2 / 8, 4096, 14336, 16))
    each = k.gemm(m=t, n=r, k=h) + k.gemm(m=t, n=f, k=r) + k.elementwise(whole.engine.elementwise_factor * 6 * t * f)
    expected = 2 * k.floor_seconds + 8 * (float(each) - 2 * k.floor_seconds)
    assert times[2] - times[1] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["galore", "muon"])
def test_products_inside_an_optimizer_take_time(optimizer: str) -> None:
    """At least their FLOP at the peak: 4 r m n a matrix projected, 5 (4 m m n + 2 m m m) orthogonalised."""
    whole = problem(**ADAPTED, optimizer=optimizer)
    layouts = build_space(whole.alone).layouts.take(0).expand()
    time = StepTime(whole, layouts, np.zeros((1, 1), dtype=np.int64))
    step = next(row for row in time.update if row.name == "optimizer step")
    shapes = [(4096, 4096), (1024, 4096), (1024, 4096), (4096, 4096)] + 3 * [(4096, 14336)]
    if optimizer == "galore":
        flop = sum(4.0 * 128 * m * n for m, n in shapes)
    else:
        flop = sum(5 * (4.0 * m * m * n + 2.0 * m**3) for m, n in shapes)
    assert flop / 989e12 < float(step.layer[0, 0]) < 5 * flop / 989e12 + 218112000 * 92 / (0.8 * 3350e9)


def nanotron(zero_stage: int, tensor_parallel: int = 1) -> StepTime:
    whole = problem(
        model="llama2-7b",
        engine="nanotron",
        cluster={"node": "hgx-h100-8", "num_gpus": 32},
        batch={"global_batch_size": 32, "sequence_length": 4096, "micro_batch_size": 1},
        layout={
            "tensor_parallel": tensor_parallel,
            "pipeline_parallel": 1,
            "zero_stage": zero_stage,
            "recomputed_layers": 0,
        },
    )
    return StepTime(whole, build_space(whole.alone).layouts.take(0).expand(), np.zeros((1, 1), dtype=np.int64))


def test_nanotron_adds_up_gradients_after_the_last_pass_where_the_optimizer_is_sharded() -> None:
    """ZeRO-1: 2 (n - 1) / n of fp32 gradients at once, then new weights, nothing of it behind a pass."""
    seen = {}
    for stage in (0, 1):
        time = nanotron(stage)
        row = next(row for row in time.update if row.name == "data-parallel collectives")
        seen[stage] = float((32 * row.layer + row.end).item())
    whole, count = nanotron(1).problem, nanotron(1).problem.parameters.total
    cluster = whole.clusters[32]
    group, message = cluster.group(32, 1), min(4.0 * count, 4e9)
    added = float(cluster.collective_seconds("all_reduce", group, message)) * 4 * count / message
    gathered = float(cluster.collective_seconds("all_gather", group, message)) * 2 * count / message
    assert seen[1] == pytest.approx(added + gathered, rel=1e-3)
    assert seen[0] < seen[1] - gathered  # buckets that hide behind the pass are worth more than their size


def test_a_collective_over_several_nodes_takes_longer_for_each_further_one() -> None:
    """Two gathers and two scatters a pass over two nodes, each 0.45 ms on top; inside a node nothing."""
    time = nanotron(1, 8)
    timing = time.problem.engine.timing.model_copy(update={"tensor_across_us": 0})
    without = replace(time.problem, engine=time.problem.engine.model_copy(update={"timing": timing}))
    for ranks, further in ((8, 0), (16, 1), (32, 3)):
        layouts = replace(time.layouts, tensor_parallel=time.layouts.tensor_parallel * ranks // 8)
        plain, more = (LayerTime(whole, layouts).tensor_collectives() for whole in (without, time.problem))
        assert float((more - plain).item()) == pytest.approx(4 * 450e-6 * further, abs=1e-9)


def test_adapters_launch_more_and_frozen_weights_launch_less() -> None:
    """Seven adapters of four kernels forward and six back; seven weight gradients of eager code are not made."""
    whole = problem(**ADAPTED, adapter={"rank": 16})
    time = adapters_of(whole)
    assert (time.kernels_of_a_pass("forward"), time.kernels_of_a_pass("backward")) == (7 * 4, 7 * 6 - 7)
    fused = adapters_of(
        problem(
            **ADAPTED | {"engine": "megatron-core", "engine_options": []},
            adapter={"rank": 16, "targets": ["linear_fc1"]},
        )
    )
    assert fused.problem.engine.fused_projections
    assert (fused.kernels_of_a_pass("forward"), fused.kernels_of_a_pass("backward")) == (4, 6 - 4)


def test_output_biases_of_experts_are_kernels_of_their_own() -> None:
    """gpt-oss-20b: 4 experts of each of 4,096 tokens, 2,880 wide, 28 B forward and 40 back; without a bias none."""
    layout = {"tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1, "recomputed_layers": 0}
    whole = problem(
        model="gpt-oss-20b",
        layout={**layout, "expert_parallel": 8},
        batch={"global_batch_size": 8, "sequence_length": 4096, "micro_batch_size": 1},
    )
    network = whole.architecture.model_copy(update={"mlp_bias": False})
    plain = replace(whole, work=replace(whole.work, architecture=network))
    moved = 0.8 * whole.gpu.memory_bandwidth_gb_per_s * 1e9
    passes: tuple[tuple[Pass, int, int], ...] = (("forward", 28, 4), ("backward", 40, 7))
    for which, size, launches in passes:
        more, less = (layer_of(each).elementwise(which, moe_layer=True) for each in (whole, plain))
        expected = 4 * 4096 * 2880 * size / moved + launches * 3e-6
        assert float((more - less).max()) == pytest.approx(expected, rel=1e-9)


def test_unfused_kernels_of_megatron_take_longer() -> None:
    """SwiGLU in two operators and norms kernel by kernel: options that the time hears of."""
    plain = layer_of(problem())
    two = layer_of(problem(engine_options=["unfused_swiglu"]))
    norms = layer_of(problem(engine_options=["unfused_norms"]))
    tokens, bandwidth = 8192, 0.8 * plain.problem.gpu.memory_bandwidth_gb_per_s * 1e9

    def longer(layer: LayerTime, which: Pass) -> float:
        return float((layer.elementwise(which, moe_layer=False) - plain.elementwise(which, moe_layer=False)).max())

    assert longer(two, "forward") == pytest.approx(4 * tokens * 14336 / bandwidth + 3e-6, rel=1e-9)
    assert longer(norms, "backward") == pytest.approx(2 * (68 * tokens * 4096 / bandwidth + 13 * 3e-6), rel=1e-9)
