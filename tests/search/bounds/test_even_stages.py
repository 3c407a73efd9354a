"""Even stages: the least number of recomputed layers that fits, by hand on twelve layers."""

from __future__ import annotations

import numpy as np
from hand_rows import hand_rows

from planner.search.bounds.even_stages import LeastRecompute

EVEN = {"layers_per_stage": "even", "recompute": "uniform", "recomputed_layers": "any"}


def least(**row: object) -> LeastRecompute:
    return LeastRecompute(*hand_rows(**{**EVEN, **row}))  # type: ignore[arg-type]


def test_nothing_is_recomputed_where_all_fits() -> None:
    """Six layers a stage at 1 s, and 3 s beside those of the last."""
    assert least(stages=2, time=(1.0, 0.5, [0.0, 3.0])).seconds().tolist() == [9.0]


def test_the_least_number_that_fits_in_the_fullest_stage() -> None:
    """6 x 1 + 3.9 = 9.9 of 8 on stage 0: two layers recomputed give 2 back. All stages recompute the same number."""
    row = least(stages=2, time=(1.0, 0.5, 0.0), memory=(1.0, -1.0, [3.9, 0.0]))
    assert row.seconds().tolist() == [7.0]


def test_only_numbers_that_the_scenario_names() -> None:
    row = least(stages=2, time=(1.0, 0.5, 0.0), memory=(1.0, -1.0, [3.9, 0.0]), recomputed_layers=[0, 5])
    assert row.seconds().tolist() == [8.5]
    none = least(stages=2, time=(1.0, 0.5, 0.0), memory=(1.0, -1.0, [3.9, 0.0]), recomputed_layers=[0, 1])
    assert none.seconds().tolist() == [np.inf]


def test_a_peak_that_rises_with_recomputed_layers_bounds_from_above() -> None:
    """At least two by the backward pass; 6 + 1 a recomputed layer of 8 allows two, 6.5 + 1 only one."""
    row = {"stages": 2, "time": (1.0, 0.5, 0.0), "memory": (1.0, -1.0, [3.9, 0.0])}
    assert least(**row, recomputation=(0.0, 0.99, 6.0)).seconds().tolist() == [7.0]
    assert least(**row, recomputation=(0.0, 0.99, 6.5)).seconds().tolist() == [np.inf]


def test_the_peak_of_recomputation_is_no_limit_where_nothing_is_recomputed() -> None:
    assert least(stages=2, time=(1.0, 0.5, 0.0), recomputation=(0.0, 0.0, 9.0)).seconds().tolist() == [6.0]


def test_memory_held_back_asks_for_more() -> None:
    """A tenth of a layer is free; held back, one more layer is recomputed."""
    row = least(stages=2, time=(1.0, 0.5, 0.0), memory=(1.3, -1.0, 0.0))
    assert row.seconds().tolist() == [6.0]
    assert row.seconds(held_back=row.rounded.limit // 40).tolist() == [6.5]


def test_each_row_by_itself() -> None:
    """Two rows, of which the second is twice as slow and needs one recomputed layer."""
    row = least(stages=2, rows=2, time=([[1.0] * 2, [2.0] * 2], 1.0, 0.0), memory=(1.0, -1.0, [[1.9] * 2, [2.9] * 2]))
    assert row.seconds().tolist() == [6.0, 13.0]
    assert row.seconds(np.array([1])).tolist() == [13.0]
    assert row.points == 14


def test_points_that_only_rounding_excludes_are_counted() -> None:
    """A stage that is full but for one KiB fits in floats; its twelve layers, each rounded up to KiB, are more."""
    full = least(stages=1, time=(1.0, 0.5, 0.0), memory=(0.5, -0.4, 2.0 - 1e-7))
    layer = full.rounded.costs.memory["backward"].layer[0, 0] / 1024
    assert 12 * (np.ceil(layer) - layer) > 1
    assert full.only_rounding_excludes() == 1
    assert full.seconds().tolist() == [12.5]
    roomy = least(stages=1, time=(1.0, 0.5, 0.0), memory=(0.4, -0.4, 2.0))
    assert roomy.only_rounding_excludes() == 0
