"""What reports say of their own error is what the validations find."""

from __future__ import annotations

import json
import math

import pytest
from published_runs import memory_result
from run_cli import run

from planner.inputs.catalog import default_catalog
from planner.inputs.known_errors import FILE, MemorySpread, known_errors
from planner.validation.memory.summary import known_errors_table


def test_the_shipped_table_is_what_the_validations_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.validation.memory.summary.run_memory", lambda: (memory_result(), []))
    shipped = json.loads(default_catalog().data_file(FILE).read_text())
    assert shipped == json.loads(json.dumps(known_errors_table()))


@pytest.mark.parametrize("engine", default_catalog().ids("engines"))
def test_every_engine_states_its_error_or_that_it_has_none(engine: str) -> None:
    catalog = default_catalog()
    texts = known_errors(catalog.find("engines", engine), catalog).sentences(rollout=False)
    assert len(texts) == 2
    assert all("published run" in text for text in texts)


def test_interval_and_chance_of_a_spread_by_hand() -> None:
    spread = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.0, below=0.02, above=0.04)
    low, high = spread.interval_gib(60.0)
    assert low == pytest.approx(60 * math.exp(-1.6449 * 0.02), rel=1e-4)
    assert high == pytest.approx(60 * math.exp(1.6449 * 0.04), rel=1e-4)
    assert spread.fit_probability(60.0, 60.0) == pytest.approx(0.5)
    assert spread.fit_probability(60.0, high) == pytest.approx(0.95, abs=1e-4)
    assert spread.fit_probability(60.0, low) == pytest.approx(0.05, abs=1e-4)


def test_solve_prints_interval_and_chance_and_the_cliff_is_a_named_limit() -> None:
    done = run("solve", "scenarios/llama70b_64xh100.yaml", "--format", "json")
    memory = json.loads(done.out)["plan"]["memory"]
    low, high = memory["interval_90_percent_gib"]
    assert low < memory["peak_gib"] < high
    assert 0.9 < memory["fit_probability"] <= 1
    assert memory["headroom_demanded_gib"] == pytest.approx(0.12 * memory["usable_gib"], rel=1e-3)
    free = run("solve", "scenarios/llama70b_64xh100.yaml", "--format", "json", "--set", "limits.reserved_cliff=false")
    assert json.loads(free.out)["plan"]["memory"]["headroom_demanded_gib"] < memory["headroom_demanded_gib"]
