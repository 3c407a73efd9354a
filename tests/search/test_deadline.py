"""The time limit covers the whole search; counted in looks at a clock that ticks at each look, not on a wall clock."""

from __future__ import annotations

import itertools
import math

import pytest

from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.search.bounds.free_stages import Split, Splitter
from planner.search.deadline import Deadline
from planner.search.search import search


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
