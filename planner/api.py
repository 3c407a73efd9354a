"""The door: the functions that `import planner` gives, which the command line calls too.

A scenario may be given as a path, as a dict, or as what `load` returned. Answers print themselves in one line, show
themselves in a notebook, and are plain frozen records: what a field means and its units stand in its class.

    >>> import planner
    >>> small = {
    ...     "name": "small",
    ...     "task": "sft",
    ...     "model": "llama3.1-8b",
    ...     "engine": "megatron-core",
    ...     "precision": "bf16",
    ...     "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
    ...     "batch": {"sequence_length": 4096, "global_batch_size": 64},
    ...     "layout": {"pipeline_parallel": 1, "context_parallel": 1},
    ...     "optimizer": "adamw",
    ...     "limits": {"headroom_gib": 8},
    ... }
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from planner.analysis.budget.asked import budget as budget
from planner.analysis.budget.known_layouts import KnownLayouts as KnownLayouts
from planner.analysis.explanation import Explanation
from planner.analysis.explanation import explain as _explain
from planner.analysis.near import Front, NearPlans, near_plans, usd_per_gpu_hour
from planner.analysis.near import front as _front
from planner.analysis.sweep.sweep import sweep as sweep
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
from planner.inputs.document import json_value
from planner.inputs.given import (
    CatalogLike,
    Progress,
    ScenarioLike,
    by_path,
    catalog_given,
    document_given,
    is_number,
    loaded,
    silent,
)
from planner.problem.resolve import question_of
from planner.report.answers import STYLES, answer_document, answer_html, answer_line, answer_text
from planner.schema.scenario import Scenario as Scenario
from planner.search.enumerate import DEFAULT_POINTS
from planner.search.estimate import estimate as _estimate
from planner.search.near_ties import known_share
from planner.search.plan import Plan as Plan
from planner.search.search import Outcome as Outcome
from planner.search.search import search
from planner.search.shown import show_with


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

    Example:
        >>> scenario = planner.load(small, {"limits.headroom_gib": 10})
        >>> scenario.limits.headroom_gib
        10.0
        >>> planner.load(small, {"cluster.num_gpus": "many"})
        Traceback (most recent call last):
        planner.errors.InputError: ...
    """
    return loaded(scenario, by_path(overrides, "load()"))


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

    Example:
        >>> outcome = planner.solve(scenario)
        >>> print(outcome)
        small: fits on 8 GPUs: ... GiB free; proved optimal
        >>> plan = outcome.plan
        >>> plan.headroom_gib >= 10 and plan.step_seconds <= outcome.proof.bound_seconds * 1.01
        True
        >>> frame = plan.memory.to_frame()
        >>> list(frame.columns)
        ['stage', 'phase', 'item', 'gib', 'source']
    """
    if time_limit_s is not None and not (is_number(time_limit_s) and time_limit_s > 0):
        what = f"time_limit_s must be above 0, not {time_limit_s!r}"
        raise InputError(Mistake(what, Place("solve()"), attempt="time_limit_s=60"))
    question = question_of(document_given(scenario), catalog_given(catalog))
    points = DEFAULT_POINTS if check else 0
    return search(question, check_points=points, time_limit_s=time_limit_s, ties=known_share(question))


def estimate(scenario: ScenarioLike, *, catalog: CatalogLike = None) -> Plan:
    """Cost the one layout that a fully pinned scenario describes, whether it fits or not.

    Args:
        scenario: what `load` takes or returned; every decision must be pinned.
        catalog: facts about GPUs, models and engines; a folder adds to those shipped.

    Returns:
        The plan with its ledgers; `headroom_gib` is negative where it does not fit.

    Raises:
        InputError: something is left open (all of it is named), or the layout breaks a rule of its engine.

    Example:
        >>> pins = {"layout.tensor_parallel": 8, "layout.recomputed_layers": 0, "batch.micro_batch_size": 1}
        >>> one = planner.estimate(planner.load(scenario, pins))
        >>> print(one)
        small: TP8 PP1 DP1 on 8 GPUs: safe, ... GiB free; ... s a step, ... tokens/s
    """
    return _estimate(document_given(scenario), catalog_given(catalog))


def what_if(
    scenario: ScenarioLike,
    values: Mapping[str, object],
    *,
    catalog: CatalogLike = None,
    progress: Progress = silent,
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

    Example:
        >>> rows = planner.what_if(scenario, {"limits.headroom_gib": [20, 79]})
        >>> [(row.label, row.status) for row in rows]
        [('as it stands', 'optimal'), ('limits.headroom_gib=20', 'optimal'), ('limits.headroom_gib=79', 'infeasible')]
    """
    arguments = []
    for path, tried in by_path(values, "what_if()").items():
        several = tried if isinstance(tried, list | tuple | range) else [tried]
        if not several:
            what = f"no value to try for {path}"
            raise InputError(Mistake(what, Place(path), "its list is empty", f'{{"{path}": [1, 2]}}'))
        arguments.append(f"{path}={','.join(json_value(path, value) for value in several)}")
    document = document_given(scenario)
    rows = _what_if(document, arguments, catalog_given(catalog), progress=progress)
    return Variations(tuple(rows), document, tuple(arguments))


