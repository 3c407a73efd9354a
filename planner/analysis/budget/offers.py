"""One option for each job: cheapest, within deadlines and machines, by CP-SAT; checked without the solver.

Order: least cost; then the earliest end of all work; then the least sum of finishing hours; then fewest nodes; then
options in their given order; then starting hours. Costs are cents, times are whole hours.
"""

from __future__ import annotations

import itertools
import math
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner.errors import InternalError

MAX_RANGE = 2**33
"""No linear expression of the model may have a wider range (docs/solver.md)."""
COST_RANGE = 2**31
ENUMERATED = 20_000
"""Orders of jobs times combinations up to which the solver's answer is enumerated as well."""


@dataclass(frozen=True)
class OfferChoice:
    """One way to do a job."""

    cents: int
    hours: int
    nodes: int


@dataclass(frozen=True)
class Need:
    """A job: hours until it must be done, and the ways to do it."""

    deadline: int
    choices: tuple[OfferChoice, ...]


@dataclass(frozen=True)
class BudgetLimits:
    """Limits over all jobs."""

    max_cents: int | None = None
    max_nodes: int | None = None


@dataclass(frozen=True)
class Picked:
    """Position of the chosen option and starting hour of each job."""

    status: str
    """optimal, feasible, infeasible or unknown."""
    picks: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()


@dataclass(frozen=True)
class NearestOffer:
    """What would have to be loosened, one limit at a time; None where that alone does not help."""

    cents: int | None
    deadlines: tuple[int, ...] | None
    nodes: int | None
    together: tuple[int, tuple[int, ...], int | None] | None
    """(cents, deadlines, nodes where they must change) where no limit alone is enough."""


def pick(needs: Sequence[Need], limits: BudgetLimits, *, time_limit_s: float) -> Picked:
    """The best choice. Raises InternalError where the answer breaks a limit or is beaten by enumeration."""
    left = _left(needs, limits)
    if not all(left):
        return Picked("infeasible")
    unit = cost_unit(needs, left)
    if math.prod(map(len, left)) * math.factorial(len(needs)) <= ENUMERATED:
        enumerated = enumerate_best(needs, limits)
    else:
        enumerated = None
    answer = _Model(needs, limits, left, unit).solve(time_limit_s)
    if answer.picks:
        check(needs, limits, answer)
    if enumerated is not None and answer.status in ("optimal", "infeasible") and answer != enumerated:
        raise InternalError(f"solver and enumeration disagree on the choice of offers: {answer} against {enumerated}")
    return answer


def cost_unit(needs: Sequence[Need], left: Sequence[Sequence[int]]) -> int:
    """Cents in one cost unit of the model: 1, or the least power of ten that keeps the sum of costs small.

    `left` lists the options of each job that keep every limit by themselves.
    """
    most = sum(max(need.choices[i].cents for i in own) for need, own in zip(needs, left, strict=True))
    unit = 1
    while most // unit >= COST_RANGE:
        unit *= 10
    return unit


