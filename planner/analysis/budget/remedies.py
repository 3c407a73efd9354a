"""What stands in the way of a choice, and what would do, as sentences in the words of the budget file."""

from __future__ import annotations

import math

from planner.analysis.budget.model import choose
from planner.analysis.budget.offers import BudgetProblem
from planner.analysis.budget.repairs import NearestOffer, conflict, limits_of, nearest
from planner.schema.budget import Budget

Conflict = tuple[str, ...]


def remedies_of(
    problem: BudgetProblem, budget: Budget, offers: list[str], *, time_limit_s: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(limits that contradict each other, changes that would do), each change solved."""

    def feasible(other: BudgetProblem) -> bool:
        return bool(choose(other, time_limit_s=time_limit_s, settle=False).picks)

    against = conflict(problem, limits_of(problem, [job.name for job in budget.jobs], offers), feasible)
    return tuple(against), _sentences(problem, budget, nearest(problem, time_limit_s=time_limit_s), offers)


def _sentences(problem: BudgetProblem, budget: Budget, near: NearestOffer, offers: list[str]) -> tuple[str, ...]:
    lines = []
    if near.cents is not None:
        lines.append(f"max_usd: {math.ceil(near.cents / 100)} alone would do")
    if near.deadlines is not None:
        lines.append(f"later deadlines alone would do, fewest days in all: {_later(problem, budget, near.deadlines)}")
    if near.nodes is not None:
        lines.append(f"max_nodes_at_once: {near.nodes} alone would do")
    for place, nodes in near.capacities:
        lines.append(f"capacity_nodes: {nodes} of {offers[place]} alone would do")
    if near.together is not None:
        lines.append(
            "no limit alone is enough; together these would do: " + _all(problem, budget, near.together, offers)
        )
    return tuple(lines)


def _all(problem: BudgetProblem, budget: Budget, changed: NearestOffer, offers: list[str]) -> str:
    parts = []
    if budget.max_usd is not None and changed.cents is not None:
        parts.append(f"max_usd: {math.ceil(changed.cents / 100)}")
    moved = _later(problem, budget, changed.deadlines or ())
    parts += [moved] if moved else []
    parts += [f"max_nodes_at_once: {changed.nodes}"] if changed.nodes is not None else []
    parts += [f"capacity_nodes: {nodes} of {offers[place]}" for place, nodes in changed.capacities]
    return ", ".join(parts)


def _later(problem: BudgetProblem, budget: Budget, deadlines: tuple[tuple[int, ...], ...]) -> str:
    """Deadlines that have to move, in days rounded up to a tenth; a repeated job by its latest time."""
    parts = []
    for job, need, dues in zip(budget.jobs, problem.needs, deadlines, strict=True):
        moved = max(due - deadline for due, (_, deadline) in zip(dues, need.windows, strict=True))
        if moved > 0:
            parts.append(f"{job.name} deadline_days: {math.ceil((need.windows[0][1] + moved) / 2.4 - 1e-9) / 10:g}")
    return ", ".join(parts)
