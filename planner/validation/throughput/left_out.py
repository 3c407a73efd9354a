"""Speeds of rows that the fitted constants under them have not seen: each is fitted again without the row's group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from planner.inputs.catalog import Catalog, default_catalog
from planner.problem.problem import Problem
from planner.validation.memory.left_out import network_of
from planner.validation.refit import By, Standing, members_of, standings, values_without
from planner.validation.throughput.constants import (
    FITTED,
    STEPS,
    FittedConstant,
    allowed,
    rests_on,
    value_of,
    with_constant,
)
from planner.validation.throughput.express import Estimate, timed_again

UNFITTED = (
    *("other", "nanotron-slow", "adapters", "amd", "one-gpu", "unseen", "adapters-unseen", "sweep-unseen"),
    *("zero3", "zero2", "fsdp1", "fsdp1-adapters", "one-gpu-full", "one-gpu-adapters"),
)
"""Classes on which nothing is fitted but what names them; they are predicted without their own group all the same."""
LEAST_CHANGE = 0.005
"""A row rests on a constant where its prediction moves by at least this share between the ends of the span."""

_GROUP: dict[str, Callable[[Estimate], str]] = {
    "source": lambda e: e.speed.source,
    "engine": lambda e: e.problem.engine.id,
    "network": lambda e: network_of(e.speed.run),
}


@dataclass(frozen=True)
class SpeedRefit:
    """A fitted constant without one group of rows."""

    fitted: FittedConstant
    shipped: float
    group: str
    value: float | None
    """Fitted to the other groups' rows; None where there are none, so that the group stays in-sample."""
    rows: int
    """Of the group, that rest on the constant."""


@dataclass(frozen=True)
class LeftOutSpeeds:
    """Scored rows predicted without their own group in any fit."""

    by: By
    estimates: tuple[Estimate, ...]
    standing: Mapping[str, Standing]
    """By row id."""
    refits: tuple[SpeedRefit, ...]

    def in_sample(self, rows: Sequence[Estimate]) -> int:
        """How many of these rest on a constant that only their own group's rows set."""
        return sum(self.standing[e.speed.id] == "in-sample" for e in rows)


def left_out_speeds(estimates: Sequence[Estimate], by: By = "source", catalog: Catalog | None = None) -> LeftOutSpeeds:
    """Predict every scored row by constants fitted without its group, one at a time, the others as shipped."""
    base, group_of = catalog or default_catalog(), _GROUP[by]
    group = {e.speed.id: group_of(e) for e in estimates}
    refits: list[SpeedRefit] = []
    rests: list[dict[str, bool]] = []
    changes: dict[str, list[tuple[FittedConstant, float]]] = defaultdict(list)
    as_shipped = {fitted: value_of(fitted, base) for fitted in FITTED}
    for fitted, shipped in as_shipped.items():
        values, told, under = _over_span(fitted, shipped, estimates, group)
        fit = [row for row, e in enumerate(under) if _sets(fitted, e.speed.accuracy)]
        names = [group[under[row].speed.id] for row in fit]
        measured = [under[row].speed.tokens_per_s_per_gpu or 0.0 for row in fit]
        found = values_without(names, shipped, values, told[fit], measured)
        everything = {group[e.speed.id] for e in under} - set(found)
        found |= dict.fromkeys(everything, shipped)  # no row of the group was in the fit
        members = members_of([group[e.speed.id] for e in under])
        for name, value in sorted(found.items()):
            refits.append(SpeedRefit(fitted, shipped, name, value, len(members[name])))
            if value is not None:
                changes[name].append((fitted, value))
        rests.append({e.speed.id: found[group[e.speed.id]] is not None for e in under})
    told_again = {e.speed.id: e for e in estimates}
    for name, constants in changes.items():
        own = [e for e in estimates if group[e.speed.id] == name]
        mine = [e for e in own if any(rests_on(c, e.problem, as_shipped[c]) for c, _ in constants)]
        change = partial(_with_all, constants=constants, as_shipped=as_shipped)
        told_again |= {e.speed.id: e for e in timed_again(mine, change)}
    standing = standings([e.speed.id for e in estimates], rests)
    return LeftOutSpeeds(by, tuple(told_again[e.speed.id] for e in estimates), standing, tuple(refits))


def _sets(fitted: FittedConstant, accuracy_class: str) -> bool:
    """Whether rows of this class set the constant."""
    return accuracy_class in fitted.classes if fitted.classes else accuracy_class not in UNFITTED


def _with_all(
    problem: Problem, constants: Sequence[tuple[FittedConstant, float]], as_shipped: Mapping[FittedConstant, float]
) -> Problem:
    """The problem with those constants changed that it rests on."""
    for fitted, value in [pair for pair in constants if rests_on(pair[0], problem, as_shipped[pair[0]])]:
        problem = with_constant(problem, fitted=fitted, value=value)
    return problem


def _over_span(
    fitted: FittedConstant, shipped: float, estimates: Sequence[Estimate], group: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, list[Estimate]]:
    """(values, tokens/s of shape [rows, values], the rows that rest on the constant).

    Where all rows are of one group nothing can be fitted without it: one other value shows which rows rest on it.
    """
    able = [e for e in estimates if rests_on(fitted, e.problem, shipped)]
    alone = len({group[e.speed.id] for e in able}) == 1
    values = np.unique([allowed(fitted, shipped * step) for step in (STEPS[:2] if alone else STEPS)])
    columns = []
    for value in values:
        done = (
            timed_again(able, partial(with_constant, fitted=fitted, value=float(value))) if value != shipped else able
        )
        columns.append([e.tokens_per_s_per_gpu for e in done])
    told = np.array(columns).T.reshape(len(able), len(values))
    moved = [row for row in range(len(able)) if np.ptp(told[row]) >= LEAST_CHANGE * told[row].min()]
    return values, told[moved], [able[row] for row in moved]
