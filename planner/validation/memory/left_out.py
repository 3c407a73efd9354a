"""Errors of rows that the fitted numbers under them have not seen: each is fitted again without the row's own group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from planner.inputs.catalog import Catalog, default_catalog
from planner.validation.memory.cases import Case
from planner.validation.memory.constants import FittedNumber, fitted_numbers, predicted_over_span, with_values
from planner.validation.memory.express import Prediction, express
from planner.validation.memory.score import MemoryResult
from planner.validation.refit import By, Standing, members_of, standings, values_without


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

    Numbers are fitted again one at a time, the others as shipped, on rows of the sources that their files name.
    """
    base, group_of = catalog or default_catalog(), _GROUP[by]
    rows = [p for p in result.predictions if p.case.excluded is None]
    refits: list[Refit] = []
    rests: list[dict[str, bool]] = []
    changes: dict[str, dict[FittedNumber, float]] = defaultdict(dict)
    for number in fitted_numbers(base):
        under = [p for p in rows if p.case.memory_gib is not None and number.bears_on(p)]
        under = [p for p in under if p.case.source in number.fitted.sources]
        for refit in _refits(number, under, group_of, base):
            refits.append(refit)
            if refit.value is not None:
                changes[refit.group][number] = refit.value
        again = {refit.group for refit in refits if refit.number is number and refit.value is not None}
        rests.append({p.case.id: group_of(p) in again for p in under})
    told = {p.case.id: p for p in rows}
    for group, values in changes.items():
        touched = [p.case for p in rows if group_of(p) == group and any(number.bears_on(p) for number in values)]
        done, _ = express(touched, with_values(base, values))
        told |= {p.case.id: p for p in done}
    standing = standings([p.case.id for p in rows], rests)
    return LeftOutRows(by, tuple(told[p.case.id] for p in rows), standing, tuple(refits))


def _refits(
    number: FittedNumber, under: list[Prediction], group_of: Callable[[Prediction], str], catalog: Catalog
) -> list[Refit]:
    """The number without each group of the rows under it."""
    groups = [group_of(p) for p in under]
    members = members_of(groups)
    if number.fitted.span is None or len(members) < 2:
        return [Refit(number, group, None, len(rows)) for group, rows in members.items()]
    values, gib = predicted_over_span(number, [p.case for p in under], catalog)
    measured = [p.case.memory_gib or 0.0 for p in under]
    found = values_without(groups, number.value, values, gib, measured)
    return [Refit(number, group, value, len(members[group])) for group, value in found.items()]


def scored_left_out(result: MemoryResult, left_out: LeftOutRows) -> MemoryResult:
    """The same result with left-out predictions in place of the shipped ones."""
    return replace(result, predictions=tuple(left_out.by_id.get(p.case.id, p) for p in result.predictions))
