"""The choice among offers: against brute force, its goals, its repairs, its front."""

from __future__ import annotations

from dataclasses import replace

import pytest
from budget_problems import by_the_hour, random_budget

from planner.analysis.budget.front import cost_front, ending_by
from planner.analysis.budget.model import LATEST, MOST, choose, cost_unit
from planner.analysis.budget.offers import (
    BudgetLimits,
    BudgetProblem,
    Need,
    OfferChoice,
    Picked,
    Supply,
    bill,
    check,
    latest,
    rented,
    runs,
)
from planner.analysis.budget.repairs import NearestOffer, conflict, limits_of, nearest
from planner.errors import InternalError

USE = Supply("use")


@pytest.mark.parametrize("seed", range(50))
def test_the_choice_equals_brute_force(seed: int) -> None:
    problem = random_budget(seed)
    expected = by_the_hour(problem)
    found = choose(problem, time_limit_s=20)
    if expected is None:
        assert found.status == "infeasible"
        return
    weighted = sum(problem.needs[run.job].priority * run.end for run in runs(problem, found))
    assert found.status == "optimal"
    assert (bill(problem, found), weighted) == expected
    assert found.bound == expected[0]


def test_random_problems_are_of_all_kinds() -> None:
    problems = [random_budget(seed) for seed in range(50)]
    assert {supply.paid for p in problems for supply in p.supplies} == {"use", "term", "owned"}
    assert {by_the_hour(p) is None for p in problems} == {True, False}
    assert any(len(need.windows) > 1 for p in problems for need in p.needs)


def test_a_term_is_paid_from_the_first_job_to_the_last() -> None:
    term = Supply("term", capacity=4, minimum_hours=6, cents_per_node_hour=10)
    needs = (Need(((0, 4),), (OfferChoice(0, 2, 3, 0, 0),)), Need(((0, 20),), (OfferChoice(0, 2, 2, 0, 0),)))
    problem = BudgetProblem(needs, (term,))
    found = choose(problem, time_limit_s=20)
    (held,) = rented(problem, found)
    assert held is not None
    assert (held.nodes, held.hours, held.cents) == (2, 6, 120)
    apart = replace(problem, needs=(needs[0], Need(((10, 12),), needs[1].choices)))
    (held,) = rented(apart, choose(apart, time_limit_s=20))
    assert held is not None
    assert held.hours == 11, "from hour 1, as the first job must end by hour 4, to 12"


def test_owned_nodes_are_shared_and_rent_is_not() -> None:
    owned, need = Supply("owned", cents_per_node=50), Need(((0, 9),), (OfferChoice(0, 2, 3, 1, 1),))
    rent = replace(need, choices=(*need.choices, OfferChoice(1, 2, 3, 60, 60)))
    assert choose(BudgetProblem((rent,), (owned, USE)), time_limit_s=20).picks == (1,)
    both = BudgetProblem((rent, rent), (owned, USE))
    found = choose(both, time_limit_s=20)
    assert found.picks == (0, 0)
    assert bill(both, found) == 102
    assert len({start for (start,) in found.starts}) == 2, "one after the other on the same two nodes"


def test_the_earliest_end_may_cost_more() -> None:
    need = Need(((0, 9),), (OfferChoice(0, 1, 8, 10, 12), OfferChoice(0, 4, 2, 30, 36)))
    problem = BudgetProblem((need,), (USE,))
    assert choose(problem, time_limit_s=20).picks == (0,)
    assert choose(problem, LATEST, time_limit_s=20).picks == (1,)
    poor = replace(problem, limits=BudgetLimits(max_cents=35))
    assert choose(poor, LATEST, time_limit_s=20).picks == (0,), "36 cents if all booked hours are used"


def test_the_front_is_cheapest_for_every_end_and_names_its_knee() -> None:
    choices = tuple(OfferChoice(0, n, h, c, c) for n, h, c in ((1, 20, 10), (2, 8, 14), (4, 6, 40), (8, 5, 90)))
    problem = BudgetProblem((Need(((0, 30),), choices),), (USE,))
    front = cost_front(problem, time_limit_s=20)
    assert [(p.hours, p.cents) for p in front.points] == [(20, 10), (8, 14), (6, 40), (5, 90)]
    assert (front.whole, front.knee) == (True, 1)
    for point in front.points:
        assert bill(problem, choose(ending_by(problem, point.hours), time_limit_s=20)) == point.cents
    cut = cost_front(problem, time_limit_s=20, points=2)
    assert (len(cut.points), cut.whole) == (2, False)


