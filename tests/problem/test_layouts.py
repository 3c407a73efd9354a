"""Columns of layouts."""

from __future__ import annotations

import numpy as np

from planner.problem.layouts import distinct


def test_distinct_rows_are_those_of_numpy() -> None:
    rng = np.random.default_rng(5)
    for largest in (3, 1000, 2**40):
        columns = [rng.integers(0, largest, 400) // (largest // 3) * (largest // 3) for _ in range(5)]
        rows, inverse = distinct(*columns)
        expected = np.unique(np.stack(columns, axis=1), axis=0)
        assert sorted(rows) == [tuple(row) for row in expected.tolist()]
        assert [rows[i] for i in inverse] == list(zip(*(c.tolist() for c in columns), strict=True))
