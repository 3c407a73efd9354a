"""Solver against enumeration on all drawn problems of which the main suite asks a part.

Slow, so not part of the main suite: python -m pytest tests/slow
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from every_point import drawn
from random_problems import random_case

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "search"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "search" / "bounds"))
from test_bounds_hold import LAWS, holds
from test_bounds_hold import coarse as coarse
from test_solver_brute_force import (
    NARROWED,
    SCENARIOS,
    equals_enumeration,
    equals_enumeration_in_a_wide_band,
    first_in_an_independent_order,
    scenario_equals_enumeration,
)


@pytest.mark.parametrize("seed", range(100))
def test_a_hundred_problems(seed: int) -> None:
    equals_enumeration(random_case(seed, most_points=3000))


@pytest.mark.parametrize("seed", range(500, 514))
def test_fourteen_orders_of_goals(seed: int) -> None:
    first_in_an_independent_order(seed)


@pytest.mark.parametrize("seed", range(700, 730))
def test_thirty_wide_bands(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    equals_enumeration_in_a_wide_band(seed, monkeypatch)


@pytest.mark.parametrize("path", [path for path in SCENARIOS if path.stem in NARROWED], ids=lambda path: path.stem)
def test_all_points_of_the_largest_scenarios(path: Path) -> None:
    scenario_equals_enumeration(path, [])


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("seed", range(100))
def test_bounds_of_a_hundred_problems(seed: int) -> None:
    for law in LAWS:
        holds(law, [drawn(seed)])
