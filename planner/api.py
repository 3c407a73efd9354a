"""The door: the functions that `import planner` gives, which the command line calls too.

A scenario may be given as a path, as a dict, or as what `load` returned. Answers print themselves in one line, show
themselves in a notebook, and are plain frozen records: what a field means and its units stand in its class.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr

from planner.analysis.explanation import Explanation
from planner.analysis.explanation import explain as _explain
from planner.analysis.near import Front, NearPlans, near_plans, usd_per_gpu_hour
from planner.analysis.near import front as _front
from planner.analysis.two_plans import Differences, Side, plan_side, read_side, side_of
from planner.analysis.two_plans import compare as _compare
from planner.analysis.whatif import Variations
from planner.analysis.whatif import what_if as _what_if
from planner.errors import CheckFailed as CheckFailed
from planner.errors import InputError as InputError
from planner.errors import InternalError as InternalError
from planner.errors import Mistake, Place
from planner.errors import NoLayoutFits as NoLayoutFits
from planner.errors import NoVerdict as NoVerdict
from planner.errors import PlannerError as PlannerError
from planner.inputs.catalog import Catalog as Catalog
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, document_of, json_value, override, read_document, validate
from planner.problem.resolve import question_of
from planner.report.answers import STYLES, answer_document, answer_html, answer_text
from planner.schema.scenario import Scenario as Scenario
from planner.search.enumerate import DEFAULT_POINTS
from planner.search.estimate import estimate as _estimate
from planner.search.plan import Plan as Plan
from planner.search.search import Outcome as Outcome
from planner.search.search import search
from planner.search.shown import show_with

ScenarioLike = str | os.PathLike[str] | Mapping[str, object] | Scenario | Document
"""A YAML file (`-` is standard input), its content as a dict, or what `load` returned."""
CatalogLike = Catalog | str | os.PathLike[str] | None
"""None is the shipped catalogs; a folder's entries come before those shipped."""
Progress = Callable[[str], None]


def _silent(_: str) -> None:
    return None


class _Loaded(Scenario):
    """A scenario that remembers the file and the overrides that it was made from, for messages and receipts."""

    _document: Document = PrivateAttr()

    def __repr_name__(self) -> str:
        return "Scenario"


def load(scenario: ScenarioLike, overrides: Mapping[str, object] | None = None) -> Scenario:
    """Read and check a scenario.

    Args:
        scenario: path of a YAML file, its content as a dict, or a scenario.
        overrides: values by dotted path, such as `{"cluster.num_gpus": 64}`; a value may be a list or a dict.

    Returns:
        The scenario, with every field checked; names are looked up in a catalog when it is solved.

    Raises:
        InputError: the file cannot be read, a path has no place, or a value is not what its field takes. All
            mistakes are reported at once, each with its line.
    """
    document = _document_of(scenario)
    if overrides:
        document = override(document, overrides)
    loaded = validate(document, _Loaded)
    loaded._document = document
    return loaded


def solve(
    scenario: ScenarioLike,
    *,
    catalog: CatalogLike = None,
    check: bool = True,
    time_limit_s: float | None = None,
) -> Outcome:
    """Find the best layout of a scenario and prove it.

    Best means: fewest wishes given up, then most tokens a second; within `search.near_tie` of the best, most headroom
    and then the simplest layout.

    Args:
        scenario: what `load` takes or returned.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.
        check: enumerate small spaces too, as a check of the solver.
        time_limit_s: longest search, instead of the scenario's `search.time_limit_s`. [s]

    Returns:
        The outcome: `status` (optimal, feasible, infeasible, unknown), `plan` (None where nothing fits or the time
        limit came first), `proof`. Memory is in GiB, time in seconds, throughput in tokens a second.

    Raises:
        InputError: the scenario contradicts itself or names what the catalog has not.
        InternalError: solver and enumeration disagree, which is a fault of planner.
    """
    question = question_of(_document_of(scenario), _catalog_of(catalog))
    return search(question, check_points=DEFAULT_POINTS if check else 0, time_limit_s=time_limit_s)


