"""Space -> costs -> tables -> solver -> verified plan: the search for one problem."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InternalError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.bounds.first_look import first_look
from planner.search.deadline import Deadline
from planner.search.enumerate import DEFAULT_POINTS, Best, count_points, enumerate_best
from planner.search.grid import MEMORY_UNITS, Rounded, slowest_near_tie
from planner.search.least_memory import least_memory
from planner.search.near_ties import Looked, NearTies, known_share, leave_out, near_ties
from planner.search.plan import Plan, chance_words, given_up, make_plan, spare, verdict
from planner.search.prune import InHand, prune, row_bounds
from planner.search.shown import Shown
from planner.search.space import Removed, Space, build_space
from planner.search.tables import RangeTooWide, Tables, build_tables
from planner.search.verify import verify
from planner.search.witness.witness import refuse_unlaunchable
from planner.units import number, percent

LAST = 0.1
"""Share of the time limit that is left to the solver at least."""
MANY_ROWS = 5_000
"""More rows than these are not worth a model: the plan in hand and its bound are the answer."""


@dataclass(frozen=True)
class Proof:
    """What was proved, and of how many combinations."""

    status: str
    """optimal, feasible, infeasible or unknown."""
    bound_seconds: float | None
    """No plan of the space is faster than this."""
    gap: float | None
    """(step - bound) / step; 0 where throughput is proved, since the near-tie band is what the scenario asks for."""
    candidates: int
    """Combinations of degrees, micro-batch, wishes and rollout choices looked at."""
    points: int
    """With layers and recomputed layers of each stage: every point of the space."""
    removed: tuple[Removed, ...]
    solver_rows: int
    """Rows left for the solver."""
    rounding_only: int
    """Layouts that fit in floats and that only rounding to KiB excludes."""
    enumerated: int | None
    """Points enumerated as a check of the solver; None where it was not done."""
    decided_by_rounding: bool = False
    """The enumeration agrees with the solver on its integer grid, and in floats only to the width of that grid."""
    throughput_proved: bool = False
    """No plan is faster by more than the near-tie share; `feasible` then means that ties are not settled."""


@dataclass(frozen=True, repr=False)
class Outcome(Shown):
    """The answer to one question."""

    question: Question
    """What was asked, with nothing left to look up."""
    status: str
    """optimal, feasible (not proved to be the best), infeasible (proved), or unknown (the time limit came first)."""
    plan: Plan | None
    """The best layout, where one was found."""
    proof: Proof
    timings: tuple[tuple[str, float], ...]
    """(part, seconds); never on stdout unless asked for."""
    usual_headroom_gib: float | None = None
    """What is usually kept free, where no layout keeps it and `question` asks for less. [GiB]"""
    near_ties: NearTies | None = None
    """Layouts whose step is about as long; None where nobody asked, or nothing is known of the error."""

    def __str__(self) -> str:
        return outcome_line(self)

    def __repr__(self) -> str:
        return f"<Outcome {self}>"


def search(
    question: Question,
    *,
    check_points: int = DEFAULT_POINTS,
    time_limit_s: float | None = None,
    without: Sequence[Mapping[str, int]] = (),
    ties: float | None = None,
    now: Callable[[], float] = clock.monotonic,
) -> Outcome:
    """Find, prove and re-cost the best plan of a question.

    Spaces of up to `check_points` points are enumerated too; a difference is InternalError. Layouts in `without` are
    left out (with all their variants), so that the next best can be asked for. `ties` asks which layouts have a
    step longer by at most this share.

    Headroom that nobody demanded is a preference. Where no layout keeps it, the question is asked again with as much as
    the layout of even stages that needs least memory leaves free; the outcome's own question then says how much.
    """

    limit = time_limit_s if time_limit_s is not None else question.scenario.search.time_limit_s
    deadline = Deadline.of(limit, now)

    def ask(asked: Question) -> Outcome:
        return _search_question(asked, check_points, deadline, without, ties)

    outcome = ask(question)
    if outcome.status != "infeasible" or not question.prefers_headroom:
        return outcome
    demanded = question.as_demanded
    least = least_memory(demanded, leave_out(demanded, build_space(demanded), without))
    left = math.floor(least.headroom_gib * 10) / 10 if least is not None else 0.0
    again = ask(question.keeping(left)) if left > 0 else outcome
    if again.status == "infeasible":
        again = ask(demanded)
    if again.status == "infeasible":
        return again
    return replace(again, usual_headroom_gib=question.roomiest.headroom_gib)


def _search_question(
    question: Question, check_points: int, deadline: Deadline, without: Sequence[Mapping[str, int]], ties: float | None
) -> Outcome:
    """One search, with the headroom that the question asks for."""
    watch: dict[str, float] = {}
    started = deadline.now()

    def lap(name: str) -> None:
        spent = deadline.now() - started - sum(watch.values())
        watch[name] = watch.get(name, 0.0) + spent

    space = leave_out(question, build_space(question), without)
    lap("space")
    costs = RowCosts(question, space.layouts)
    rollouts = RolloutTable(question, space.rollouts) if space.rollouts is not None else None
    points = count_points(question, costs, rollouts)
    lap("costs")
    for unit in MEMORY_UNITS:
        try:
            found = _search(question, space, unit, deadline, lap)
            break
        except RangeTooWide:
            if unit == MEMORY_UNITS[-1]:
                raise
    status, plan, bound, fastest = found.status, found.plan, found.bound_seconds, found.throughput_proved
    enumerated, by_rounding = None, False
    if points <= check_points and status in ("optimal", "infeasible"):
        best = enumerate_best(question, costs, rollouts) if points else None
        by_rounding = not agrees(costs, rollouts, plan, best)
        if by_rounding:
            whole = replace(found.grid, costs=costs, rollouts=rollouts)
            _check(costs, rollouts, plan, enumerate_best(question, costs, rollouts, whole))
        enumerated = points
        lap("enumeration check")
    gap = None
    if plan is not None and bound is not None:
        bound = min(bound, plan.step_seconds)
        gap = 0.0 if fastest else (plan.step_seconds - bound) / plan.step_seconds
    proof = Proof(
        status=status,
        bound_seconds=bound,
        gap=gap,
        candidates=space.candidates + space.rollout_candidates,
        points=points,
        removed=space.removed + found.removed,
        solver_rows=found.solver_rows,
        rounding_only=found.rounding_only,
        enumerated=enumerated,
        decided_by_rounding=by_rounding,
        throughput_proved=fastest,
    )
    tied = None
    if ties is not None and plan is not None and found.looked is not None and deadline.left_s > 0:
        tied = near_ties(question, found.looked, plan.layout, plan.step_seconds, ties)
        lap("near ties")
    return Outcome(question, status, plan, proof, tuple(watch.items()), None, tied)


@dataclass(frozen=True)
class _Searched:
    """What the search of a space came to."""

    status: str
    plan: Plan | None
    """Verified."""
    bound_seconds: float | None
    throughput_proved: bool
    removed: tuple[Removed, ...]
    solver_rows: int
    rounding_only: int
    grid: Rounded
    """The last grid used."""
    looked: Looked | None
    """The rows of the granted wishes; None without a plan."""


def _search(question: Question, space: Space, unit: float, deadline: Deadline, lap: Callable[[str], None]) -> _Searched:
    """Best wishes first: cost, prune and solve their rows, until a combination of wishes is not refuted."""
    limit = deadline.limit_s
    removed: list[Removed] = []
    rounding_only, left = 0, len(space.layouts)
    wishes = np.unique(space.layouts.wish).tolist() or [0]
    for wish in wishes:
        part = space if len(wishes) == 1 else _with_wish(space, wish)
        left -= len(part.layouts)
        rollouts = RolloutTable(question, part.rollouts) if part.rollouts is not None else None
        whole, likely = part.layouts, np.ones(len(part.layouts), dtype=bool)
        soonest = np.zeros(len(whole))
        if rollouts is None:
            likely, soonest = first_look(question, part.layouts, unit, deadline)
            if not likely.all():
                text = f"even its lower bound is more than {percent(question.scenario.search.near_tie)} slower than "
                removed.append(Removed("slower", text + "a plan in hand", int((~likely).sum())))
                part = replace(part, layouts=part.layouts.take(likely))
            lap("first look")
        rounded = Rounded(RowCosts(question, part.layouts), rollouts, 1.0, unit)
        bounds = row_bounds(question, rounded, deadline)
        rounding_only += bounds.rounding_only
        lap("bounds")
        found, pruned = None, prune(question, rounded.costs, rollouts, bounds, frozenset(), deadline)
        if pruned.wish is not None:
            rows, longest = pruned.rows, pruned.longest_seconds
            left_s = deadline.left_s
            known = bounds.in_hand
            if known is not None and (left_s < LAST * limit or len(rows) > MANY_ROWS):
                found = _as_found(question, part, known, float(bounds.bound[rows].min()))
            else:
                tables, rounded = build_tables(question, rounded, rows, bounds.bound, pruned.choices, longest)
                lap("tables")
                found = _solve(question, tables, part, max(LAST * limit, deadline.left_s))
                lap("solver")
                slower = found[1] is None or (known is not None and found[1].step_seconds > known.seconds * (1 + 1e-6))
                if known is not None and found[0] in ("unknown", "feasible") and not found[3] and slower:
                    least = max(float(bounds.bound[rows].min()), found[2] or 0.0)
                    found = _as_found(question, part, known, least)
            if found[0] == "infeasible":
                if known is not None and part.layouts.wish[known.row] == wish:
                    raise InternalError(f"the solver finds no plan, and {known} fits")
                found, pruned = None, prune(question, rounded.costs, rollouts, bounds, frozenset({wish}), deadline)
        removed += pruned.removed
        if found is not None:
            if left:
                removed.append(Removed("wishes", "a combination with fewer wishes given up fits", left))
            looked = Looked(whole, np.flatnonzero(likely), soonest, bounds)
            return _Searched(*found, _merged(removed), len(pruned.rows), rounding_only, rounded, looked)
    return _Searched("infeasible", None, None, False, _merged(removed), 0, rounding_only, rounded, None)


def _as_found(
    question: Question, space: Space, known: InHand, bound_seconds: float
) -> tuple[str, Plan | None, float | None, bool]:
    """A plan that pruning found where time is up: (status, plan, bound in seconds, whether its throughput is proved).

    Raises InternalError for one that does not fit its ledgers.
    """
    plan = make_plan(question, space.layouts, known.row, known.layers, known.recomputed, None, None)
    needed = plan.machines(plan.binding).headroom_gib
    if plan.headroom_gib < needed - 1e-9:
        raise InternalError(f"the plan in hand has {plan.headroom_gib:.4f} GiB free and needs {needed:.4f}")
    refuse_unlaunchable(plan)
    near_tie = question.scenario.search.near_tie
    bound = min(bound_seconds, plan.step_seconds)
    return "feasible", plan, bound, plan.step_seconds <= slowest_near_tie(bound, near_tie)


def _with_wish(space: Space, wish: int) -> Space:
    """The part of a space in which these wishes are granted."""
    rollouts = space.rollouts
    chosen = rollouts.take(rollouts.wish == wish) if rollouts is not None else None
    return replace(space, layouts=space.layouts.take(space.layouts.wish == wish), rollouts=chosen)


def _merged(removed: Sequence[Removed]) -> tuple[Removed, ...]:
    """One entry a rule, counts added."""
    counts: dict[tuple[str, str], int] = {}
    for one in removed:
        counts[one.rule, one.text] = counts.get((one.rule, one.text), 0) + one.count
    return tuple(Removed(rule, text, count) for (rule, text), count in counts.items())


def _solve(
    question: Question, tables: Tables, space: Space, limit: float
) -> tuple[str, Plan | None, float | None, bool]:
    """(status, plan, bound in seconds, whether its throughput is proved): what the solver makes of the tables."""
    from planner.search.solver.solve import solve

    options = question.scenario.search
    answer = solve(tables, time_limit_s=limit, seed=options.seed, workers=options.workers)
    if answer.row is None:
        return answer.status, None, None, False
    row = tables.rows[answer.row]
    choice = tables.choices[answer.choice].index if answer.choice is not None else None
    plan = make_plan(question, space.layouts, row.index, answer.layers, answer.recomputed, space.rollouts, choice)
    verify(plan, answer, tables)
    refuse_unlaunchable(plan)
    # Each coefficient of a plan was rounded up by less than a unit.
    slack = 1 + len(row.visits) * (4 * question.architecture.num_hidden_layers + 2)
    bound = max(0.0, (answer.bound - slack) * tables.time_unit_seconds)
    return answer.status, plan, bound, answer.time_proved


def agrees(costs: RowCosts, rollouts: RolloutTable | None, plan: Plan | None, best: Best | None) -> bool:
    """Is what enumeration found the solver's plan, every decision of it."""
    if plan is None or best is None:
        return plan is None and best is None
    same = costs.layouts.row(best.row) == plan.layout and best.layers == plan.layers
    same = same and best.recomputed == plan.recomputed
    if rollouts is not None and best.choice is not None and plan.rollout is not None:
        chosen = rollouts.choices.take(best.choice)
        same = same and int(chosen.tensor_parallel[0]) == plan.rollout.tensor_parallel
        same = same and float(chosen.gpu_memory_utilization[0]) == plan.rollout.gpu_memory_utilization
        same = same and int(chosen.num_gpus[0]) == plan.rollout.num_gpus
        same = same and plan.rollout.max_concurrency in (None, int(chosen.max_concurrency[0]))
    return same


