"""What if: the same scenario solved again for each value of some of its fields."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, override, parse_document, validate, value_at
from planner.problem.problem import Question
from planner.problem.resolve import resolve
from planner.schema.catalog import Price
from planner.schema.scenario import Scenario
from planner.search.plan import Plan
from planner.search.search import Outcome, search
from planner.search.shown import Answers

MAX_COMBINATIONS = 64

Changes = tuple[tuple[str, object], ...]


@dataclass(frozen=True)
class Variation:
    """The scenario with some fields changed, and its answer."""

    changes: Changes
    """(dotted path, value); empty for the scenario as it stands."""
    outcome: Outcome | None
    refused: str | None = None
    """Why this combination contradicts itself, where it was never solved."""
    name: str = ""
    """Of a variation that the scenario names itself."""

    @property
    def status(self) -> str:
        """optimal, feasible, infeasible, unknown, or refused."""
        return self.outcome.status if self.outcome is not None else "refused"

    @property
    def plan(self) -> Plan | None:
        """The layout, where one fits."""
        return self.outcome.plan if self.outcome is not None else None

    @property
    def label(self) -> str:
        """`cluster.num_gpus=8 batch.micro_batch_size=1`."""
        if self.name:
            return self.name
        if not self.changes:
            return "as it stands"
        return " ".join(f"{path}={compact(value)}" for path, value in self.changes)


def equal_to_it(rows: Sequence[Variation]) -> Variation | None:
    """The first variation that asks for what the scenario (the first of `rows`) says already."""
    outcome = rows[0].outcome
    return next((row for row in rows[1:] if outcome and _says(outcome.question.document, row.changes)), None)


def _says(document: Document, changes: Changes) -> bool:
    try:
        return all(compact(value_at(document, path)) == compact(value) for path, value in changes)
    except (KeyError, IndexError, TypeError):
        return False  # nothing stands at one of these paths


@dataclass(frozen=True)
class Variations(Answers[Variation]):
    """The scenario as it stands and its variations."""

    document: Document
    arguments: tuple[str, ...]
    """PATH=VALUE,VALUE texts that were asked."""


def compact(value: object) -> str:
    """A value as one would type it."""
    return value if isinstance(value, str) else json.dumps(value)


def parse_values(argument: str) -> tuple[str, list[Any]]:
    """`k=v1,v2` as a path and its values; each value is YAML, so that a list value stands in brackets.

    Raises InputError for anything else.
    """
    path, sign, text = argument.partition("=")
    place = Place(f"--set {argument}")
    if not sign or not path.strip() or not text.strip():
        raise InputError(
            Mistake(
                f"--set {argument}: expected path=value,value",
                place,
                "each value is YAML; a value that is itself a list stands in brackets",
                "--set cluster.num_gpus=4,8  or  --set 'layout.tensor_parallel=1,[2, 4]'",
            )
        )
    values = parse_document(f"[{text}]", place.file).data
    assert isinstance(values, list)
    unique: list[Any] = []
    for value in values:
        if not any(value == known and type(value) is type(known) for known in unique):
            unique.append(value)
    return path.strip(), unique


def combinations(arguments: Sequence[str]) -> list[Changes]:
    """Every combination of the values of several `--set k=v1,v2`, the last one varying fastest.

    Raises InputError for none, for a path given twice, or for more than 64 combinations.
    """
    choices: dict[str, list[Any]] = {}
    for argument in arguments:
        path, values = parse_values(argument)
        if path in choices:
            raise InputError(Mistake(f"--set {path} is given twice", Place(f"--set {argument}"), attempt="one list"))
        choices[path] = values
    if not choices:
        raise InputError(
            Mistake(
                "nothing to vary",
                where=Place("the command line"),
                because="no --set is given and the scenario has no what_if:",
                attempt="--set cluster.num_gpus=4,8 (try values)",
            )
        )
    count = 1
    for values in choices.values():
        count *= len(values)
    if count > MAX_COMBINATIONS:
        product = " x ".join(str(len(values)) for values in choices.values())
        raise InputError(
            Mistake(
                f"{count} combinations are more than {MAX_COMBINATIONS}",
                where=Place("the command line"),
                because=f"the values make {product} of them, and each is solved",
                attempt="fewer values, or one --set after the other",
            )
        )
    return [tuple(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def what_if(
    document: Document,
    arguments: Sequence[str],
    catalog: Catalog | None = None,
    *,
    check_points: int = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Variation]:
    """The scenario as it stands, then one variation for each combination of values (without any: each of `what_if:`).

    A value that the schema refuses, or that names nothing in the catalog, is InputError; a combination that
    contradicts itself (a precision that a GPU lacks) is a row that says so, unless all do.
    """
    catalog = catalog or default_catalog()
    stated = validate(document, Scenario)
    base = resolve(document, stated, catalog)
    wrong: list[Mistake] = []
    problems: list[tuple[str, Changes, Question | InputError]] = []
    asked = [] if arguments else [(each.name, tuple(each.set.items())) for each in stated.what_if]
    for name, changes in asked or [("", values) for values in combinations(arguments)]:
        changed = override(document, dict(changes))
        try:
            scenario = validate(changed, Scenario)
        except InputError as error:
            wrong += [question for question in error.problems if question not in wrong]
            continue
        try:
            problems.append((name, changes, resolve(changed, scenario, catalog)))
        except InputError as error:
            problems.append((name, changes, error))
    refused = [error for _, _, error in problems if isinstance(error, InputError)]
    unknown = [p for error in refused for p in error.problems if p.what.startswith("unknown ")]
    if len(refused) == len(problems):
        unknown = [p for error in refused for p in error.problems]
    wrong += [p for place, p in enumerate(unknown) if p not in unknown[:place]]
    if wrong:
        raise InputError(wrong)
    progress("as it stands")
    rows = [Variation((), search(base, check_points=check_points))]
    for place, (name, changes, question) in enumerate(problems, 1):
        if isinstance(question, InputError):
            reasons = [p.what + (f": {p.because}" if p.because else "") for p in question.problems]
            rows.append(Variation(changes, None, "; ".join(reasons), name))
            continue
        if _says(document, changes):
            rows.append(Variation(changes, rows[0].outcome, name=name))
            continue
        progress(f"{place} of {len(problems)}: {Variation(changes, None, name=name).label}")
        rows.append(Variation(changes, search(question, check_points=check_points), name=name))
    return rows


@dataclass(frozen=True)
class Rent:
    """What a plan's tokens cost on rented machines of its kind."""

    price: Price
    usd_per_million_tokens: float


def cheapest_rent(plan: Plan, catalog: Catalog) -> Rent | None:
    """The lowest list price on demand for the plan's machines; None where the catalog has none, or for two kinds."""
    nodes = {each.node.id for each in (plan.problem, plan.problem.generating, plan.problem.later or plan.problem)}
    offers = [
        price
        for price in catalog.all("prices")
        if {price.node} == nodes and price.on_demand_usd_per_gpu_hour is not None
    ]
    if not offers:
        return None
    best = min(offers, key=lambda price: (price.on_demand_usd_per_gpu_hour, price.id))
    per_hour = plan.num_gpus * best.on_demand_usd_per_gpu_hour
    return Rent(best, per_hour / 3600 / plan.tokens_per_second * 1e6)