@pytest.mark.parametrize("seed", range(8))
def test_what_would_do_does_and_less_does_not(seed: int) -> None:
    drawn = random_budget(2000 + seed)
    tight = replace(drawn, limits=BudgetLimits(max_cents=6 + seed, max_nodes=1 + seed % 3))
    if by_the_hour(tight) is not None:
        return
    near = nearest(tight, time_limit_s=20)

    def solvable(**limits: int | None) -> bool:
        return bool(choose(replace(tight, limits=replace(tight.limits, **limits)), time_limit_s=20).picks)

    if near.cents is not None:
        assert solvable(max_cents=near.cents)
        assert not solvable(max_cents=near.cents - 1)
    if near.nodes is not None:
        assert solvable(max_nodes=near.nodes)
        assert not solvable(max_nodes=near.nodes - 1)
    for place, nodes in near.capacities:
        for count, expected in ((nodes, True), (nodes - 1, False)):
            supplies = list(tight.supplies)
            supplies[place] = replace(supplies[place], capacity=count)
            assert bool(choose(replace(tight, supplies=tuple(supplies)), time_limit_s=20).picks) is expected
    if near.deadlines is not None:
        needs = [
            replace(n, windows=tuple((r, due) for (r, _), due in zip(n.windows, dues, strict=True)))
            for n, dues in zip(tight.needs, near.deadlines, strict=True)
        ]
        assert choose(replace(tight, needs=tuple(needs)), time_limit_s=20).picks
    assert near != type(near)()
    deadlines = [NearestOffer(deadlines=each) for each in (near.deadlines, near.cheaper) if each is not None]
    found = [choose(each.applied(tight), MOST, time_limit_s=20) for each in (*deadlines, *near.together)]
    assert all(picked.picks for picked in found)
    if len(found) > 1:
        first, other = (bill(tight, picked, most=True) for picked in found)
        assert other <= first, "what comes later is no dearer"


def test_a_conflict_needs_each_of_its_limits() -> None:
    slow = Need(((0, 4),), (OfferChoice(0, 3, 3, 10, 10),))
    problem = BudgetProblem((slow, slow), (Supply("use", capacity=3),), BudgetLimits(max_cents=100, max_nodes=9))

    def feasible(other: BudgetProblem) -> bool:
        return bool(choose(other, time_limit_s=20, settle=False).picks)

    names = limits_of(problem, ["a", "b"], ["x"])
    assert [name for name, _ in names] == [
        "max_usd",
        "max_nodes_at_once",
        "capacity_nodes of x",
        "deadline_days of a",
        "deadline_days of b",
    ]
    found = conflict(problem, names, feasible)
    assert found == ["capacity_nodes of x", "deadline_days of a", "deadline_days of b"]
    for name in found:
        assert feasible(dict(names)[name]), f"without {name} something fits"


def test_large_costs_are_scaled_into_a_small_range() -> None:
    choices = (OfferChoice(0, 1, 4, 9 * 10**13, 9 * 10**13), OfferChoice(0, 1, 5, 8 * 10**13, 8 * 10**13))
    problem = BudgetProblem((Need(((0, 10),), choices),), (USE,))
    assert cost_unit(problem, [[0, 1]]) == 10**5
    assert choose(problem, time_limit_s=20).picks == (1,)


def test_an_answer_that_breaks_a_limit_is_our_bug() -> None:
    need = Need(((0, 4),), (OfferChoice(0, 2, 3, 5, 5),))
    problem = BudgetProblem((need, need), (Supply("use", capacity=4),), BudgetLimits(10, 4))
    check(problem, Picked("optimal", (0, 0), ((0,), (1,))))
    assert latest(problem, Picked("optimal", (0, 0), ((0,), (1,)))) == 4
    for other, starts in (
        (replace(problem, limits=BudgetLimits(9, 4)), (0, 1)),
        (replace(problem, limits=BudgetLimits(10, 3)), (0, 1)),
        (replace(problem, supplies=(Supply("use", capacity=3),)), (0, 1)),
        (problem, (0, 2)),
    ):
        with pytest.raises(InternalError, match="break a limit"):
            check(other, Picked("optimal", (0, 0), tuple((start,) for start in starts)))
