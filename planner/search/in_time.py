"""What is said where the time is up: of a plan in hand how far from the best it may be, or that none is known yet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InternalError
from planner.problem.problem import Question
from planner.search.bounds.in_hand import InHand
from planner.search.bounds.many_rows import MOST_CELLS, NOT_LOOKED_AT, cells, few_enough
from planner.search.deadline import Deadline
from planner.search.grid import slowest_near_tie
from planner.search.plan import Plan, make_plan
from planner.search.space import Removed, Space
from planner.search.witness.witness import refuse_unlaunchable

MANY = 20_000
"""Fewer layouts are always costed."""
SAMPLE = 1_000
"""Layouts that are costed to see how long the rest would take."""
COSTING, TIMES = 0.4, 4
"""Share of the time limit that costs may take, and how often each layout is gone through in that."""


@dataclass(frozen=True)
class Verdict:
    """What is known of a question."""

    status: str
    """optimal, feasible, infeasible or unknown."""
    plan: Plan | None = None
    """Verified."""
    bound_seconds: float | None = None
    """No plan is faster; None where not every layout was looked at."""
    throughput_proved: bool = False
    """No plan is faster by more than the near-tie band."""


def late(question: Question, space: Space, known: InHand | None, bound_seconds: float | None) -> Verdict:
    """The plan in hand, or none: the time is up.

    Raises InternalError for a plan in hand that does not fit its ledgers.
    """
    if known is None:
        return Verdict("unknown", bound_seconds=bound_seconds)
    place = known.row, known.layers, known.recomputed
    plan = make_plan(question, space.layouts, *place, space.rollouts, known.choice)
    if plan.beyond_demand_gib < -1e-9:
        raise InternalError(f"the plan in hand lacks {-plan.beyond_demand_gib:.4f} GiB of its limit")
    refuse_unlaunchable(plan)
    if bound_seconds is None:
        return Verdict("feasible", plan)
    bound = min(bound_seconds, plan.step_seconds)
    near = plan.step_seconds <= slowest_near_tie(bound, question.scenario.search.near_tie)
    return Verdict("feasible", plan, bound, near)


def of_a_part(found: Verdict) -> Verdict:
    """What a verdict on some of the layouts says of all of them."""
    if found.plan is None:
        return Verdict("unknown")
    return Verdict("feasible", found.plan)


def affordable(question: Question, space: Space, unit: float, deadline: Deadline) -> Space:
    """The space, or as many of its layouts, evenly picked, as can be costed before their share of the time is up; of
    more than the memory holds together those that may hold the answer.
    """
    if space.rollouts is not None and cells(space.layouts) > MOST_CELLS:
        found, dropped = few_enough(question, space.layouts, RolloutTable(question, space.rollouts), unit, deadline)
        whole = space.whole and all(each.rule != NOT_LOOKED_AT for each in dropped)
        space = replace(space, layouts=found, removed=(*space.removed, *dropped), whole=whole)
    layouts, left = space.layouts, deadline.left_s
    if len(layouts) < MANY or left == np.inf:
        return space
    some = RowCosts(question, layouts.take(np.arange(SAMPLE)))
    started = deadline.now()
    costed = len(some.time) + len(some.memory)  # both are worked out when asked for
    spent = (deadline.now() - started) * TIMES / len(some.layouts)
    most = max(SAMPLE, int(COSTING * left / spent)) if costed and spent > 0 else len(layouts)
    if most >= len(layouts):
        return space
    rows = np.arange(0, len(layouts), -(-len(layouts) // most))
    text = "the time limit came before they were costed"
    removed = Removed(NOT_LOOKED_AT, text, len(layouts) - len(rows))
    return replace(space, layouts=layouts.take(rows), removed=(*space.removed, removed), whole=False)
