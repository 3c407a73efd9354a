"""Attention of head sizes between two kernels' and of no multiple of 8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from planner.formulas.attention import (
    ACHIEVED_BANDWIDTH,
    LAUNCH_SECONDS,
    attention_curve,
    flash_attention_seconds,
    unfused_attention_seconds,
)
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.resolve import question_of
from planner.units import GB

H100 = {"chip": "Hopper sm_90", "peak_tflops": 989.0}


def seconds(head: int, kernel: str, **changes: bool) -> float:
    found = flash_attention_seconds(
        attention_curve(**H100, kernel=kernel, head_dim=head), sequence_length=8192, micro_batch_size=1, heads=16,
        kv_heads=16, head_dim=head, memory_gb_per_s=3350, **changes,
    )  # fmt: skip
    return float(found)


@pytest.mark.parametrize(
    ("kernel", "head", "runs"),
    [("newest", 40, 64), ("newest", 72, 96), ("newest", 112, 128), ("newest", 136, 192), ("newest", 200, 256),
     ("flash2", 24, 32), ("flash2", 40, 64), ("flash2", 80, 96), ("flash2", 160, 192)],
)  # fmt: skip
def test_a_head_between_two_kernels_runs_the_larger_one(kernel: str, head: int, runs: int) -> None:
    for backward in (False, True):
        assert seconds(head, kernel, backward=backward) == pytest.approx(seconds(runs, kernel, backward=backward))
        assert seconds(runs - 8, kernel) == pytest.approx(seconds(runs, kernel))


def test_a_head_of_no_multiple_of_8_is_padded_and_cut() -> None:
    """100 is held as 104 and runs as 128: q, k, v and o of 16 heads read and written once more."""
    held = 2.0 * 8192 * (16 + 16) * (104 + 104)
    more = 2 * held / (ACHIEVED_BANDWIDTH * 3350 * GB) + 4 * LAUNCH_SECONDS
    assert seconds(100, "flash2") - seconds(104, "flash2") == pytest.approx(more, rel=1e-9)
    assert seconds(104, "flash2") == pytest.approx(seconds(128, "flash2"))


def test_unfused_products_cover_the_padding() -> None:
    def flop_seconds(head: int) -> float:
        shape = {"sequence_length": 2048, "micro_batch_size": 1, "heads": 8}
        return float(unfused_attention_seconds(**shape, head_dim=head, gemm_tflops=400, memory_gb_per_s=1e12))

    assert flop_seconds(100) == flop_seconds(104) < flop_seconds(112)


def test_transformer_engine_does_not_fuse_a_head_of_no_multiple_of_8(tmp_path: Path) -> None:
    """Megatron keeps the scores then; FlashAttention, which torch's engines call, pads for itself."""

    def fused(engine: str, head: int) -> bool:
        config = {
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024, "head_dim": head,
            "intermediate_size": 4096, "num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 4,
            "vocab_size": 32000, "max_position_embeddings": 4096, "hidden_act": "silu", "tie_word_embeddings": False,
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        scenario = {
            "name": "heads", "task": "pretrain", "engine": engine, "model": str(tmp_path / "config.json"),
            "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
            "batch": {"global_batch_size": 8, "sequence_length": 2048},
        }  # fmt: skip
        asked = question_of(parse_document(json.dumps(scenario), "heads.yaml"), default_catalog())
        return asked.first.engine.fused_attention

    assert [fused("megatron-core", head) for head in (128, 104, 100)] == [True, True, False]
    assert fused("fsdp2", 100)
