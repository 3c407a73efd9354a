"""Layouts that the known error of a step cannot tell from the best one, counted from the tables of its search.

Two rows are one layout here where their degrees and machines agree: micro-batch, chunks, ZeRO stage, recomputation and
rollout settings are variants of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.costs.coefficients import RowCosts
from planner.problem.layouts import Floats, Ints, Layouts, distinct
from planner.problem.problem import Problem, Question
from planner.search.bounds.even_stages import LeastRecompute
from planner.search.bounds.first_look import Look
from planner.search.bounds.free_stages import Splitter
from planner.search.bounds.headroom import most_free
from planner.search.bounds.rollout_pairs import RolloutPairs
from planner.search.grid import Rounded
from planner.search.prune import Bounds
from planner.search.space import Removed, Space

DEGREES = (
    *("num_gpus", "tensor_parallel", "pipeline_parallel", "context_parallel"),
    *("expert_parallel", "expert_tensor_parallel"),
)
"""Columns in which layouts differ, beside the machines."""
LOOKED_AT, MOST = 256, 32
"""Of so many rows is asked at once whether they may lie in the band, where stages are free, and so many of those are
split to see whether they do; beyond them "at least" is said."""
VARIED = ("micro_batch_size", "max_tokens", "virtual_pipeline", "zero_stage", "sequence_parallel")
"""Columns in which variants of a layout may differ, beside recomputation, rollout settings and the variant itself."""


@dataclass(frozen=True)
class Tie:
    """One set of degrees on one set of machines."""

    layout: dict[str, int]
    """Its fastest row of `Layouts` as plain integers."""
    machines: tuple[str, ...]
    """See `machines_of`."""
    variants: int
    """Rows with these degrees that are known to lie in the band."""
    spread: tuple[tuple[str, tuple[int, ...]], ...]
    """(column, its values) of what differs among them."""


@dataclass(frozen=True)
class NearTies:
    """Layouts whose step is longer than the shortest one by a share at most."""

    share: float
    ties: tuple[Tie, ...]
    """Fastest first."""
    at_least: bool
    """There may be more: not every row whose bound lies in the band was tried."""
    simplest: Tie
    roomiest: Tie
    roomiest_gib: float
    """What `roomiest` can leave free within the band, at least. [GiB]"""


@dataclass(frozen=True)
class Looked:
    """Rows of one combination of wishes, and what a search knows of them."""

    layouts: Layouts
    kept: Ints
    """Those that were costed whole."""
    bound: Floats
    """Seconds of training that no point of a row undercuts, from the first look."""
    bounds: Bounds
    """Of those that were kept."""

    @staticmethod
    def of(layouts: Layouts, look: Look, bounds: Bounds) -> Looked:
        """Rows after a first look; without one, all of them were kept."""
        bound = np.zeros(len(layouts)) if look.bound is None else look.bound
        return Looked(layouts, np.flatnonzero(look.likely), bound, bounds)


def machines_of(problem: Problem) -> tuple[str, ...]:
    """Where a run lies: nodes that train, hold later stages and generate, and the placement of its rollout engine."""
    later = problem.later.node.id if problem.later is not None else ""
    return (problem.node.id, later, problem.generating.node.id, problem.placement)


def kinds(question: Question, layouts: Layouts) -> Ints:
    """Which rows are the same layout but for variants: a number for each row."""
    machines = [machines_of(problem) for problem in question.problems]
    numbered = np.array([machines.index(each) for each in machines], dtype=np.int64)
    return distinct(numbered[layouts.variant], *(getattr(layouts, name) for name in DEGREES))[1]


def same_layout(question: Question, layouts: Layouts, row: Mapping[str, int]) -> np.ndarray:
    """Which rows are this layout or a variant of it."""
    number, this = kinds(question, layouts), same_row(layouts, row)
    return np.isin(number, number[this])


def same_row(layouts: Layouts, row: Mapping[str, int]) -> np.ndarray:
    """Which rows are this one, every column of it."""
    return np.asarray(np.logical_and.reduce([values == row[name] for name, values in layouts.columns()]))


def leave_out(question: Question, space: Space, without: Sequence[Mapping[str, int]]) -> Space:
    """The space less some layouts with all their variants, counted."""
    if not without:
        return space
    keep = np.ones(len(space.layouts), dtype=bool)
    for row in without:
        keep &= ~same_layout(question, space.layouts, row)
    removed = Removed("named_already", "an earlier answer has these degrees on these machines", int((~keep).sum()))
    return replace(space, layouts=space.layouts.take(keep), removed=(*space.removed, removed))


def near_ties(question: Question, looked: Looked, plan_row: Mapping[str, int], step: float, share: float) -> NearTies:
    """Rows whose step is at most `share` longer than the shortest one. `plan_row` and `step` are those of the plan."""
    layouts, rounded = looked.layouts, looked.bounds.rounded
    beside, kind = RolloutPairs(rounded), kinds(question, layouts)
    least, seconds = looked.bound.copy(), np.full(len(layouts), np.inf)
    least[looked.kept], seconds[looked.kept] = beside.step(looked.bounds.bound), beside.step(looked.bounds.seconds)
    this = same_row(layouts, plan_row)
    seconds[this] = np.minimum(seconds[this], step)
    longest = min(step, float(seconds.min())) * (1 + share)
    at_least = False
    if looked.bounds.least is None:
        untold = (least <= longest) & ~np.isin(kind, kind[seconds <= longest])
        looked_at = _few(np.flatnonzero(untold), least, kind)
        told, seconds[looked_at] = _split(question, rounded, layouts.take(looked_at), longest)
        untold[looked_at[told]] = False
        at_least = bool(np.setdiff1d(kind[untold], kind[seconds <= longest]).size)
    near = np.flatnonzero(seconds <= longest)
    near = near[np.argsort(seconds[near], kind="stable")]
    fastest = near[np.sort(np.unique(kind[near], return_index=True)[1])]
    ties = tuple(_tie(question, layouts, row, near[kind[near] == kind[row]]) for row in fastest.tolist())
    simplest = int(np.argmin(RowCosts(question, layouts.take(fastest)).simplicity))
    rows = near if looked.bounds.least is not None else near[:MOST]
    some = _rounded(question, rounded, layouts.take(rows))
    even = LeastRecompute(question, some) if looked.bounds.least is not None else None
    place, gib = most_free(some, even, longest)
    roomiest = int(np.flatnonzero(kind[fastest] == kind[rows[place]])[0])
    return NearTies(share, ties, at_least, ties[simplest], ties[roomiest], gib)


def _tie(question: Question, layouts: Layouts, row: int, variants: Ints) -> Tie:
    machines = machines_of(question.problems[int(layouts.variant[row])])
    values = {name: tuple(np.unique(getattr(layouts, name)[variants]).tolist()) for name in VARIED}
    return Tie(layouts.row(row), machines, len(variants), tuple((n, v) for n, v in values.items() if len(v) > 1))


def known_share(question: Question) -> float | None:
    """Median error of the step on published runs like this, a share; None where none was scored."""
    known = question.first.known_errors.step(rl=question.is_rl)
    return None if known is None else known.median


def _few(rows: Ints, least: Floats, kind: Ints) -> Ints:
    """Up to LOOKED_AT of these rows: the best of each layout first, then the second best."""
    rows = rows[np.argsort(least[rows], kind="stable")]
    order = np.argsort(kind[rows], kind="stable")
    begins = np.flatnonzero(np.diff(kind[rows][order], prepend=-1))
    place = np.arange(len(rows)) - np.repeat(begins, np.diff(np.append(begins, len(rows))))
    rank = np.empty(len(rows), dtype=np.int64)
    rank[order] = place
    return rows[np.argsort(rank, kind="stable")][:LOOKED_AT]


def _rounded(question: Question, rounded: Rounded, layouts: Layouts) -> Rounded:
    """The same grid for some rows."""
    return Rounded(RowCosts(question, layouts), rounded.rollouts, 1.0, rounded.memory_unit_bytes)


def _split(question: Question, rounded: Rounded, layouts: Layouts, longest: float) -> tuple[np.ndarray, Floats]:
    """(of which rows it is told, seconds of a split of each that is no longer; infinite where there is none)."""
    told, seconds = np.ones(len(layouts), dtype=bool), np.full(len(layouts), np.inf)
    if not len(layouts):
        return told, seconds
    some = _rounded(question, rounded, layouts)
    splitter, pairs = Splitter(question, some), RolloutPairs(some)
    beyond = pairs.room(np.full(len(layouts), longest))
    may = np.flatnonzero(splitter.may(np.arange(len(layouts)), beyond))
    told[may[MOST:]] = False
    for row in may[:MOST].tolist():
        found = splitter.split(row, 0, float(beyond[row]))
        seconds[row] = found.seconds
        told[row] = np.isfinite(found.seconds) or not found.bound_seconds <= beyond[row]
    return told, pairs.step(seconds)
