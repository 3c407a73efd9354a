"""Exhaustive enumeration with the float model: the same answer as the solver's, or one of them is wrong."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.evaluate import RolloutTable, RowCosts, capacity_bytes, even_layers, recompute_kind, recompute_levels
from planner.layouts import Floats, Ints
from planner.problem import Problem
from planner.tables import choice_ranks, keys, row_ranks
from planner.units import GIB

DEFAULT_POINTS = 200_000
"""Spaces up to this size are enumerated after every solve."""


@dataclass(frozen=True)
class Best:
    """The first point in the order of goals."""

    row: int
    layers: tuple[int, ...]
    recomputed: tuple[int, ...]
    choice: int | None
    seconds: float
    headroom_bytes: float


@dataclass(frozen=True)
class Points:
    """Splits of one row, all of them: shape [points, stages]."""

    row: int
    layers: Ints
    recomputed: Ints


def _compositions(total: int, parts: int, step: int) -> Iterator[tuple[int, ...]]:
    """Ordered ways to write `total` as `parts` positive multiples of `step`."""
    if parts == 1:
        if total >= step and total % step == 0:
            yield (total,)
        return
    for first in range(step, total - step * (parts - 1) + 1, step):
        for rest in _compositions(total - first, parts - 1, step):
            yield (first, *rest)


def count_points(problem: Problem, costs: RowCosts, rollouts: RolloutTable | None) -> int:
    """Points of the space: rows times splits times recomputed layers, and rollout choices beside them."""
    spec = problem.scenario.layout
    layers = problem.architecture.num_hidden_layers
    free, per_stage = spec.layers_per_stage == "free", spec.recompute == "per_stage"
    lay = costs.layouts
    beside: dict[int, int] = {}
    if rollouts is not None:
        for key in keys(rollouts.choices.num_gpus, rollouts.choices.wish).tolist():
            beside[key] = beside.get(key, 0) + 1
    points = 0
    shapes = np.stack([lay.pipeline_parallel, lay.virtual_pipeline, keys(lay.num_gpus, lay.wish)], axis=1)
    unique, counts = np.unique(shapes, axis=0, return_counts=True)
    for (stages, chunks, key), rows in zip(unique.tolist(), counts.tolist(), strict=True):
        splits = math.comb(max(0, layers // chunks - 1), stages - 1) if free else 1
        most = layers - stages + 1 if free else -(-layers // stages)
        levels = len(recompute_levels(problem, most))
        each = levels ** (stages if per_stage else 1)
        points += rows * splits * each * (beside.get(key, 0) if rollouts is not None else 1)
    return points


def _splits(problem: Problem, costs: RowCosts, row: int) -> Points:
    spec = problem.scenario.layout
    stages, chunks = int(costs.layouts.pipeline_parallel[row]), int(costs.layouts.virtual_pipeline[row])
    total = problem.architecture.num_hidden_layers
    dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
    if spec.layers_per_stage == "free":
        options = [c for c in _compositions(total, stages, chunks) if c[0] >= dense]
    else:
        options = [tuple(int(n) for n in even_layers(problem, costs.layouts.take(row), stages)[0])]
    layers, recomputed = [], []
    for split in options:
        for levels in _levels(problem, split):
            layers.append(split)
            recomputed.append(levels)
    shape = (len(layers), stages)
    width = ((0, 0), (0, costs.stages - stages))
    return Points(
        row,
        np.pad(np.array(layers, dtype=np.int64).reshape(shape), width),
        np.pad(np.array(recomputed, dtype=np.int64).reshape(shape), width),
    )


def _levels(problem: Problem, split: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Recomputed layers of each stage that the scenario and the engine allow for one split."""
    spec = problem.scenario.layout
    if recompute_kind(problem) == "all":
        yield split
    elif spec.recompute == "per_stage":
        yield from itertools.product(*(recompute_levels(problem, n) for n in split))
    elif spec.layers_per_stage == "free":
        for level in recompute_levels(problem, min(split)):
            yield (level,) * len(split)
    else:
        for level in recompute_levels(problem, max(split)):
            yield tuple(min(level, n) for n in split)


