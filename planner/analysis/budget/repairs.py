"""Where no choice of offers keeps every limit: which limits contradict, and the least change of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.analysis.budget.model import LATENESS, MOST, choose
from planner.analysis.budget.offers import BudgetProblem, Need, Picked, bill, busiest, runs

THRIFT = 0.1
"""Later deadlines that save less than this share of the money are not worth a sentence."""
ABOUT = 0.01
"""Of the least money, spent where it brings the end forward."""
Deadlines = tuple[tuple[int, ...], ...]
"""Of each job and time. [h]"""


@dataclass(frozen=True)
class NearestOffer:
    """The least change of one limit that makes a choice possible, each solved; None where that alone does not help."""

    cents: int | None = None
    deadlines: Deadlines | None = None
    """Of each job and time, moved by the fewest hours in all."""
    nodes: int | None = None
    """Of `max_nodes_at_once`."""
    capacities: tuple[tuple[int, int], ...] = ()
    """(offer, nodes of it) where more of one offer would do."""
    cheaper: Deadlines | None = None
    """Deadlines moved by more hours where that saves at least THRIFT of the money: the earliest for about the least."""
    together: tuple[NearestOffer, ...] = ()
    """Where no limit alone is enough: what changes at once, None and empty for what may stay; by the fewest hours late
    and, where that saves at least THRIFT of the money, for about the least of it."""

    def applied(self, problem: BudgetProblem) -> BudgetProblem:
        """The problem with these limits."""
        limits, needs, supplies = problem.limits, problem.needs, list(problem.supplies)
        if self.cents is not None:
            limits = replace(limits, max_cents=self.cents)
        if self.nodes is not None:
            limits = replace(limits, max_nodes=self.nodes)
        for place, nodes in self.capacities:
            supplies[place] = replace(supplies[place], capacity=nodes)
        if self.deadlines is not None:
            needs = tuple(
                replace(need, windows=tuple((r, due) for (r, _), due in zip(need.windows, dues, strict=True)))
                for need, dues in zip(needs, self.deadlines, strict=True)
            )
        return BudgetProblem(needs, tuple(supplies), limits)


def conflict(
    problem: BudgetProblem, names: list[tuple[str, BudgetProblem]], feasible: Callable[[BudgetProblem], bool]
) -> list[str]:
    """Limits of which each is needed for the contradiction.

    `names`: of every limit, and the problem with that limit alone lifted; lifted limits stay lifted where the others
    still contradict each other.
    """
    held = dict(names)
    base = problem
    for name in list(held):
        lifted = _lift(base, held[name])
        if not feasible(lifted):
            base = lifted
            del held[name]
    return list(held)


def _lift(base: BudgetProblem, other: BudgetProblem) -> BudgetProblem:
    """Both with whatever either of them allows."""
    needs = tuple(
        replace(a, windows=tuple((r, max(d, e)) for (r, d), (_, e) in zip(a.windows, b.windows, strict=True)))
        for a, b in zip(base.needs, other.needs, strict=True)
    )
    supplies = tuple(
        replace(a, capacity=None if None in (a.capacity, b.capacity) else max(a.capacity or 0, b.capacity or 0))
        for a, b in zip(base.supplies, other.supplies, strict=True)
    )
    first, second = base.limits, other.limits
    limits = replace(
        first,
        max_cents=first.max_cents if second.max_cents is not None else None,
        max_nodes=first.max_nodes if second.max_nodes is not None else None,
    )
    return BudgetProblem(needs, supplies, limits)


def limits_of(problem: BudgetProblem, jobs: list[str], offers: list[str]) -> list[tuple[str, BudgetProblem]]:
    """Every limit by name, with the problem that lacks it."""
    found = []
    if problem.limits.max_cents is not None:
        found.append(("max_usd", replace(problem, limits=replace(problem.limits, max_cents=None))))
    if problem.limits.max_nodes is not None:
        found.append(("max_nodes_at_once", replace(problem, limits=replace(problem.limits, max_nodes=None))))
    for place, supply in enumerate(problem.supplies):
        if supply.capacity is not None:
            more = (*problem.supplies[:place], replace(supply, capacity=None), *problem.supplies[place + 1 :])
            found.append((f"capacity_nodes of {offers[place]}", replace(problem, supplies=more)))
    for place, need in enumerate(problem.needs):
        needs = (*problem.needs[:place], later(need, longest(problem)), *problem.needs[place + 1 :])
        found.append((f"deadline_days of {jobs[place]}", replace(problem, needs=needs)))
    return found


def longest(problem: BudgetProblem) -> int:
    """Hours in which all work could be done one after the other. [h]"""
    return sum(max(c.hours for c in need.choices) * len(need.windows) for need in problem.needs)


def later(need: Need, hours: int) -> Need:
    """A job with its deadlines so much later."""
    return replace(need, windows=tuple((release, deadline + hours) for release, deadline in need.windows))


def nearest(problem: BudgetProblem, *, time_limit_s: float) -> NearestOffer:
    """The least change of each kind, each solved."""
    limits = problem.limits

    def fits(other: BudgetProblem) -> bool:
        return bool(choose(other, time_limit_s=time_limit_s, settle=False).picks)

    cents = None
    if limits.max_cents is not None:
        free = replace(problem, limits=replace(limits, max_cents=None))
        answer = choose(free, MOST, time_limit_s=time_limit_s, settle=False)
        cents = bill(free, answer, most=True) if answer.picks else None
    nodes = None
    if limits.max_nodes is not None:
        most = sum(max(choice.nodes for choice in need.choices) * len(need.windows) for need in problem.needs)
        nodes = _least(limits.max_nodes, most, lambda n: fits(replace(problem, limits=replace(limits, max_nodes=n))))
    capacities = []
    for place, supply in enumerate(problem.supplies):
        own = [max((c.nodes for c in need.choices if c.supply == place), default=0) for need in problem.needs]
        most = sum(n * len(need.windows) for n, need in zip(own, problem.needs, strict=True))
        if supply.capacity is None:
            continue

        def with_capacity(n: int, place: int = place) -> bool:
            changed = replace(problem.supplies[place], capacity=n)
            return fits(replace(problem, supplies=(*problem.supplies[:place], changed, *problem.supplies[place + 1 :])))

        more = _least(supply.capacity, most, with_capacity)
        if more is not None:
            capacities.append((place, more))
    moved = _moved(problem, LATENESS, time_limit_s)
    deadlines = moved[1] if moved is not None else None
    cheaper = _cheaper(problem, moved[0], time_limit_s) if moved is not None else None
    together: tuple[NearestOffer, ...] = ()
    if cents is None and nodes is None and deadlines is None and not capacities:
        together = _together(problem, time_limit_s)
    return NearestOffer(cents, deadlines, nodes, tuple(capacities), cheaper[1] if cheaper else None, together)


def _cheaper(problem: BudgetProblem, picked: Picked, time_limit_s: float) -> tuple[Picked, Deadlines] | None:
    """The fewest hours late for at most ABOUT more than the least money; None where that saves too little."""
    found = _moved(problem, MOST, time_limit_s)
    if found is None:
        return None
    least = bill(problem, found[0], most=True)
    if least > (1 - THRIFT) * bill(problem, picked, most=True):
        return None
    limits = replace(problem.limits, max_cents=math.ceil((1 + ABOUT) * least))
    return _moved(replace(problem, limits=limits), LATENESS, time_limit_s) or found


def _least(low: int, most: int, fits: Callable[[int], bool]) -> int | None:
    """The least number above `low` that fits; None where none up to `most` does."""
    if most <= low or not fits(most):
        return None
    high = most
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _together(problem: BudgetProblem, time_limit_s: float) -> tuple[NearestOffer, ...]:
    """Money, deadlines and, only where even those are not enough, machines: as many as the choice then uses."""
    limits = replace(problem.limits, max_cents=None)
    unbound = tuple(replace(supply, capacity=None) for supply in problem.supplies)
    for free in (
        replace(problem, limits=limits),
        replace(problem, limits=replace(limits, max_nodes=None)),
        replace(problem, limits=limits, supplies=unbound),
        replace(problem, limits=replace(limits, max_nodes=None), supplies=unbound),
    ):
        found = _moved(free, LATENESS, time_limit_s)
        if found is not None:
            cheaper = _cheaper(free, found[0], time_limit_s)
            return tuple(_changed(problem, *each) for each in (found, cheaper) if each is not None)
    return ()


def _changed(problem: BudgetProblem, picked: Picked, deadlines: Deadlines) -> NearestOffer:
    """Every limit that this choice needs changed."""
    work, limits = runs(problem, picked), problem.limits
    used = [busiest([run for run in work if run.choice.supply == place]) for place in range(len(problem.supplies))]
    more = [
        (place, nodes)
        for place, (nodes, supply) in enumerate(zip(used, problem.supplies, strict=True))
        if supply.capacity is not None and nodes > supply.capacity
    ]
    cents, nodes = bill(problem, picked, most=True), busiest(work)
    return NearestOffer(
        cents if limits.max_cents is not None and cents > limits.max_cents else None,
        deadlines,
        nodes if limits.max_nodes is not None and nodes > limits.max_nodes else None,
        tuple(more),
    )


def _moved(problem: BudgetProblem, goal: str, time_limit_s: float) -> tuple[Picked, Deadlines] | None:
    """The choice with the fewest late hours (LATENESS) or the least money (MOST), and the deadlines that it needs."""
    extra = longest(problem)
    free = replace(problem, needs=tuple(later(need, extra) for need in problem.needs))
    wanted = [[deadline for _, deadline in need.windows] for need in problem.needs]
    answer = choose(free, goal, time_limit_s=time_limit_s, settle=False, wanted=wanted)
    if not answer.picks:
        return None
    ended: list[list[int]] = [[] for _ in problem.needs]
    for run in runs(free, answer):
        ended[run.job].append(run.end)
    return answer, tuple(
        tuple(max(end, due) for end, due in zip(own, dues, strict=True))
        for own, dues in zip(ended, wanted, strict=True)
    )
