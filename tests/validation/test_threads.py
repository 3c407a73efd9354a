"""Out-of-memory threads: the list is what was fixed, each has a verdict or a reason, the count is printed."""

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


MORE = (
    *("prime-rl 1016", "NeMo-RL 366", "NeMo-RL 456", "NeMo-RL 656", "torchtitan 1789", "Megatron-LM 606"),
    *("LLaMA-Factory 4311", "LLaMA-Factory 4559", "LIMO 10", "stanford_alpaca 56"),
)


LATER = (
    *("verl 3659", "verl 3364, second", "slime 1767", "slime 1851", "OpenRLHF 1066", "OpenRLHF 887", "OpenRLHF 901"),
    *("prime-rl 1097", "NeMo-RL 604", "NeMo-RL 191", "Search-R1 80", "LLaMA-Factory 5169", "TRL 3456"),
)


LATEST = (
    *("open-rl 99", "OpenRLHF 908", "OpenRLHF 776", "OpenRLHF 784", "TRL 4585", "ms-swift 4486", "ms-swift 4961"),
    *("Automodel 2609, 4B", "Automodel 2609, 30B", "Automodel 2336", "slime 94b359573", "slime 747"),
    *("NeMo-RL 687, 8B", "NeMo-RL 687, 70B", "NeMo-RL 687, 30B", "NeMo-RL 875, 16K", "NeMo-RL 875, 24K"),
    *("torchtitan 1690, FSDP4 TP8 of 64", "torchtitan 1690, FSDP8 TP8 of 64", "torchtitan 1690, FSDP16 of 8"),
    *("torchtitan 1690, FSDP16 of 16", "torchtitan 1690, FSDP32 of 16", "torchtitan 1690, FSDP16 TP2 of 16"),
    *("torchtitan 1690, FSDP8 TP4 of 32", "LLaMA-Factory 6999", "LLaMA-Factory 5977", "verl 1141"),
    *("Megatron-Bridge 3223, GB300", "Megatron-Bridge 3223, GB200"),
)


def found() -> dict[str, Any]:
    return {each.name: each for part in ("threads", "more") for each in table.judged(part)}


def test_the_lists_are_the_ones_that_were_fixed() -> None:
    names = tuple(found())
    assert names[: len(NAMED)] == NAMED
    assert names[20:] == MORE
    assert tuple(each.name for each in table.judged("unseen")) == LATER
    assert tuple(each.name for each in table.judged("later")) == LATEST


def test_each_is_right_or_says_why_not() -> None:
    for each in found().values():
        assert each.said != "refused", each
        assert each.right or each.foreseen or each.reason or each.plan is not None, each


def test_those_that_are_right_stay_right() -> None:
    right = {name for name, each in found().items() if each.right}
    assert {"slime 1136", "slime 1951", "verl 2935", "verl 855", "NeMo-RL 903", "Megatron-LM 525"} <= right
    assert {"slime 1237", "prime-rl 950"} <= right
    assert set(MORE) - {"NeMo-RL 656"} <= right
    by_script = {"verl 516", "verl 3364"}
    assert {"verl 388", "verl 1649", *by_script} <= {name for name, each in found().items() if each.foreseen}


def test_a_change_that_ended_it_fits() -> None:
    assert {name for name, each in found().items() if each.works} >= {"NeMo-RL 903", "NeMo-RL 366", "torchtitan 1789"}


def test_fourteen_of_the_first_twenty_that_state_enough_are_foreseen() -> None:
    enough = [*table.stated(table.judged()), *table.stated(table.judged("more"))][:20]
    assert len(enough) == 20
    assert sum(each.foreseen for each in enough) >= 14
    assert sum(each.foreseen for each in table.judged()) >= 14


def test_a_sweep_that_died_is_told_from_its_runs_that_ran() -> None:
    died = [each for each in table.judged("later") if each.name.startswith("torchtitan 1690")]
    lived = [each for each in table.ran() if each.measured_gib is not None]
    assert len(died) == len(lived) == 7
    assert all(each.right for each in died)
    assert not any(each.said in table.DEAD for each in lived)
    assert all(abs(each.plan.peak_gib / each.measured_gib - 1) < 0.08 for each in lived)


def test_a_run_dies_in_the_first_phase_that_lacks_memory() -> None:
    both = next(each.plan for each in table.judged("later") if each.name == "verl 1141")
    first = table.dies_in(both)
    assert (first.phase, both.binding.phase) == ("weight_sync", "rollout")
    assert both.usable_gib < first.total_gib < both.binding.total_gib
    fits = next(each.plan for each in table.judged("later") if each.name == "ms-swift 4486")
    assert table.dies_in(fits) is None


def test_the_page_holds_the_tables() -> None:
    page = table.FILE.with_name("README.md").read_text(encoding="utf-8")
    assert page.endswith(table.page() + "\n"), "run python -m validation.threads.table"
