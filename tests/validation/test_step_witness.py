"""Our peaks of whole training steps against what torch's operations make (validation/autograd/steps.json). No torch."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


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


def soft_capped(each: Any) -> bool:
    return str(each.row["model"]).startswith("gemma2")


@pytest.mark.parametrize("checkpoint", [False, True])
def test_steps_in_16_bits_are_equal_to_a_thousandth(checkpoint: bool) -> None:
    for each in chosen(precision="bf16", checkpoint=checkpoint, adapter="", adamw="foreach"):
        if not soft_capped(each):
            assert abs(each.peak_error) < 0.001, each.row


def test_the_update_in_16_bits_is_equal_to_a_thousandth() -> None:
    for each in chosen(precision="bf16", adapter="", adamw="foreach"):
        assert abs(each.update_error) < 0.001, each.row


def test_autocast_without_checkpointing_is_equal_to_a_thousandth() -> None:
    for each in chosen(precision="autocast", checkpoint=False, adapter=""):
        if not soft_capped(each):
            assert abs(each.peak_error) < 0.001, each.row


def test_rows_are_whole_steps_in_torchs_order() -> None:
    for row in (each.row for each in compared()):
        assert row["weights"] <= row["held"] <= row["kept"] <= row["forward"]
        assert row["held"] < row["optimizer"]


def test_holding_the_outputs_costs_the_16_bit_logits() -> None:
    for held in chosen(outputs_held=True):
        same = {name: held.row[name] for name in ("model", "precision", "checkpoint", "micro_batch", "tokens")}
        (dropped,) = chosen(**same, adapter="", adamw="foreach", outputs_held=False)
        assert held.counted - dropped.counted == pytest.approx(dropped.dropped_logits, rel=0.001)


def test_tables_name_every_class_and_row() -> None:
    text = witness().tables(list(compared()))
    assert all(each.kind in text for each in compared())
    assert text.count("\n") > len(compared())
