"""Errors of rows that the fitted numbers under them have not seen: each is fitted again without the row's own group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from planner.inputs.catalog import Catalog, default_catalog
from planner.problem.layouts import Floats
from planner.validation.memory.cases import Case
from planner.validation.memory.constants import FittedNumber, fitted_numbers, predicted_over_span, with_values
from planner.validation.memory.express import Prediction, express
from planner.validation.memory.score import MemoryResult
from planner.validation.refit import By, Standing, best_value, members_of, standings

ROUNDS = 10
"""Times that numbers are fitted in turn at most; they stand still after two or three."""


def network_of(case: Case) -> str:
    """Hidden size, layers and vocabulary: what two networks differ in."""
    a = case.arch
    return f"{a['hidden_size']} x {a['num_hidden_layers']} x {a['vocab_size']}"


_GROUP: dict[str, Callable[[Prediction], str]] = {
    "source": lambda p: p.case.source,
    "engine": lambda p: p.group.problem.engine.id,
    "network": lambda p: network_of(p.case),
}


@dataclass(frozen=True)
class Refit:
    """A fitted number without one group of rows."""

    number: FittedNumber
    group: str
    value: float | None
    """Fitted to the other groups' rows; None where there are none, so that the group stays in-sample."""
    rows: int
    """Of the group, that rest on the number."""


@dataclass(frozen=True)
class LeftOutRows:
    """Scored rows predicted without their own group in any fit."""

    by: By
    predictions: tuple[Prediction, ...]
    standing: Mapping[str, Standing]
    """By row id."""
    refits: tuple[Refit, ...]

    @cached_property
    def by_id(self) -> dict[str, Prediction]:
        """Predictions by row id."""
        return {p.case.id: p for p in self.predictions}


def left_out_errors(result: MemoryResult, by: By = "source", catalog: Catalog | None = None) -> LeftOutRows:
    """Predict every scored row, and every run that only fitted or ran out, by numbers fitted without its group.

    Numbers are fitted again together, on rows of the sources that their files name.
    """
    base, group_of = catalog or default_catalog(), _GROUP[by]
    rows = [p for p in result.predictions if p.case.excluded is None]
    under: dict[FittedNumber, list[Prediction]] = {}
    for number in fitted_numbers(base):
        seen = [p for p in rows if p.case.memory_gib is not None and number.bears_on(p)]
        under[number] = [p for p in seen if p.case.source in number.fitted.sources]
    several = [n for n, seen in under.items() if n.fitted.span is not None and len({group_of(p) for p in seen}) > 1]
    tables = {n: _told(n, under[n], group_of, base) for n in several}
    refits: list[Refit] = []
    rests: list[dict[str, bool]] = []
    changes: dict[str, dict[FittedNumber, float]] = defaultdict(dict)
    for group in sorted({group_of(p) for seen in under.values() for p in seen}):
        changes[group] = _values_without(group, tables)
    for number, seen in under.items():
        groups = [group_of(p) for p in seen]
        members = members_of(groups)
        refits += [Refit(number, group, changes[group].get(number), len(own)) for group, own in members.items()]
        rests.append({p.case.id: number in changes[group] for p, group in zip(seen, groups, strict=True)})
    told = {p.case.id: p for p in rows}
    for group, values in changes.items():
        touched = [p.case for p in rows if group_of(p) == group and any(number.bears_on(p) for number in values)]
        done, _ = express(touched, with_values(base, values)) if touched else ((), ())
        told |= {p.case.id: p for p in done}
    standing = standings([p.case.id for p in rows], rests)
    return LeftOutRows(by, tuple(told[p.case.id] for p in rows), standing, tuple(refits))


@dataclass(frozen=True)
class _Table:
    """What the rows under a number are predicted to take at values of it, all other numbers as shipped."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: Floats
    gib: Floats
    """Shape [rows, values]."""
    measured: Floats

    def at(self, value: float) -> Floats:
        """Predictions of the rows at a value, straight between those of the table. [GiB]"""
        return np.array([np.interp(value, self.values, row) for row in self.gib])


def _told(
    number: FittedNumber, under: list[Prediction], group_of: Callable[[Prediction], str], catalog: Catalog
) -> _Table:
    values, gib = predicted_over_span(number, [p.case for p in under], catalog)
    ids, groups = (tuple(of(p) for p in under) for of in (lambda p: p.case.id, group_of))
    return _Table(ids, groups, values, gib, np.array([p.case.memory_gib for p in under]))


def _values_without(group: str, tables: Mapping[FittedNumber, _Table]) -> dict[FittedNumber, float]:
    """All numbers that bear on a group, fitted together to the other groups' rows.

    In turn, each beside what the others have moved its rows by so far, until none moves: two numbers of one row that
    were fitted each for itself would mend the same error twice.
    """
    free = {n: t for n, t in tables.items() if group in t.groups}
    values = {number: number.value for number in free}
    for _ in range(ROUNDS):
        before = dict(values)
        for number, table in free.items():
            others = np.array([g != group for g in table.groups])
            moved = sum(_moved(m, t, values[m], table.ids) for m, t in free.items() if m is not number)
            told = (table.gib + np.reshape(moved, (-1, 1)))[others]
            seen = table.measured[others].tolist()
            values[number] = best_value(number.value, table.values, told, seen, each_row=True)
        if values == before:
            break
    return values


def _moved(number: FittedNumber, table: _Table, value: float, ids: tuple[str, ...]) -> Floats:
    """How much these rows' predictions move with the number; nothing where it does not bear on them. [GiB]"""
    if value == number.value:
        return np.zeros(len(ids))
    by = dict(zip(table.ids, table.at(value) - table.at(number.value), strict=True))
    return np.array([by.get(name, 0.0) for name in ids])


def scored_left_out(result: MemoryResult, left_out: LeftOutRows) -> MemoryResult:
    """The same result with left-out predictions in place of the shipped ones."""
    return replace(result, predictions=tuple(left_out.by_id.get(p.case.id, p) for p in result.predictions))
