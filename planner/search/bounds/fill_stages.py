"""One row's layers put on its stages, given what each stage takes for each number of layers: pure arithmetic."""

from __future__ import annotations

import math

import numpy as np

from planner.problem.layouts import Floats, Ints


def slowest(seconds: Floats, counts: Ints, total: int) -> float:
    """The least time limit under which each stage holds some layers that it may have, and together they hold all."""
    values = np.unique(seconds[np.isfinite(seconds)])
    values = values[values >= seconds.min(axis=1).max()]
    low, high = 0, len(values) - 1
    if high < 0 or held_within(seconds, counts, float(values[-1])).sum() < total:
        return math.inf
    while low < high:
        middle = (low + high) // 2
        if held_within(seconds, counts, float(values[middle])).sum() >= total:
            high = middle
        else:
            low = middle + 1
    return float(values[low])


def traded(
    seconds: Floats,
    counts: Ints,
    least: Ints,
    total: int,
    limit: float,
    layer: Floats,
    weights: tuple[float, float],
) -> tuple[float, Ints | None]:
    """(least of slowest stage and sum over layers together, the split that has it where stages differ in speed).

    Where a layer takes as long on every stage the sum does not depend on the split. Otherwise a slower slowest
    stage may pay: for each limit the sum is least with as many layers as fit on the fastest stages.
    """
    heavy, light = weights
    least_sum = float(layer.min()) * total
    if layer.max() <= layer.min() * (1 + 1e-12):
        return heavy * limit + light * least_sum, None
    values = np.unique(seconds[np.isfinite(seconds)])
    best, split = math.inf, None
    order = np.argsort(layer, kind="stable")
    for allowed in values[values >= limit].tolist():
        if heavy * allowed + light * least_sum >= best:
            break
        most, layers, left = held_within(seconds, counts, allowed), least.copy(), total - int(least.sum())
        for stage in order.tolist():
            more = min(left, int(most[stage] - layers[stage]))
            layers[stage] += max(more, 0)
            left -= max(more, 0)
        spent = heavy * allowed + light * float((layer * layers).sum())
        if left == 0 and spent < best:
            best, split = spent, layers
    whole = split is not None and bool(np.isin(split, counts).all())
    return (best if math.isfinite(best) else heavy * limit + light * least_sum), split if whole else None


def lightened(seconds: Floats, counts: Ints, total: int, limit: float) -> Ints | None:
    """As many layers as stages hold within the limit, less what is too much, off the slowest stage each time."""
    most = held_within(seconds, counts, limit)
    if not most.all():
        return None
    place, rows = np.searchsorted(counts, most), np.arange(len(most))
    while counts[place].sum() > total:
        fewer = np.isfinite(seconds[rows, np.maximum(place - 1, 0)]) & (place > 0)
        if not fewer.any():
            return None
        place[int(np.where(fewer, seconds[rows, place], -math.inf).argmax())] -= 1
    layers = counts[place]
    return layers if layers.sum() == total else None


def assign(seconds: Floats, needed: Ints, counts: Ints, least: Ints, total: int, limit: float) -> Ints | None:
    """A split within the limit with few recomputed layers, greedily; None where chunks do not add up."""
    layers, most = least.copy(), held_within(seconds, counts, limit)
    if np.any(most < least):
        return None
    rows = np.arange(len(layers))
    while layers.sum() < total:
        place = np.searchsorted(counts, layers)
        after = np.minimum(place + 1, len(counts) - 1)
        extra = (needed[rows, after] - needed[rows, place]).astype(float)
        pressure = extra + seconds[rows, after] / max(limit, 1e-12) * 1e-3
        pressure[layers >= most] = math.inf
        pick = int(pressure.argmin())
        if not math.isfinite(pressure[pick]):
            return None
        layers[pick] = counts[after[pick]]
    return layers if layers.sum() == total else None


def held_within(seconds: Floats, counts: Ints, limit: float) -> Ints:
    """Most layers that each stage holds within a time limit (0 where none)."""
    inside = seconds <= limit
    last = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    return np.where(inside.any(axis=1), counts[last], 0)
