"""Exhaustive enumeration: the same answer as the solver's, or one of them is wrong.

Points are compared in floats, or on the solver's grid of integers (`Rounded`), where no tie is decided by rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts, capacity_bytes
from planner.errors import InternalError
from planner.problem.layouts import Floats, Ints, Layouts, distinct
from planner.problem.problem import Problem, Question
from planner.problem.stage_choices import (
    even_layers,
    even_middle,
    is_free,
    layer_step,
    prefers_even,
    recompute_kind,
    recompute_levels,
)
from planner.search.grid import HEADROOM_STEP_BYTES, Rounded, limit_bytes, slowest_near_tie
from planner.search.plan import Plan
from planner.search.tables import choice_keys, choice_ranks, row_keys, row_ranks

DEFAULT_POINTS = 200_000
"""Spaces up to this size are enumerated after every solve."""
POINTS_AT_ONCE = 10_000
FLOAT_NOISE = 1e-12
"""Sums of the same seconds in another order may differ by this share."""


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
class _Batch:
    """The points of one row that fit; memory and time in floats, or in units of the grid."""

    row: int
    layers: Ints
    recomputed: Ints
    peak: Floats
    spent: Floats


def _compositions(total: int, parts: int, least: int, step: int) -> Iterator[tuple[int, ...]]:
    """Ordered ways to write `total` as `parts` multiples of `step`, none below `least`, itself a multiple."""
    if parts == 1:
        if total >= least and total % step == 0:
            yield (total,)
        return
    for first in range(least, total - least * (parts - 1) + 1, step):
        for rest in _compositions(total - first, parts - 1, least, step):
            yield (first, *rest)


def count_points(question: Question, costs: RowCosts, rollouts: RolloutTable | None) -> int:
    """Points of the space: rows times splits times recomputed layers, and rollout choices beside them."""
    lay = costs.layouts
    beside: dict[int, int] = {}
    if rollouts is not None:
        for key in choice_keys(rollouts.choices).tolist():
            beside[key] = beside.get(key, 0) + 1
    points = 0
    keys, of_row = np.unique(row_keys(lay), return_inverse=True)
    shapes, kind = distinct(lay.pipeline_parallel, lay.virtual_pipeline, lay.variant, of_row.reshape(-1))
    sizes: dict[tuple[int, int, Hashable], int] = {}
    for (stages, chunks, variant, key), rows in zip(shapes, np.bincount(kind).tolist(), strict=True):
        shape = (stages, chunks, _told(question.problems[variant]))
        if shape not in sizes:
            sizes[shape] = _count_splits(question.problems[variant], stages, chunks)
        points += rows * sizes[shape] * (beside.get(int(keys[key]), 0) if rollouts is not None else 1)
    return points


def _told(problem: Problem) -> Hashable:
    """What scenario and engine say of layers and recomputed layers: variants that say the same have as many splits."""
    spec, offered = problem.scenario.layout, problem.engine.recompute
    return str([spec.recompute, spec.recompute_method, spec.recomputed_layers, spec.layers_per_stage, offered])


def _count_splits(problem: Problem, stages: int, chunks: int) -> int:
    """Splits of layers over stages, each with its numbers of recomputed layers."""
    spec, total = problem.scenario.layout, problem.architecture.num_hidden_layers
    every = recompute_kind(problem) == "all"

    @cache
    def levels(layers: int) -> int:
        return 1 if every else len(recompute_levels(problem, layers, chunks))

    if not is_free(problem):
        split = spec.layers_per_stage if isinstance(spec.layers_per_stage, list) else [total // stages] * stages
        return math.prod(map(levels, split)) if spec.recompute == "per_stage" else levels(max(split))
    step = layer_step(problem, chunks)
    parts, dense, least = total // step, -(-_leading_dense(problem) // step), chunks // step
    if total % step:
        return 0
    if even_middle(problem) and stages > 3:
        return _count_even_middle(problem, stages, chunks, levels)
    if spec.recompute == "per_stage":
        weights = (levels(k * step) if k >= least else 0 for k in range(parts + 1))
        return _ways(parts, stages, dense, tuple(weights))
    upto = _upto(parts, stages, max(dense, least), least)
    largest = ((most, upto[most] - upto[most - 1]) for most in range(1, parts + 1))
    return sum(splits * levels(most * step) for most, splits in largest if splits)


@lru_cache(maxsize=20_000)
def _upto(parts: int, stages: int, first: int, least: int) -> tuple[int, ...]:
    """Splits into stages of at most so many chunks, for each number up to all."""
    return tuple(_between(parts, stages, first, least, most) for most in range(parts + 1))


def _between(parts: int, stages: int, first: int, least: int, most: int) -> int:
    """Splits of `parts` chunks into stages of `least` to `most`, the first stage of at least `first`."""
    rest = stages - 1

    def any_size(left: int) -> int:
        return math.comb(left + rest, rest) if left >= 0 else 0

    if most < first:
        return 0
    left = parts - first - rest * least
    # Inclusion and exclusion of the stages that hold more than the most.
    sizes = ((j, left - j * (most - least + 1)) for j in range(rest + 1))
    return sum((-1) ** j * math.comb(rest, j) * (any_size(n) - any_size(n - (most - first + 1))) for j, n in sizes)


@lru_cache(maxsize=20_000)
def _ways(parts: int, stages: int, dense: int, weights: tuple[int, ...]) -> int:
    """Sum over splits of `parts` chunks into stages of the product of their weights; weights[k] is that of k chunks.

    The first stage holds at least `dense` chunks.
    """
    # Coefficients of a polynomial, packed into one integer: a power of it is one big multiplication.
    bits = stages * max(1, sum(weights)).bit_length() + 1
    mask, packed = (1 << bits * (parts + 1)) - 1, sum(w << bits * k for k, w in enumerate(weights))
    product = sum(w << bits * k for k, w in enumerate(weights) if k >= dense)
    rest = stages - 1
    while rest:
        if rest & 1:
            product = product * packed & mask
        packed, rest = packed * packed & mask, rest >> 1
    return product >> bits * parts & ((1 << bits) - 1)


def _count_even_middle(problem: Problem, stages: int, chunks: int, levels: Callable[[int], int]) -> int:
    """Splits in which only the first and the last stage may differ, each with its numbers of recomputed layers."""
    total, points = problem.architecture.num_hidden_layers, 0
    each_stage = problem.scenario.layout.recompute == "per_stage"
    step = layer_step(problem, chunks)
    for middle in range(chunks, total // (stages - 2) + 1, step):
        for first in range(max(chunks, _leading_dense(problem)), total - (stages - 2) * middle, 1):
            last = total - (stages - 2) * middle - first
            if first % step or last % step or last < chunks:
                continue
            inner = levels(middle) ** (stages - 2)
            points += levels(first) * inner * levels(last) if each_stage else levels(max(first, middle, last))
    return points


def _leading_dense(problem: Problem) -> int:
    return problem.parameters.num_dense_layers if problem.architecture.is_moe else 0


def _splits(question: Question, costs: RowCosts, row: int) -> tuple[Ints, Ints]:
    """All (layers, recomputed layers) of one row, each of shape [points, stages]; alike in all rows of its kind."""
    stages, chunks = int(costs.layouts.pipeline_parallel[row]), int(costs.layouts.virtual_pipeline[row])
    problem = question.problems[int(costs.layouts.variant[row])]
    total = problem.architecture.num_hidden_layers
    if is_free(problem):
        dense, step = _leading_dense(problem), layer_step(problem, chunks)
        options = [c for c in _compositions(total, stages, chunks, step) if c[0] >= dense]
        if even_middle(problem):
            options = [c for c in options if len(set(c[1:-1])) <= 1]
    else:
        options = [tuple(int(n) for n in even_layers(problem, costs.layouts.take(row), stages)[0])]
    points = [(split, levels) for split in options for levels in _levels(problem, split, chunks)]
    both = np.zeros((len(points), 2, costs.stages), dtype=np.int64)
    if points:
        both[:, :, :stages] = points
    return both[:, 0], both[:, 1]


def _levels(problem: Problem, split: tuple[int, ...], chunks: int) -> Iterator[tuple[int, ...]]:
    """Recomputed layers of each stage that the scenario and the engine allow for one split."""
    if recompute_kind(problem) == "all":
        yield split
    elif problem.scenario.layout.recompute == "per_stage":
        yield from itertools.product(*(recompute_levels(problem, n, chunks) for n in split))
    else:
        for level in recompute_levels(problem, max(split), chunks):
            yield tuple(min(level, n) for n in split)


def enumerate_best(
    question: Question, costs: RowCosts, rollouts: RolloutTable | None, grid: Rounded | None = None
) -> Best | None:
    """The best point of the whole space by the order of goals; None where nothing fits.

    With a grid, points are compared in its integers, and every point's integers are held against its floats.
    """
    batches = list(_fitting(question, costs, grid))
    wishes = costs.layouts.wish
    for wish in sorted({int(wishes[batch.row]) for batch in batches}):
        found = _best_of(question, costs, rollouts, grid, [b for b in batches if wishes[b.row] == wish])
        if found is not None:
            return found
    return None


def _fitting(question: Question, costs: RowCosts, grid: Rounded | None) -> Iterator[_Batch]:
    """The points of each row that fit, several rows costed at once."""
    for rows, parts in _gathered(question, costs):
        where = np.repeat(rows, [len(layers) for layers, _ in parts])
        layers, recomputed = (np.concatenate(each) for each in zip(*parts, strict=True))
        if grid is None:
            peak, limit = costs.peak_bytes(where, layers, recomputed), limit_bytes(question)
        else:
            grid.agree(where, layers, recomputed)
            peak, limit = grid.peak(where, layers, recomputed), float(grid.limit)
        fits = np.flatnonzero(peak <= limit)
        point = where[fits], layers[fits], recomputed[fits]
        spent = costs.step_seconds(*point) if grid is None else grid.step(*point)
        starts = np.searchsorted(point[0], rows[1:])
        cut = (np.split(each, starts) for each in (*point[1:], peak[fits], spent))
        yield from (_Batch(row, *each) for row, *each in zip(rows, *cut, strict=True) if len(each[0]))


def _gathered(question: Question, costs: RowCosts) -> Iterator[tuple[list[int], list[tuple[Ints, Ints]]]]:
    """(rows, the layers and recomputed layers of all points of each), as many rows as make enough points."""
    known: dict[Hashable, tuple[Ints, Ints]] = {}
    rows: list[int] = []
    points, lay = 0, costs.layouts
    kinds = list(zip(*(c.tolist() for c in (lay.variant, lay.pipeline_parallel, lay.virtual_pipeline)), strict=True))
    for row, kind in enumerate(kinds):
        if kind not in known:
            known[kind] = _splits(question, costs, row)
        points += len(known[kind][0])
        rows += [row] * bool(len(known[kind][0]))
        if rows and (points >= POINTS_AT_ONCE or row == len(kinds) - 1):
            yield rows, [known[kinds[each]] for each in rows]
            rows, points = [], 0


@dataclass(frozen=True)
class _Choices:
    """Rollout choices that fit, by key; memory and time as in `_Batch`."""

    by_key: dict[int, list[int]]
    peak: Floats
    spent: Floats
    least: Floats
    ranks: Ints


def _choices(question: Question, rollouts: RolloutTable | None, grid: Rounded | None) -> _Choices | None:
    if rollouts is None:
        return None
    if grid is None:
        peak, spent, least = rollouts.peak_bytes, rollouts.seconds, rollouts.least_seconds
        limit = limit_bytes(question)
    else:
        peak, spent, least, limit = grid.choice_memory, grid.choice_time, grid.choice_least, float(grid.limit)
    by_key: dict[int, list[int]] = {}
    for place, key in enumerate(choice_keys(rollouts.choices).tolist()):
        if peak[place] <= limit:
            by_key.setdefault(key, []).append(place)
    return _Choices(by_key, peak, spent, least, choice_ranks(rollouts))


def _best_of(
    question: Question, costs: RowCosts, rollouts: RolloutTable | None, grid: Rounded | None, batches: list[_Batch]
) -> Best | None:
    """The best point among rows with the same wishes."""
    lay, ranks, choices = costs.layouts, row_ranks(costs), _choices(question, rollouts, grid)
    shared = row_keys(lay)
    pairs = [
        (batch, place)
        for batch in batches
        for place in ([None] if choices is None else choices.by_key.get(int(shared[batch.row]), []))
    ]
    if not pairs:
        return None

    def beside(place: int | None) -> tuple[float, float, float]:
        """(added time, least time of the step, memory) of a rollout choice."""
        if place is None or choices is None:
            return 0, 0, 0
        return choices.spent[place].item(), choices.least[place].item(), choices.peak[place].item()

    def fastest(batch: _Batch, place: int | None) -> float:
        added, alone, _ = beside(place)
        return max(float(batch.spent.min()) + added, alone)

    least = min(fastest(batch, place) for batch, place in pairs)
    within = slowest_near_tie(least, question.scenario.search.near_tie) * (1 if grid is not None else 1 + FLOAT_NOISE)
    limit, step = (limit_bytes(question), HEADROOM_STEP_BYTES) if grid is None else (grid.limit, grid.headroom_step)
    best: tuple[tuple[object, ...], _Batch, int, int | None] | None = None
    banded = [(batch, place, _near(batch, beside(place), within)) for batch, place in pairs]
    if prefers_even(question.first):
        even = [(batch, place, near[_is_even(batch, near, lay)]) for batch, place, near in banded]
        banded = even if any(len(near) for _, _, near in even) else banded
    for batch, place, near in banded:
        awake = beside(place)[2]
        if not len(near):
            continue
        steps = ((limit - np.maximum(batch.peak[near], awake)) // step).astype(np.int64)
        stages = int(lay.pipeline_parallel[batch.row])
        for point in near[steps >= steps.max()].tolist():
            split, again = (tuple(part[point, :stages].tolist()) for part in (batch.layers, batch.recomputed))
            goal = (
                -int(steps.max()),
                int(costs.simplicity[batch.row]) + int(len(set(split)) > 1),
                int(ranks[batch.row]),
                again,
                split,
                0 if place is None or choices is None else int(choices.ranks[place]),
            )
            if best is None or goal < best[0]:
                best = (goal, batch, point, place)
    return _described(question, costs, rollouts, *best[1:]) if best is not None else None


def _near(batch: _Batch, beside: tuple[float, float, float], within: float) -> Ints:
    """Points of a row that lie in the near-tie band with a rollout choice."""
    extra, alone, _ = beside
    return np.flatnonzero(np.maximum(batch.spent + extra, alone) <= within)


def _is_even(batch: _Batch, points: Ints, layouts: Layouts) -> np.ndarray:
    """Which of these points of a row have as many layers on each stage."""
    layers = batch.layers[points, : int(layouts.pipeline_parallel[batch.row])]
    return np.asarray((layers == layers[:, :1]).all(axis=1))


def _described(
    question: Question, costs: RowCosts, rollouts: RolloutTable | None, batch: _Batch, point: int, place: int | None
) -> Best:
    """A point with its float costs."""
    stages = int(costs.layouts.pipeline_parallel[batch.row])
    one = np.array([batch.row]), batch.layers[[point]], batch.recomputed[[point]]
    seconds, used = float(costs.step_seconds(*one)[0]), float(costs.peak_bytes(*one)[0])
    if rollouts is not None and place is not None:
        seconds = max(seconds + float(rollouts.seconds[place]), float(rollouts.least_seconds[place]))
        used = max(used, float(rollouts.peak_bytes[place]))
    return Best(
        batch.row,
        tuple(batch.layers[point, :stages].tolist()),
        tuple(batch.recomputed[point, :stages].tolist()),
        place,
        seconds,
        capacity_bytes(question) - used,
    )


def agrees(costs: RowCosts, rollouts: RolloutTable | None, plan: Plan | None, best: Best | None) -> bool:
    """Is what enumeration found the solver's plan, every decision of it."""
    if plan is None or best is None:
        return plan is None and best is None
    same = costs.layouts.row(best.row) == plan.layout and best.layers == plan.layers
    same = same and best.recomputed == plan.recomputed
    if rollouts is not None and best.choice is not None and plan.rollout is not None:
        chosen = rollouts.choices.take(best.choice)
        same = same and int(chosen.tensor_parallel[0]) == plan.rollout.tensor_parallel
        same = same and float(chosen.gpu_memory_utilization[0]) == plan.rollout.gpu_memory_utilization
        same = same and int(chosen.num_gpus[0]) == plan.rollout.num_gpus
        same = same and plan.rollout.max_concurrency in (None, int(chosen.max_concurrency[0]))
    return same


def refuse_disagreement(costs: RowCosts, rollouts: RolloutTable | None, plan: Plan | None, best: Best | None) -> None:
    """Raise InternalError where enumeration and solver disagree."""
    if agrees(costs, rollouts, plan, best):
        return
    if plan is None or best is None:
        found = (plan is not None, best is not None)
        raise InternalError(f"solver and enumeration disagree whether a plan fits: {found}")
    raise InternalError(
        f"solver and enumeration disagree: {plan.layout} {plan.layers} {plan.recomputed} {plan.rollout}, "
        f"{plan.step_seconds:.6f} s, {plan.headroom_gib:.4f} GiB free, against {costs.layouts.row(best.row)} "
        f"{best.layers} {best.recomputed}, {best.seconds:.6f} s, {best.headroom_bytes / 2**30:.4f} GiB free"
    )