def near(
    scenario: ScenarioLike,
    *,
    count: int = 5,
    within: float = 0.1,
    catalog: CatalogLike = None,
    progress: Progress = silent,
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

    Example:
        >>> three = planner.near(scenario, count=3, within=1.0)
        >>> seconds = [outcome.plan.step_seconds for outcome in three]
        >>> len(seconds), seconds == sorted(seconds)
        (3, True)
    """
    if not (is_number(count) and is_number(within)) or count < 1 or within < 0:
        what = f"near needs count >= 1 and within >= 0, not {count!r} and {within!r}"
        raise InputError(Mistake(what, Place("near()"), attempt="near(scenario, count=5, within=0.1)"))
    question = question_of(document_given(scenario), catalog_given(catalog))
    outcomes = near_plans(question, count=count, within=within, progress=progress)
    return NearPlans(tuple(outcomes), question, within)


def front(
    scenario: ScenarioLike,
    over: str = "headroom",
    *,
    offer: str | None = None,
    catalog: CatalogLike = None,
    progress: Progress = silent,
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

    Example:
        >>> front = planner.front(scenario, "gpus")
        >>> front.unit, [point.value for point in front.points]
        ('GPUs', [4.0, 8.0, 16.0, 32.0])
    """
    if offer is not None and not isinstance(offer, str):
        raise InputError(Mistake(f"no price {offer!r}", Place("front()"), attempt="planner catalog list prices"))
    document, facts = document_given(scenario), catalog_given(catalog)
    usd = usd_per_gpu_hour(offer, question_of(document, facts), facts) if offer is not None else None
    return _front(document, facts, over, price_usd_per_gpu_hour=usd, progress=progress)


def explain(
    scenario: ScenarioLike,
    why_not: Mapping[str, object] | Sequence[str] = (),
    *,
    neighbours: bool = True,
    catalog: CatalogLike = None,
    progress: Progress = silent,
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

    Example:
        >>> explanation = planner.explain(scenario, {"layout.tensor_parallel": 8}, neighbours=False)
        >>> explanation.asked[0].alternative.throughput_change(plan) < 0
        True
        >>> conflict = planner.explain(planner.load(scenario, {"limits.headroom_gib": 79}), neighbours=False).conflict
        >>> [limit.name for limit in conflict.limits]
        ['limits.headroom_gib']
    """
    if isinstance(why_not, Mapping):
        why_not = [f"{path}={json_value(path, value)}" for path, value in why_not.items()]
    elif isinstance(why_not, str):
        why_not = [why_not]
    if not isinstance(why_not, Sequence) or not all(isinstance(each, str) for each in why_not):
        what = f"why_not takes values by dotted path, not {why_not!r}"
        raise InputError(Mistake(what, Place("explain()"), attempt='{"layout.tensor_parallel": 8}'))
    return _explain(
        document_given(scenario), catalog_given(catalog), why_not=why_not, around=neighbours, progress=progress
    )


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

    Example:
        >>> differences = planner.compare(plan, one)
        >>> [row for row in differences.layout if row[0] == "tensor_parallel"][0][2]
        8
    """
    facts = catalog_given(catalog)
    return _compare(_side_of(a, facts), _side_of(b, facts))


def show(answer: object, style: str = "table") -> None:
    """Print an answer in full, as the command line does.

    Args:
        answer: what one of the functions here returned.
        style: `table`, `markdown` or `html`.

    Raises:
        InputError: not an answer of planner, or no such style.

    Example:
        >>> planner.show(outcome, "markdown")
        **small: fits on 8 GPUs: ...
    """
    if style not in STYLES:
        raise InputError(Mistake(f"no style {style!r}", Place("show()"), attempt=f"one of {', '.join(STYLES)}"))
    print(answer_text(answer, style), end="")


def to_dict(answer: object) -> dict[str, Any]:
    """An answer as plain data: what the command line writes with `--format json`, with receipts of every file used.

    Args:
        answer: what one of the functions here returned.

    Returns:
        Text, numbers, lists and dicts only; the keys of a plan are those of docs/commands.md.

    Raises:
        InputError: not an answer of planner.

    Example:
        >>> document = planner.to_dict(outcome)
        >>> document["status"], [read["file"] for read in document["provenance"]["inputs"]]
        ('optimal', ['<dict>'])
    """
    return answer_document(answer)


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
    return side_of(document_given(given), catalog)


show_with(answer_html, answer_line)
