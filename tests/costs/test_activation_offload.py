"""Activations that wait in host memory: the same tensors leave the GPU, fill the host and cross PCIe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from planner.costs.item_names import ItemName
from planner.costs.ledger import total
from planner.costs.memory.host import host_ledger
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import offloaded_bytes
from planner.costs.time.step_time import StepTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.schema.engine import Engine, configured
from planner.search.space import build_space
from planner.units import GB

OFFLOADING = ("megatron-core", "fine_grained_offloading")


def problem(option: str | None = OFFLOADING[1], **changes: Any) -> Problem:
    """Mixtral on four nodes of eight H100, four stages."""
    scenario: dict[str, Any] = {
        "name": "offload",
        "task": "sft",
        "model": "mixtral-8x7b",
        "engine": "megatron-core",
        "engine_options": [option] if option else [],
        "cluster": {"node": "hgx-h100-8", "num_gpus": 32},
        "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 1},
        "layout": {"recomputed_layers": 0, "pipeline_parallel": 4, "virtual_pipeline": 1},
    } | changes
    return question_of(parse_document(str(scenario).replace("'", '"'), "offload.yaml"), default_catalog()).first


def first_row(whole: Problem) -> Layouts:
    return build_space(whole.alone).layouts.take(0)


def time_of(whole: Problem) -> StepTime:
    layouts = first_row(whole).expand()
    return StepTime(whole, layouts, np.arange(int(layouts.pipeline_parallel[0, 0]))[None, :])


def test_what_leaves_the_gpu_is_what_waits_on_the_host() -> None:
    on, off = problem(), problem(None)
    layouts = first_row(on).expand()
    stage = np.zeros((1, 1), dtype=np.int64)
    kept = [StageMemory(p, layouts, stage, stage + 1, stage).layer_activations[0] for p in (on, off)]
    moved, stub = offloaded_bytes(on, layouts)
    np.testing.assert_allclose(moved, kept[1] - kept[0], rtol=1e-12)
    assert moved > 0
    assert not stub.any()
    assert not any(x.any() for x in offloaded_bytes(off, layouts))


def test_the_host_holds_all_micro_batches_in_flight() -> None:
    """Stage 0 of four keeps four micro-batches of 8 layers, on 8 ranks of a node."""
    whole = problem()
    item = next(i for i in host_ledger(whole, first_row(whole)) if i.name == "offloaded activations")
    assert item.amount[0] == pytest.approx(8 * 4 * 8 * float(offloaded_bytes(whole, first_row(whole))[0][0]))
    assert all(i.name != "offloaded activations" for i in host_ledger(problem(None), first_row(whole)))


def test_what_kernels_do_not_hide_is_charged() -> None:
    whole = problem()
    time = time_of(whole)
    row = next(row for row in time.train if row.name == ItemName.MOVING_ACTIVATIONS_TO_THE_HOST)
    each = float(offloaded_bytes(whole, time.layouts)[0][0, 0]) / (0.8 * whole.gpu.pcie_gb_per_s * GB)
    names = ("matrix products", "attention", "elementwise kernels", "waiting for launches")
    hiding = [r for r in time.train if r.name in names]
    forward = float(np.ravel(sum(r.recomputed for r in hiding))[0])
    backward = float(np.ravel(sum(r.layer - r.recomputed for r in hiding))[0])
    expected = max(0.0, each - forward) + max(0.0, each - backward)
    assert expected > 0
    assert float(row.layer[0, 0]) == pytest.approx(expected, rel=1e-12)
    assert float(time.free[0][0, 0]) == pytest.approx(max(0.0, forward - each), abs=1e-15)


def test_a_fast_link_hides_all_of_it() -> None:
    whole = problem()
    gpu = whole.gpu.model_copy(update={"pcie_gb_per_s": whole.gpu.pcie_gb_per_s * 100})
    fast = replace(whole, machines=replace(whole.machines, gpu=gpu))
    moved = next(row for row in time_of(fast).train if row.name == ItemName.MOVING_ACTIVATIONS_TO_THE_HOST)
    assert not moved.layer.any()


def test_recomputed_layers_move_their_stub() -> None:
    """prime-rl recomputes every layer and offloads its input: 1.9 of 2 bytes a token and hidden unit."""
    layout = {"recomputed_layers": "all"}
    whole = problem("offload_activations", model="qwen3-0.6b", engine="prime-rl", layout=layout)
    kept, stub = offloaded_bytes(whole, first_row(whole))
    assert not kept.any()
    assert stub[0] == pytest.approx(1.9 * 4096 * whole.architecture.hidden_size)
    item = next(i for i in host_ledger(whole, first_row(whole)) if i.name == "offloaded activations")
    assert item.amount[0] == pytest.approx(8 * whole.architecture.num_hidden_layers * float(stub[0]))


def test_fsdp2_keeps_nothing_of_a_recomputed_layer_but_brings_one_back() -> None:
    """Qwen3-0.6B on eight ranks, 4,096 tokens of 2 B x 1,024: the last of 28 inputs is there while its layer runs."""
    layout = {"recomputed_layers": "all", "zero_stage": 3}
    both = {"model": "qwen3-0.6b", "engine": "fsdp2", "layout": layout}
    whole, none = (problem(option, **both) for option in ("offload_activations", None))
    kept, stub = offloaded_bytes(whole, first_row(whole))
    assert not kept.any()
    assert stub[0] == 2 * 1024 * 4096
    layers, index = np.array([[28]]), np.array([[0]])
    on, off = (StageMemory(p, first_row(p).expand(), index, layers, layers) for p in (whole, none))
    for moment, back in (("loss", 0), ("recomputation", 1)):
        spared = np.ravel(total(off.moment(moment)) - total(on.moment(moment)))[0]
        assert spared == pytest.approx((28 - back) * stub[0], rel=1e-9), moment


def test_every_engine_that_offloads_says_what() -> None:
    catalog = default_catalog()
    found = 0
    for name in catalog.ids("engines"):
        engine: Engine = catalog.find("engines", name)
        for option in (n for n, o in engine.options.items() if o.decides == "activation_offload"):
            found += 1
            done = configured(engine, [option])
            assert done.offloaded or done.offloaded_stub, name
            assert not configured(engine, []).offloaded
    assert found >= 3
