"""Why a plan is what it is, and why nothing fits where nothing does: a scenario solved, and its neighbours with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.analysis.infeasible.conflict import Conflict, explain_conflict
from planner.analysis.infeasible.nearest import Nearest, nearest
from planner.analysis.neighbours import Alternative, ask, neighbours
from planner.analysis.option_gains import OptionGain, option_gains
from planner.analysis.other_methods import Method, other_methods
from planner.analysis.safer import Safer, safer
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, validate, value_at, with_overrides
from planner.schema.scenario import Scenario
from planner.search.search import Outcome, plan
from planner.search.shown import Shown


@dataclass(frozen=True)
class WhyNot:
    """One value that was asked about, solved."""

    alternative: Alternative
    nearest: Nearest | None
    """What it lacks, where nothing fits with it."""


@dataclass(frozen=True)
class Explanation(Shown):
    """What binds, what other decisions would do, and what contradicts what."""

    outcome: Outcome
    conflict: Conflict | None
    """A minimal set of limits that contradict each other, where nothing fits; None too where time was up."""
    nearest: Nearest | None
    """The nearest thing that would fit, where nothing does."""
    neighbours: tuple[Alternative, ...]
    """The next changes one would try, each solved again."""
    asked: tuple[WhyNot, ...]
    """The values that were asked about."""
    methods: tuple[Method, ...] = ()
    """Other ways to train that would fit, where nothing does."""
    options: tuple[OptionGain, ...] = ()
    """What options of the engine would do at the plan's layout."""
    safer: Safer | None = None
    """What would make the plan safe, where it is not."""


def explain(
    document: Document,
    catalog: Catalog,
    *,
    why_not: Sequence[str] = (),
    around: bool = True,
    progress: Callable[[str], None] = lambda text: None,
    in_time: Callable[[Callable[[], Conflict]], Conflict | None] = lambda asked: asked(),
) -> Explanation:
    """Solve a scenario and say what binds; `why_not` holds PATH=VALUE texts, refused before anything is solved.

    Which limits contradict each other may take long; it is asked `in_time`, which gives None where that was too short.
    """
    changes = [(text, _change(document, text)) for text in why_not]
    outcome = plan(document, catalog, check_points=0)
    missing = nearest(outcome, catalog) if outcome.status == "infeasible" else None
    others = neighbours(outcome, catalog, progress) if around else []
    asked = [_asked(ask(outcome, text, change, catalog), catalog) for text, change in changes]
    methods = other_methods(outcome, catalog, progress)
    conflict = None
    if outcome.status == "infeasible":
        conflict = in_time(lambda: explain_conflict(document, catalog, progress=progress))
    gains = option_gains(outcome.plan, catalog) if around and outcome.plan is not None else ()
    more = safer(outcome.plan, catalog) if outcome.plan is not None else None
    return Explanation(outcome, conflict, missing, tuple(others), tuple(asked), methods, gains, more)


def _change(document: Document, text: str) -> dict[str, object]:
    """What a PATH=VALUE text changes. Raises InputError for a value that the scenario cannot have."""
    changed = with_overrides(document, [text])
    validate(changed, Scenario)
    path = text.partition("=")[0].strip()
    return {path: value_at(changed, path)}


def _asked(alternative: Alternative, catalog: Catalog) -> WhyNot:
    outcome = alternative.outcome
    lacks = outcome is not None and outcome.plan is None
    return WhyNot(alternative, nearest(outcome, catalog) if lacks and outcome is not None else None)
