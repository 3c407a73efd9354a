"""Cost against the end of all work: the cheapest choice for every end that is worth its money, and the knee."""

from __future__ import annotations

from dataclasses import dataclass, replace

from planner.analysis.budget.model import choose
from planner.analysis.budget.offers import BudgetProblem, Picked, bill, latest

MAX_POINTS = 24
"""More are not drawn; the report says where the front was cut."""


@dataclass(frozen=True)
class CostPoint:
    """The cheapest choice that ends no later."""

    hours: int
    """End of all work. [h]"""
    cents: int
    picked: Picked


@dataclass(frozen=True)
class CostFront:
    """Points by rising cost, so by earlier ends."""

    points: tuple[CostPoint, ...]
    whole: bool
    """False where earlier ends exist that were not asked for."""

    @property
    def knee(self) -> int | None:
        """Point farthest below the line from the cheapest to the earliest, both scaled to 1; None of fewer than 3."""
        if len(self.points) < 3:
            return None
        first, last = self.points[0], self.points[-1]
        wide, high = max(1, first.hours - last.hours), max(1, last.cents - first.cents)
        below = [(first.hours - p.hours) / wide - (p.cents - first.cents) / high for p in self.points]
        best = max(range(len(below)), key=lambda place: (below[place], -place))
        return best if 0 < best < len(below) - 1 else None


def cost_front(problem: BudgetProblem, *, time_limit_s: float, points: int = MAX_POINTS) -> CostFront:
    """Each point solved with an end one hour before that of the last one."""
    found: list[CostPoint] = []
    bounded = problem
    while len(found) < points:
        picked = choose(bounded, time_limit_s=time_limit_s)
        if not picked.picks:
            return CostFront(tuple(_best(found)), whole=picked.status == "infeasible")
        end = latest(problem, picked)
        found.append(CostPoint(end, bill(problem, picked), picked))
        bounded = ending_by(problem, end - 1)
    return CostFront(tuple(_best(found)), whole=False)


def _best(points: list[CostPoint]) -> list[CostPoint]:
    """Without those that a later one beats in the end at the same cost."""
    return [p for p, after in zip(points, [*points[1:], None], strict=True) if after is None or after.cents > p.cents]


def ending_by(problem: BudgetProblem, hours: int) -> BudgetProblem:
    """The same with every deadline at this hour or before."""
    needs = tuple(
        replace(need, windows=tuple((release, min(deadline, hours)) for release, deadline in need.windows))
        for need in problem.needs
    )
    return replace(problem, needs=needs)
