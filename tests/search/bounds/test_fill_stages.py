"""Layers put on the stages of one row: limits and sums against every split of small tables, with holes and without."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from planner.problem.layouts import Floats, Ints
from planner.search.bounds.fill_stages import assign, held_within, lightened, slowest, traded

TRIED = 60
"""Tables of each kind."""


def tables(*, holes: bool) -> Iterator[tuple[Floats, Ints, Floats, int, list[tuple[int, ...]]]]:
    """(seconds by stage and count, counts, seconds of a layer, all layers, every split that each stage may have).

    Seconds rise with layers, and a stage has a largest number; with `holes` some numbers below it are impossible too.
    """
    rng = np.random.default_rng(7 + holes)
    for number in range(TRIED):
        stages, counts = int(rng.integers(1, 5)), np.arange(1, int(rng.integers(2, 7)) + 1)
        layer = rng.choice([1.0, 1.5, 2.0], stages) if number % 3 else np.full(stages, 1.5)
        more = np.sort(rng.choice([0.0, 0.0, 0.4, 1.0], (stages, len(counts))), axis=1).cumsum(axis=1)
        seconds = layer[:, None] * counts + more + rng.choice([0.0, 2.5], (stages, 1))
        seconds[counts > rng.integers(1, len(counts) + 1, (stages, 1))] = math.inf
        if holes:
            seconds[rng.random(seconds.shape) < 0.25] = math.inf
        total = int(rng.integers(stages, stages * len(counts) + 1))
        rows = range(stages)
        splits = [
            split
            for split in itertools.product(counts.tolist(), repeat=stages)
            if sum(split) == total and np.isfinite(seconds[rows, np.array(split) - 1]).all()
        ]
        yield seconds, counts, layer, total, splits


@pytest.mark.parametrize("holes", [False, True])
def test_no_split_has_a_faster_slowest_stage_or_a_lesser_sum(holes: bool) -> None:
    """Without holes both are the truth. No split that is named is one that a stage may not have."""
    seen = traded_off = named = 0
    for seconds, counts, layer, total, splits in tables(holes=holes):
        limit, rows = slowest(seconds, counts, total), np.arange(len(layer))
        spent = [max(seconds[rows, np.array(split) - 1].tolist()) for split in splits]
        truth = min(spent, default=math.inf)
        assert limit <= truth
        assert holes or limit == truth
        if not math.isfinite(limit):
            continue
        least = np.array([counts[np.isfinite(stage).argmax()] for stage in seconds])
        for heavy, light in ((1.0, 0.0), (1.0, 0.3), (1.0, 4.0)):
            bound, split = traded(seconds, counts, least, total, limit, layer, (heavy, light))
            sums = [float(layer @ split) for split in splits]
            best = min((heavy * top + light * whole for top, whole in zip(spent, sums, strict=True)), default=math.inf)
            assert bound <= best * (1 + 1e-12)
            assert holes or bound == pytest.approx(best, rel=1e-12)
            traded_off += bool(splits) and best > heavy * limit + light * float(layer.min()) * total + 1e-9
            assert split is None or holes or tuple(split.tolist()) in splits
        found = lightened(seconds, counts, total, limit)
        if found is not None:
            assert tuple(found.tolist()) in splits
            assert max(seconds[rows, found - 1].tolist()) <= limit
            named += 1
        if not holes:
            found = assign(seconds, np.zeros(seconds.shape, dtype=np.int64), counts, least, total, limit)
            assert found is not None
            assert tuple(found.tolist()) in splits
            assert max(seconds[rows, found - 1].tolist()) <= limit
        seen += 1
    assert min(seen, traded_off, named) >= 10


def test_most_layers_within_a_limit_are_those_at_the_limit_too() -> None:
    seconds = np.array([[1.0, 2.0, 3.0], [2.0, math.inf, math.inf], [math.inf] * 3])
    assert held_within(seconds, np.array([2, 4, 6]), 2.0).tolist() == [4, 2, 0]
    assert held_within(seconds, np.array([2, 4, 6]), 3.0).tolist() == [6, 2, 0]
