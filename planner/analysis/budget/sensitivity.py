"""What the choice does if a price, the speed or the machines are not as assumed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.analysis.budget.duration import Duration
from planner.analysis.budget.model import LATEST, choose
from planner.analysis.budget.offers import BY_TERM, BY_USE, BudgetProblem, Picked, bill, latest
from planner.analysis.budget.played import Hours, ends

PRICE_STEP_PERCENT = 20
LOST_NODE_HOURS = 24
"""Assumed: until a lost node is replaced a job stands still."""
HOURS_PER_WEEK = 168


@dataclass(frozen=True)
class Sensitivity:
    """One assumption changed."""

    name: str
    cents: int | None
    """Expected cost; None where no choice is left."""
    hours: float | None
    """End of all work. [h]"""
    late: tuple[int, ...] = ()
    """Jobs that miss a deadline, by position."""
    picks: tuple[int, ...] | None = None
    """The choice, where it was made again and is another one."""


def sensitivities(
    problem: BudgetProblem,
    picked: Picked,
    durations: Sequence[Duration],
    price: Callable[[int, int, float], int],
    goal: str,
    *,
    time_limit_s: float,
) -> tuple[Sensitivity, ...]:
    """Rents 20 % higher and lower (chosen again by the same `goal`; where that is the earliest end, within the same
    money), speed at its 10th and 90th percentile, a node lost in each week that a job runs, begun ones included.

    `durations`: of the chosen option of each job; `price(job, choice, hours)`: cents that a chosen option pays for so
    many hours of its own.
    """
    rows = []
    for percent in (PRICE_STEP_PERCENT, -PRICE_STEP_PERCENT):
        changed = dearer(problem, percent)
        free = changed if goal == LATEST else replace(changed, limits=replace(changed.limits, max_cents=None))
        answer = choose(free, goal, time_limit_s=time_limit_s, settle=False)
        if answer.picks:
            moved = answer.picks if answer.picks != picked.picks else None
            rows.append(
                Sensitivity(f"rents {percent:+d} %", bill(free, answer), float(latest(free, answer)), (), moved)
            )
        else:
            rows.append(Sensitivity(f"rents {percent:+d} %", None, None))
    slow = [d.hours * d.spread.ratio(0.9) for d in durations]
    fast = [d.hours * d.spread.ratio(0.1) for d in durations]
    lost = [d.hours + LOST_NODE_HOURS * math.ceil(d.hours / HOURS_PER_WEEK) for d in durations]
    for name, hours in (
        ("speed as slow as 1 run in 10", slow),
        ("speed as fast as 1 run in 10", fast),
        (f"a node lost each week of a run, {LOST_NODE_HOURS} h to replace it (assumed)", lost),
    ):
        rows.append(_played(name, problem, picked, hours, price))
    return tuple(rows)


def dearer(problem: BudgetProblem, percent: int) -> BudgetProblem:
    """Rents changed by a percentage; what is owned costs what it costs."""

    def changed(cents: int) -> int:
        return max(0, round(cents * (100 + percent) / 100))

    supplies = tuple(
        replace(s, cents_per_node_hour=changed(s.cents_per_node_hour)) if s.paid == BY_TERM else s
        for s in problem.supplies
    )
    needs = []
    for need in problem.needs:
        choices = []
        for c in need.choices:
            own = problem.supplies[c.supply].paid == BY_USE
            choices.append(replace(c, cents=changed(c.cents), most_cents=changed(c.most_cents)) if own else c)
        needs.append(replace(need, choices=tuple(choices)))
    return BudgetProblem(tuple(needs), supplies, problem.limits)


def _played(
    name: str,
    problem: BudgetProblem,
    picked: Picked,
    hours: Sequence[float],
    price: Callable[[int, int, float], int],
) -> Sensitivity:
    """The same choice with other hours."""
    taken: list[Hours] = []
    for job, need in enumerate(problem.needs):
        taken += [np.array([hours[job]])] * len(need.windows)
    finished = [float(each[0]) for each in ends(problem, picked, taken)]
    late, place = [], 0
    cents = bill(problem, picked)
    for job, (need, pick) in enumerate(zip(problem.needs, picked.picks, strict=True)):
        choice = need.choices[pick]
        cents += (price(job, pick, hours[job]) - choice.cents) * len(need.windows)
        own = finished[place : place + len(need.windows)]
        place += len(own)
        if any(end > due + 1e-6 for end, (_, due) in zip(own, need.windows, strict=True)):
            late.append(job)
    return Sensitivity(name, cents, max(finished), tuple(late))
