"""Rows that can only win by headroom, by hand: so many steps of memory free, in so many seconds."""

from __future__ import annotations

import numpy as np
import pytest
from hand_rows import UNITS, hand_rows

from planner.search.bounds.any_split import to_spare
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.headroom import _Reach, most_free, roomy_rows
from planner.search.deadline import NO_DEADLINE
from planner.search.grid import Rounded

EVEN = {"layers_per_stage": "even", "recompute": "uniform", "recomputed_layers": 0}
AUTO = {**EVEN, "layers_per_stage": "auto"}
FREE = {"layers_per_stage": "free", "recompute": "per_stage", "recomputed_layers": 0}


def rows(free: list[int], seconds: list[float], layout: dict[str, object]) -> Rounded:
    """Rows of one stage that leave so many steps and a half free; of equal ones the first is the simplest."""
    plain = hand_rows(stages=1, time=(0.0, 0.0, 0.0), **layout)[1]
    used = [[UNITS * (1 - (steps + 0.5) * plain.headroom_step / plain.limit)] for steps in free]
    time = (0.0, 0.0, [[each] for each in seconds])
    return hand_rows(stages=1, rows=len(free), time=time, memory=(0.0, 0.0, used), **layout)[1]


def winners(free: list[int], seconds: list[float], surely: float, longest: float) -> list[bool]:
    rounded = rows(free, seconds, EVEN)
    question = rounded.costs.question
    reach = _Reach(rounded, LeastRecompute(question, rounded), longest, surely, question, NO_DEADLINE)
    return list(reach.winners(np.arange(len(free))).tolist())


def test_a_row_that_may_leave_one_step_more_is_a_winner() -> None:
    """The second lies where the band may end or not. With no more free than the first it never comes before it."""
    assert winners([3, 4], [1.0, 1.1], 1.05, 1.2) == [True, True]
    assert winners([3, 5], [1.0, 1.1], 1.05, 1.2) == [True, True]
    assert winners([3, 3], [1.0, 1.1], 1.05, 1.2) == [True, False]
    assert winners([3, 4], [1.0, 1.1], 1.05, 1.09) == [True, False]
    assert winners([3, 3], [1.1, 1.0], 1.05, 1.2) == [True, True]


@pytest.mark.parametrize("layout", [EVEN, AUTO, FREE])
def test_rows_that_leave_as_much_free_as_the_roomiest_near_tie_stay(
    layout: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a percent of 1 s: all four are near ties. Of two that leave three steps free the simpler one wins, which
    is known at once where stages are even, and left to the solver where they are free. What may lie beyond the band by
    less than rounding moves a step stays too."""
    monkeypatch.setattr("planner.search.bounds.headroom.MANY", 0)
    seconds = [1.0, 1.0045, 1.002, 1.001]
    rounded = rows([1, 3, 3, 2], seconds, layout)
    least = LeastRecompute(rounded.costs.question, rounded) if layout is EVEN else None
    kept = roomy_rows(rounded, np.arange(4), np.array(seconds), 1.0, least)
    assert kept.tolist() == [True, True, layout is FREE, False]
    place, gib = most_free(rounded, least, 1.0025)
    assert place == 2
    assert gib == pytest.approx(rounded.headroom / 2**20 + 3 / 64, abs=1e-9)
    edge = [1.0, 1 / 0.995 * (1 + 1e-5)]
    rounded = rows([1, 5], edge, layout)
    least = LeastRecompute(rounded.costs.question, rounded) if layout is EVEN else None
    assert roomy_rows(rounded, np.arange(2), np.array(edge), 1.0, least).all()


def test_memory_that_no_layer_changes_fits_up_to_the_limit() -> None:
    """A stage of no matter how many layers takes 7.99 eighths, or 8.01."""
    for used, fits in ((7.99, True), (8.01, False)):
        rounded = hand_rows(stages=2, time=(1.0, 0.0, 0.0), memory=(0.0, 0.0, used), **FREE)[1]
        assert (to_spare(rounded.costs, rounded.memory, rounded.limit) >= 0).tolist() == [fits]