def estimate(scenario: ScenarioLike, *, catalog: CatalogLike = None) -> Plan:
    """Cost the one layout that a fully pinned scenario describes, whether it fits or not.

    Args:
        scenario: what `load` takes or returned; every decision must be pinned.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.

    Returns:
        The plan with its ledgers; `headroom_gib` is negative where it does not fit.

    Raises:
        InputError: something is left open (all of it is named), or the layout breaks a rule of its engine.
    """
    return _estimate(_document_of(scenario), _catalog_of(catalog))


def what_if(
    scenario: ScenarioLike,
    values: Mapping[str, object],
    *,
    catalog: CatalogLike = None,
    progress: Progress = _silent,
) -> Variations:
    """Solve a scenario again for each value of some of its fields.

    Args:
        scenario: what `load` takes or returned.
        values: a list of values to try by dotted path, such as `{"limits.headroom_gib": [10, 20]}`; a single value
            counts as a list of one. Several paths make every combination, at most 64.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.
        progress: called with one line before each solve.

    Returns:
        The scenario as it stands, then one variation for each combination, the last path varying fastest. Each has a
        `label`, a `status`, a `plan` (or None) and, where the combination contradicts itself, `refused`.

    Raises:
        InputError: a value that the field does not take, a name that the catalog has not, or too many combinations.
    """
    arguments = []
    for path, tried in values.items():
        several = tried if isinstance(tried, list | tuple | range) else [tried]
        if not several:
            what = f"no value to try for {path}"
            raise InputError(Mistake(what, Place(path), "its list is empty", f'{{"{path}": [1, 2]}}'))
        arguments.append(f"{path}={','.join(json_value(path, value) for value in several)}")
    document = _document_of(scenario)
    rows = _what_if(document, arguments, _catalog_of(catalog), progress=progress)
    return Variations(tuple(rows), document, tuple(arguments))


def near(
    scenario: ScenarioLike,
    *,
    count: int = 5,
    within: float = 0.1,
    catalog: CatalogLike = None,
    progress: Progress = _silent,
) -> NearPlans:
    """The best distinct layouts, best first: the real best may be the model's second or third.

    Args:
        scenario: what `load` takes or returned.
        count: layouts at most.
        within: largest slowdown against the best, as a share (0.1 is 10 %).
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.
        progress: called with one line before each solve.

    Returns:
        One outcome a layout, each solved with the earlier ones left out; empty where nothing fits.

    Raises:
        InputError: the scenario, `count` or `within` is wrong.
        NoVerdict: the time limit came before a plan.
    """
    if count < 1 or within < 0:
        what = f"near needs count >= 1 and within >= 0, not {count} and {within}"
        raise InputError(Mistake(what, Place("near()"), attempt="near(scenario, count=5, within=0.1)"))
    question = question_of(_document_of(scenario), _catalog_of(catalog))
    outcomes = near_plans(question, count=count, within=within, progress=progress)
    return NearPlans(tuple(outcomes), question, within)


def front(
    scenario: ScenarioLike,
    over: str = "headroom",
    *,
    offer: str | None = None,
    catalog: CatalogLike = None,
    progress: Progress = _silent,
) -> Front:
    """Plans of which none is better in both throughput and another figure; each is solved.

    Args:
        scenario: what `load` takes or returned.
        over: `headroom` (GiB free), `gpus`, `sequence_length` (tokens) or `dollars` (USD per million tokens).
        offer: id of a price in the catalog, for `dollars`.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.
        progress: called with one line before each solve.

    Returns:
        The front: `points` by rising `value`, each with its `plan`, and the `unit` of the values.

    Raises:
        InputError: no such front, an offer for another GPU, or none where one is needed.
        NoVerdict: the time limit came before a plan.
    """
    document, facts = _document_of(scenario), _catalog_of(catalog)
    usd = usd_per_gpu_hour(offer, question_of(document, facts), facts) if offer is not None else None
    return _front(document, facts, over, price_usd_per_gpu_hour=usd, progress=progress)


