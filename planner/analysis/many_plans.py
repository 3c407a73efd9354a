"""Any number of plans beside each other: scenarios, overrides of them, saved plans; one without a plan says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.analysis.cause import Cause, cause
from planner.analysis.two_plans import (
    Difference,
    Differences,
    Side,
    asked_again,
    compare,
    read_side,
    side_of,
)
from planner.errors import InputError, Mistake, NoLayoutFits, NoVerdict, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.inputs.saved import load
from planner.search.shown import Shown

MAX_SIDES = 16


@dataclass(frozen=True)
class Planless:
    """A side without a plan."""

    name: str
    status: str
    """infeasible or unknown."""
    because: str
    document: Document
    remark: str | None = None
    """Where the side comes from, for a file that is no scenario."""


@dataclass(frozen=True)
class ManyPlans(Shown):
    """Sides in the order given; all differences are against the first that has a plan."""

    sides: tuple[Side | Planless, ...]
    pairs: tuple[Differences, ...]
    """The first plan against every other plan."""
    causes: tuple[tuple[Cause | None, Cause | None], ...] = ()
    """Of the largest difference in memory and in time of each pair; empty where nobody looked."""

    @property
    def base(self) -> Side | None:
        """The first side that has a plan."""
        return next((side for side in self.sides if isinstance(side, Side)), None)


def many(sides: Sequence[Side | Planless], catalog: Catalog | None = None) -> ManyPlans:
    """Differences of the first plan and every other one, with the causes of the largest where a catalog is given."""
    plans = [side for side in sides if isinstance(side, Side)]
    pairs = tuple(compare(plans[0], other) for other in plans[1:])
    causes = tuple(_causes(pair, catalog) for pair in pairs) if catalog is not None else ()
    return ManyPlans(tuple(sides), pairs, causes)


def _causes(pair: Differences, catalog: Catalog) -> tuple[Cause | None, Cause | None]:
    def largest(rows: tuple[Difference, ...]) -> Difference | None:
        return rows[0] if rows and rows[0].change else None

    memory, time = largest(pair.memory), largest(pair.time)
    return (
        None if memory is None else cause(memory, pair.a, pair.b, catalog, items=lambda side: side.memory),
        None if time is None else cause(time, pair.a, pair.b, catalog, items=lambda side: side.time),
    )


def compare_many(
    paths: Sequence[str],
    overrides: Sequence[tuple[str, ...]],
    catalog: Catalog,
    progress: Callable[[str], None] = lambda text: None,
) -> ManyPlans:
    """A side a path with its overrides. Raises InputError where there is one side only, or too many of them."""
    if len(paths) < 2:
        raise InputError(
            Mistake(
                "nothing to compare with",
                where=Place("the command line"),
                because="only one scenario is given and neither --set-a, --set-b nor --also",
                attempt=f"planner compare {paths[0]} --set-b limits.headroom_gib=10  or  planner compare A B C",
            )
        )
    if len(paths) > MAX_SIDES:
        raise InputError(
            Mistake(
                f"{len(paths)} sides are more than {MAX_SIDES}",
                where=Place("the command line"),
                attempt="planner sweep",
            )
        )
    if list(paths).count("-") > 1:
        raise InputError(
            Mistake("standard input can be read once", where=Place("the command line"), because="several sides are -")
        )
    sides = []
    for place, (path, changes) in enumerate(zip(paths, overrides, strict=True)):
        progress(f"side {chr(ord('A') + place)}: {' '.join([path, *changes])}")
        sides.append(any_side(path, changes, catalog))
    return many(sides, catalog)


def any_side(path: str, overrides: tuple[str, ...], catalog: Catalog) -> Side | Planless:
    """A saved plan, or a scenario solved; a scenario that fits nowhere says so."""
    try:
        return read_side(path, overrides, catalog)
    except (NoLayoutFits, NoVerdict) as error:
        document = load(path, overrides)
        return _planless(document, error, asked_again(path, document))


def document_side(document: Document, catalog: Catalog) -> Side | Planless:
    """A scenario that is read already, solved; one that fits nowhere says so."""
    try:
        return side_of(document, catalog)
    except (NoLayoutFits, NoVerdict) as error:
        return _planless(document, error)


def _planless(document: Document, error: NoLayoutFits | NoVerdict, remark: str | None = None) -> Planless:
    status = "infeasible" if isinstance(error, NoLayoutFits) else "unknown"
    return Planless(" ".join([document.name, *document.overrides]), status, str(error), document, remark)
