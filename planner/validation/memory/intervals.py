"""Spreads behind the interval of a prediction: pools of left-out errors, and how many rows the intervals hold.

What a new user brings is a network of a source, of one date: its rows share their error, so that these groups, not
rows, are what one more is drawn beside. The interval is the 90 % quantile of the absolute error, each group weighing
the same; after k groups one more lies beyond all of them with 1 / (k + 1) (hierarchical conformal prediction: Dunn,
Wasserman and Ramdas 2022, arXiv:1809.07441; Lee, Barber and Willett 2023, arXiv:2306.06342). Where few groups leave
that method without an end, the next wider pool stands in: after the run's own kind the engine's other kinds, after
those all other engines on this one's scale: how far their groups lay, each left out in turn, in mean errors of the
groups that were left (normalised scores: Lei et al. 2018, arXiv:1604.04173, section 5.2). No number in it is chosen.

A user is a new source, and may ask for what no published run of the engine had. Both add a variance, which does not
grow with the engine's own error (docs/memory.md), so that it is told over all engines: each source is left out of its
engine, and what its rows lie beyond the interval of the others' is the score, sqrt(error^2 - half-width^2), of which
the 90 % quantile is taken, each pair of engine and source weighing the same. Rows like one that is left and rows like
none are told together: the second were no farther off. A row counts with the error it had before anyone had seen it,
where that is kept: what it showed has been mended since. Not where its source is read otherwise since: what was said
then is of a run of other settings, and an interval is of the settings that are given. A run of an engine without runs,
or of reinforcement learning, gets everything, each side by itself. Under 5 GiB what is fixed outweighs what grows with
the run: errors there are counted in GiB, the engine's own small runs first and then all others'.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from planner.inputs.memory_spread import TOY_GIB, Z90, Sides
from planner.inputs.run_kind import RunKind, seen_kinds
from planner.schema.engine import Reserve
from planner.validation.memory.cases import Case, first_look
from planner.validation.memory.express import ALLOCATED, Prediction
from planner.validation.memory.left_out import LeftOutRows, network_of

LEAST_ROWS = 6
"""Engines with fewer scored runs are left unscored: a spread of five numbers says nothing."""
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

    @cached_property
    def live(self) -> bool:
        """Whether live tensors were measured, not what the card sees."""
        return self.case.metric in ALLOCATED or self.case.metric == "active"

    @property
    def off_gib(self) -> float:
        """Measured less predicted. [GiB]"""
        return (self.case.memory_gib or 0.0) * -math.expm1(-self.log)

    @cached_property
    def brought(self) -> tuple[str, str, str]:
        """What a new user brings: a network of a source, of one date."""
        return self.case.source, network_of(self.case), self.case.version_date


@dataclass(frozen=True)
class FirstLook:
    """A row's error before anyone had seen the row."""

    id: str
    stack: str
    log: float
    """ln(measured / predicted)."""


def error_rows(left_out: LeftOutRows) -> list[ErrorRow]:
    """Rows of successes, no run twice."""
    rows = [
        _row(p, left_out.standing[p.case.id] == "in-sample")
        for p in left_out.predictions
        if p.case.memory_gib is not None and p.case.outcome != "oom"
    ]
    return [row for row in rows if row.case.scored_in != "nanotron-sample"]


def _row(p: Prediction, in_sample: bool) -> ErrorRow:
    engine = p.group.problem.engine
    return ErrorRow(engine.id, p.case, kind_of(p), -math.log1p(p.error), engine.reserve, in_sample)


def kind_of(p: Prediction) -> RunKind:
    """The kind of a published run."""
    known = p.group.problem.known_errors.kind
    assert known is not None
    return known.of_length(p.case.sequence_length or 0)


@dataclass(frozen=True)
class Beyond:
    """A row beside the interval that its engine's other sources give it."""

    row: ErrorRow
    log: float
    """ln(measured / predicted), before anyone had seen the row where that is kept."""
    beyond: float
    """sqrt(log^2 - half-width^2), 0 inside."""


@dataclass(frozen=True)
class Added:
    """What a new source adds to the spread of an engine."""

    sigma: float
    """Standard deviation of ln(measured / predicted), either way."""
    median: float
    """Median absolute error of the rows, a share of what was measured."""
    p90: float
    rows: int
    sources: int
    """Pairs of engine and source."""


