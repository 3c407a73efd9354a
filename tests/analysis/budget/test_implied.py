"""Sums over choices that the offer model adds: every schedule, tried hour by hour, keeps them, and they do bind."""

from __future__ import annotations

import itertools
import random

from budget_problems import random_budget

from planner.analysis.budget.implied import always_meet, energies, meetings, term_hours
from planner.analysis.budget.offers import BudgetProblem, Need, OfferChoice, Supply


def everything(problem: BudgetProblem) -> list[list[int]]:
    """Choices that fit into the windows of their job."""
    return [
        [i for i, c in enumerate(need.choices) if all(c.hours <= due - release for release, due in need.windows)]
        for need in problem.needs
    ]


PROBLEMS = [problem for problem in map(random_budget, range(6000, 6060)) if all(everything(problem))]


def hours_of(need: Need, hours: int) -> list[list[set[int]]]:
    """Every way to place all times of a job: the hours that each of them takes."""
    places = [[set(range(s, s + hours)) for s in range(r, due - hours + 1)] for r, due in need.windows]
    return [list(way) for way in itertools.product(*places)]


def test_no_job_takes_less_energy_than_is_said() -> None:
    rows = 0
    for problem in PROBLEMS:
        left = everything(problem)
        for energy in energies(problem, left):
            span = range(energy.begin, energy.begin + energy.hours)
            for (job, place), said in energy.least:
                need, choice = problem.needs[job], problem.needs[job].choices[place]
                ways = hours_of(need, choice.hours)
                assert said == min(choice.nodes * sum(h in span for each in way for h in each) for way in ways)
            rows += 1
    assert rows > 100


def test_jobs_meet_exactly_where_no_placement_keeps_them_apart() -> None:
    said = set()
    for seed in range(400):
        r = random.Random(seed)
        a, b = (
            Need(tuple((s, s + r.randint(3, 7)) for s in starts), ())
            for starts in ([r.randint(0, 6)], sorted(r.sample(range(12), r.randint(1, 3))))
        )
        for x, y in itertools.product((1, 2, 3), (1, 2, 3)):
            apart = any(
                not any(p & q for p in one for q in other)
                for one, other in itertools.product(hours_of(a, x), hours_of(b, y))
            )
            assert always_meet(a, x, b, y) == (not apart), (a, b, x, y)
            said.add(apart)
    assert said == {True, False}


def test_a_long_job_meets_a_weekly_one_of_the_same_machines() -> None:
    weekly = Need(tuple((168 * k, 168 * (k + 1)) for k in range(20)), (OfferChoice(0, 2, 40, 1, 1),))
    long = Need(((100, 3000),), (OfferChoice(0, 8, 400, 1, 1), OfferChoice(0, 8, 120, 1, 1)))
    problem = BudgetProblem((long, weekly), (Supply("use", 8),))
    assert [(m.one, m.other, m.nodes) for m in meetings(problem, [[0, 1], [0]])] == [((0, 0), (1, 0), 10)]


def test_a_term_covers_a_job_from_its_first_time_to_its_last() -> None:
    for problem in PROBLEMS:
        for need, left in zip(problem.needs, everything(problem), strict=True):
            for choice in (need.choices[place] for place in left):
                lengths = [
                    max(max(each) for each in way) + 1 - min(min(each) for each in way)
                    for way in hours_of(need, choice.hours)
                ]
                assert term_hours(need, choice) == min(lengths)