def enumerate_best(problem: Problem, costs: RowCosts, rollouts: RolloutTable | None) -> Best | None:
    """The best point of the whole space by the order of goals, in floats; None where nothing fits."""
    limit = capacity_bytes(problem) - problem.headroom_gib * GIB
    ranks, order = row_ranks(costs), choice_ranks(rollouts) if rollouts is not None else None
    lay = costs.layouts
    row_keys = keys(lay.num_gpus, lay.wish)
    batches = []
    for row in range(len(lay)):
        points = _splits(problem, costs, row)
        if not len(points.layers):
            continue
        where = np.full(len(points.layers), row)
        peak = costs.peak_bytes(where, points.layers, points.recomputed)
        fits = peak <= limit
        if fits.any():
            seconds = costs.step_seconds(where[fits], points.layers[fits], points.recomputed[fits])
            batches.append((row, points.layers[fits], points.recomputed[fits], peak[fits], seconds))
    if not batches:
        return None
    by_key: dict[int, Ints] = {}
    if rollouts is not None:
        choice_keys = keys(rollouts.choices.num_gpus, rollouts.choices.wish)
        for key in np.unique(choice_keys).tolist():
            by_key[key] = np.flatnonzero((choice_keys == key) & (rollouts.peak_bytes <= limit))
    for wish in sorted({int(lay.wish[row]) for row, *_ in batches}):
        found = _best_of(
            problem, costs, rollouts, [b for b in batches if lay.wish[b[0]] == wish], by_key, row_keys, ranks, order
        )
        if found is not None:
            return found
    return None


def _best_of(
    problem: Problem,
    costs: RowCosts,
    rollouts: RolloutTable | None,
    batches: list[tuple[int, Ints, Ints, Floats, Floats]],
    by_key: dict[int, Ints],
    row_keys: Ints,
    ranks: Ints,
    order: Ints | None,
) -> Best | None:
    """The best point among rows with the same wishes."""
    least = math.inf
    for row, _, _, _, seconds in batches:
        extra = 0.0
        if rollouts is not None:
            beside = by_key.get(int(row_keys[row]), np.zeros(0, dtype=np.int64))
            if not len(beside):
                continue
            extra = float(rollouts.seconds[beside].min())
        least = min(least, float(seconds.min()) + extra)
    if not math.isfinite(least):
        return None
    within = least * (1 + problem.scenario.search.near_tie)
    capacity = capacity_bytes(problem)
    best: tuple[tuple[object, ...], Best] | None = None
    for row, layers, recomputed, peak, seconds in batches:
        beside = by_key.get(int(row_keys[row]), np.zeros(0, dtype=np.int64)) if rollouts is not None else np.array([-1])
        for j in beside.tolist():
            extra = float(rollouts.seconds[j]) if rollouts is not None else 0.0
            awake = float(rollouts.peak_bytes[j]) if rollouts is not None else 0.0
            near = np.flatnonzero(seconds + extra <= within)
            if not len(near):
                continue
            stages = int(costs.layouts.pipeline_parallel[row])
            free = np.minimum(capacity - peak[near], capacity - awake)
            top = near[free >= free.max()]
            for point in top.tolist():
                split = tuple(int(n) for n in layers[point, :stages])
                again = tuple(int(n) for n in recomputed[point, :stages])
                headroom = float(min(capacity - peak[point], capacity - awake))
                uneven = int(len(set(split)) > 1)
                goal = (
                    -round(headroom),
                    int(costs.simplicity[row]) + uneven,
                    int(ranks[row]),
                    again,
                    split,
                    int(order[j]) if order is not None else 0,
                )
                if best is None or goal < best[0]:
                    found = Best(
                        row,
                        split,
                        again,
                        j if rollouts is not None else None,
                        float(seconds[point]) + extra,
                        headroom,
                    )
                    best = (goal, found)
    return best[1] if best is not None else None
