"""Bytes of what a layer keeps follow precision and engine, not literals; validation/autograd has the amounts."""

from __future__ import annotations

from typing import Any

import pytest

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


def test_autocast_copies_each_matrix_of_a_layer_once() -> None:
    """Llama 3 8B: 218,103,808 elements of q, k, v, o, gate, up and down."""
    p = problem(engine="transformers", model="llama3.1-8b", engine_options=["autocast"])
    assert layer_copies_bytes(p, moe_layer=False) == 2 * 218_103_808
