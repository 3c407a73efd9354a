"""The layout that needs least memory, where layers do not divide by the stages."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from memory_problems import CATALOG, scenario

from planner.costs.coefficients import RowCosts
from planner.inputs.document import document_of
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import nearly_even_layers
from planner.search.least_memory import least_memory
from planner.search.space import build_space


def question(**changes: Any) -> Question:
    layout = {"tensor_parallel": 1, "context_parallel": 1, "recomputed_layers": 0} | changes.pop("layout", {})
    machines = {"node": "hgx-h100-8", "num_gpus": 8}
    return question_of(document_of(scenario(cluster=machines, layout=layout, **changes)), CATALOG)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (4, [[8, 8, 8, 8]]),
        (5, [[7, 7, 6, 6, 6], [6, 6, 6, 7, 7], [6, 6, 7, 7, 6]]),
        (7, [[5, 5, 5, 5, 4, 4, 4], [4, 4, 4, 5, 5, 5, 5], [4, 4, 5, 5, 5, 5, 4]]),
    ],
)
def test_free_stages_differ_by_one_layer(stages: int, expected: list[list[int]]) -> None:
    asked = question()
    layouts = build_space(asked).layouts.take(np.zeros(1, dtype=int))
    layouts.pipeline_parallel[:] = stages
    layouts.virtual_pipeline[:] = 1
    splits = nearly_even_layers(asked.first, layouts, stages)
    assert sorted({tuple(map(int, split[0])) for split in splits}) == sorted(map(tuple, expected))


def test_the_best_of_all_splits_that_differ_by_one_layer_is_hardly_better() -> None:
    """Each split with stages that differ by one layer, by the costs of the row itself."""
    asked = question(model="qwen2.5-7b", layout={"pipeline_parallel": 8, "virtual_pipeline": 1})
    space = build_space(asked)
    costs = RowCosts(asked, space.layouts)
    least = least_memory(asked, space)
    assert least is not None
    assert sorted(least.layers) == [3, 3, 3, 3, 4, 4, 4, 4]
    peaks = []
    for row, stages in enumerate(space.layouts.pipeline_parallel.tolist()):
        each, over = divmod(28, stages)
        for more in itertools.combinations(range(stages), over):
            layers = np.zeros((1, costs.stages), dtype=np.int64)
            layers[0, :stages] = each
            layers[0, list(more)] += 1
            peaks.append(float(costs.peak_bytes(np.array([row]), layers, layers * 0)[0]))
    assert least.peak_gib * 2**30 == pytest.approx(min(peaks), rel=0.02)