def units(cents: int, unit: int) -> int:
    """Cost in units of the model, rounded up."""
    return -(-cents // unit)


def order(needs: Sequence[Need], picks: Sequence[int], starts: Sequence[int], unit: int) -> tuple[Any, ...]:
    """What is minimised, goal after goal."""
    chosen = [need.choices[place] for need, place in zip(needs, picks, strict=True)]
    finishes = [start + choice.hours for start, choice in zip(starts, chosen, strict=True)]
    cost = sum(units(choice.cents, unit) for choice in chosen)
    return (cost, max(finishes), sum(finishes), sum(c.nodes for c in chosen), *picks, *starts)


def check(needs: Sequence[Need], limits: BudgetLimits, answer: Picked) -> None:
    """Raise InternalError unless the answer keeps every limit; no solver is asked."""
    chosen = [need.choices[place] for need, place in zip(needs, answer.picks, strict=True)]
    jobs = list(zip(answer.starts, chosen, strict=True))
    broken = []
    for need, (start, choice) in zip(needs, jobs, strict=True):
        if start < 0 or start + choice.hours > need.deadline:
            broken.append(f"a job ends in hour {start + choice.hours}, due in hour {need.deadline}")
    if limits.max_nodes is not None:
        for moment, _ in jobs:
            busy = sum(c.nodes for start, c in jobs if start <= moment < start + c.hours)
            if busy > limits.max_nodes:
                broken.append(f"{busy} nodes are rented in hour {moment}, at most {limits.max_nodes} may be")
    cents = sum(choice.cents for choice in chosen)
    if limits.max_cents is not None and cents > limits.max_cents:
        broken.append(f"{cents} cents are spent, at most {limits.max_cents} may be")
    if broken:
        raise InternalError("the chosen offers break a limit: " + "; ".join(broken))


def enumerate_best(needs: Sequence[Need], limits: BudgetLimits) -> Picked:
    """The best choice by trying every combination, and for each every order in which jobs may claim machines.

    A schedule that is best in finishing hours leaves no job that could start earlier, and every such schedule
    arises when jobs claim the earliest free hours in some order.
    """
    best: tuple[Any, ...] | None = None
    answer = Picked("infeasible")
    left = _left(needs, limits)
    if not all(left):
        return answer
    unit = cost_unit(needs, left)
    for picks in itertools.product(*left):
        chosen = [need.choices[place] for need, place in zip(needs, picks, strict=True)]
        cost = sum(units(choice.cents, unit) for choice in chosen)
        if (limits.max_cents is not None and cost > limits.max_cents // unit) or (best is not None and cost > best[0]):
            continue
        for sequence in itertools.permutations(range(len(needs))):
            starts = _claim(chosen, sequence, limits.max_nodes)
            late = any(s + c.hours > n.deadline for s, c, n in zip(starts, chosen, needs, strict=True))
            key = order(needs, picks, starts, unit)
            if not late and (best is None or key < best):
                best, answer = key, Picked("optimal", picks, tuple(starts))
            if limits.max_nodes is None:
                break
    return answer


def nearest(needs: Sequence[Need], limits: BudgetLimits, *, time_limit_s: float) -> NearestOffer:
    """The least change of one limit that makes an infeasible problem feasible, each found by its own solve."""
    cents = nodes = None
    if limits.max_cents is not None:
        answer = pick(needs, replace(limits, max_cents=None), time_limit_s=time_limit_s)
        if answer.picks:
            free = replace(limits, max_cents=None)
            unit = cost_unit(needs, _left(needs, free))
            cents = unit * sum(units(n.choices[i].cents, unit) for n, i in zip(needs, answer.picks, strict=True))
    if limits.max_nodes is not None:
        most = sum(max(choice.nodes for choice in need.choices) for need in needs)
        low, high = limits.max_nodes, most + 1
        while low + 1 < high:
            middle = (low + high) // 2
            found = pick(needs, replace(limits, max_nodes=middle), time_limit_s=time_limit_s).picks
            low, high = (low, middle) if found else (middle, high)
        nodes = high if high <= most else None
    loosened = _later(needs, limits, time_limit_s)
    deadlines = loosened[1] if loosened is not None else None
    together: tuple[int, tuple[int, ...], int | None] | None = None
    if cents is None and nodes is None and deadlines is None:
        more = _later(needs, replace(limits, max_cents=None), time_limit_s)
        if more is not None:
            together = (*more, None)
        else:
            most = max(min(choice.nodes for choice in need.choices) for need in needs)
            more = _later(needs, BudgetLimits(None, most), time_limit_s)
            together = (*more, most) if more is not None else None
    return NearestOffer(cents, deadlines, nodes, together)


def _later(needs: Sequence[Need], limits: BudgetLimits, time_limit_s: float) -> tuple[int, tuple[int, ...]] | None:
    """(cents, deadlines) of the choice with the fewest late hours, then the cheapest; None where there is none."""
    longest = sum(max(choice.hours for choice in need.choices) for need in needs)
    late = [replace(need, deadline=need.deadline + longest) for need in needs]
    left = _left(late, limits)
    if not all(left):
        return None
    unit = cost_unit(late, left)
    answer = _Model(late, limits, left, unit, wanted=[need.deadline for need in needs]).solve(time_limit_s)
    if not answer.picks:
        return None
    check(late, limits, answer)
    chosen = [need.choices[i] for need, i in zip(needs, answer.picks, strict=True)]
    ends = [start + choice.hours for start, choice in zip(answer.starts, chosen, strict=True)]
    deadlines = tuple(max(end, need.deadline) for end, need in zip(ends, needs, strict=True))
    return unit * sum(units(choice.cents, unit) for choice in chosen), deadlines


def _alone(need: Need, choice: OfferChoice, limits: BudgetLimits) -> bool:
    """Whether an option keeps every limit by itself."""
    return (
        choice.hours <= need.deadline
        and (limits.max_nodes is None or choice.nodes <= limits.max_nodes)
        and (limits.max_cents is None or choice.cents <= limits.max_cents)
    )


def _left(needs: Sequence[Need], limits: BudgetLimits) -> list[list[int]]:
    """Positions of the options of each job that keep every limit by themselves."""
    return [[i for i, choice in enumerate(need.choices) if _alone(need, choice, limits)] for need in needs]


def _claim(chosen: Sequence[OfferChoice], sequence: Sequence[int], max_nodes: int | None) -> list[int]:
    """Earliest starts when jobs claim machines one after another in this order."""
    starts = [0] * len(chosen)
    if max_nodes is None:
        return starts
    placed: list[int] = []
    for job in sequence:
        own = chosen[job]
        for start in sorted({0, *(starts[other] + chosen[other].hours for other in placed)}):
            moments = {start, *(starts[other] for other in placed if start < starts[other] < start + own.hours)}
            if all(
                own.nodes + sum(chosen[o].nodes for o in placed if starts[o] <= m < starts[o] + chosen[o].hours)
                <= max_nodes
                for m in moments
            ):
                starts[job] = start
                break
        placed.append(job)
    return starts


class _Model:
    """The CP-SAT model of one choice."""

    def __init__(
        self,
        needs: Sequence[Need],
        limits: BudgetLimits,
        left: Sequence[Sequence[int]],
        unit: int,
        wanted: Sequence[int] | None = None,
    ) -> None:
        from ortools.sat.python import cp_model

        from planner.search.solver.selftest import refuse_broken_solver

        refuse_broken_solver(cp_model)
        self.module, self.model = cp_model, cp_model.CpModel()
        self.left = left
        self.goals: list[tuple[Any, int]] = []
        """(expression, width of its range)."""
        model = self.model
        horizon = sum(max(need.choices[i].hours for i in own) for need, own in zip(needs, left, strict=True))
        self.picked = [[model.new_bool_var(f"job {j} option {i}") for i in own] for j, own in enumerate(left)]
        self.starts: list[Any] = []
        intervals, demands, ends = [], [], []
        cost, nodes = [], []
        for need, own, picked in zip(needs, left, self.picked, strict=True):
            model.add_exactly_one(picked)
            due = min(need.deadline, horizon)
            start = model.new_int_var(0, due, "start")
            choices = [need.choices[i] for i in own]
            end = start + sum(c.hours * b for c, b in zip(choices, picked, strict=True))
            model.add(end <= due)
            for choice, chosen in zip(choices, picked, strict=True):
                intervals.append(model.new_optional_fixed_size_interval_var(start, choice.hours, chosen, "rent"))
                demands.append(choice.nodes)
            self.starts.append(start)
            ends.append(end)
            cost.append(sum(units(c.cents, unit) * b for c, b in zip(choices, picked, strict=True)))
            nodes.append(sum(c.nodes * b for c, b in zip(choices, picked, strict=True)))
        if limits.max_nodes is not None:
            model.add_cumulative(intervals, demands, limits.max_nodes)
        if limits.max_cents is not None:
            # Costs are rounded up and the limit down, so that nothing above it passes; exact where a unit is a cent.
            model.add(sum(cost) <= limits.max_cents // unit)
        most = sum(max(units(need.choices[i].cents, unit) for i in own) for need, own in zip(needs, left, strict=True))
        if wanted is not None:
            over = [model.new_int_var(0, horizon, "late") for _ in ends]
            for late, end, due in zip(over, ends, wanted, strict=True):
                model.add(late >= end - min(due, horizon))
            self.goals.append((sum(over), horizon * len(over)))
        latest = model.new_int_var(0, horizon, "latest")
        for end in ends:
            model.add(latest >= end)
        self.goals.append((sum(cost), most))
        self.goals.append((latest, horizon))
        self.goals.append((sum(ends), horizon * len(ends)))
        rented = sum(max(need.choices[i].nodes for i in own) for need, own in zip(needs, left, strict=True))
        self.goals.append((sum(nodes), rented))
        for picked in self.picked:
            if len(picked) > 1:
                self.goals.append((sum(place * b for place, b in enumerate(picked)), len(picked)))
        if limits.max_nodes is not None:
            self.goals += [(start, horizon) for start in self.starts]
        if max(width for _, width in self.goals) >= MAX_RANGE:
            raise InternalError("a goal of the offer model ranges over 2^33 or more")

    def solve(self, time_limit_s: float) -> Picked:
        """Goal after goal, each fixed at its optimum before the next."""
        module, started, answer = self.module, clock.monotonic(), Picked("unknown")
        for expression, _ in self.goals:
            left = time_limit_s - (clock.monotonic() - started)
            if left <= 0:
                return replace(answer, status="feasible" if answer.picks else "unknown")
            solver = module.CpSolver()
            solver.parameters.catch_sigint_signal = False
            solver.parameters.num_workers = 1
            solver.parameters.random_seed = 0
            solver.parameters.max_time_in_seconds = left
            self.model.minimize(expression)
            status = solver.solve(self.model)
            if status == module.MODEL_INVALID:
                raise InternalError(f"CP-SAT calls the offer model invalid: {self.model.validate()}")
            if status == module.INFEASIBLE:
                if answer.picks:
                    raise InternalError("a later goal of the offer model has no solution although an earlier one had")
                return Picked("infeasible")
            if status not in (module.OPTIMAL, module.FEASIBLE):
                return replace(answer, status="feasible" if answer.picks else "unknown")
            places = [next(i for i, b in enumerate(own) if solver.boolean_value(b)) for own in self.picked]
            answer = Picked(
                "optimal",
                tuple(own[place] for own, place in zip(self.left, places, strict=True)),
                tuple(int(solver.value(start)) for start in self.starts),
            )
            if status == module.FEASIBLE:
                return replace(answer, status="feasible")
            self.model.add(expression <= round(solver.objective_value))
        return answer
