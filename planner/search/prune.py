"""Rows that cannot hold the answer, dropped before the model is built; each with its rule, each counted.

Nothing is dropped on a guess: a row goes when no number of recomputed layers makes it fit, when a better combination of
wishes is proved to fit, or when even its lower bound is slower than a plan in hand by more than the near-tie band.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.costs.coefficients import Coefficients, RolloutTable, RowCosts
from planner.problem.layouts import Floats, Ints
from planner.problem.problem import Question
from planner.problem.stage_choices import is_free
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.headroom import roomy_rows
from planner.search.bounds.rollout_pairs import RolloutPairs, fitting_choices
from planner.search.grid import Rounded, slowest_near_tie
from planner.search.space import Removed
from planner.search.tables import choice_keys, row_keys

SLACK = 1e-5
"""Rows this much beyond the near-tie band are kept: more than rounding times to units can move a step."""


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


def prune(
    question: Question, costs: RowCosts, rollouts: RolloutTable | None, bounds: Bounds, refuted: frozenset[int]
) -> Pruned:
    """Find the best wishes that may fit, and the rows that may hold the fastest plan under them.

    `refuted` holds wish combinations that the solver has proved infeasible although no closed form could.
    """
    fits = np.isfinite(bounds.bound) & ~np.isin(costs.layouts.wish, sorted(refuted))
    removed = []
    if not fits.all():
        text = "some stage needs more memory than usable less headroom, however many layers are recomputed"
        removed.append(Removed("memory", text, int((~fits).sum())))
    beside, choice_fits = RolloutPairs(bounds.rounded), fitting_choices(bounds.rounded)
    if not choice_fits.all():
        text = "the rollout engine's static fraction and reserve leave less than the headroom"
        removed.append(Removed("rollout_memory", text, int((~choice_fits).sum())))
    partnered = fits & beside.exists
    if rollouts is not None and (fits & ~partnered).any():
        text = "no rollout choice fits beside this layout's GPUs and wishes"
        removed.append(Removed("no_rollout", text, int((fits & ~partnered).sum())))
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
        if not math.isfinite(best):
            best = float(beside.step(_longest(question, costs))[alive].max())
        longest = slowest_near_tie(best, question.scenario.search.near_tie) * (1 + SLACK)
        near = alive & (beside.step(bounds.bound) <= longest)
    if (alive & ~near).any():
        text = f"even its lower bound is more than {question.scenario.search.near_tie:.1%} slower than a plan in hand"
        removed.append(Removed("slower", text, int((alive & ~near).sum())))
    rows = np.flatnonzero(near)
    roomy = roomy_rows(bounds.rounded, rows, beside.step(bounds.bound), best, bounds.least)
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


def row_bounds(question: Question, rounded: Rounded) -> Bounds:
    """Bounds of every row: exact for even stages with one recompute count, in closed form otherwise."""
    spec = question.scenario.layout
    if not len(rounded.costs.layouts):
        return Bounds(np.zeros(0), np.zeros(0), 0, 0, rounded)
    if not is_free(question.first) and spec.recompute == "uniform":
        return _every_level(question, rounded)
    return _closed_form(question, rounded)


def _every_level(question: Question, rounded: Rounded) -> Bounds:
    """Every number of recomputed layers of every row."""
    least = LeastRecompute(question, rounded)
    seconds = least.seconds()
    return Bounds(seconds, seconds, least.only_rounding_excludes(), least.points, rounded, least)


def _closed_form(question: Question, rounded: Rounded) -> Bounds:
    """Cheap bounds of all rows, then exact splits in order of the cheap bound until none can win."""
    costs = rounded.costs
    rows = len(costs.layouts)
    bound, seconds = np.full(rows, math.inf), np.full(rows, math.inf)
    cheap = _cheap_bound(question, costs)
    splitter = Splitter(question, rounded)
    tie = slowest_near_tie(1.0, question.scenario.search.near_tie) * (1 + 2 * SLACK)
    beside = RolloutPairs(rounded)
    soonest = beside.step(cheap)
    best: dict[int, float] = {}
    rounding = 0
    wish = costs.layouts.wish
    for row in np.lexsort((soonest, wish)).tolist():
        known = best.get(int(wish[row]), math.inf)
        given_up = any(better < wish[row] for better in best)
        if given_up or soonest[row] > known * tie or not math.isfinite(soonest[row]):
            bound[row] = cheap[row]
            continue
        split = splitter.split(row)
        bound[row], seconds[row] = split.bound_seconds, split.seconds
        rounding += not math.isfinite(split.bound_seconds) and splitter.only_rounding_excludes(row)
        step = beside.of(row, split.seconds)
        if step < known:
            best[int(wish[row])] = step
    return Bounds(bound, seconds, rounding, 0, rounded)


def _longest(question: Question, costs: RowCosts) -> Floats:
    """Time of each row if one stage held every layer and recomputed it: no split is slower. [s]"""
    total = question.architecture.num_hidden_layers
    seconds = np.zeros(len(costs.layouts))
    for c, heavy, light in costs.time.values():
        slowest = ((c.layer + c.recomputed) * costs.exists).max(axis=1)
        whole = slowest * total + (c.end * costs.exists).sum(axis=1)
        seconds += whole * (heavy + light)
    return seconds


def _cheap_bound(question: Question, costs: RowCosts) -> Floats:
    """Time of each row if nothing were recomputed and layers could be cut at will. [s]"""
    total = question.architecture.num_hidden_layers
    bound = np.zeros(len(costs.layouts))
    for c, heavy, light in costs.time.values():
        fastest = np.where(costs.exists > 0, c.layer, np.inf).min(axis=1)
        ends = (c.end * costs.exists).sum(axis=1)
        bound += heavy * slowest_stage_bound(c, costs.exists, total) + light * (fastest * total + ends)
    return bound


def slowest_stage_bound(c: Coefficients, exists: Floats, total: int) -> Floats:
    """Least time of the slowest stage of each row if layers could be cut at will: all stages finish together. [s]

    max over stages >= sum of w_s (layer_s n_s + end_s) with w_s = (1 / layer_s) / sum of 1 / layer_s.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = np.where(exists > 0, 1.0 / c.layer, 0.0)
        together = (total + (c.end * speed).sum(axis=1)) / speed.sum(axis=1)
    mean = (c.end * exists).sum(axis=1) / exists.sum(axis=1)
    return np.asarray(np.where(np.isfinite(together), together, mean))
