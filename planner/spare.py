"""Rows that are neither the fastest nor the near tie with most headroom, dropped before the model is built.

A row of the near-tie band can only win by headroom. A split in hand that surely lies in the band leaves so many steps of
memory free; a row of which the closed form proves that it is too slow with as much left free cannot hold the answer.
"""

from __future__ import annotations

import numpy as np

from planner.layouts import Floats, Ints
from planner.rounding import Rounded, slowest_near_tie
from planner.splits import Splitter

MANY = 8
"""So few rows go to the solver as they are."""
SURE = 1e-4
"""A split in hand counts only this much inside the band: more than rounding times to units can move a step."""


def roomy_rows(rounded: Rounded, rows: Ints, bound: Floats, best: float) -> np.ndarray:
    """Which of these rows may still hold the answer, where there is no rollout engine.

    `bound` holds for every row of the space seconds that no split of it undercuts, `best` those of a plan in hand.
    """
    near_tie = rounded.costs.problem.scenario.search.near_tie
    keep = bound[rows] <= best * (1 + SURE)
    if len(rows) <= MANY or keep.all():
        return np.ones(len(rows), dtype=bool)
    splitter = Splitter(rounded.costs.problem, rounded)
    least = float(bound[rows].min())
    longest = slowest_near_tie(best, near_tie) * (1 + SURE)
    surely = slowest_near_tie(least, near_tie) * (1 - SURE)
    most = max(0, rounded.limit) // rounded.headroom_step

    def reaches(row: int, spare: int) -> tuple[bool, bool]:
        """(whether the row may leave so many steps free, whether it surely does)."""
        split = splitter.split(row, held_back=spare * rounded.headroom_step)
        return split.bound_seconds <= longest, split.seconds <= surely

    in_hand = 0
    for row in rows.tolist():
        low, high = in_hand, most + 1  # surely reaches low, does not surely reach high
        if low and not reaches(row, low + 1)[1]:
            continue
        while high - low > 1:
            middle = (low + high) // 2
            if reaches(row, middle)[1]:
                low = middle
            else:
                high = middle
        in_hand = low
    if not in_hand:
        return np.ones(len(rows), dtype=bool)
    return keep | np.array([k or reaches(row, in_hand)[0] for row, k in zip(rows.tolist(), keep, strict=True)])
