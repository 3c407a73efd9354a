"""Model FLOP by hand: one convention, said beside the figure."""

from __future__ import annotations

from typing import Any

import pytest

from planner.formulas.model_flop import CONVENTION, adapter_parameters_met, model_flop_per_token
from planner.formulas.parameters import count_parameters
from planner.inputs.catalog import default_catalog
from planner.inputs.document import document_of
from planner.report.screen import mfu_text, time_text
from planner.report.summary import time_blocks
from planner.search.estimate import estimate

LLAMA = default_catalog().find("models", "llama3.1-8b")
COUNTED = count_parameters(LLAMA)
MATRICES = 32 * (4096 * 4096 * 2 + 2 * 4096 * 1024 + 3 * 4096 * 14336) + 4096 * 128_256
"""Llama-3.1-8B without its input embedding and norms."""
NORMS = 65 * 4096
PINS = {
    **dict.fromkeys(("tensor_parallel", "pipeline_parallel", "context_parallel", "virtual_pipeline"), 1),
    "recomputed_layers": 0,
    "zero_stage": 3,
}


def pinned(**changes: Any) -> Any:
    scenario = {
        "name": "pinned",
        "task": "sft",
        "model": "llama3.1-8b",
        "engine": "fsdp2",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 8, "sequence_length": 8192, "micro_batch_size": 1},
        "layout": PINS,
    }
    return estimate(document_of({**scenario, **changes}))


def test_full_training_is_six_a_parameter_and_attention_in_full() -> None:
    """12 L a d s: 12 x 32 x 4,096 x 8,192 is 12.9 GFLOP a token beside 6 x 7.5 G."""
    flop = model_flop_per_token(LLAMA, COUNTED, 8192)
    assert flop == 6 * (MATRICES + NORMS) + 12 * 32 * 4096 * 8192


def test_frozen_weights_are_four_a_parameter() -> None:
    """Rank 16 on all linear layers of Llama-3-8B: 41,943,040 parameters of adapters (Hu et al.)."""
    met = adapter_parameters_met(LLAMA, 16, ("all-linear",))
    assert met == 41_943_040
    frozen = model_flop_per_token(LLAMA, COUNTED, 8192, frozen=True, trained_head=False, adapter_parameters=met)
    whole = model_flop_per_token(LLAMA, COUNTED, 8192)
    assert whole - frozen == 2 * (MATRICES + NORMS) - 6 * met
    head = model_flop_per_token(LLAMA, COUNTED, 8192, frozen=True, trained_head=True, adapter_parameters=met)
    assert head - frozen == 2 * 4096 * 128_256


def test_a_token_meets_the_adapters_of_the_experts_it_visits() -> None:
    moe = default_catalog().find("models", "mixtral-8x7b")
    assert adapter_parameters_met(moe, 8, ("gate_proj",)) * 4 == 8 * (4096 + 14336) * 32 * 8


def test_the_figure_carries_its_convention_and_its_peak() -> None:
    plan = pinned()
    tokens = 8 * 8192 / plan.step_seconds / 8
    assert plan.model_tflops_per_gpu == pytest.approx(tokens * model_flop_per_token(LLAMA, COUNTED, 8192) / 1e12)
    assert plan.mfu == pytest.approx(plan.model_tflops_per_gpu / 989.4, rel=1e-3)
    assert "% of bf16's 989 (full attention)" in mfu_text(plan)
    text = " ".join(str(block) for block in time_blocks(plan))
    assert CONVENTION in text
    adapter = pinned(adapter={"rank": 16}, optimizer="adamw-no-master")
    assert "full attention, frozen weights 4N" in mfu_text(adapter)


def test_seconds_and_tokens_carry_the_same_interval() -> None:
    plan = pinned()
    spread = plan.problem.known_errors.step(rl=False)
    low, high = plan.step_interval_seconds
    assert spread is not None
    assert (low, high) == (spread.low * plan.step_seconds, spread.high * plan.step_seconds)
    tokens = plan.tokens_per_second * plan.step_seconds
    assert f"({tokens / high:,.0f} to {tokens / low:,.0f})" in time_text(plan)
    assert f"90 %: {low:.3f} to {high:.3f} s" in time_text(plan)
