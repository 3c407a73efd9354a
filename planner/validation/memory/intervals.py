"""Spreads behind the interval of a prediction: pools of left-out errors, and how many rows the intervals hold.

What a new user brings is a network of a source, of one date: its rows share their error, so that these groups, not
rows, are what one more is drawn beside. The interval is the 90 % quantile of the absolute error, each group weighing
the same; after k groups one more lies beyond all of them with 1 / (k + 1) (hierarchical conformal prediction: Dunn,
Wasserman and Ramdas 2022, arXiv:1809.07441; Lee, Barber and Willett 2023, arXiv:2306.06342). Where few groups leave
that method without an end, the next wider pool stands in: after the run's own kind the engine's other kinds, after
those all other engines. No number in it is chosen. A run like none gets everything, each side by itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from planner.inputs.memory_spread import Z90, Sides
from planner.inputs.run_kind import RunKind, seen_kinds
from planner.schema.engine import Reserve
from planner.validation.memory.cases import TOY_GIB, Case, first_look
from planner.validation.memory.express import ALLOCATED, Prediction
from planner.validation.memory.left_out import LeftOutRows, network_of

LEAST_ROWS = 6
"""Engines with fewer scored runs are left unscored: a spread of five numbers says nothing."""
BARRED_ROWS = 20
"""Rows of 5 GiB and more from which the coverage of an engine's interval has a bar."""
BAR = (0.85, 0.95)
"""Share of left-out rows that the 90 % interval of an engine must hold, from BARRED_ROWS rows on."""
Z99 = 2.3263478740408408


@dataclass(frozen=True)
class ErrorRow:
    """A row's left-out error."""

    engine: str
    case: Case
    kind: RunKind
    log: float
    """ln(measured / predicted)."""
    reserve: Reserve
    in_sample: bool
    """Whether it rests on a number fitted on its own source alone."""

    @property
    def live(self) -> bool:
        """Whether live tensors were measured, not what the card sees."""
        return self.case.metric in ALLOCATED or self.case.metric == "active"

    @property
    def brought(self) -> tuple[str, str, str]:
        """What a new user brings: a network of a source, of one date."""
        return self.case.source, network_of(self.case), self.case.version_date


def error_rows(left_out: LeftOutRows) -> list[ErrorRow]:
    """Rows of 5 GiB and more, or smaller ones of engines that have no other; no run twice."""
    rows = [
        _row(p, left_out.standing[p.case.id] == "in-sample")
        for p in left_out.predictions
        if p.case.memory_gib is not None and p.case.outcome != "oom"
    ]
    rows = [row for row in rows if row.case.scored_in != "nanotron-sample"]
    large = {row.engine for row in rows if (row.case.memory_gib or 0) >= TOY_GIB}
    return [row for row in rows if (row.case.memory_gib or 0) >= TOY_GIB or row.engine not in large]


def _row(p: Prediction, in_sample: bool) -> ErrorRow:
    engine = p.group.problem.engine
    return ErrorRow(engine.id, p.case, kind_of(p), -math.log1p(p.error), engine.reserve, in_sample)


def kind_of(p: Prediction) -> RunKind:
    """The kind of a published run."""
    known = p.group.problem.known_errors.kind
    assert known is not None
    return known.of_length(p.case.sequence_length or 0)


