"""A date that a budget promises, against runs drawn from published steps: enough, and not more than enough."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scored_runs import run_steps

from planner.analysis.budget.asked import budget
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.validation.published import data_folder
from planner.validation.throughput.durations import (
    RL,
    apart,
    draws,
    kept_unseen,
    promised,
    residuals,
)
from planner.validation.throughput.promises import drawn_shares
from planner.validation.throughput.report import ThroughputResult

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not data_folder().is_dir(), reason="published measurements come with a checkout")


def test_a_tight_deadline_is_kept_as_promised_and_one_node_fewer_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    job = {"name": "rl", "scenario": "scenarios/qwen7b_rl.yaml", "steps": 4000, "deadline_days": 30}
    offer = {"price": "lambda-8x-h100", "nodes": [2]}
    layouts = KnownLayouts()
    wide = budget({"name": "tight", "jobs": [job], "offers": [offer]}, layouts=layouts)
    days = wide.bookings[0].option.whole_hours / 24
    tight = budget(
        {"name": "tight", "jobs": [{**job, "deadline_days": days}], "offers": [{**offer, "nodes": [1, 2]}]},
        layouts=layouts,
    )
    (booking,) = tight.bookings
    fewer = next(option for option in tight.options if option.nodes == 1)
    assert (booking.option.nodes, fewer.cents < booking.option.cents) == (2, True)
    steps = run_steps(data_folder())
    measured = residuals(ThroughputResult(estimates=(), excluded=(), unexpressed=(), steps=steps))
    assert drawn_shares(tight, [booking.option], measured)[0] >= tight.budget.confidence - 0.005
    assert drawn_shares(tight, [fewer], measured)[0] < tight.budget.confidence
    assert sum(map(len, measured[RL].values())) >= 16


def test_draws_weigh_groups_alike_and_of_two_groups_the_rows() -> None:
    groups = {"one": np.array([1.0]), "two": np.array([1.5]), "many": np.linspace(2.0, 3.0, 98)}
    drawn = draws(groups, 4000, seed=1)
    assert np.mean(drawn == 1.0) == pytest.approx(1 / 3, abs=0.03)
    assert set(drawn) <= {1.0, 1.5, *groups["many"]}
    assert np.array_equal(drawn, draws(groups, 4000, seed=1))
    del groups["two"]
    assert np.mean(draws(groups, 4000, seed=1) == 1.0) < 0.03
    assert promised(apart(groups), 0.5) > 2.4, "one run of another group is not half of what is known"


def test_an_unseen_group_is_judged_by_a_promise_that_never_saw_it() -> None:
    groups = {name: np.array([1.0, 1.1, ratio]) for name, ratio in (("a", 1.2), ("b", 1.3), ("c", 1.3), ("slow", 2.0))}
    assert promised(groups, 0.95) == 2.0, "with it in view the slowest run is the promise"
    others = {name: np.array([1.0]) for name in "xyz"}
    assert kept_unseen(groups, others, 0.95) == {"a": 1.0, "b": 1.0, "c": 1.0, "slow": pytest.approx(2 / 3)}
    few = {name: groups[name] for name in ("a", "b", "slow")}
    assert kept_unseen(few, others, 0.95)["slow"] == pytest.approx(2 / 3)
    slower = {name: np.array([2.5]) for name in "xyz"}
    assert kept_unseen(few, slower, 0.95)["slow"] == 1.0, "what two groups cannot promise, other engines' runs do"
