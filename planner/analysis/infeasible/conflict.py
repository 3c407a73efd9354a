"""When nothing fits: a minimal set of limits that contradict each other, and the cheapest repairs, each re-solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.analysis.infeasible.feasible import Checks
from planner.analysis.infeasible.limits import Limit, limits_of, overrides
from planner.analysis.infeasible.repairs import Repair, find_repairs
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.search.plan import Plan
from planner.search.search import plan
from planner.search.softer import softest
from planner.search.space import build_space

Progress = Callable[[str], None]
MEMORY_TO_SPARE = 64
"""Times the memory of a GPU that stands for "memory were no limit"."""


@dataclass(frozen=True)
class Conflict:
    """Why nothing fits."""

    limits: tuple[Limit, ...]
    """They contradict each other even where every other one of `every` is dropped, and none of them can be left out."""
    alone: tuple[bool | None, ...]
    """Of each of them: does a plan exist where it alone is dropped, as `Limit.without` says, and the file keeps all
    else; None where the time limit came first."""
    every: tuple[Limit, ...]
    """All limits and pins of the scenario that were let go of in the search for the conflict."""
    hopeless: bool
    """True where nothing fits even with all of `every` dropped."""
    rules: tuple[str, ...]
    """Rules of the engine that the limits break, where memory is not the reason."""
    repairs: tuple[Repair, ...]
    asked: Plan | None
    """The scenario as it stands, if memory were no limit: what throughput of repairs is compared with."""

    @property
    def reference_tokens_per_second(self) -> float:
        """Tokens a second of `asked`, or of the fastest repair where rules forbid that whatever the memory."""
        if self.asked is not None:
            return self.asked.tokens_per_second
        return max(repair.plan.tokens_per_second for repair in self.repairs)

    def throughput_cost(self, repair: Repair) -> float:
        """Relative change of tokens a second against the reference."""
        return repair.plan.tokens_per_second / self.reference_tokens_per_second - 1


def _quiet(_: str) -> None:
    return None


def explain_conflict(
    document: Document, catalog: Catalog, *, repairs: int = 10, progress: Progress = _quiet
) -> Conflict:
    """Find a minimal conflict by deletion, and up to so many repairs in playbook order.

    Deletion filter: starting from all limits, each is dropped in turn; one whose loss leaves the rest infeasible is not
    part of the conflict and stays dropped. Source: Chinneck and Dravnieks 1991, ORSA Journal on Computing 3(2).
    """
    question = softest(question_of(document, catalog))
    every = limits_of(question)
    checks = Checks(catalog, {})
    if not (checks.fits(document, overrides(every)) or checks.fits_exactly(document, overrides(every))):
        return Conflict((), (), every, True, _broken_rules(question), (), None)
    kept = minimal(document, every, checks.fits, progress)
    left = [limit for limit in every if limit not in kept]
    if checks.fits_exactly(document, overrides(left)):
        kept = minimal(document, every, checks.proved, progress)
        left = [limit for limit in every if limit not in kept]
    rules = _broken_rules(question_of(override(document, overrides(left)), catalog))
    found = find_repairs(document, question, every, checks, most=repairs, progress=progress) if repairs else []
    roomy = _asked(document, question.first, catalog) if found else None
    alone = tuple(_dropped_alone(document, limit, catalog) for limit in kept)
    return Conflict(tuple(kept), alone, every, False, rules, tuple(found), roomy)


def _dropped_alone(document: Document, limit: Limit, catalog: Catalog) -> bool | None:
    """Does a plan exist where one limit is dropped and the file keeps all else; None where time was up."""
    try:
        outcome = plan(override(document, overrides([limit])), catalog, check_points=0)
    except InputError:
        return False
    return None if outcome.status == "unknown" else outcome.plan is not None


def minimal(
    document: Document,
    every: Sequence[Limit],
    fits: Callable[[Document, dict[str, object]], bool],
    progress: Progress = _quiet,
) -> list[Limit]:
    """Limits that contradict each other, none of which can be left out."""
    dropped: list[Limit] = []
    kept: list[Limit] = []
    for limit in every:
        progress(f"is {limit.name} part of the conflict?")
        if fits(document, overrides([*dropped, limit])):
            kept.append(limit)
        else:
            dropped.append(limit)
    return kept


def _asked(document: Document, problem: Problem, catalog: Catalog) -> Plan | None:
    """The best plan of the scenario if memory were no limit."""
    changes = {"cluster.usable_gib": problem.usable_gib * MEMORY_TO_SPARE, "limits.host_memory": False}
    try:
        return plan(override(document, changes), catalog, check_points=0).plan
    except InputError:
        return None


def _broken_rules(question: Question) -> tuple[str, ...]:
    """The rule that takes the last legal layout or rollout engine of a problem; none where memory is the reason."""
    space = build_space(question)
    removed = []
    if not len(space.layouts):
        removed = [r for r in space.removed if not r.rule.startswith("rollout")]
    elif space.rollouts is not None and not len(space.rollouts):
        removed = [r for r in space.removed if r.rule.startswith("rollout")]
    return tuple(r.text for r in removed[-1:])
