"""A first look at a large space: rows surely slower than a plan in hand, found without costing every row's memory.

Every row has a bound that knows no memory. In the order of that bound, blocks of rows are tried with stages as even as
the layers allow; the fastest that fits is a plan in hand, and rows whose bound is slower by more than the near-tie band
are not looked at again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import numpy as np

from planner.costs.coefficients import RowCosts
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem, Question
from planner.problem.stage_choices import is_free
from planner.problem.variants import Setting
from planner.search.bounds.any_split import to_spare
from planner.search.bounds.cheap import SLACK, cheap_bound
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.in_hand import InHand
from planner.search.deadline import Deadline
from planner.search.grid import Rounded, limit_bytes, slowest_near_tie

LARGE = 20_000
"""Spaces of fewer rows are costed whole, and larger ones in blocks of so many."""
LOOKING, LAST_LOOK, LATE_LOOK = 0.5, 0.6, 0.8
"""Shares of the time limit at which rows are no longer bounded, no longer tried, and no longer tried where the time did
not suffice for all bounds, so that nothing comes after."""
BLOCK, FEW_BLOCKS = 1_000, 20
"""Rows tried at once; of more blocks than these, some rows of all kinds come first."""
EACH_VARIANT, MOST_AT_ONCE, UNHURRIED_S = 100, 8_000, 20.0
"""Rows of each variant that are worth what it takes to begin with one; so many rows of all are tried at once at most,
and only where this much time is left."""
MODULES = "layout.recompute_modules"


@dataclass(frozen=True)
class _FullestStages(LeastRecompute):
    """Every stage as full as the fullest one of a split as even as can be: no less time, and no less memory."""

    @cached_property
    def layers(self) -> Ints:
        """Of each stage, shape [rows, stages]."""
        stages = self.rounded.costs.layouts.pipeline_parallel
        most = -(-self.question.architecture.num_hidden_layers // stages)
        return np.asarray(most[:, None] * (self.rounded.costs.exists > 0))


@dataclass(frozen=True)
class Look:
    """What a first look found."""

    likely: np.ndarray
    """Which rows may hold the answer; all of them where nothing is sure."""
    in_hand: InHand | None = None
    """The fastest plan met, where its time was up."""
    least_seconds: float | None = None
    """No row is faster; None where not every row was looked at."""
    late: bool = False
    """Its share of the time was up before it had an answer."""
    whole: bool = True
    """False where it was given some of the rows only."""
    bound: Floats | None = None
    """Seconds that no point of a row undercuts; infinite for rows that were not looked at, and that cannot fit."""

    @property
    def among_likely(self) -> Look:
        """The same, its plan in hand counted among the likely rows."""
        known = self.in_hand
        return replace(self, in_hand=known and replace(known, row=int(self.likely[: known.row].sum())))


def first_look(question: Question, layouts: Layouts, unit: float, deadline: Deadline) -> Look:
    """Which rows may hold the answer, and a plan in hand where its share of the time is up before that is known."""
    best, in_hand, longest = math.inf, None, np.full(1, math.inf)
    bound, exact = plain_bounds(question, layouts, deadline)
    every = bool(np.isfinite(bound).all())
    tie = slowest_near_tie(1.0, question.scenario.search.near_tie) * (1 + 2 * SLACK)
    order = np.argsort(bound, kind="stable")[: int(np.isfinite(bound).sum())]
    tried, floor = np.zeros(len(layouts), dtype=bool), bound.copy()
    block = min(max(BLOCK, EACH_VARIANT * len(question.problems)), MOST_AT_ONCE)
    block = block if deadline.left_s > UNHURRIED_S else BLOCK
    for rows in _samples_then_all(order, tried, floor, longest, block):
        if floor[rows[0]] > best * tie or _is_over(deadline, every, bound <= best * tie):
            break
        found, bound[rows] = _tried(question, layouts.take(rows), unit, best * tie)
        tried[rows] = exact[rows] = True
        if found is not None and found.seconds < best:
            best, in_hand = found.seconds, replace(found, row=int(rows[found.row]))
            longest[0] = best * tie
    for rows in _in_blocks(np.flatnonzero((bound <= best * tie) & ~exact)):
        if deadline.past(LAST_LOOK):
            break
        bound[rows] = cheap_bound(question, RowCosts(question, layouts.take(rows)))
    likely = bound <= best * tie
    late = not every or (deadline.past(LAST_LOOK) and int(likely.sum()) > LARGE)
    least = float(bound.min()) if every and in_hand is not None else None
    return Look(likely, in_hand, least, late, bound=bound)


def _is_over(deadline: Deadline, every: bool, likely: np.ndarray) -> bool:
    """Is it time for what comes after the look; where more rows are left than that could take, nothing does."""
    return deadline.past(LATE_LOOK) or (every and deadline.past(LAST_LOOK) and int(likely.sum()) <= LARGE)


def _samples_then_all(order: Ints, tried: np.ndarray, floor: Floats, longest: Floats, block: int) -> Iterator[Ints]:
    """Blocks of rows: of many rows a few of all kinds first, again and again as long as that leaves fewer likely ones,
    because the fastest hardly ever fit; then all that are not tried yet, the fastest first.

    A row is likely while its `floor` is within the only entry of `longest`, both in seconds.
    """
    before = len(order) + 1
    while FEW_BLOCKS * BLOCK < (many := int((floor[order] <= longest).sum())) < before:
        left = order[(floor[order] <= longest) & ~tried[order]]
        if not len(left):
            break
        before = many
        yield left[:: max(1, len(left) // block)]
    for start in range(0, len(order), block):
        rows = order[start : start + block]
        if not tried[rows].all():
            yield rows[~tried[rows]]


def plain_bounds(question: Question, layouts: Layouts, deadline: Deadline) -> tuple[Floats, np.ndarray]:
    """(seconds that no point of a row undercuts, by time alone, whether they are the row's own); infinite where the
    time was up.

    A row that recomputes modules takes no less time than the same row without: it has that one's bound at first.
    """
    bound, plain = np.full(len(layouts), math.inf), _without_modules(question)[layouts.variant]
    exact = plain == layouts.variant
    codes = _codes(layouts, plain)
    known = np.flatnonzero(exact)[np.argsort(codes[exact], kind="stable")]
    place = np.minimum(np.searchsorted(codes[known], codes), len(known) - 1) if len(known) else np.zeros(0, dtype=int)
    exact |= codes[known[place]] != codes if len(known) else True
    for rows in _in_blocks(np.flatnonzero(exact)):
        if deadline.past(LOOKING):
            break
        bound[rows] = cheap_bound(question, RowCosts(question, layouts.take(rows)))
    if len(known):
        bound = np.where(exact, bound, bound[known[place]])
    return bound, exact


def _in_blocks(rows: Ints) -> Iterator[Ints]:
    yield from (rows[start : start + LARGE] for start in range(0, len(rows), LARGE))


def _without_modules(question: Question) -> Ints:
    """For each variant the one that differs from it by recomputing no module; itself where there is none."""

    def key(problem: Problem, modules: str) -> tuple[Setting, ...]:
        return tuple((path, modules if path == MODULES else value) for path, value in problem.settings)

    index = {key(problem, dict(problem.settings).get(MODULES, "")): at for at, problem in enumerate(question.problems)}
    return np.array([index.get(key(problem, "none"), at) for at, problem in enumerate(question.problems)])


def _codes(layouts: Layouts, variants: Ints) -> Ints:
    """A number for each row, the same for rows that agree in all columns with these as their variants."""
    code = variants.astype(np.int64)
    for field in fields(layouts):
        column = getattr(layouts, field.name)
        if field.name == "variant" or not len(column) or column.min() == column.max():
            continue
        values, place = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + place.reshape(-1), return_inverse=True)[1].reshape(-1)
    return code


def worth_a_look(question: Question, layouts: Layouts) -> bool:
    """Are there many rows, with splits as even as can be, and one number of recomputed layers legal on all stages."""
    if len(layouts) < LARGE:
        return False
    first = question.first
    alike = all(is_free(p) and p.engine.pipeline.uneven == "any" for p in question.problems)
    named = first.scenario.layout.recomputed_layers in ("any", "all", 0)
    return alike and first.engine.pipeline.uneven_chunks and (named or first.scenario.layout.recompute == "uniform")


def _tried(question: Question, layouts: Layouts, unit: float, beyond: float) -> tuple[InHand | None, Floats]:
    """(the fastest split as even as can be of any of these rows, of those that fit even if all stages were as full;
    seconds that no point of a row undercuts, infinite where no split of it fits).

    Rows that take more than `beyond` seconds anyway are not tried.
    """
    costs = RowCosts(question, layouts)
    bound = cheap_bound(question, costs)
    some = np.flatnonzero(bound <= beyond)
    if not len(some):
        return None, bound
    costs = RowCosts(question, layouts.take(some))
    holds = to_spare(costs, costs.memory, limit_bytes(question)) >= 0
    bound[some[~holds]] = math.inf
    if not holds.any():
        return None, bound
    if not holds.all():
        # Of the fastest rows hardly any has room: the rest need no time.
        some = some[holds]
        costs = RowCosts(question, layouts.take(some))
    full = _FullestStages(question, Rounded(costs, None, 1.0, unit))
    seconds, stages = full.seconds(), costs.layouts.pipeline_parallel
    total = question.architecture.num_hidden_layers
    dense = question.parameters.num_dense_layers if question.architecture.is_moe else 0
    seconds = np.where(total // stages >= np.maximum(costs.layouts.virtual_pipeline, dense), seconds, math.inf)
    row = int(seconds.argmin())
    if not math.isfinite(seconds[row]):
        return None, bound
    depth = int(stages[row])
    layers = np.array([total // depth + (stage < total % depth) for stage in range(depth)])
    again = np.minimum(layers, int(full.recomputed(np.array([row]))[0]))
    return InHand(int(some[row]), tuple(layers.tolist()), tuple(again.tolist()), float(seconds[row])), bound
