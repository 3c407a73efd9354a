"""What is dropped before the solver, under which rule, by hand; and the bounds that drop it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_rows import hand_rows

from planner.costs.coefficients import Coefficients
from planner.search.bounds.cheap import slowest_stage_bound
from planner.search.prune import Bounds, Pruned, prune, row_bounds

EVEN = {"layers_per_stage": "even", "recompute": "uniform", "recomputed_layers": 0}


def pruned(bound: list[float], seconds: list[float], wishes: list[int] | None = None, refuted: int = -1) -> Pruned:
    question, rounded = hand_rows(stages=1, rows=len(bound), time=(1.0, 0.0, 0.0), **EVEN)
    if wishes is not None:
        layouts = replace(rounded.costs.layouts, wish=np.array(wishes, dtype=np.int64))
        rounded = replace(rounded, costs=replace(rounded.costs, layouts=layouts))
    bounds = Bounds(np.array(bound), np.array(seconds), 0, 0, rounded)
    return prune(question, rounded.costs, None, bounds, frozenset({refuted} - {-1}))


def dropped(found: Pruned) -> dict[str, int]:
    return {entry.rule: entry.count for entry in found.removed}


def test_rows_beyond_the_near_tie_band_of_a_plan_in_hand_are_slower() -> None:
    """Half a percent of throughput: 1.004 may tie with 1.0, 1.006 may not; a row with no plan in hand stays."""
    found = pruned([1.0, 1.004, 1.006, 0.9], [1.0, 1.004, 1.006, np.inf])
    assert found.rows.tolist() == [0, 1, 3]
    assert dropped(found) == {"slower": 1}
    assert found.longest_seconds == pytest.approx(1 / 0.995, rel=2e-5)


def test_rows_that_never_fit_are_counted_as_memory() -> None:
    found = pruned([np.inf, 1.0], [np.inf, 1.0])
    assert (found.rows.tolist(), dropped(found), found.feasible_rows) == ([1], {"memory": 1}, 1)
    nothing = pruned([np.inf, np.inf], [np.inf, np.inf])
    assert (nothing.rows.tolist(), nothing.wish, dropped(nothing)) == ([], None, {"memory": 2})


def test_a_better_wish_wins_however_slow() -> None:
    found = pruned([9.0, 1.0], [9.0, 1.0], wishes=[0, 1])
    assert (found.rows.tolist(), found.wish, dropped(found)) == ([0], 0, {"wishes": 1})


def test_a_wish_that_the_solver_refuted_is_not_granted() -> None:
    found = pruned([9.0, 1.0], [9.0, 1.0], wishes=[0, 1], refuted=0)
    assert (found.rows.tolist(), found.wish) == ([1], 1)


def test_without_a_plan_in_hand_nothing_is_called_slower() -> None:
    """Only bounds are known: the longest step is that of one stage with every layer, twelve seconds."""
    found = pruned([1.0, 2.0], [np.inf, np.inf])
    assert found.rows.tolist() == [0, 1]
    assert found.longest_seconds == pytest.approx(12 / 0.995, rel=2e-5)


def test_slowest_stage_of_layers_cut_at_will() -> None:
    """1 and 2 s a layer, 3 s beside the second's: nine layers and three, nine seconds each."""
    c = Coefficients(np.array([[1.0, 2.0]]), np.zeros((1, 2)), np.array([[0.0, 3.0]]))
    assert slowest_stage_bound(c, np.ones((1, 2)), 12).tolist() == [9.0]
    one = Coefficients(np.array([[1.0, 1.0]]), np.zeros((1, 2)), np.array([[4.0, 99.0]]))
    assert slowest_stage_bound(one, np.array([[1.0, 0.0]]), 12).tolist() == [16.0]


@pytest.mark.parametrize("spec", ["even", "free"])
def test_bounds_are_those_of_the_rooms(spec: str) -> None:
    """Even: 6 + 4 s. Free: 8 and 4 + 4 s."""
    choice = EVEN if spec == "even" else {"layers_per_stage": "free", "recomputed_layers": 0}
    bounds = row_bounds(*hand_rows(stages=2, time=(1.0, 0.5, [0.0, 4.0]), **choice))
    assert bounds.bound.tolist() == bounds.seconds.tolist() == [10.0 if spec == "even" else 8.0]
    assert (bounds.least is None) == (spec == "free")


def test_a_row_beyond_the_band_is_bounded_by_the_band_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both take 1 s where nothing is recomputed; the second needs four layers recomputed, 5.5 ms in all, and is not
    looked into: the band ends at 1.005 s."""
    monkeypatch.setattr("planner.search.prune.FIRST_BLOCK", 1)
    row = {"time": (1 / 12, [[0.0], [0.0055 / 4]], 0.0), "memory": ([[0.0], [1.0]], [[0.0], [-1.0]], [[0.0], [-0.5]])}
    free = {"layers_per_stage": "free", "recompute": "per_stage", "recomputed_layers": "any"}
    bounds = row_bounds(*hand_rows(stages=1, rows=2, **row, **free))
    assert bounds.seconds.tolist() == pytest.approx([1.0, np.inf])
    assert 1.005 <= bounds.bound[1] <= 1.0055
