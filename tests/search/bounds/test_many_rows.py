"""Spaces gone through part by part give the answer of those costed at once, and say what they could not look at."""

from __future__ import annotations

import pytest

from planner.inputs import pipes
from planner.inputs.document import load
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search import in_time
from planner.search.bounds import many_rows
from planner.search.search import Outcome, search

FEW = ("layout.tensor_parallel=[2, 4]", "layout.optimizer_offload=false", "batch.max_tokens_per_gpu=9216")
QUESTIONS = {
    "two pools": ("qwen7b_rl_two_pools", *FEW, "layout.layers_per_stage=free"),
    "wishes given up": ("qwen7b_rl", "cluster.usable_gib=40", "layout.tensor_parallel=[2, 4]"),
    "no rollout engine fits": ("qwen7b_rl", "limits.headroom_gib=70", "layout.tensor_parallel=4"),
    "no layout has room": ("qwen7b_rl", "cluster.usable_gib=30", "layout.tensor_parallel=1", "cluster.max_gpus=2"),
}


def asked(name: str) -> Question:
    scenario, *changes = QUESTIONS[name]
    return question_of(load(f"scenarios/{scenario}.yaml", changes))


def answer(question: Question, monkeypatch: pytest.MonkeyPatch, *, parts: bool) -> Outcome:
    monkeypatch.setattr(in_time, "MOST_CELLS", 0 if parts else 10**9)
    monkeypatch.setattr(many_rows, "PART_CELLS", 200)
    monkeypatch.setattr(many_rows, "SAMPLE_CELLS", 50)
    return search(question, check_points=0)


@pytest.mark.parametrize("name", QUESTIONS)
def test_part_by_part_as_at_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked(name)
    whole, parts = (answer(question, monkeypatch, parts=some) for some in (False, True))
    assert parts.status == whole.status
    assert parts.proof.bound_seconds == whole.proof.bound_seconds
    counted = [sum(each.count for each in one.proof.removed) + one.proof.solver_rows for one in (whole, parts)]
    assert counted[0] == counted[1]
    assert (parts.plan is None) == (whole.plan is None)
    if parts.plan is not None and whole.plan is not None:
        assert parts.plan.layout == whole.plan.layout
        assert parts.plan.rollout == whole.plan.rollout
        assert (parts.plan.layers, parts.plan.recomputed) == (whole.plan.layers, whole.plan.recomputed)


def test_beyond_its_memory_nothing_is_proved_and_the_user_hears_what_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(pipes, "tell", told.append)
    monkeypatch.setattr(many_rows, "MOST_CELLS", 4)
    found = answer(asked("two pools"), monkeypatch, parts=True)
    left_out = {each.rule: each.count for each in found.proof.removed}
    assert left_out[many_rows.NOT_LOOKED_AT] > 0
    assert found.status == "feasible"
    assert found.proof.bound_seconds is None
    assert "cluster.num_gpus (" in told[0] or "layout.pipeline_parallel (" in told[0]
