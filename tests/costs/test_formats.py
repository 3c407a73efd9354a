"""Bytes of what a layer keeps follow precision and engine, not literals; validation/autograd has the amounts."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from planner.costs.item_names import ItemName
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import tensor_bytes
from planner.costs.memory.weight_copies import layer_copies_bytes
from planner.inputs.catalog import default_catalog
from planner.inputs.document import override
from planner.problem.formats import format_bytes, mixed
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.schema.engine import configured
from tests.validation.test_autograd_witness import ROOT, load, one_gpu

CATALOG = default_catalog()
SCENARIO = load(str(ROOT / "scenarios" / "llama8b_sft_a100.yaml"))
TRAINERS = [
    "transformers",
    "fsdp1",
    "fsdp2",
    "deepspeed",
    "torchtitan",
    "megatron-core",
    "nanotron",
    "litgpt",
    "torchtune",
]


def problem(**changes: Any) -> Problem:
    return question_of(override(SCENARIO, changes), CATALOG).first


@pytest.mark.parametrize("engine", TRAINERS)
def test_fp32_doubles_the_stub_and_widens_the_rest(engine: str) -> None:
    """Of a loss that keeps no 16-bit logits nearly all is fp32 in either."""
    narrow, wide = problem(engine=engine), problem(engine=engine, precision="fp32")
    layouts = one_gpu(4096)
    for name, least in (("stub", 2.0), ("saved", 1.6), ("backward", 1.6), ("loss", 1.001)):
        tensors = [tensor_bytes(p, layouts, getattr(p.engine, name), moe_layer=False)[0] for p in (narrow, wide)]
        assert least <= tensors[1] / tensors[0] <= 2.0, name


def test_no_engine_keeps_a_layer_s_input_in_so_many_bytes() -> None:
    for engine in (CATALOG.find("engines", name) for name in CATALOG.ids("engines")):
        assert all(t.copies for t in configured(engine, []).stub), engine.id


def test_autocast_over_fp32_weights_has_an_fp32_stream() -> None:
    p = problem(engine="transformers", engine_options=["autocast"])
    assert mixed(p)
    assert (format_bytes(p, "stream"), format_bytes(p, "computed"), format_bytes(p, "adapter")) == (4, 2, 2)
    stub = tensor_bytes(p, one_gpu(4096), p.engine.stub, moe_layer=False)[0]
    assert stub == 4 * 4096 * p.architecture.hidden_size


def test_autocast_over_16_bit_weights_has_not() -> None:
    p = problem(engine="transformers", engine_options=["autocast_16bit_weights"], adapter={"rank": 8})
    assert not mixed(p)
    assert (format_bytes(p, "stream"), format_bytes(p, "adapter")) == (2, 2)


@pytest.mark.parametrize(
    ("options", "more", "computed"),
    [
        (["kbit_preparation"], 2_179_996_672, 4),
        (["kbit_preparation", "autocast_16bit_weights"], 2_179_996_672, 2),
        (["fp32_norms"], 0, 2),
        (["autocast"], 0, 2),
    ],
)
def test_peft_s_preparation_makes_embedding_and_head_fp32(options: list[str], more: int, computed: int) -> None:
    """Qwen2.5-7B has 152,064 * 3,584 = 544,997,376 parameters in its embedding and as many in its head: 2 B more each,
    and of the 3,584 of its last norm. Where TRL casts them back, or fp32 weights are autocast, nothing is said of them.

    peft 0.21.2 and bitsandbytes 0.50.2, run on a Llama of two layers: all that goes from product to product is fp32,
    logits too; under autocast the head's are bf16.
    """
    adapter = {"rank": 16, "base_precision": "nf4"}
    found = []
    for given in ([], options):
        p = problem(engine="transformers", model="qwen2.5-7b", adapter=adapter, engine_options=given)
        layers, zero = np.array([[28]]), np.zeros((1, 1), dtype=np.int64)
        memory = StageMemory(p, one_gpu(4096).expand(), zero, layers, zero)
        items = memory.moment("backward")
        found.append(sum(float(np.ravel(i.amount)[0]) for i in items if i.name == ItemName.FROZEN_BASE_WEIGHTS))
    assert found[1] - found[0] == more
    assert (format_bytes(p, "stream"), format_bytes(p, "computed")) == (4, computed)


def test_fsdp1_cuts_and_gathers_peft_s_fp32_ends() -> None:
    """The same 2 B each, halved where they are sharded; the root unit is gathered whole as it is stored."""
    found: dict[ItemName, list[float]] = {ItemName.FROZEN_BASE_WEIGHTS: [], ItemName.GATHERED_LAYERS: []}
    for options in ([], ["kbit_preparation"]):
        adapter = {"rank": 16, "base_precision": "nf4"}
        cluster = {"node": "hgx-h100-8", "num_gpus": 2}
        p = problem(engine="fsdp1", model="qwen2.5-7b", adapter=adapter, cluster=cluster, engine_options=options)
        two = np.array([2], dtype=np.int64)
        layouts = dataclasses.replace(one_gpu(4096), data_parallel=two, zero_stage=two + 1).expand()
        layers, zero = np.array([[28]]), np.zeros((1, 1), dtype=np.int64)
        for item in StageMemory(p, layouts, zero, layers, zero).moment("backward"):
            if item.name in found:
                found[item.name].append(float(np.ravel(item.amount)[0]))
    more = {name: wide - narrow for name, (narrow, wide) in found.items()}
    assert more == {ItemName.FROZEN_BASE_WEIGHTS: 2_179_996_672 / 2, ItemName.GATHERED_LAYERS: 2_179_996_672}


def test_autocast_copies_each_matrix_of_a_layer_once() -> None:
    """Llama 3 8B: 218,103,808 elements of q, k, v, o, gate, up and down."""
    p = problem(engine="transformers", model="llama3.1-8b", engine_options=["autocast"])
    assert layer_copies_bytes(p, moe_layer=False) == 2 * 218_103_808


@pytest.mark.parametrize(
    ("engine", "item", "moment", "times"),
    [
        ("fsdp1", ItemName.GATHERED_LAYERS, "backward", 2.0),
        ("deepspeed", ItemName.GATHERED_LAYERS, "backward", 2.0),
        ("torchtune-fsdp", ItemName.GATHERED_LAYERS, "backward", 2.0),
        ("fsdp2", ItemName.GATHERED_LAYERS, "backward", 2.0),
        # A layer of 218,112,000 parameters, head and final norm of 525,340,672; the reduce-scatter is fp32 anyway.
        ("prime-rl", ItemName.GATHERED_LAYERS, "backward", 5_075_173_376 / 3_588_268_032),
        ("torchtitan", ItemName.GATHERED_LAYERS, "loss", 2.0),
        ("transformers-ddp", ItemName.GRADIENT_BUCKETS, "backward", 2.0),
        ("litgpt", ItemName.GRADIENT_BUCKETS, "backward", 2.0),
        ("megatron-core", ItemName.WEIGHT_GRADIENT_BUFFERS, "backward", 2.0),
    ],
)
def test_what_is_under_way_is_fp32_where_nothing_is_cast(engine: str, item: str, moment: str, times: float) -> None:
    """Gathered weights and gradients not yet reduced: 2 and 2 B a parameter in 16 bits, 4 and 4 in fp32."""
    found = []
    for precision in ("bf16", "fp32"):
        p = problem(engine=engine, precision=precision)
        stage = 8 if engine in ("transformers-ddp", "litgpt") else p.engine.zero_stages[-1]
        layouts = dataclasses.replace(one_gpu(4096), data_parallel=np.array([8]), zero_stage=np.array([stage % 8]))
        layers, zero = np.array([[p.architecture.num_hidden_layers]]), np.zeros((1, 1), dtype=np.int64)
        memory = StageMemory(p, layouts.expand(), zero, layers, zero)
        found.append(sum(float(np.ravel(i.amount)[0]) for i in memory.moment(moment) if i.name == item))
    assert found[0] > 0
    assert found[1] / found[0] == pytest.approx(times, rel=1e-9)
