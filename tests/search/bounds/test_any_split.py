"""Whether any split fits: by memory alone the same answer as by every split, and as the whole search gives."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from random_problems import random_case

from planner.analysis.infeasible.feasible import fits
from planner.inputs.catalog import default_catalog
from planner.inputs.document import override
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import is_free
from planner.search.bounds.any_split import adds_up, adds_up_alike
from planner.search.search import search

SHARES = (0.02, 0.1, 0.25, 0.5)
"""Of a GPU's memory that must stay free, so that some random problems just fit."""


@pytest.mark.parametrize("seed", range(3))
def test_reachable_sums_are_those_of_every_choice(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        stages, counts = rng.randint(1, 5), np.arange(1, rng.randint(3, 6))
        table = np.array([[rng.random() < 0.5 for _ in counts] for _ in range(stages)])
        total, largest = rng.randint(stages, 4 * stages), rng.choice([None, None, 2, 3, 4])
        splits = [
            split
            for split in itertools.product(*(counts[row].tolist() for row in table))
            if sum(split) == total and (largest is None or max(split) >= largest)
        ]
        assert adds_up(table, counts, total, largest) == bool(splits)
        alike = [split for split in splits if len(set(split[1:-1])) <= 1]
        assert adds_up_alike(table, counts, total, largest) == bool(alike)


def tight(seed: int) -> Question:
    """A random problem whose stages may differ, with too little memory or hardly enough."""
    case = random_case(seed, most_points=2000)
    headroom = case.question().first.usable_gib * SHARES[seed % len(SHARES)]
    changes = {"limits.headroom_gib": headroom, "layout.layers_per_stage": "auto"}
    return question_of(override(case.question().document, changes), default_catalog())


def test_what_fits_by_memory_alone_is_what_the_search_finds() -> None:
    answers = []
    for seed in range(12):
        question = tight(seed)
        found = search(question, check_points=0).plan is not None
        assert fits(question, exactly=True) == found, seed
        answers.append((found, any(map(is_free, question.problems))))
    assert {(True, True), (False, True)} <= set(answers)
