"""The k best distinct layouts, and the front of throughput against something else: the search, asked again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from planner.analysis.changes import less_headroom, machine_counts, machine_path, more_gpus
from planner.errors import InputError, Mistake, NoVerdict, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.schema.catalog import Price
from planner.search.near_ties import known_share
from planner.search.plan import Plan
from planner.search.search import Outcome, plan, search
from planner.search.shown import Answers, Shown

Progress = Callable[[str], None]
FRONTS = ("headroom", "gpus", "sequence_length", "dollars")
HEADROOM_STEP_GIB = 1.0
"""Points of the headroom front lie at least this far apart."""
MOST_POINTS = 40


def near_plans(
    question: Question, *, count: int, within: float, progress: Progress = lambda text: None
) -> list[Outcome]:
    """The best `count` distinct layouts whose step is at most `within` slower than the best, best first.

    Layouts differ in degrees or in the machines that they lie on; each is the best of its variants: micro-batch,
    chunks, ZeRO stage, wishes, recomputed layers and rollout settings. The first outcome's near ties count those.
    Each is proved in turn with the earlier ones left out. Raises NoVerdict where the time limit comes before a plan.
    """
    found: list[Outcome] = []
    while len(found) < count:
        progress(f"layout {len(found) + 1} of {count}")
        named = [outcome.plan.layout for outcome in found if outcome.plan is not None]
        outcome = _answered(search(question, check_points=0, without=named, ties=None if found else within))
        if found and outcome.usual_headroom_gib is not None:
            break  # what is left keeps less free than is usual, and the layouts before it keep that
        if outcome.plan is None:
            break
        first = found[0].plan if found else None
        if first is not None:
            same = outcome.plan.wish.given_up == first.wish.given_up
            if not same or outcome.plan.step_seconds > first.step_seconds * (1 + within):
                break
        found.append(outcome)
        question = outcome.question
    return found


USUAL_WITHIN = 0.1
"""Largest slowdown where nothing is known of the error of a step."""


def known_within(question: Question) -> float:
    """Largest slowdown that the known error of a step cannot tell from none."""
    share = known_share(question)
    return USUAL_WITHIN if share is None else share


@dataclass(frozen=True)
class NearPlans(Answers[Outcome]):
    """The best distinct layouts of a question, best first."""

    question: Question
    within: float
    """Largest slowdown against the best, as a share."""


@dataclass(frozen=True)
class Point:
    """One plan of a front."""

    value: float
    """Of the other axis: GiB of headroom, GPUs, tokens or US dollars per million tokens."""
    plan: Plan
    status: str
    """optimal, or feasible where the time limit came before the proof."""


@dataclass(frozen=True)
class Front(Shown):
    """Plans of which none is better in both."""

    over: str
    unit: str
    more_is_better: bool
    points: tuple[Point, ...]
    """By rising value."""
    question: Question
    """The scenario as it stands."""


def front(
    document: Document,
    catalog: Catalog,
    over: str,
    *,
    price_usd_per_gpu_hour: float | None = None,
    progress: Progress = lambda text: None,
) -> Front:
    """Throughput against headroom, GPUs, sequence length or dollars; every point a solved plan.

    Headroom is walked by the epsilon constraint: each plan must leave at least 1 GiB more free than the one before,
    until a wish would have to be given up: throughput is compared only between plans that keep the same wishes.
    Raises InputError for an axis that the scenario has not, or dollars without a price; NoVerdict where the time limit
    comes before a plan.
    """
    start = plan(document, catalog, check_points=0)
    if over == "headroom":
        points = _headroom(document, catalog, progress)
        return Front(over, "GiB free", True, _best(points, more_is_better=True), start.question)
    if over == "sequence_length":
        points = _lengths(document, catalog, start.question, progress)
        return Front(over, "tokens", True, _best(points, more_is_better=True), start.question)
    if over == "gpus":
        points = _gpus(document, catalog, start.question, progress)
        return Front(over, "GPUs", False, _best(points, more_is_better=False), start.question)
    if over == "dollars":
        if price_usd_per_gpu_hour is None:
            raise InputError(
                Mistake("a front over dollars needs a price", where=Place("--price"), attempt="--price aws-p5-48xlarge")
            )
        points = [
            Point(_usd_per_million_tokens(point.plan, price_usd_per_gpu_hour), point.plan, point.status)
            for point in _gpus(document, catalog, start.question, progress)
        ]
        return Front(over, "USD per million tokens", False, _best(points, more_is_better=False), start.question)
    raise InputError(Mistake(f"no front over {over!r}", where=Place("--over"), attempt=f"one of {', '.join(FRONTS)}"))


def usd_per_gpu_hour(offer: str, question: Question, catalog: Catalog) -> float:
    """What an offer of the catalog asks, on demand where it says. [USD a GPU and hour]

    Raises InputError unless all machines of the question have the GPU that is priced.
    """
    price: Price = catalog.find("prices", offer, Place("--price"))
    kinds = sorted({p.gpu.id for variant in question.problems for p in (variant, variant.generating)})
    list_them = "planner catalog list prices"
    if kinds != [price.gpu]:
        because = f"the scenario's machines have {' and '.join(kinds)}"
        raise InputError(
            Mistake(f"price {price.id} is that of {price.gpu}", question.place("cluster"), because, list_them)
        )
    asked = price.on_demand_usd_per_gpu_hour or price.reserved_usd_per_gpu_hour or price.spot_usd_per_gpu_hour
    if asked is None:
        raise InputError(
            Mistake(
                f"price {price.id} states no price of a GPU and hour",
                where=catalog.document("prices", price.id).place(()),
                attempt=list_them,
            )
        )
    return asked


def _usd_per_million_tokens(found: Plan, usd_per_gpu_hour: float) -> float:
    return found.num_gpus * usd_per_gpu_hour / 3600 / found.tokens_per_second * 1e6


def _best(points: list[Point], *, more_is_better: bool) -> tuple[Point, ...]:
    """Points that no other point beats in both, by rising value."""
    sign = 1 if more_is_better else -1
    kept = [
        p
        for p in points
        if not any(
            q is not p
            and sign * q.value >= sign * p.value
            and q.plan.tokens_per_second >= p.plan.tokens_per_second
            and (q.value != p.value or q.plan.tokens_per_second != p.plan.tokens_per_second)
            for q in points
        )
    ]
    return tuple(sorted(kept, key=lambda p: (p.value, p.plan.tokens_per_second)))


def _answered(outcome: Outcome) -> Outcome:
    """The outcome, unless there is none: without a verdict nothing may be called infeasible."""
    if outcome.status == "unknown":
        raise NoVerdict("no plan within search.time_limit_s\n  try:     --set search.time_limit_s=600")
    return outcome


def _point(value: float | None, outcome: Outcome) -> Point | None:
    """The plan of an outcome as a point, at its headroom where no other value is given; None where nothing fits."""
    found = _answered(outcome).plan
    if found is None:
        return None
    return Point(found.headroom_gib if value is None else value, found, outcome.status)


def _solved(document: Document, changes: dict[str, Any], catalog: Catalog, value: float | None) -> Point | None:
    try:
        return _point(value, plan(override(document, changes), catalog, check_points=0))
    except InputError:
        return None


def _headroom(document: Document, catalog: Catalog, progress: Progress) -> list[Point]:
    points: list[Point] = []
    least, question = 0.0, question_of(document, catalog)
    while len(points) < MOST_POINTS:
        progress(f"headroom of at least {least:.1f} GiB")
        found = _solved(document, dict(less_headroom(question.first, round(least, 3))), catalog, None)
        if found is None:
            break
        if points and found.plan.wish.given_up != points[0].plan.wish.given_up:
            break
        if points and found.value < least:
            break  # so much is free only where the allocator gives back what it caches
        points.append(found)
        least = found.value + HEADROOM_STEP_GIB
        if least >= found.plan.usable_gib:
            break
    return points


def _gpus(document: Document, catalog: Catalog, question: Question, progress: Progress) -> list[Point]:
    """The best plan on each number of GPUs in all, from half of the least to four times the most of each pool."""
    changes = dict(more_gpus(question, 4))
    for variant in question.problems:
        least = min(machine_counts(variant))
        if least > 1 and _legal(variant, least // 2):
            path = f"{machine_path(variant)}.num_gpus"
            changes[path] = sorted({least // 2, *changes[path]})
    asked = question_of(override(document, changes), catalog)
    points = []
    for count in asked.total_gpus:
        progress(f"{count} GPUs")
        found = _point(float(count), search(_on(asked, count), check_points=0))
        if found is not None and not found.plan.wish.given_up:
            points.append(found)
    return points


def _on(question: Question, count: int) -> Question:
    """The problem on so many GPUs in all."""
    kept = []
    for variant in question.problems:
        splits = tuple(pair for pair in variant.splits if sum(pair) == count)
        if splits:
            counts = tuple(sorted({training for training, _ in splits}))
            kept.append(replace(variant, splits=splits, machines=replace(variant.machines, num_gpus=counts)))
        elif not variant.splits and count in variant.num_gpus:
            kept.append(replace(variant, machines=replace(variant.machines, num_gpus=(count,))))
    return Question(tuple(kept), question.refused)


def _legal(problem: Problem, count: int) -> bool:
    per_node = problem.node.gpus_per_node
    return count % per_node == 0 or (count < per_node and per_node % count == 0)


def _lengths(document: Document, catalog: Catalog, question: Question, progress: Progress) -> list[Point]:
    path = "rl.response_length" if question.is_rl else "batch.sequence_length"
    wanted = question.wishes[0].response_length if question.is_rl else question.wishes[0].sequence_length
    lengths = sorted({max(256, wanted // 4), max(256, wanted // 2), wanted, wanted * 2, wanted * 4, wanted * 8})
    points = []
    for tokens in lengths:
        progress(f"{tokens} tokens")
        found = _solved(document, {path: tokens}, catalog, float(tokens))
        if found is not None:
            points.append(found)
    return points
