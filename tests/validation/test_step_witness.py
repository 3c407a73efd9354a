"""Our peaks of whole training steps against what torch's operations make (validation/autograd/steps.json). No torch."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
VOCABULARIES = {"llama3.2-1b": 128_256, "qwen2.5-1.5b": 151_936}


@cache
def witness() -> Any:
    """The script that compares; it stands outside the packages."""
    spec = importlib.util.spec_from_file_location("compare_steps", ROOT / "validation/autograd/compare_steps.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@cache
def compared() -> tuple[Any, ...]:
    return tuple(witness().rows())


def chosen(**wanted: object) -> list[Any]:
    found = [each for each in compared() if all(each.row[name] == value for name, value in wanted.items())]
    assert found
    return found


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("adamw", ["foreach", "fused"])
def test_full_training_is_equal_to_a_thousandth(precision: str, checkpoint: bool, adamw: str) -> None:
    """Dense layers and experts; fused steps were counted with checkpointing in 16 bits."""
    if adamw == "fused" and (precision, checkpoint) != ("bf16", True):
        return
    for each in chosen(precision=precision, checkpoint=checkpoint, adapter="", adamw=adamw, accumulated=False):
        if each.row["model"] != "gpt2-xl" or checkpoint:
            assert abs(each.training_error) < 0.001, each.row


def test_the_update_is_equal_to_a_thousandth() -> None:
    for each in compared():
        assert abs(each.update_error) < 0.001, each.row


def test_gpt2_without_checkpointing_is_one_hundredth_over() -> None:
    (one,) = chosen(model="gpt2-xl", checkpoint=False)
    assert 0 < one.training_error < 0.011


def test_autocast_is_equal_to_a_thousandth_and_never_short() -> None:
    """With checkpointing and 512 tokens, or a tied table of 248,320, the end of the backward pass is up to six
    thousandths over."""
    for each in chosen(precision="autocast", adapter="", accumulated=False):
        ends = each.row["tokens"] == 512 or each.row["model"] == "qwen3.5-4b"
        assert -0.001 < each.training_error < (0.006 if ends else 0.001), each.row


def test_a_later_micro_batch_holds_a_new_gradient_beside_those_that_are_there() -> None:
    """14 GiB of a DeepSeek-V3 layer's experts; of the head, where tokens are few."""
    later = chosen(accumulated=True)
    assert {each.row["precision"] for each in later} == {"bf16", "autocast", "fp32"}
    assert {256, 4096} == {each.row["tokens"] for each in later}
    for each in later:
        assert -0.001 < each.training_error < 0.002, each.row


def test_a_loss_of_the_callers_own_is_equal_to_a_thousandth() -> None:
    """On a shifted copy of the logits as they are made: 6 B a logit in 16 bits, 8 with Gemma 2's cap, 12 in fp32."""
    own = chosen(own_loss=True)
    assert {each.row["precision"] for each in own} == {"bf16", "autocast", "fp32"}
    assert {"gemma2-2b", "llama3.1-8b", "phi-3-mini-4k"} < {each.row["model"] for each in own}
    for each in own:
        assert -0.001 < each.training_error < (0.007 if each.row["adapter"] else 0.001), each.row


def test_adapters_are_equal_to_seven_thousandths_and_never_short() -> None:
    adapted = [each for each in compared() if each.row["adapter"]]
    assert {each.row["precision"] for each in adapted} == {"bf16", "autocast", "fp32"}
    assert {each.row["adapter"] for each in adapted} == {"fp32", "bf16"}
    for each in adapted:
        assert -0.001 < each.training_error < 0.007, each.row


def test_rows_are_whole_steps_in_torchs_order() -> None:
    for row in (each.row for each in compared()):
        assert row["weights"] <= row["held"] <= row["kept"] <= row["forward"]
        assert row["held"] < row["optimizer"]


def test_holding_the_outputs_costs_the_16_bit_logits() -> None:
    for held in chosen(outputs_held=True):
        same = {name: held.row[name] for name in ("model", "precision", "checkpoint", "micro_batch", "tokens")}
        (dropped,) = chosen(**same, adapter="", adamw="foreach", outputs_held=False, accumulated=False)
        logits = 2 * VOCABULARIES[held.row["model"]] * held.row["tokens"] * held.row["micro_batch"]
        assert held.counted - dropped.counted == pytest.approx(logits, rel=0.001)
        assert held.training - dropped.training == pytest.approx(logits, rel=0.001)


def test_tables_name_every_class_and_row() -> None:
    text = witness().tables(list(compared()))
    assert all(each.kind in text for each in compared())
    assert text.count("\n") > len(compared())