def _check(costs: RowCosts, rollouts: RolloutTable | None, plan: Plan | None, best: Best | None) -> None:
    """Raise InternalError where enumeration and solver disagree."""
    if agrees(costs, rollouts, plan, best):
        return
    if plan is None or best is None:
        found = (plan is not None, best is not None)
        raise InternalError(f"solver and enumeration disagree whether a plan fits: {found}")
    raise InternalError(
        f"solver and enumeration disagree: {plan.layout} {plan.layers} {plan.recomputed} {plan.rollout}, "
        f"{plan.step_seconds:.6f} s, {plan.headroom_gib:.4f} GiB free, against {costs.layouts.row(best.row)} "
        f"{best.layers} {best.recomputed}, {best.seconds:.6f} s, {best.headroom_bytes / 2**30:.4f} GiB free"
    )


def why_nothing_fits(outcome: Outcome) -> str:
    """The limit, or else the rule, that took the last candidates of an infeasible problem."""
    removed = [entry for entry in outcome.proof.removed if entry.rule not in ("wishes", "slower")]
    for name in ("no_rollout", "memory", "rollout_memory", "rollout_pool"):
        for entry in removed:
            if entry.rule == name:
                return entry.text
    return removed[-1].text if removed else "no candidate"


def plan(
    document: Document,
    catalog: Catalog | None = None,
    *,
    check_points: int = DEFAULT_POINTS,
    time_limit_s: float | None = None,
    ties: bool = False,
) -> Outcome:
    """Find the best layout of a scenario, with its proof; `ties`: and which layouts lie within the known error."""
    question = question_of(document, catalog)
    share = known_share(question) if ties else None
    return search(question, check_points=check_points, time_limit_s=time_limit_s, ties=share)