@dataclass(frozen=True)
class ErrorPool:
    """Left-out errors of all engines, and of development rows 2 to 6 before they were seen, but those reread since."""

    rows: tuple[ErrorRow, ...]
    """Of 5 GiB and more."""
    toys: tuple[ErrorRow, ...]
    """Of less."""
    first_look: tuple[FirstLook, ...]
    _scores: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    _added: dict[tuple[str, str] | None, Added] = field(default_factory=dict)

    def everything(self) -> tuple[np.ndarray, np.ndarray]:
        """(errors, weights adding up to 1): each engine the same, each stack at first look the same.

        Of an engine each group of rows weighs the same.
        """
        shares = {
            id(row): share for own in self._engines.values() for row, share in zip(own, _shares(own), strict=True)
        }
        stacks = Counter(look.stack for look in self.first_look)
        errors = [row.log for row in self.rows] + [look.log for look in self.first_look]
        weights = [shares[id(row)] for row in self.rows] + [1 / stacks[look.stack] for look in self.first_look]
        return np.array(errors), np.array(weights) / sum(weights)

    @cached_property
    def _engines(self) -> dict[str, list[ErrorRow]]:
        return {
            name: [row for row in self.rows if row.engine == name] for name in sorted({r.engine for r in self.rows})
        }

    def of_none(self) -> Sides:
        """The spread for a run like no published one."""
        errors, weights = self.everything()
        low, centre, high = (_quantile(errors, weights, share) for share in (0.05, 0.5, 0.95))
        return Sides(centre, (centre - low) / Z90, (high - centre) / Z90, len(errors))

    @cached_property
    def _beyond(self) -> list[Beyond]:
        """What rows lie beyond the interval of their engine's other sources."""
        told = {look.id: look.log for look in self.first_look}
        out = []
        for own in self._engines.values():
            for source in sorted({row.case.source for row in own}):
                left = [row for row in own if row.case.source != source]
                known: dict[tuple[str, bool], Sides | None] = {}
                for row in (row for row in own if row.case.source == source):
                    key = row.kind.cell, row.live
                    if key not in known:
                        known[key] = self.spread(row.engine, *key, left)
                    if (sides := known[key]) is not None:
                        log = told.get(row.case.id, row.log)
                        half = Z90 * (sides.above if log > 0 else sides.below)
                        out.append(Beyond(row, log, math.sqrt(max(0.0, log**2 - half**2))))
        return out

    def added(self, but: tuple[str, str] | None = None) -> Added:
        """What a new source adds to its engine's own spread; `but` leaves out a pair of engine and source."""
        if but not in self._added:
            self._added[but] = self._adds(but)
        return self._added[but]

    def _adds(self, but: tuple[str, str] | None) -> Added:
        pairs: dict[tuple[str, str], list[Beyond]] = {}
        for one in self._beyond:
            pair = one.row.engine, one.row.case.source
            if pair != but:
                pairs.setdefault(pair, []).append(one)
        if not pairs:
            return Added(0.0, 0.0, 0.0, 0, 0)
        ordered = [one for own in pairs.values() for one in own]
        weights = np.concatenate([_shares([one.row for one in own]) / len(pairs) for own in pairs.values()])
        sigma = _quantile(np.array([one.beyond for one in ordered]), weights, 0.9) / Z90
        errors = np.abs(np.expm1([-one.log for one in ordered]))
        median, p90 = (_quantile(errors, weights, share) for share in (0.5, 0.9))
        return Added(sigma, median, p90, len(ordered), len(pairs))

    def spread(self, engine: str, cell: str | None, live: bool, rows: Iterable[ErrorRow] | None = None) -> Sides | None:
        """The spread for a run of an engine, of a kind where that has many rows; None where too few rows are left.

        `live` asks for live tensors; else for the whole card, from live tensors where too few cards were measured, the
        allocator's own spread on top.
        """
        own = [row for row in (self.rows if rows is None else rows) if row.engine == engine]
        seen, on_top = _seen(own, live)
        if not seen:
            return None
        errors, shares = _own(seen, cell)
        scores, weights = self._of_others(engine)
        scaled = np.average(errors, weights=shares) * scores
        absolute = np.concatenate([errors, scaled])
        either = _quantile(absolute, np.concatenate([shares, (1 - shares.sum()) * weights]), 0.9) / Z90
        if not on_top:
            return Sides(0.0, either, either, len(seen))
        reserve = seen[0].reserve
        above = math.hypot(either, math.log(reserve.maximum / reserve.median) / Z99)
        return Sides(0.0, math.hypot(either, math.log(reserve.median) / Z99), above, len(seen))

    def _of_others(self, engine: str) -> tuple[np.ndarray, np.ndarray]:
        """(normalised scores, weights adding up to 1) of all engines but one, each group the same."""
        if engine not in self._scores:
            found = [
                scored for name, own in self._engines.items() if name != engine for scored in self._scored(name, own)
            ]
            groups = Counter(group for group, _ in found)
            self._scores[engine] = (
                np.array([score for _, score in found]),
                np.array([1 / groups[group] for group, _ in found]) / max(1, len(groups)),
            )
        return self._scores[engine]

    @staticmethod
    def _scored(name: str, own: Sequence[ErrorRow]) -> list[tuple[object, float]]:
        """(group, absolute error in mean errors of the engine's other groups) of rows that are like one of theirs."""
        left = {g: [row for row in own if row.brought != g] for g in {row.brought for row in own}}
        kinds = {g: seen_kinds(row.kind for row in rows) for g, rows in left.items() if rows}
        speaking = {(g, live): _seen(rows, live)[0] for g, rows in left.items() for live in (True, False)}
        scales: dict[object, float] = {}
        out: list[tuple[object, float]] = []
        for row in own:
            seen = speaking[row.brought, row.live]
            if not seen or kinds[row.brought].missing(row.kind):
                continue
            key = row.brought, row.kind.cell, row.live
            if key not in scales:
                errors, shares = _own(seen, row.kind.cell)
                scales[key] = float(np.average(errors, weights=shares))
            if scales[key]:
                out.append(((name, row.brought), abs(row.log) / scales[key]))
        return out

    def small_gib(self, engine: str, rows: Iterable[ErrorRow] | None = None) -> float:
        """What a run under 5 GiB is off by with 90 %: by the engine's own small runs first, then all others'. [GiB]"""
        small = list(self.toys if rows is None else rows)
        own = [row for row in small if row.engine == engine]
        others = [row for row in small if row.engine != engine]
        groups = len({row.brought for row in own})
        off = np.abs([row.off_gib for row in [*own, *others]])
        shares = [groups / (groups + 1) * _shares(own), _shares(others) / (groups + 1)]
        return _quantile(off, np.concatenate(shares), 0.9)


