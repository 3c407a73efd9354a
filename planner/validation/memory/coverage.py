"""How many left-out rows lie in the 90 % intervals that are made without them, and what so few groups can tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.inputs.memory_spread import TOY_GIB, Z90, Sides
from planner.inputs.run_kind import seen_kinds
from planner.validation.memory.intervals import LEAST_ROWS, ErrorPool, ErrorRow

BARRED_ROWS = 20
"""Rows from which the coverage of an engine's interval has a bar."""
BAR = (0.85, 0.95)
"""Share of left-out rows that the 90 % interval of an engine must hold, from BARRED_ROWS rows on."""
TELLING = 0.05
"""Chance under which as many groups inside would tell an interval that is too wide from one of 90 %: by convention."""


@dataclass(frozen=True)
class Covered:
    """One row against its interval."""

    row: ErrorRow
    inside: bool
    below: bool
    """It took less than the interval's lower end."""
    unlike: bool
    """Like no other row once its own were left out."""
    width: float
    """Upper over lower end."""
    first: bool | None = None
    """Whether it would have lain inside with the error it had before anyone had seen it; None where none is kept."""


@dataclass(frozen=True)
class Coverage:
    """How many left-out rows of an engine lie in their 90 % interval."""

    engine: str
    held: tuple[Covered, ...]
    small: bool
    """Runs under 5 GiB."""

    @property
    def name(self) -> str:
        """As a report prints it."""
        return f"{self.engine}, under {TOY_GIB:g} GiB" if self.small else self.engine

    @property
    def rows(self) -> int:
        """All of them."""
        return len(self.held)

    @property
    def share(self) -> float:
        """Of rows inside."""
        return float(np.mean([one.inside for one in self.held]))

    @property
    def below(self) -> int:
        """Rows that took less than the interval's lower end."""
        return sum(one.below for one in self.held)

    @property
    def unlike(self) -> int:
        """Rows like no other once their own were left out, whose interval is that of a run like none."""
        return sum(one.unlike for one in self.held)

    @property
    def of_like(self) -> float | None:
        """Share inside of the rows that are like another; None where none is."""
        like = [one.inside for one in self.held if not one.unlike]
        return float(np.mean(like)) if like else None

    @property
    def as_first_said(self) -> float:
        """Share inside, rows with the error they had before anyone had seen them, where that is kept."""
        return float(np.mean([one.inside if one.first is None else one.first for one in self.held]))

    @property
    def width(self) -> float:
        """Median of upper over lower end."""
        return float(np.median([one.width for one in self.held]))

    @property
    def by_group(self) -> tuple[float, ...]:
        """Share inside of each network of a source and date."""
        groups: dict[tuple[str, str, str], list[bool]] = {}
        for one in self.held:
            groups.setdefault(one.row.brought, []).append(one.inside)
        return tuple(float(np.mean(inside)) for inside in groups.values())

    @property
    def of_groups(self) -> float:
        """Share inside, each group the same: what the method promises is one more group, not one more row."""
        return float(np.mean(self.by_group))

    @property
    def chance(self) -> float:
        """Chance that as many of its groups lie inside as do, were the interval one of 90 % exactly.

        Binomial, the groups inside rounded. At five groups all lie inside with 59 %, so that a share of 100 % tells
        an interval that is too wide from a right one from 29 groups on, 0.9^29 = 4.7 %.
        """
        k = len(self.by_group)
        least = round(sum(self.by_group))
        return sum(math.comb(k, n) * 0.9**n * 0.1 ** (k - n) for n in range(least, k + 1))

    @property
    def barred(self) -> bool:
        """Whether it has rows enough for the bar."""
        return self.rows >= BARRED_ROWS

    @property
    def ok(self) -> bool:
        """Whether it holds as many as the bar wants, or no bar binds; one that holds more is safe, if wide."""
        return not self.barred or self.share >= BAR[0]

    @property
    def wide(self) -> bool:
        """Whether it holds more than the bar wants."""
        return self.barred and self.share > BAR[1]

    @property
    def said(self) -> str:
        """The bar's word."""
        if not self.barred:
            return ""
        if not self.wide:
            return "yes" if self.ok else "NO"
        return "wide" if self.chance < TELLING else "wide, few groups"


def coverage(pool: ErrorPool, brought: Callable[[ErrorRow], object] = lambda row: row.brought) -> list[Coverage]:
    """Each row against the interval made without its own: every row that `brought` says is of the same."""
    out = []
    for rows, held in ((pool.rows, _held), (pool.toys, _held_small)):
        for engine in sorted({row.engine for row in rows}):
            own = [row for row in rows if row.engine == engine]
            if len(own) >= LEAST_ROWS:
                out.append(Coverage(engine, tuple(held(pool, own, brought)), small=held is _held_small))
    return out


def _held(pool: ErrorPool, own: Sequence[ErrorRow], brought: Callable[[ErrorRow], object]) -> list[Covered]:
    known: dict[object, tuple[Sides, bool]] = {}
    none = pool.of_none()
    told = {look.id: look.log for look in pool.first_look}
    out = []
    for row in own:
        key = brought(row), row.kind, row.live
        if key not in known:
            left = [other for other in own if brought(other) != brought(row)]
            known[key] = _sides(pool, row, left) or (none, True)
        sides, unlike = known[key]
        low, high = sides.centre - Z90 * sides.below, sides.centre + Z90 * sides.above
        then = told.get(row.case.id)
        first = None if then is None else low <= then <= high
        out.append(Covered(row, low <= row.log <= high, row.log < low, unlike, math.exp(high - low), first))
    return out


def _sides(pool: ErrorPool, row: ErrorRow, left: Sequence[ErrorRow]) -> tuple[Sides, bool] | None:
    """The spread that the other rows of its engine give a row, and whether it is like none of them."""
    own = pool.spread(row.engine, row.kind.cell, row.live, left)
    if own is None:
        return None
    unlike = bool(seen_kinds(other.kind for other in left).missing(row.kind))
    return own.widened(pool.added((row.engine, row.case.source)).sigma), unlike


def _held_small(pool: ErrorPool, own: Sequence[ErrorRow], brought: Callable[[ErrorRow], object]) -> list[Covered]:
    known: dict[object, tuple[float, bool]] = {}
    out = []
    for row in own:
        key = brought(row)
        if key not in known:
            left = [other for other in pool.toys if brought(other) != key]
            known[key] = pool.small_gib(row.engine, left), all(other.engine != row.engine for other in left)
        gib, alone = known[key]
        told = (row.case.memory_gib or 0.0) - row.off_gib
        width = (told + gib) / max(told - gib, 0.01)
        out.append(Covered(row, abs(row.off_gib) <= gib, row.off_gib < -gib, alone, width))
    return out
