"""Space -> costs -> tables -> solver -> verified plan: the search for one problem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner import clock
from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InternalError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.problem.defaults import KeptDefault, held
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.bounds.first_look import Look, first_look, worth_a_look
from planner.search.bounds.rollout_pairs import RolloutPairs
from planner.search.deadline import Deadline
from planner.search.enumerate import DEFAULT_POINTS, count_points, enumerate_best, refuse_disagreement
from planner.search.enumerate import agrees as agrees
from planner.search.grid import MEMORY_UNITS, Rounded
from planner.search.in_time import Verdict, affordable, late, of_a_part
from planner.search.near_ties import Looked, NearTies, known_share, leave_out, near_ties
from planner.search.plan import Plan, chance_words, given_up, make_plan, spare, verdict
from planner.search.prune import Bounds, Pruned, no_room, prune, row_bounds
from planner.search.shown import Shown
from planner.search.softer import can_be_softer, softer_questions
from planner.search.space import Removed, Space, build_space, merged, with_wish
from planner.search.tables import FEW_ROWS, RangeTooWide, Tables, TooLate, build_tables
from planner.search.untried import NOT_TRIED, untried
from planner.search.verify import verify
from planner.search.witness.witness import refuse_unlaunchable
from planner.units import number, percent

LAST = 0.1
"""Share of the time limit that is left to the solver at least."""
MANY_ROWS = 5_000
"""More rows than these are not worth a model: the plan in hand and its bound are the answer."""


Lap = Callable[[str], None]
"""Says that a part of the search has ended."""


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
    held: tuple[KeptDefault, ...] = ()
    """Decisions that the scenario does not name and that stay at their defaults: nothing is proved of other values."""


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


def _limit_s(question: Question, asked: float | None) -> float:
    return asked if asked is not None else question.scenario.search.time_limit_s


def search(
    question: Question,
    *,
    check_points: int = DEFAULT_POINTS,
    time_limit_s: float | None = None,
    without: Sequence[Mapping[str, int]] = (),
    ties: float | None = None,
    soften: bool = True,
    now: Callable[[], float] = clock.now,
) -> Outcome:
    """Find, prove and re-cost the best plan of a question.

    Spaces of up to `check_points` points are enumerated too; a difference is InternalError. Layouts in `without` are
    left out (with all their variants), so that the next best can be asked for. `ties` asks which layouts have a
    step longer by at most this share. Without `soften` nothing of what follows is given up.

    Headroom that nobody demanded is a preference, and so is room for what an allocator is estimated to hold and can
    give back. Where no layout keeps them, first the one is given up and then the other: the question is asked again
    with as much headroom as the layout of nearly even stages that needs least memory leaves free; the outcome's own
    question then says how much. Infeasible is what live memory and the headroom demanded exceed.
    """
    limit = _limit_s(question, time_limit_s)
    deadline = Deadline.of(limit, now)

    def ask(asked: Question) -> Outcome:
        return _search_question(asked, check_points, deadline, without, ties)

    outcome = ask(question)
    if outcome.status != "infeasible" or not soften or not can_be_softer(question):
        return outcome
    for softer in softer_questions(question, leave_out(question, build_space(question), without)):
        if deadline.past():
            return _undecided(outcome)
        found = ask(softer.question)
        if found.status == "infeasible" and softer.softest:
            return found
        if found.status != "infeasible" and not softer.to_prove:
            return replace(found, usual_headroom_gib=question.roomiest.headroom_gib)
    return outcome


def _undecided(outcome: Outcome) -> Outcome:
    """With less headroom something may fit, and there was no time to ask."""
    return replace(outcome, status="unknown", proof=replace(outcome.proof, status="unknown"))


def _search_question(
    question: Question, check_points: int, deadline: Deadline, without: Sequence[Mapping[str, int]], ties: float | None
) -> Outcome:
    """One search, with the headroom that the question asks for."""
    watch: dict[str, float] = {}
    started = deadline.now()

    def lap(name: str) -> None:
        spent = deadline.now() - started - sum(watch.values())
        watch[name] = watch.get(name, 0.0) + spent

    space = leave_out(question, build_space(question, deadline), without)
    lap("space")
    costs = RowCosts(question, space.layouts)
    rollouts = RolloutTable(question, space.rollouts) if space.rollouts is not None else None
    points = count_points(question, costs, rollouts)
    lap("costs")
    for unit in MEMORY_UNITS:
        try:
            found = _search(question, space, costs if points <= check_points else None, unit, deadline, lap)
            break
        except RangeTooWide:
            if unit == MEMORY_UNITS[-1]:
                raise
    verdict = found.verdict if space.whole else of_a_part(found.verdict)
    status, plan, bound, fastest = verdict.status, verdict.plan, verdict.bound_seconds, verdict.throughput_proved
    enumerated, by_rounding = None, False
    if points <= check_points and status in ("optimal", "infeasible"):
        best = enumerate_best(question, costs, rollouts) if points else None
        by_rounding = not agrees(costs, rollouts, plan, best)
        if by_rounding:
            whole = replace(found.grid, costs=costs, rollouts=rollouts)
            refuse_disagreement(costs, rollouts, plan, enumerate_best(question, costs, rollouts, whole))
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
        removed=space.removed + found.removed + untried(question),
        solver_rows=found.solver_rows,
        rounding_only=found.rounding_only,
        enumerated=enumerated,
        decided_by_rounding=by_rounding,
        throughput_proved=fastest,
        held=held(question),
    )
    tied = None
    if ties is not None and plan is not None and found.looked is not None and not deadline.past(1 - LAST):
        tied = near_ties(question, found.looked, plan.layout, plan.step_seconds, ties)
        lap("near ties")
    return Outcome(question, status, plan, proof, tuple(watch.items()), None, tied)


@dataclass(frozen=True)
class _Searched:
    """What the search of a space came to."""

    verdict: Verdict
    removed: tuple[Removed, ...]
    solver_rows: int
    rounding_only: int
    grid: Rounded
    """The last grid used."""
    looked: Looked | None = None
    """The rows of the granted wishes; None without a plan, and where time was up before they were bounded."""


def _search(
    question: Question, space: Space, whole_costs: RowCosts | None, unit: float, deadline: Deadline, lap: Lap
) -> _Searched:
    """Best wishes first: cost, prune and solve their rows, until a combination of wishes is not refuted.

    `whole_costs` are those of all rows, where they are needed anyway.
    """
    removed: list[Removed] = []
    rounding_only, left, whole = 0, len(space.layouts), True
    wishes = np.unique(space.layouts.wish).tolist() or [0]
    for wish in wishes:
        part = space if len(wishes) == 1 else with_wish(space, wish)
        left -= len(part.layouts)
        every, (part, look) = part, _looked(question, part, unit, deadline, removed)
        whole &= look.whole
        lap("first look")
        rollouts = RolloutTable(question, part.rollouts) if part.rollouts is not None else None
        if whole_costs is not None and part.layouts is every.layouts:
            costs = whole_costs if every is space else whole_costs.some(space.layouts.wish == wish)
        else:
            costs = RowCosts(question, part.layouts)
        rounded = Rounded(costs, rollouts, 1.0, unit)
        if look.late:
            answer = late(question, part, look.in_hand, look.least_seconds)
            return _Searched(answer, merged(removed), len(part.layouts), rounding_only, rounded)
        bounds = row_bounds(question, rounded, deadline, look.in_hand)
        rounding_only += bounds.rounding_only
        lap("bounds")
        found: Verdict | None = None
        pruned = prune(question, rounded.costs, rollouts, bounds, frozenset(), deadline)
        if pruned.wish is not None:
            found, rounded = _solved(question, part, rounded, bounds, pruned, deadline, lap)
            if found.status == "infeasible":
                if bounds.in_hand is not None and part.layouts.wish[bounds.in_hand.row] == wish:
                    raise InternalError(f"the solver finds no plan, and {bounds.in_hand} fits")
                found, pruned = None, prune(question, rounded.costs, rollouts, bounds, frozenset({wish}), deadline)
        removed += pruned.removed
        if found is not None:
            if left:
                removed.append(Removed("wishes", "a combination with fewer wishes given up fits", left))
            found = found if whole else of_a_part(found)
            looked = Looked.of(every.layouts if look.bound is not None else part.layouts, look, bounds)
            return _Searched(found, merged(removed), len(pruned.rows), rounding_only, rounded, looked)
    nothing = Verdict("infeasible") if whole else Verdict("unknown")
    return _Searched(nothing, merged(removed), 0, rounding_only, rounded)


def _looked(
    question: Question, part: Space, unit: float, deadline: Deadline, removed: list[Removed]
) -> tuple[Space, Look]:
    """(rows that may hold the answer, what a first look found, its plan in hand among these rows)."""
    if part.rollouts is not None or not worth_a_look(question, part.layouts):
        some = affordable(question, part, unit, deadline)
        removed += some.removed[len(part.removed) :]
        return some, Look(np.ones(len(some.layouts), dtype=bool), whole=some.whole)
    look = first_look(question, part.layouts, unit, deadline)
    if look.late or look.likely.all():
        return part, look
    text = f"even its lower bound is more than {percent(question.scenario.search.near_tie)} slower than "
    out = ~look.likely
    full = out & ~np.isfinite(look.bound) if look.bound is not None else out & False
    removed += [Removed("memory", no_room(question), int(full.sum()))] * bool(full.any())
    removed += [Removed("slower", text + "a plan in hand", int((out & ~full).sum()))] * bool((out & ~full).any())
    return replace(part, layouts=part.layouts.take(look.likely)), look.among_likely


def _solved(
    question: Question, part: Space, rounded: Rounded, bounds: Bounds, pruned: Pruned, deadline: Deadline, lap: Lap
) -> tuple[Verdict, Rounded]:
    """(what the solver makes of the rows that are left, or else the plan in hand; the grid)."""
    known, rows = bounds.in_hand, pruned.rows
    least = float(RolloutPairs(rounded).step(bounds.bound)[rows].min())
    few = len(rows) <= (FEW_ROWS if known is None else 0) or not deadline.past(1 - LAST)
    if not few or (known is not None and len(rows) > MANY_ROWS):
        return late(question, part, known, least), rounded
    try:
        longest = pruned.longest_seconds
        tables, grid = build_tables(question, rounded, rows, bounds.bound, pruned.choices, longest, deadline)
    except TooLate:
        return late(question, part, known, least), rounded
    lap("tables")
    found = _solve(question, tables, part, max(LAST * deadline.limit_s, deadline.left_s))
    lap("solver")
    slower = found.plan is None or (known is not None and found.plan.step_seconds > known.seconds * (1 + 1e-6))
    if known is not None and found.status in ("unknown", "feasible") and not found.throughput_proved and slower:
        found = late(question, part, known, max(least, found.bound_seconds or 0.0))
    return found, grid


def _solve(question: Question, tables: Tables, space: Space, limit: float) -> Verdict:
    """What the solver makes of the tables."""
    from planner.search.solver.solve import solve

    options = question.scenario.search
    answer = solve(tables, time_limit_s=limit, seed=options.seed, workers=options.workers)
    if answer.row is None:
        return Verdict(answer.status)
    row = tables.rows[answer.row]
    choice = tables.choices[answer.choice].index if answer.choice is not None else None
    plan = make_plan(question, space.layouts, row.index, answer.layers, answer.recomputed, space.rollouts, choice)
    verify(plan, answer, tables)
    refuse_unlaunchable(plan)
    # Each coefficient of a plan was rounded up by less than a unit.
    slack = 1 + len(row.visits) * (4 * question.architecture.num_hidden_layers + 2)
    bound = max(0.0, (answer.bound - slack) * tables.time_unit_seconds)
    return Verdict(answer.status, plan, bound, answer.time_proved)


def why_nothing_fits(outcome: Outcome) -> str:
    """The limit, or else the rule, that took the last candidates of an infeasible problem."""
    removed = [entry for entry in outcome.proof.removed if entry.rule not in ("wishes", "slower", NOT_TRIED)]
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
    """Find the best layout of a scenario, with its proof; looking up what it names is part of the time.

    `ties`: and which layouts lie within the known error of its step.
    """
    started = clock.now()
    question = question_of(document, catalog)
    limit = _limit_s(question, time_limit_s)
    share = known_share(question) if ties else None
    left_s = max(1e-9, limit - clock.now() + started)
    return search(question, check_points=check_points, time_limit_s=left_s, ties=share)


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
        return f"{name}: none found yet; no verdict within the time limit"
    gpus = f"{plan.num_gpus} GPUs" if plan.num_gpus > 1 else "one GPU"
    lost = given_up(plan)
    if lost:
        start = f"fits on {gpus} after giving up {', '.join(lost)}"
    elif len(question.wishes) > 1:
        start = f"keeps every wish on {gpus}"
    else:
        start = f"fits on {gpus}"
    if outcome.usual_headroom_gib is not None and plan.given_back_gib > 0:
        starts = f", starts with {chance_words(plan.start_probability)}" if plan.start_probability is not None else ""
        return f"{name}: {start} at the edge: critical, {spare(plan)}; expect it slow{starts}; {how_proved(outcome)}"
    if outcome.usual_headroom_gib is not None:
        less = f"leaves {number(plan.headroom_gib, 1)} GiB, less than the {number(outcome.usual_headroom_gib, 1)} usual"
        chance = f", fits with {chance_words(plan.fit_probability)}" if plan.fit_probability is not None else ""
        engine = plan.problem.engine
        usual = f"for engine {engine.id}{engine.headroom_standing}"
        return f"{name}: {start} at the edge: {less} {usual}{chance}; {how_proved(outcome)}"
    return f"{name}: {start}: {verdict(plan)}, {spare(plan)}; {how_proved(outcome)}"