def _seen(own: Sequence[ErrorRow], live: bool) -> tuple[list[ErrorRow], bool]:
    """Rows that speak of live tensors or of the card; whether the first stand in for the second."""
    alike, measured_live = ([row for row in own if row.live == what] for what in (live, True))
    if live:
        return alike or list(own), False
    on_top = len(alike) < LEAST_ROWS and bool(measured_live)
    return (measured_live if on_top else alike), on_top


def _own(seen: Sequence[ErrorRow], cell: str | None) -> tuple[np.ndarray, np.ndarray]:
    """(absolute errors, weights): rows of the kind first, then other kinds; 1 less their sum is other engines'."""
    picked = [row for row in seen if row.kind.cell == cell] or list(seen)
    rest = [row for row in seen if row.kind.cell != cell] if len(picked) < len(seen) else []
    shares, left = [], 1.0
    for nearer in (picked, rest):
        groups = len({row.brought for row in nearer})
        shares.append(left * groups / (groups + 1) * _shares(nearer))
        left /= groups + 1
    return np.abs([row.log for row in [*picked, *rest]]), np.concatenate(shares)


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
    for name, gib in first_look(folder, reread=False).items():
        case = measured.get(name)
        if case is not None and case.memory_gib:
            first.append(FirstLook(name, case.stack, math.log(case.memory_gib / gib)))
    by_size: dict[bool, list[ErrorRow]] = {True: [], False: []}
    for row in error_rows(left_out):
        by_size[(row.case.memory_gib or 0.0) < TOY_GIB].append(row)
    return ErrorPool(tuple(by_size[False]), tuple(by_size[True]), tuple(first))
