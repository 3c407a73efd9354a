"""Export then lint is the identity on every layout, for every format that is both written and read.

Layouts are drawn at random from the legal ones, as the solver may return any of them. What a format has no word for is
refused on export by name, or listed by lint as not said. tests/slow/test_many_round_trips.py draws 500 of each engine.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from drawn import legal_plan
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from round_trips import LAUNCHERS, OF_ENGINE, differences

from planner.errors import InputError


def test_every_format_of_both_lists_is_asked() -> None:
    assert {name for names in OF_ENGINE.values() for name in names} == set(LAUNCHERS)


@pytest.mark.parametrize("engine", sorted(OF_ENGINE))
def test_what_is_written_is_read_back(engine: str, tmp_path: Path) -> None:
    @settings(
        max_examples=4,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def trip(rng: random.Random) -> None:
        outcome = legal_plan(engine, rng)
        for launcher in OF_ENGINE[engine] if outcome is not None else ():
            try:
                assert differences(outcome, launcher, tmp_path) == []
            except InputError:
                continue  # refused by name

    trip()
