"""The time limit covers the whole search; counted in looks at a clock that ticks at each look, not on a wall clock."""

from __future__ import annotations

import itertools
import math

import pytest

from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override
from planner.problem.resolve import question_of
from planner.search.bounds.free_stages import Split, Splitter
from planner.search.deadline import Deadline
from planner.search.in_time import Verdict, of_a_part
from planner.search.search import how_proved, search


def test_shares_of_a_deadline() -> None:
    seconds = iter([100.0, 104.0, 106.0, 111.0])
    deadline = Deadline.of(10.0, lambda: next(seconds))
    assert not deadline.past(0.5)
    assert deadline.past(0.5)
    assert deadline.left_s == pytest.approx(-1.0)


@pytest.mark.parametrize("limit", [20, 200])
def test_bounding_ends_at_its_share_and_a_plan_is_still_given(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row that is bounded takes a look at the clock, which ticks a second: none is bounded after its share."""
    split, calls = Splitter.split, []

    def counted(self: Splitter, row: int, held_back: int = 0, beyond: float = math.inf) -> Split:
        calls.append(row)
        return split(self, row, held_back, beyond)

    monkeypatch.setattr(Splitter, "split", counted)
    ticks = itertools.count()
    question = question_of(load("scenarios/llama70b_64xh100.yaml"), default_catalog())
    outcome = search(question, check_points=0, time_limit_s=limit, now=lambda: float(next(ticks)))
    assert len(calls) <= limit
    assert outcome.plan is not None
    assert outcome.status == "optimal" or outcome.proof.gap is not None


def test_a_large_space_that_is_not_looked_at_to_its_end_gives_a_plan_and_no_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """First the look by time alone is cut short, then the costs of layouts beside a rollout engine."""
    monkeypatch.setattr("planner.search.bounds.first_look.LARGE", 1000)
    monkeypatch.setattr("planner.search.bounds.first_look.BLOCK", 200)
    monkeypatch.setattr("planner.search.in_time.MANY", 100)
    monkeypatch.setattr("planner.search.in_time.SAMPLE", 50)
    for name, limit in (("llama70b_64xh100", 10), ("qwen7b_rl", 30)):
        ticks = itertools.count()
        question = question_of(load(f"scenarios/{name}.yaml"), default_catalog())
        outcome = search(question, check_points=0, time_limit_s=limit, now=lambda ticks=ticks: float(next(ticks)))  # type: ignore[misc]
        assert (outcome.status, outcome.proof.gap) == ("feasible", None)
        assert how_proved(outcome) == "best found"


def test_variants_that_were_not_listed_are_counted_and_nothing_is_proved_of_them() -> None:
    changes = {"precision": ["bf16", "fp8"], "layout.recompute_modules": "any", "layout.pipeline_parallel": 8}
    document = override(load("scenarios/llama70b_64xh100.yaml"), changes | {"layout.virtual_pipeline": 1})
    question = question_of(document, default_catalog())
    ticks = itertools.count()
    outcome = search(question, check_points=0, time_limit_s=100, now=lambda: float(next(ticks)) * 15)
    (unlisted,) = (entry.count for entry in outcome.proof.removed if entry.rule == "not_listed")
    assert 0 < unlisted < len(question.problems)
    assert outcome.status in ("feasible", "unknown")
    assert outcome.proof.gap is None


def test_nothing_is_called_impossible_while_something_was_not_looked_at() -> None:
    assert of_a_part(Verdict("infeasible")) == Verdict("unknown")
