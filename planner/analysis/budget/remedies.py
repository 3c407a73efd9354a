"""What stands in the way of a choice, and what would do, as sentences in the words of the budget file."""

from __future__ import annotations

import math
from collections.abc import Iterator

from planner.analysis.budget.model import choose
from planner.analysis.budget.offers import BudgetProblem, bill
from planner.analysis.budget.repairs import NearestOffer, conflict, limits_of, nearest
from planner.schema.budget import Budget
from planner.units import number

Conflict = tuple[str, ...]


def remedies_of(
    problem: BudgetProblem, budget: Budget, offers: list[str], *, time_limit_s: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(limits that contradict each other, changes that would do), each change solved."""

    def feasible(other: BudgetProblem) -> bool:
        return bool(choose(other, time_limit_s=time_limit_s, settle=False).picks)

    against = conflict(problem, limits_of(problem, [job.name for job in budget.jobs], offers), feasible)
    near = nearest(problem, time_limit_s=time_limit_s)
    lines = []
    for said, changed in _ways(near):
        what = _all(problem, budget, changed, offers)
        lines.append(said.format(what) + _then(changed.applied(problem), budget, offers, time_limit_s))
    return tuple(against), tuple(lines)


def _ways(near: NearestOffer) -> Iterator[tuple[str, NearestOffer]]:
    """Each change, with the sentence that it stands in."""
    if near.cents is not None:
        yield "{} alone would do", NearestOffer(cents=near.cents)
    if near.deadlines is not None:
        yield "later deadlines alone would do, fewest days in all: {}", NearestOffer(deadlines=near.deadlines)
    if near.cheaper is not None:
        yield "still later deadlines, for about the least money: {}", NearestOffer(deadlines=near.cheaper)
    if near.nodes is not None:
        yield "{} alone would do", NearestOffer(nodes=near.nodes)
    for each in near.capacities:
        yield "{} alone would do", NearestOffer(capacities=(each,))
    for place, changed in enumerate(near.together):
        first = "no limit alone is enough; together these would do, fewest days in all: {}"
        yield ("or, for about the least money: {}" if place else first), changed


def _then(changed: BudgetProblem, budget: Budget, offers: list[str], time_limit_s: float) -> str:
    """What is bought under the changed limits, solved again."""
    picked = choose(changed, time_limit_s=time_limit_s, settle=False)
    if not picked.picks:
        return ""
    chosen = [need.choices[place] for need, place in zip(changed.needs, picked.picks, strict=True)]
    said = [f"{c.nodes} x {offers[c.supply]} for {job.name}" for c, job in zip(chosen, budget.jobs, strict=True)]
    cost, most = bill(changed, picked) / 100, bill(changed, picked, most=True) / 100
    return f" ({', '.join(said)}: {number(cost, 0)} USD, at most {number(most, 0)} as booked)"


def _all(problem: BudgetProblem, budget: Budget, changed: NearestOffer, offers: list[str]) -> str:
    parts = []
    if changed.cents is not None:
        parts.append(f"max_usd: {math.ceil(changed.cents / 100)}")
    if changed.deadlines is not None:
        parts.append(_later(problem, budget, changed.deadlines))
    parts += [f"max_nodes_at_once: {changed.nodes}"] if changed.nodes is not None else []
    parts += [f"capacity_nodes: {nodes} of {offers[place]}" for place, nodes in changed.capacities]
    return ", ".join(part for part in parts if part)


def _later(problem: BudgetProblem, budget: Budget, deadlines: tuple[tuple[int, ...], ...]) -> str:
    """Deadlines that have to move, in days rounded up to a tenth; a repeated job by its latest time."""
    parts = []
    for job, need, dues in zip(budget.jobs, problem.needs, deadlines, strict=True):
        moved = max(due - deadline for due, (_, deadline) in zip(dues, need.windows, strict=True))
        if moved > 0:
            parts.append(f"{job.name} deadline_days: {math.ceil((need.windows[0][1] + moved) / 2.4 - 1e-9) / 10:g}")
    return ", ".join(parts)
