"""Fitted numbers fitted again without a group of rows: what the validations of memory and of speed share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

By = Literal["source", "engine", "network"]
"""What is left out in turn."""
Standing = Literal["left out", "in-sample", "nothing fitted"]
"""Whether a row's prediction rests on numbers that have seen the row's own group."""
FINE = 401


def best_value(
    shipped: float, values: np.ndarray, told: np.ndarray, measured: Sequence[float], *, each_row: bool = False
) -> float:
    """The value with the least absolute error over these rows, the one nearest to the shipped where some tie.

    `told` are the predictions at each value, of shape [rows, values], taken as straight between them. The error is the
    rows' median, or with `each_row` their mean, which rows that the value hardly moves have no say in.
    """
    fine = np.unique(np.append(np.linspace(values[0], values[-1], FINE), shipped))
    between = np.array([np.interp(fine, values, row) for row in told])
    errors = (np.mean if each_row else np.median)(np.abs(between / np.array(measured)[:, None] - 1), axis=0)
    least = np.flatnonzero(errors <= errors.min() + 1e-6)
    return float(min(fine[least], key=lambda value: abs(value - shipped)))


def members_of(groups: Sequence[str]) -> dict[str, list[int]]:
    """Indices of the rows of each group, groups in order of their names."""
    found: dict[str, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        found[group].append(index)
    return dict(sorted(found.items()))


def values_without(
    groups: Sequence[str], shipped: float, values: np.ndarray, told: np.ndarray, measured: Sequence[float]
) -> dict[str, float | None]:
    """For each group the best value over all other groups' rows; None where there are no others.

    `groups` and `measured` have one entry a row, `told` the shape [rows, values].
    """
    known = members_of(groups)
    out: dict[str, float | None] = {}
    for group, members in known.items():
        others = [index for index in range(len(groups)) if index not in set(members)]
        seen = [measured[index] for index in others]
        out[group] = best_value(shipped, values, told[others], seen) if others else None
    return out


def standings(rows: Sequence[str], rests: Sequence[Mapping[str, bool]]) -> dict[str, Standing]:
    """The standing of each row by id: `rests` says for each number, by row id, whether it was fitted again without it.

    One number that was not makes the row in-sample.
    """
    out: dict[str, Standing] = dict.fromkeys(rows, "nothing fitted")
    for number in rests:
        for name, again in number.items():
            if not again:
                out[name] = "in-sample"
            elif out[name] == "nothing fitted":
                out[name] = "left out"
    return out
