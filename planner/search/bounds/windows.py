"""What memory says of the recomputed layers of a stage, for each number of layers that it may hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planner.costs.coefficients import ONLY_WHERE_RECOMPUTED, Coefficients
from planner.problem.layouts import Floats, Ints
from planner.search.grid import Rounded, limit_bytes


class Windows(NamedTuple):
    """Arrays of shape [stages, counts], or [rows, stages, counts]."""

    low: Floats
    """Least recomputed layers by the moments that every stage has."""
    high: Floats
    """Most of them."""
    fits: np.ndarray
    """Does any number fit, by these moments."""
    more: Floats
    """Least recomputed layers by all moments, where some are recomputed; 1 at least."""
    less: Floats
    """Most of them."""
    inside: np.ndarray
    """Does any number fit, by all moments."""


def windows(
    rounded: Rounded,
    rows: Ints | int,
    stages: int,
    counts: Ints,
    fixed: Ints | None = None,
    *,
    exact: bool = False,
    held_back: int = 0,
) -> Windows:
    """Windows of one row or of several, of their first stages, for these layer counts.

    In integers as the solver counts memory, with `held_back` units less than there are; with `exact` in floats.
    `fixed` are the layers of each stage where they are not free: no other count fits.
    """
    costs = rounded.costs
    memory = costs.memory if exact else rounded.memory
    limit = limit_bytes(costs.question) if exact else float(rounded.limit - held_back)
    always = [c for name, c in memory.items() if name not in ONLY_WHERE_RECOMPUTED]
    low, high, fits = _between(always, rows, stages, counts, limit)
    also = _between([c for name, c in memory.items() if name in ONLY_WHERE_RECOMPUTED], rows, stages, counts, limit)
    possible = np.ones(low.shape, dtype=bool)
    if fixed is not None:
        possible &= fixed[rows, :stages, None] == counts
    elif costs.question.architecture.is_moe:
        possible[..., 0, :] &= counts >= costs.question.parameters.num_dense_layers
    more, less = np.maximum(np.maximum(low, also[0]), 1), np.minimum(high, also[1])
    return Windows(low, high, fits & possible, more, less, fits & also[2] & possible)


def _between(
    lines: Sequence[Coefficients], rows: Ints | int, stages: int, counts: Ints, limit: float
) -> tuple[Floats, Floats, np.ndarray]:
    """(least, most recomputed layers, whether any number fits) for each stage and layer count to keep these lines."""
    shape = (*np.shape(rows), stages, len(counts))
    low = np.zeros(shape)
    high = np.broadcast_to(counts.astype(float), shape).copy()
    fits = np.ones(shape, dtype=bool)
    for c in lines:
        over = c.layer[rows, :stages, None] * counts + c.end[rows, :stages, None] - limit
        slope = c.recomputed[rows, :stages, None] * 1.0
        falls, rises, flat = slope < 0, slope > 0, slope == 0
        if falls.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                low = np.where(falls, np.maximum(low, np.ceil(over / -slope)), low)
        if rises.any():
            with np.errstate(divide="ignore", invalid="ignore"):
                high = np.where(rises, np.minimum(high, np.floor(-over / slope)), high)
        if flat.any():
            fits &= ~flat | (over <= 0)
    return low, high, fits