@dataclass(frozen=True)
class ErrorPool:
    """Left-out errors of all engines, and of development rows 2 before they were seen."""

    rows: tuple[ErrorRow, ...]
    first_look: tuple[tuple[str, float], ...]
    """(stack, ln(measured / predicted))"""
    _known: dict[str | None, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def everything(self, but: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(errors, weights adding up to 1): each engine but one the same, each stack at first look the same.

        Of an engine each group of rows weighs the same.
        """
        if but in self._known:
            return self._known[but]
        rows = [row for row in self.rows if row.engine != but]
        own = {engine: [row for row in rows if row.engine == engine] for engine in {row.engine for row in rows}}
        shares = {id(row): share for each in own.values() for row, share in zip(each, _shares(each), strict=True)}
        stacks = Counter(stack for stack, _ in self.first_look)
        errors = [row.log for row in rows] + [log for _, log in self.first_look]
        weights = [shares[id(row)] for row in rows] + [1 / stacks[stack] for stack, _ in self.first_look]
        self._known[but] = np.array(errors), np.array(weights) / sum(weights)
        return self._known[but]

    def of_none(self) -> Sides:
        """The spread for a run like no published one."""
        errors, weights = self.everything()
        low, centre, high = (_quantile(errors, weights, share) for share in (0.05, 0.5, 0.95))
        return Sides(centre, (centre - low) / Z90, (high - centre) / Z90, len(errors))

    def spread(self, engine: str, cell: str | None, live: bool, rows: Iterable[ErrorRow] | None = None) -> Sides | None:
        """The spread for a run of an engine, of a kind where that has many rows; None where too few rows are left.

        `live` asks for live tensors; else for the whole card, from live tensors where too few cards were measured, the
        allocator's own spread on top.
        """
        own = [row for row in (self.rows if rows is None else rows) if row.engine == engine]
        seen = [row for row in own if row.live == live]
        on_top = len(seen) < LEAST_ROWS and not live
        seen = [row for row in own if row.live] if on_top else seen
        if not seen:
            return None
        picked = [row for row in seen if row.kind.cell == cell] or seen
        rest = [row for row in seen if row.kind.cell != cell] if len(picked) < len(seen) else []
        others, weights = self.everything(but=engine)
        errors, shares, left = [], [], 1.0
        for nearer in (picked, rest):
            groups = len({row.brought for row in nearer})
            errors.append([row.log for row in nearer])
            shares.append(left * groups / (groups + 1) * _shares(nearer))
            left /= groups + 1
        absolute = np.abs(np.concatenate([*errors, others]))
        either = _quantile(absolute, np.concatenate([*shares, left * weights]), 0.9) / Z90
        if not on_top:
            return Sides(0.0, either, either, len(seen))
        reserve = picked[0].reserve
        above = math.hypot(either, math.log(reserve.maximum / reserve.median) / Z99)
        return Sides(0.0, math.hypot(either, math.log(reserve.median) / Z99), above, len(seen))


def _shares(rows: Sequence[ErrorRow]) -> np.ndarray:
    """Weights adding up to 1, each group of rows the same."""
    sizes = Counter(row.brought for row in rows)
    return np.array([1 / sizes[row.brought] / len(sizes) for row in rows])


def _quantile(errors: np.ndarray, weights: np.ndarray, share: float) -> float:
    """Weighted quantile, linear between the middles of the steps."""
    order = np.argsort(errors)
    ordered, steps = errors[order], weights[order]
    return float(np.interp(share, (np.cumsum(steps) - steps / 2) / steps.sum(), ordered))


def pool_of(left_out: LeftOutRows, folder: Path) -> ErrorPool:
    """All errors that spreads are made of."""
    measured = {p.case.id: p.case for p in left_out.predictions}
    first = []
    for name, gib in first_look(folder).items():
        case = measured.get(name)
        if case is not None and case.memory_gib:
            first.append((case.stack, math.log(case.memory_gib / gib)))
    return ErrorPool(tuple(error_rows(left_out)), tuple(first))


@dataclass(frozen=True)
class Coverage:
    """How many left-out rows of an engine lie in their 90 % interval."""

    engine: str
    rows: int
    inside: int
    too_high: int
    """Rows that took less than the interval's lower end."""
    unlike: int
    """Rows like no other once their own were left out."""
    width: float
    """Median of upper over lower end."""
    groups: int
    """Networks of a source and date among them."""
    by_group: float
    """Share inside, each group the same: what the method promises is one more group, not one more row."""
    toys: bool
    """Runs under 5 GiB, whose errors are scored in MiB and not in shares."""

    @property
    def share(self) -> float:
        """Of rows inside."""
        return self.inside / self.rows

    @property
    def most(self) -> float:
        """Largest share that the method can be expected to hold at 90 %: 0.9 + 1 / (groups + 1).

        Source: Lei et al. 2018, arXiv:1604.04173, theorem 2.1. The upper end of the bar needs 19 groups.
        """
        return min(1.0, 0.9 + 1 / (self.groups + 1))

    @property
    def barred(self) -> bool:
        """Whether it has rows enough for the bar."""
        return self.rows >= BARRED_ROWS and not self.toys

    @property
    def ok(self) -> bool:
        """Whether it holds as many as the bar wants, or no bar binds; one that holds more is safe, if wide."""
        return not self.barred or self.share >= BAR[0]

    @property
    def wide(self) -> bool:
        """Whether it holds more than the bar wants."""
        return self.barred and self.share > BAR[1]


def coverage(pool: ErrorPool, brought: Callable[[ErrorRow], object] = lambda row: row.brought) -> list[Coverage]:
    """Each row against the interval made without its own: every row that `brought` says is of the same."""
    out = []
    for engine in sorted({row.engine for row in pool.rows}):
        own = [row for row in pool.rows if row.engine == engine]
        if len(own) >= LEAST_ROWS:
            out.append(_coverage(pool, engine, own, brought))
    return out


def _coverage(pool: ErrorPool, engine: str, own: Sequence[ErrorRow], brought: Callable[[ErrorRow], object]) -> Coverage:
    known: dict[object, Sides | None] = {}
    inside, too_high, unlike, widths = 0, 0, 0, []
    held: dict[tuple[str, str, str], list[bool]] = {}
    none = pool.of_none()
    for row in own:
        key = brought(row), row.kind, row.live
        if key not in known:
            left = [other for other in own if brought(other) != brought(row)]
            like = bool(left) and not seen_kinds(other.kind for other in left).missing(row.kind)
            known[key] = pool.spread(engine, row.kind.cell, row.live, left) if like else None
        sides = known[key] or none
        unlike += known[key] is None
        low, high = sides.centre - Z90 * sides.below, sides.centre + Z90 * sides.above
        inside += low <= row.log <= high
        held.setdefault(row.brought, []).append(low <= row.log <= high)
        too_high += row.log < low
        widths.append(math.exp(high - low))
    toys = max(row.case.memory_gib or 0.0 for row in own) < TOY_GIB
    by_group = float(np.mean([np.mean(each) for each in held.values()]))
    return Coverage(engine, len(own), inside, too_high, unlike, float(np.median(widths)), len(held), by_group, toys)
