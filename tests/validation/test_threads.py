"""Twenty out-of-memory threads: the list is what was fixed, each has a verdict or a reason, the count is printed."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def _load() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "validation" / "threads" / "table.py"
    spec = importlib.util.spec_from_file_location("thread_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


table = _load()

NAMED = (
    *("slime 1136", "slime 1237", "slime 1951", "slime 638", "slime 1740", "slime 1523", "verl 328", "verl 477"),
    *("verl 516", "verl 855", "TinyZero 107", "NeMo-RL 903", "Megatron-LM 525", "prime-rl 950"),
)


def found() -> dict[str, Any]:
    return {each.name: each for each in table.judged()}


def test_the_list_is_the_one_that_was_fixed() -> None:
    assert tuple(found())[: len(NAMED)] == NAMED
    assert len(found()) == 20


def test_each_is_right_or_says_why_not() -> None:
    for each in found().values():
        assert each.said != "refused", each
        assert each.right or each.foreseen or each.reason or each.plan is not None, each


def test_those_that_are_right_stay_right() -> None:
    right = {name for name, each in found().items() if each.right}
    assert {"slime 1136", "slime 1951", "verl 2935"} <= right
    assert {"verl 388", "verl 1649"} <= {name for name, each in found().items() if each.foreseen}


def test_the_table_counts_them() -> None:
    right = sum(each.right for each in found().values())
    assert f"of 20 foreseen, {right} with the phase" in table.table()


def test_the_page_holds_the_table() -> None:
    page = table.FILE.with_name("README.md").read_text(encoding="utf-8")
    assert page.endswith(table.table() + "\n"), "run python -m validation.threads.table"
