"""Rows that cannot hold the answer, dropped before the model is built; each with its rule, each counted.

Nothing is dropped on a guess: a row goes when no number of recomputed layers makes it fit, when a better combination of
wishes is proved to fit, or when even its lower bound is slower than a plan in hand by more than the near-tie band.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import is_free
from planner.search.bounds.any_split import to_spare
from planner.search.bounds.cheap import SLACK, cheap_bound
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.headroom import roomy_rows
from planner.search.bounds.in_hand import InHand
from planner.search.bounds.rollout_pairs import RolloutPairs, fitting_choices
from planner.search.deadline import NO_DEADLINE, Deadline
from planner.search.grid import Rounded, limit_bytes, slowest_near_tie
from planner.search.space import Removed
from planner.search.tables import choice_keys, row_keys

BOUNDING = 0.75
"""Share of the time limit at which bounding ends."""
NO_ROOM = "some stage needs more memory than usable less headroom, however many layers are recomputed"
NO_LIVE_ROOM = (
    "some stage's live tensors, with what lies outside the allocator, need more memory than usable, however many "
    "layers are recomputed; an allocator's reserve, which it can give back, is not counted"
)
FIRST_BLOCK, LAST_BLOCK = 8, 256
"""Rows looked at together: so many at first, and twice as many each time up to the last."""
EVEN_BLOCK = 20_000
"""Rows of even stages looked at together."""


@dataclass(frozen=True)
class Bounds:
    """Per row: no point of it is faster than `bound`, and a feasible one takes `seconds`."""

    bound: Floats
    seconds: Floats
    rounding_only: int
    """Points (rows, where splits are bounded in closed form) that fit in floats and not in rounded-up integers."""
    points: int
    """(row, recomputed layers) points covered one by one; 0 where splits are bounded in closed form."""
    rounded: Rounded
    """The grid on which memory was compared."""
    least: LeastRecompute | None = None
    """Where it costs every point of the rows."""
    in_hand: InHand | None = None
    """The fastest point found."""


NO_PARTNER = "no rollout choice fits beside this layout's GPUs and wishes"


@dataclass(frozen=True)
class Pruned:
    """What is left for the solver."""

    rows: Ints
    choices: Ints
    longest_seconds: float
    """Seconds that no optimal step exceeds."""
    removed: tuple[Removed, ...]
    rounding_only: int
    feasible_rows: int
    wish: int | None
    """Index of the wish combination that is granted; None where nothing fits."""


def no_room(question: Question) -> str:
    """Why a layout lacks memory, with what was counted."""
    return NO_ROOM if question.first.reserve_counted else NO_LIVE_ROOM


def too_slow(question: Question) -> str:
    """Why a layout is not looked at beside a plan in hand."""
    return f"even its lower bound is more than {question.scenario.search.near_tie:.1%} slower than a plan in hand"


def near_tie_factor(question: Question) -> float:
    """Times the step of a plan in hand that a bound may take without losing to it."""
    return slowest_near_tie(1.0, question.scenario.search.near_tie) * (1 + 2 * SLACK)


def prune(
    question: Question,
    costs: RowCosts,
    rollouts: RolloutTable | None,
    bounds: Bounds,
    refuted: frozenset[int],
    deadline: Deadline = NO_DEADLINE,
) -> Pruned:
    """Find the best wishes that may fit, and the rows that may hold the fastest plan under them.

    `refuted` holds wish combinations that the solver has proved infeasible although no closed form could.
    """
    fits = np.isfinite(bounds.bound) & ~np.isin(costs.layouts.wish, sorted(refuted))
    removed = []
    if not fits.all():
        removed.append(Removed("memory", no_room(question), int((~fits).sum())))
    beside, choice_fits = RolloutPairs(bounds.rounded), fitting_choices(bounds.rounded)
    if not choice_fits.all():
        text = "the rollout engine's static fraction and reserve leave less than the headroom"
        removed.append(Removed("rollout_memory", text, int((~choice_fits).sum())))
    partnered = fits & beside.exists
    if rollouts is not None and (fits & ~partnered).any():
        removed.append(Removed("no_rollout", NO_PARTNER, int((fits & ~partnered).sum())))
    if not partnered.any():
        nothing = np.zeros(0, dtype=np.int64)
        return Pruned(nothing, nothing, 1.0, tuple(removed), bounds.rounding_only, 0, None)
    wish = int(costs.layouts.wish[partnered].min())
    granted = costs.layouts.wish == wish
    if (partnered & ~granted).any():
        text = "a combination with fewer wishes given up fits"
        removed.append(Removed("wishes", text, int((partnered & ~granted).sum())))
    alive = partnered & granted
    with np.errstate(invalid="ignore"):
        best = float(beside.step(bounds.seconds)[alive].min())
        waiting = beside.waiting(bounds.seconds, alive, best)
        if not math.isfinite(best):
            best = float(beside.step(_longest(question, costs))[alive].max())
        longest = slowest_near_tie(best, question.scenario.search.near_tie) * (1 + SLACK)
        near = alive & (beside.step(bounds.bound) <= longest)
    if (alive & ~near).any():
        removed.append(Removed("slower", too_slow(question), int((alive & ~near).sum())))
    rows = np.flatnonzero(near)
    roomy = np.ones(len(rows), dtype=bool)
    if not deadline.past(BOUNDING):
        roomy = roomy_rows(bounds.rounded, rows, beside.step(bounds.bound), best, bounds.least, waiting, deadline)
    if not roomy.all():
        text = "slower than a plan in hand, and even so with less headroom than a near tie in hand"
        removed.append(Removed("headroom", text, int((~roomy).sum())))
        rows = rows[roomy]
    picked = np.zeros(0, dtype=np.int64)
    if rollouts is not None:
        of_key = np.isin(choice_keys(rollouts.choices), np.unique(row_keys(costs.layouts)[rows]))
        soon = np.maximum(rollouts.seconds, rollouts.least_seconds) <= longest
        picked = np.flatnonzero(of_key & choice_fits & soon)
    return Pruned(rows, picked, longest, tuple(removed), bounds.rounding_only, int(fits.sum()), wish)


def row_bounds(
    question: Question, rounded: Rounded, deadline: Deadline = NO_DEADLINE, in_hand: InHand | None = None
) -> Bounds:
    """Bounds of every row: exact for even stages with one recompute count, in closed form otherwise.

    After its share of the time rows keep the bound that time alone gives. `in_hand` is a plan of these rows that an
    earlier look met.
    """
    spec = question.scenario.layout
    if not len(rounded.costs.layouts):
        return Bounds(np.zeros(0), np.zeros(0), 0, 0, rounded)
    if not is_free(question.first) and spec.recompute == "uniform":
        return _every_level(question, rounded, deadline)
    return _closed_form(question, rounded, deadline, in_hand)


def _every_level(question: Question, rounded: Rounded, deadline: Deadline) -> Bounds:
    """Every number of recomputed layers of every row, block by block; rows that the time does not suffice for keep the
    bound that time alone gives."""
    least, count = LeastRecompute(question, rounded), len(rounded.costs.layouts)
    seconds, reached = np.full(count, math.inf), 0
    while reached < count and not (reached and deadline.past(BOUNDING)):
        rows = np.arange(reached, min(reached + EVEN_BLOCK, count))
        seconds[rows], reached = least.seconds(rows), reached + len(rows)
    bound = seconds.copy()
    if reached < count:
        bound[reached:] = cheap_bound(question, rounded.costs)[reached:]
    rounding = least.only_rounding_excludes() if reached == count else 0
    found, beside = None, RolloutPairs(rounded)
    steps = beside.step(seconds)
    if np.isfinite(steps).any():
        row = int(np.argmin(steps))
        stages = int(rounded.costs.layouts.pipeline_parallel[row])
        layers, level = least.layers[row, :stages], int(least.recomputed(np.array([row]))[0])
        again = np.minimum(layers, level)
        choice = beside.choice(row, float(seconds[row]))
        found = InHand(row, tuple(layers.tolist()), tuple(again.tolist()), float(steps[row]), choice)
    return Bounds(bound, seconds, rounding, least.points, rounded, least, found)


def _closed_form(question: Question, rounded: Rounded, deadline: Deadline, in_hand: InHand | None) -> Bounds:
    """Cheap bounds of all rows, then exact splits in order of the cheap bound until none can win.

    Rows are taken block by block, and no split is looked for in those that surely lose to the plan in hand.
    """
    costs = rounded.costs
    holds = to_spare(costs, rounded.memory, rounded.limit) >= 0
    nearly = to_spare(costs, costs.memory, limit_bytes(question)) >= 0
    beside = RolloutPairs(rounded)
    if not beside.exists.any():
        # No time is worth knowing where no rollout choice fits beside any row.
        memory_alone, never = np.where(nearly, 0.0, math.inf), np.full(len(nearly), math.inf)
        return Bounds(memory_alone, never, 0, 0, rounded)
    cheap = np.where(nearly, cheap_bound(question, costs), math.inf)
    bound, seconds = cheap.copy(), np.full(len(cheap), math.inf)
    splitter = Splitter(question, rounded)
    tie = near_tie_factor(question)
    soonest, wish = beside.step(cheap), costs.layouts.wish
    best, rounding = np.full(int(wish.max()) + 1, math.inf), 0
    if in_hand is not None:
        best[wish[in_hand.row]] = seconds[in_hand.row] = in_hand.seconds
    for granted, block in _blocks(wish, soonest):
        if deadline.past(BOUNDING) or np.isfinite(best[:granted]).any():
            break
        rows = block[np.isfinite(soonest[block]) & (soonest[block] <= best[granted] * tie)]
        if not len(rows):
            continue
        beyond = beside.room(np.full(len(cheap), best[granted] * tie))[rows]
        may = splitter.may(rows, beyond) & holds[rows]
        bound[rows[~may]] = np.maximum(cheap[rows[~may]], beyond[~may])
        apart = rows[~may][splitter.may(rows[~may], beyond[~may], exact=True)]
        rounding += sum(map(splitter.only_rounding_excludes, apart.tolist()))
        for row, limit in zip(rows[may].tolist(), beyond[may].tolist(), strict=True):
            if deadline.past(BOUNDING):
                break
            split = splitter.split(row, beyond=limit)
            bound[row], seconds[row] = split.bound_seconds, min(split.seconds, seconds[row])
            rounding += not math.isfinite(split.bound_seconds) and splitter.only_rounding_excludes(row)
            step = beside.of(row, split.seconds)
            if step < best[granted]:
                best[granted] = step
                in_hand = InHand(row, split.layers, split.recomputed, step, beside.choice(row, split.seconds))
    return Bounds(bound, seconds, rounding, 0, rounded, in_hand=in_hand)


def _blocks(wish: Ints, soonest: Floats) -> Iterator[tuple[int, Ints]]:
    """(wish, rows) in order of wishes and then of seconds; few at first, since the first plan in hand drops most."""
    order = np.lexsort((soonest, wish))
    for granted in np.unique(wish).tolist():
        rows, size = order[wish[order] == granted], FIRST_BLOCK
        while len(rows):
            yield granted, rows[:size]
            rows, size = rows[size:], min(2 * size, LAST_BLOCK)


def _longest(question: Question, costs: RowCosts) -> Floats:
    """Time of each row if one stage held every layer and recomputed it: no split is slower. [s]"""
    total = question.architecture.num_hidden_layers
    seconds = np.zeros(len(costs.layouts))
    for c, heavy, light in costs.time.values():
        slowest = ((c.layer + c.recomputed) * costs.exists).max(axis=1)
        whole = slowest * total + (c.end * costs.exists).sum(axis=1)
        seconds += whole * (heavy + light)
    return seconds
