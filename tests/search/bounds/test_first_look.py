"""A first look at a large space: bounds of rows that recompute modules begin with those of the same rows without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.costs.coefficients import RowCosts
from planner.inputs.catalog import default_catalog
from planner.inputs.document import document_of
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.bounds.cheap import cheap_bound
from planner.search.bounds.first_look import plain_bounds
from planner.search.deadline import NO_DEADLINE
from planner.search.search import search
from planner.search.space import build_space


def question(model: str) -> Question:
    scenario = {
        "name": "look",
        "task": "pretrain",
        "model": model,
        "engine": "megatron-core",
        "precision": ["bf16", "fp8"],
        "cluster": {"node": "dgx-h100", "num_gpus": 16},
        "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": [1, 2]},
        "layout": {"tensor_parallel": [1, 2], "pipeline_parallel": [1, 2], "recompute_modules": "any"},
    }
    return question_of(document_of(scenario), default_catalog())


@pytest.mark.parametrize("model", ["llama3.1-8b", "deepseek-v2-lite"])
def test_a_row_that_recomputes_modules_is_never_faster_than_the_same_row_without(model: str) -> None:
    asked = question(model)
    layouts = build_space(asked).layouts
    bound, exact = plain_bounds(asked, layouts, NO_DEADLINE)
    own = cheap_bound(asked, RowCosts(asked, layouts))
    assert np.isfinite(bound).all()
    assert 0 < exact.sum() < len(layouts)
    np.testing.assert_array_equal(bound[exact], own[exact])
    assert (bound <= own).all()
    assert (bound < own).any()


def test_a_variant_without_its_plain_one_has_its_own_bound() -> None:
    asked = question("llama3.1-8b")
    kept = tuple(one for one in asked.problems if dict(one.settings)["layout.recompute_modules"] != "none")
    asked = replace(asked, problems=kept)
    layouts = build_space(asked).layouts
    bound, exact = plain_bounds(asked, layouts, NO_DEADLINE)
    assert exact.all()
    np.testing.assert_array_equal(bound, cheap_bound(asked, RowCosts(asked, layouts)))


@pytest.mark.parametrize("of_each", [0, 5])
def test_a_space_that_is_looked_at_first_has_the_same_plan(of_each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = question("llama3.1-8b")
    whole = search(asked, check_points=0)
    monkeypatch.setattr("planner.search.bounds.first_look.LARGE", 100)
    monkeypatch.setattr("planner.search.bounds.first_look.BLOCK", 10)
    monkeypatch.setattr("planner.search.bounds.first_look.EACH_VARIANT", of_each)
    calls: list[int] = []
    monkeypatch.setattr(
        "planner.search.bounds.first_look.plain_bounds", lambda *given: calls.append(1) or plain_bounds(*given)
    )
    looked = search(asked, check_points=0)
    assert calls
    assert whole.plan is not None
    assert looked.plan is not None
    assert (looked.status, looked.plan.layout, looked.plan.layers) == ("optimal", whole.plan.layout, whole.plan.layers)