def explain(
    scenario: ScenarioLike,
    why_not: Mapping[str, object] | Sequence[str] = (),
    *,
    neighbours: bool = True,
    catalog: CatalogLike = None,
    progress: Progress = _silent,
) -> Explanation:
    """Say what binds a plan and what other decisions would do, or what contradicts what where nothing fits.

    Args:
        scenario: what `load` takes or returned.
        why_not: values to ask about by dotted path, such as `{"layout.tensor_parallel": 8}`, or PATH=VALUE texts.
        neighbours: also solve the next changes one would try.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.
        progress: called with one line before each solve.

    Returns:
        The explanation: `outcome`, `conflict` and its repairs (None where a plan fits), `neighbours`, `asked`.

    Raises:
        InputError: the scenario or a value asked about is wrong.
    """
    if isinstance(why_not, Mapping):
        why_not = [f"{path}={json_value(path, value)}" for path, value in why_not.items()]
    elif isinstance(why_not, str):
        why_not = [why_not]
    return _explain(_document_of(scenario), _catalog_of(catalog), why_not=why_not, around=neighbours, progress=progress)


def compare(
    a: ScenarioLike | Outcome | Plan, b: ScenarioLike | Outcome | Plan, *, catalog: CatalogLike = None
) -> Differences:
    """Two plans side by side: every decision, and every item of their ledgers by the size of its difference.

    Args:
        a: a scenario (solved), the path of a plan saved by `planner solve --format json`, an outcome or a plan.
        b: the same.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.

    Returns:
        The differences: `layout`, `memory` [GiB] and `time` [s], with both sides `a` and `b`.

    Raises:
        InputError: a scenario or a saved plan is wrong.
        NoLayoutFits: nothing fits one of the scenarios, and it does not pin its layout.
        NoVerdict: the time limit came before a plan.
    """
    facts = _catalog_of(catalog)
    return _compare(_side_of(a, facts), _side_of(b, facts))


def show(answer: object, style: str = "table") -> None:
    """Print an answer in full, as the command line does.

    Args:
        answer: what one of the functions here returned.
        style: `table`, `markdown` or `html`.

    Raises:
        InputError: not an answer of planner, or no such style.
    """
    if style not in STYLES:
        raise InputError(Mistake(f"no style {style!r}", Place("show()"), attempt=f"one of {', '.join(STYLES)}"))
    print(answer_text(answer, style), end="")


def to_dict(answer: object) -> dict[str, Any]:
    """An answer as plain data: what the command line writes with `--format json`, with receipts of every file used.

    Args:
        answer: what one of the functions here returned.

    Raises:
        InputError: not an answer of planner.
    """
    return answer_document(answer)


def _document_of(scenario: ScenarioLike) -> Document:
    """The scenario with its lines, where it has any."""
    if isinstance(scenario, Document):
        return scenario
    if isinstance(scenario, _Loaded) and validate(scenario._document, Scenario).model_dump() == scenario.model_dump():
        return scenario._document
    if isinstance(scenario, Scenario):
        return document_of(scenario.model_dump(mode="json", exclude_unset=True), "<Scenario>")
    if isinstance(scenario, Mapping):
        return document_of(scenario)
    if isinstance(scenario, str | os.PathLike):
        return read_document(os.fspath(scenario))
    what = f"{type(scenario).__name__} is no scenario"
    raise InputError(Mistake(what, Place("scenario"), attempt="a path, a dict or what planner.load returned"))


def _catalog_of(catalog: CatalogLike) -> Catalog:
    if isinstance(catalog, Catalog):
        return catalog
    return default_catalog([] if catalog is None else [Path(catalog)])


def _side_of(given: ScenarioLike | Outcome | Plan, catalog: Catalog) -> Side:
    if isinstance(given, Outcome):
        document = given.question.document
        if given.plan is None:
            return side_of(document, catalog)
        return plan_side(" ".join([document.name, *document.overrides]), given.status, given.plan)
    if isinstance(given, Plan):
        document = given.problem.document
        status = "fits" if given.headroom_gib >= given.demanded_gib else "does not fit"
        return plan_side(" ".join([document.name, *document.overrides]), status, given)
    if isinstance(given, str | os.PathLike):
        return read_side(os.fspath(given), (), catalog)
    return side_of(_document_of(given), catalog)


show_with(answer_html)
