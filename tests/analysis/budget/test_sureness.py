"""How sure a date is: the distribution of a duration against drawn ones, and a schedule that is held up."""

from __future__ import annotations

import numpy as np
import pytest

from planner.analysis.budget.duration import Duration, Interruptions, poisson_share
from planner.analysis.budget.offers import BudgetProblem, Need, OfferChoice, Picked, Supply
from planner.analysis.budget.played import drawn_hours, ends, kept, with_interruptions
from planner.inputs.catalog import default_catalog
from planner.inputs.known_durations import DurationSpread, duration_spread

EXACT = DurationSpread("nothing", 0, 0, (1.0,) * 21)
WIDE = DurationSpread("a test", 20, 5, tuple(0.8 + 0.03 * step for step in range(21)))
SPOT = Interruptions(per_hour=0.05, restart_hours=0.5, checkpoint_hours=1.0)


def test_booked_hours_are_enough_with_the_confidence() -> None:
    job = Duration(100.0, WIDE)
    assert job.hours == 100
    assert job.at(0.9) == pytest.approx(134)
    assert job.chance_within(job.at(0.9)) == pytest.approx(0.9, abs=0.006)
    assert job.at(0.3) == 100, "never less than expected"


@pytest.mark.parametrize("spread", [EXACT, WIDE])
def test_interruptions_drawn_one_by_one_agree_with_the_closed_form(spread: DurationSpread) -> None:
    job, chance = Duration(200.0, spread, SPOT), np.random.default_rng(3)
    work = 200.0 * np.array(spread.strata(6000))
    drawn = with_interruptions(job, work, chance)
    assert drawn.mean() / work.mean() == pytest.approx(1 / (1 - SPOT.load), rel=0.004)
    for confidence in (0.7, 0.8, 0.9, 0.97):
        assert np.mean(drawn <= job.at(confidence)) == pytest.approx(confidence, abs=0.03)
        assert np.mean(drawn <= job.at(confidence)) >= confidence - 0.01


def test_interrupted_more_often_than_it_restarts_it_is_never_done() -> None:
    hopeless = Duration(1.0, EXACT, Interruptions(1.0, 1.0, 0.0))
    assert hopeless.hours == hopeless.at(0.9) == 1e9
    assert hopeless.chance_within(1e6) == 0


def test_poisson_share_is_the_sum_of_its_terms() -> None:
    assert poisson_share(2.0, 1) == pytest.approx(3 * np.exp(-2))
    assert poisson_share(2.0, -1) == 0
    assert poisson_share(600.0, 600) == pytest.approx(0.51, abs=0.01)


def test_a_late_job_holds_up_the_one_behind_it() -> None:
    need = Need(((0, 9),), (OfferChoice(0, 2, 4, 1, 1),))
    problem = BudgetProblem((need, need), (Supply("use", capacity=2),))
    picked = Picked("optimal", (0, 0), ((0,), (4,)))
    late, short = np.array([3.0, 6.0]), np.array([4.0, 4.0])
    first, second = ends(problem, picked, [late, short])
    assert list(first) == [3, 6]
    assert list(second) == [8, 10], "booked for hour 4, held up until hour 6"
    assert kept(problem, picked, [late, short]) == (1.0, 0.5)
    roomy = BudgetProblem((need, need), (Supply("use", capacity=4),))
    assert kept(roomy, picked, [late, short]) == (1.0, 1.0)


def test_jobs_of_one_speed_are_slow_together() -> None:
    job = Duration(10.0, WIDE)
    same = drawn_hours([("x", job, 2), ("x", job, 1)], draws=50, seed=1)
    assert all(np.array_equal(same[0], other) for other in same[1:])
    apart = drawn_hours([("x", job, 1), ("y", job, 1)], draws=50, seed=1)
    assert not np.array_equal(apart[0], apart[1])


def test_every_engine_has_a_spread_and_a_few_runs_promise_less() -> None:
    catalog = default_catalog()
    known = duration_spread(catalog, ("megatron-core",), "Hopper sm_90", rl=False)
    assert known.of == "megatron-core on sm_90"
    assert known.rows > 100
    assert list(known.quantiles) == sorted(known.quantiles)
    few = duration_spread(catalog, ("fsdp2",), "Hopper sm_90", rl=False)
    unscored = duration_spread(catalog, ("slime",), "Hopper sm_90", rl=False)
    assert few.ratio(0.95) >= unscored.ratio(0.95), "six groups cannot promise 95 % by themselves"
    assert "was not scored" in unscored.of
    assert duration_spread(catalog, ("slime",), "Hopper sm_90", rl=True).of == "RL steps"
