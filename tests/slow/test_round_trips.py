"""500 random layouts of each engine, written in every format and read back; PLANNER_ENGINE_PLANS is their number."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from drawn import random_plans
from round_trips import OF_ENGINE, differences

from planner.errors import InputError

PLANS = int(os.environ.get("PLANNER_ENGINE_PLANS", "500"))


@pytest.mark.parametrize("engine", sorted(OF_ENGINE))
def test_what_is_written_is_read_back(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    equal: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    different: list[str] = []
    for outcome in random_plans(engine, PLANS):
        for launcher in OF_ENGINE[engine]:
            try:
                found = differences(outcome, launcher, tmp_path)
            except InputError:
                refused[launcher] += 1
                continue
            equal[launcher] += not found
            different += [f"{launcher}: {text}" for text in found]
    with capsys.disabled():
        print(f"\n{engine}: equal {dict(equal)}, refused by name {dict(refused)}, different {len(different)}")
    assert different == []
    assert set(equal) == set(OF_ENGINE[engine])
