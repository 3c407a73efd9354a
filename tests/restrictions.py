"""A law over all decisions: a restriction never makes the optimum better, the plan's own value never makes it worse,
and neither does leaving to the search what only a default held."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from random_problems import random_case

from planner.errors import PlannerError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, override
from planner.problem.defaults import MOST_TOGETHER, KeptDefault
from planner.problem.option_sets import OPTIONS, chosen_options
from planner.problem.resolve import question_of
from planner.search.plan import Plan
from planner.search.search import Outcome, search

DEGREES = (
    "tensor_parallel",
    "pipeline_parallel",
    "virtual_pipeline",
    "data_parallel",
    "context_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "zero_stage",
)
WORDS: dict[str, Any] = {"true": True, "false": False, "usual": None}
OTHER = ("rl.weight_sync", "batch.max_tokens_per_gpu")
"""Of these the value tried instead is another one, and no wider choice."""
NOISE = 1e-6
"""Relative: rounding to time units may settle ties otherwise."""


def _allows(choice: Any, value: int) -> bool:
    """Does a scenario's choice leave this value open."""
    if isinstance(choice, list):
        return value in choice
    if isinstance(choice, dict):
        return bool(choice.get("min", 0) <= value <= choice.get("max", math.inf))
    return bool(choice == "any")


def _restrictions(layout: dict[str, Any], plan: Plan | None, rng: random.Random) -> Iterator[tuple[str, Any, bool]]:
    """(path, value, whether it is the plan's own) of each decision that the scenario leaves open."""
    for name in DEGREES:
        choice = layout.get(name, 1 if name == "virtual_pipeline" else "any")
        value = rng.choice([0, 1, 2, 3] if name == "zero_stage" else [1, 2, 3, 4])
        if _allows(choice, value):
            yield f"layout.{name}", value, False
        if plan is not None and not isinstance(choice, int):
            yield f"layout.{name}", plan.layout[name], True
    if layout.get("recomputed_layers", "any") == "any":
        yield "layout.recomputed_layers", 0, False
        yield "layout.recomputed_layers", "all", False
        if plan is not None and len(set(plan.recomputed)) == 1:
            yield "layout.recomputed_layers", plan.recomputed[0], True
    if layout.get("layers_per_stage", "auto") in ("free", "auto"):
        yield "layout.layers_per_stage", "even", False
        if plan is not None:
            yield "layout.layers_per_stage", list(plan.layers), True
    if layout.get("recompute") == "per_stage":
        yield "layout.recompute", "uniform", False
    if plan is not None and any(path.startswith(OPTIONS) for path, _ in plan.problem.settings):
        yield "options_to_try", [], not chosen_options(plan.problem.settings)
        yield OPTIONS, list(plan.named.engine_options), True
    for path, value in plan.problem.settings if plan is not None else ():
        if path in ("cluster.node", "layout.recomputed_layers") or path.startswith(OPTIONS):
            continue
        own = WORDS.get(value, int(value) if value.isdigit() else value)
        if path == "layout.recompute_modules":
            own = [] if value == "none" else value.split(", ")
        yield path, own, True


def _batches(scenario: dict[str, Any], plan: Plan) -> Iterator[tuple[str, Any, bool]]:
    """The plan's own micro-batches and rollout settings, where the scenario leaves them open."""
    packed, batch = plan.layout["max_tokens"], scenario["batch"]
    if packed:
        yield "batch.max_tokens_per_gpu", packed, True
    elif batch.get("micro_batch_size") == "any":
        yield "batch.micro_batch_size", plan.layout["micro_batch_size"], True
        yield "batch.micro_batch_size", 1, False
    if plan.rollout is None:
        return
    asked = scenario["rl"].get("rollout", {})
    yield "rl.rollout.tensor_parallel", plan.rollout.tensor_parallel, True
    yield "rl.rollout.tensor_parallel", 1, False
    if asked.get("gpu_memory_utilization", "any") == "any":
        yield "rl.rollout.gpu_memory_utilization", plan.rollout.gpu_memory_utilization, True
    if "max_concurrency" in asked and plan.rollout.max_concurrency:
        yield "rl.rollout.max_concurrency", plan.rollout.max_concurrency, True


def _openings(outcome: Outcome, rng: random.Random) -> list[KeptDefault]:
    """Two of the decisions that only a default holds, left to the search: that may not make the optimum worse."""
    wider = [one for one in outcome.proof.held if one.values <= MOST_TOGETHER and one.path not in OTHER]
    return rng.sample(wider, min(2, len(wider)))


def _solved(document: Document) -> Outcome | None:
    try:
        return search(question_of(document, default_catalog()), check_points=0)
    except PlannerError:
        return None


def _has_ends_alone(path: str, plan: Plan | None) -> bool:
    """Does an end have fewer layers than chunks, which only a list may ask for (`search/untried`)."""
    if plan is None or path != "layout.layers_per_stage":
        return False
    return min(plan.layers[0], plan.layers[-1]) < plan.layout["virtual_pipeline"]


def _rank(outcome: Outcome) -> tuple[float, float]:
    """Wishes first, then time; the larger, the worse."""
    plan = outcome.plan
    return (math.inf, math.inf) if plan is None else (plan.layout["wish"], plan.step_seconds)


def breaches(seed: int) -> tuple[int, list[str]]:
    """(restrictions tried, texts of those that break the law) of one random problem, near ties told apart."""
    rng, case = random.Random(seed), random_case(seed, most_points=5000)
    document = override(case.question().document, {"search.near_tie": 0})
    return broken_laws(document, case.scenario, case.text, rng)


def broken_laws(
    document: Document, scenario: dict[str, Any], text: str, rng: random.Random, most: int | None = None
) -> tuple[int, list[str]]:
    """(restrictions tried, texts of those that break the law) of one problem without near ties.

    `scenario` is what the document says, `text` what reproduces it; `most` restrictions are drawn of more.
    """
    base = _solved(document)
    if base is None or base.status not in ("optimal", "infeasible"):
        return 0, []
    tried, found, (wish, seconds) = 0, [], _rank(base)
    every = list(_restrictions(scenario["layout"], base.plan, rng))
    every += [] if base.plan is None else _batches(scenario, base.plan)
    if most is not None and len(every) > most:
        every = rng.sample(every, most)
    for path, value, own in every:
        asked = _solved(override(document, {path: value}))
        if asked is None or asked.status not in ("optimal", "infeasible") or _has_ends_alone(path, asked.plan):
            continue
        tried += 1
        other, theirs = _rank(asked)
        better = (other, theirs * (1 + NOISE)) < (wish, seconds)
        worse = own and (other, theirs) > (wish, seconds * (1 + NOISE))
        if better or worse:
            found.append(f"{text}\n{path}: {value!r} {'(own) ' * own}{seconds!r} -> {theirs!r}, wish {wish} {other}")
    for one in _openings(base, rng):
        asked = _solved(override(document, {one.path: one.opened}))
        if asked is None or asked.status not in ("optimal", "infeasible"):
            continue
        tried += 1
        other, theirs = _rank(asked)
        if (other, theirs) > (wish, seconds * (1 + NOISE)):
            found.append(f"{text}\n{one.path} opened: {seconds!r} -> {theirs!r}, wish {wish} {other}")
    return tried, found