def how_proved(outcome: Outcome) -> str:
    """`proved optimal`, or what of the plan is not."""
    if outcome.status == "optimal":
        return "proved optimal"
    if outcome.proof.throughput_proved:
        return "throughput proved, ties not settled"
    return "best found" if outcome.proof.gap is None else f"best found, gap {percent(outcome.proof.gap)}"


def outcome_line(outcome: Outcome) -> str:
    """The answer in one sentence. `optimal` is only said with a proof."""
    question, plan = outcome.question, outcome.plan
    name = question.name
    if plan is None:
        if outcome.status == "infeasible":
            counts = question.total_gpus
            gpus = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
            kinds = " or ".join(dict.fromkeys(v.gpu.name for v in question.problems))
            return f"{name}: no layout fits on {gpus} x {kinds} (proved)"
        return f"{name}: no verdict within the time limit"
    gpus = f"{plan.num_gpus} GPUs" if plan.num_gpus > 1 else "one GPU"
    lost = given_up(plan)
    if lost:
        start = f"fits on {gpus} after giving up {', '.join(lost)}"
    elif len(question.wishes) > 1:
        start = f"keeps every wish on {gpus}"
    else:
        start = f"fits on {gpus}"
    if outcome.usual_headroom_gib is not None:
        less = f"leaves {number(plan.headroom_gib, 1)} GiB, less than the {number(outcome.usual_headroom_gib, 1)} usual"
        chance = f", fits with {chance_words(plan.fit_probability)}" if plan.fit_probability is not None else ""
        return f"{name}: {start} at the edge: {less} for engine {plan.problem.engine.id}{chance}; {how_proved(outcome)}"
    return f"{name}: {start}: {verdict(plan)}, {spare(plan)}; {how_proved(outcome)}"
