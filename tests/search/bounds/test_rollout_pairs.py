"""Rollout choices beside layouts: the fastest step that each layout can be part of, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np

from planner.search.bounds.rollout_pairs import RolloutPairs, fitting_choices


class Columns(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.variant)


def columns(**values: list[int]) -> Any:
    return Columns(**{name: np.array(value, dtype=np.int64) for name, value in values.items()})


def rounded(
    seconds: list[float], least: list[float], memory: list[int], training_gpus: list[int], limit: int = 100
) -> Any:
    """Three layouts, two on 4 GPUs and one on 8, beside these choices."""
    layouts = columns(variant=[0, 0, 0], num_gpus=[4, 4, 8], wish=[0, 0, 0])
    count = len(seconds)
    choices = columns(variant=[0] * count, training_gpus=training_gpus, wish=[0] * count)
    rollouts = SimpleNamespace(choices=choices, seconds=np.array(seconds), least_seconds=np.array(least))
    costs = SimpleNamespace(layouts=layouts)
    return SimpleNamespace(costs=costs, rollouts=rollouts, choice_memory=np.array(memory), limit=limit, offers={})


def test_without_a_rollout_engine_training_is_the_step() -> None:
    layouts = columns(variant=[0], num_gpus=[4], wish=[0])
    pairs = RolloutPairs(SimpleNamespace(costs=SimpleNamespace(layouts=layouts), rollouts=None))  # type: ignore[arg-type]
    assert pairs.step(np.array([3.0])).tolist() == [3.0]
    assert pairs.of(0, 3.0) == 3.0


def test_the_fastest_choice_on_the_same_gpus_is_added() -> None:
    """7 s and 5 s beside 4 GPUs, 2 s beside 8."""
    pairs = RolloutPairs(rounded([7.0, 5.0, 2.0], [0.0, 0.0, 0.0], [1, 1, 1], [4, 4, 8]))
    assert pairs.step(np.array([10.0, 20.0, 30.0])).tolist() == [15.0, 25.0, 32.0]
    assert [pairs.of(row, 1.0) for row in range(3)] == [6.0, 6.0, 3.0]


def test_a_layout_without_a_choice_that_fits_has_no_step() -> None:
    given = rounded([7.0, 2.0], [0.0, 0.0], [1, 101], [4, 8])
    assert fitting_choices(given).tolist() == [True, False]
    pairs = RolloutPairs(given)
    assert pairs.exists.tolist() == [True, True, False]
    assert pairs.step(np.array([1.0, 1.0, 1.0])).tolist() == [8.0, 8.0, math.inf]
    assert pairs.of(2, 1.0) == math.inf


def test_memory_held_back_takes_choices_away() -> None:
    given = rounded([7.0, 5.0], [0.0, 0.0], [50, 90], [4, 4])
    assert RolloutPairs(given).of(0, 0.0) == 5.0
    assert RolloutPairs(given, held_back=10).of(0, 0.0) == 5.0
    assert RolloutPairs(given, held_back=11).of(0, 0.0) == 7.0


def test_generation_beside_training_is_a_floor_and_not_an_addition() -> None:
    """Asynchronous: nothing is added, and no step is shorter than generation."""
    pairs = RolloutPairs(rounded([0.0, 1.0], [12.0, 4.0], [1, 1], [4, 4]))
    assert [pairs.of(0, training) for training in (2.0, 8.0, 20.0)] == [4.0, 9.0, 20.0]
    assert pairs.step(np.array([2.0, 8.0, 1.0])).tolist() == [4.0, 9.0, math.inf]


def test_some_rows_only() -> None:
    pairs = RolloutPairs(rounded([7.0, 2.0], [0.0, 0.0], [1, 1], [4, 8]), rows=np.array([2, 0]))
    assert pairs.step(np.array([1.0, 1.0])).tolist() == [3.0, 8.0]


def test_the_fastest_of_all_choices_whatever_the_training_takes() -> None:
    """Choices that add little and wait long, or the other way round: none that may be the fastest is passed over."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        count = int(rng.integers(1, 6))
        added, least = rng.integers(0, 4, count) / 100, 1 + rng.integers(0, 8, count) / 200
        pairs = RolloutPairs(rounded(added.tolist(), least.tolist(), [1] * count, [4] * count))
        for training in (0.0, 1.0, 1.02, 1.035, 2.0):
            truth = min(max(training + a, b) for a, b in zip(added.tolist(), least.tolist(), strict=True))
            assert pairs.step(np.full(3, training)).tolist() == [truth, truth, math.inf]
            assert pairs.of(1, training) == truth
