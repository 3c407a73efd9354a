"""500 random layouts of each engine in every format, written and read back; PLANNER_ENGINE_PLANS is their number."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest
from drawn import MOST_DRAWN, random_plans
from round_trips import OF_ENGINE, differences

from planner.errors import InputError

PLANS = int(os.environ.get("PLANNER_ENGINE_PLANS", "500"))


@pytest.mark.parametrize("engine", sorted(OF_ENGINE))
def test_what_is_written_is_read_back(engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    different: list[str] = []
    for outcome in random_plans(engine, PLANS * MOST_DRAWN):
        wanting = [name for name in OF_ENGINE[engine] if written[name] < PLANS]
        for launcher in wanting:
            try:
                found = differences(outcome, launcher, tmp_path)
            except InputError:
                refused[launcher] += 1
                continue
            written[launcher] += 1
            different += [f"{launcher}: {text}" for text in found]
        if not wanting:
            break
    with capsys.disabled():
        print(f"\n{engine}: written {dict(written)}, refused by name {dict(refused)}, read back different {different}")
    assert different == []
    assert set(written) == set(OF_ENGINE[engine])
