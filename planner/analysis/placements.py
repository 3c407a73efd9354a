"""Shared GPUs, GPUs of their own in turn, or at once: every placement that a scenario leaves open, each solved."""

from __future__ import annotations

from dataclasses import dataclass

from planner.problem.problem import Question
from planner.search.plan import Plan
from planner.search.search import Outcome, search

PATH = "rl.placement"


@dataclass(frozen=True)
class Placed:
    """The best plan of one placement."""

    name: str
    """colocated, disaggregated or asynchronous."""
    plan: Plan | None
    """None where none fits, or none was found in time."""
    chosen: bool
    none_fits: bool = False
    """Proved: no layout of this placement fits."""


def placements(outcome: Outcome, *, time_limit_s: float | None = None) -> tuple[Placed, ...]:
    """The best of each placement that the scenario leaves open, the chosen one as it is; empty where it pins one."""
    found = outcome.plan
    chosen = dict(found.problem.settings).get(PATH) if found is not None else None
    if chosen is None:
        return ()
    variants = outcome.question.problems
    names = dict.fromkeys(value for variant in variants for path, value in variant.settings if path == PATH)
    out = []
    for name in names:
        best = outcome
        if name != chosen:
            kept = Question(tuple(variant for variant in variants if (PATH, name) in variant.settings))
            best = search(kept, check_points=0, time_limit_s=time_limit_s)
        out.append(Placed(name, best.plan, name == chosen, best.status == "infeasible"))
    return tuple(out)
