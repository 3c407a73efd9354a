"""When nothing fits: a minimal set of limits that contradict each other, and the cheapest repairs, each re-solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from planner.catalog import Catalog
from planner.errors import InputError
from planner.limits import SMALLER_OPTIMIZERS, Limit, less_headroom, limits_of, more_gpus, overrides
from planner.pipeline import override, plan, problem_of
from planner.problem import Problem
from planner.read import Document
from planner.schema.scenario import IntWish, NameWish
from planner.search import Outcome

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Repair:
    """A change that makes the scenario feasible, proved by solving it again."""

    text: str
    changes: tuple[tuple[str, Any], ...]
    outcome: Outcome


@dataclass(frozen=True)
class Conflict:
    """Why nothing fits."""

    limits: tuple[Limit, ...]
    """They contradict each other even where every other limit is dropped, and none of them can be left out."""
    hopeless: bool
    """True where even dropping every limit does not help."""
    repairs: tuple[Repair, ...]


def _quiet(_: str) -> None:
    return None


def explain_conflict(
    document: Document, catalog: Catalog, *, repairs: int = 4, progress: Progress = _quiet
) -> Conflict:
    """Find a minimal conflict by deletion, and up to so many repairs in playbook order.

    Deletion filter: starting from all limits, each is dropped in turn; one whose loss leaves the rest infeasible is not
    part of the conflict and stays dropped. Source: Chinneck and Dravnieks 1991, ORSA Journal on Computing 3(2).
    """
    problem = problem_of(document, catalog)
    every = limits_of(problem)
    if not _feasible(override(document, overrides(every)), catalog):
        return Conflict((), True, ())
    dropped: list[Limit] = []
    kept: list[Limit] = []
    for limit in every:
        progress(f"is {limit.name} part of the conflict?")
        if _feasible(override(document, overrides([*dropped, limit])), catalog):
            kept.append(limit)
        else:
            dropped.append(limit)
    found = tuple(find_repairs(document, catalog, problem, most=repairs, progress=progress) if repairs else ())
    return Conflict(tuple(kept), False, found)


def _feasible(document: Document, catalog: Catalog) -> bool:
    try:
        return plan(document, catalog, check_points=0).plan is not None
    except InputError:
        return False


def find_repairs(
    document: Document, catalog: Catalog, problem: Problem, *, most: int, progress: Progress = _quiet
) -> list[Repair]:
    """Changes that make the scenario feasible, in playbook order, each solved again before it is named."""
    found: list[Repair] = []
    for text, attempts in _attempts(problem):
        if len(found) >= most:
            break
        for shown, changes in attempts:
            progress(f"would {text} {shown} help?")
            try:
                outcome = plan(override(document, dict(changes)), catalog, check_points=0)
            except InputError:
                continue
            if outcome.plan is not None:
                found.append(Repair(f"{text} {shown}", tuple(changes), outcome))
                break
    return found


def _attempts(problem: Problem) -> list[tuple[str, list[tuple[str, Sequence[tuple[str, Any]]]]]]:
    """(what, [(value, changes), ...]) from the least change to the largest, in playbook order."""
    scenario, rl = problem.scenario, problem.scenario.rl
    out: list[tuple[str, list[tuple[str, Sequence[tuple[str, Any]]]]]] = []
    if rl is None and not isinstance(scenario.batch.sequence_length, IntWish):
        lengths = _halves(scenario.batch.sequence_length or 0)
        out.append(("sequence_length:", [(str(n), [("batch.sequence_length", n)]) for n in lengths]))
    if rl is not None and not isinstance(rl.response_length, IntWish):
        lengths = _halves(rl.response_length)
        out.append(("response_length:", [(str(n), [("rl.response_length", n)]) for n in lengths]))
    if scenario.batch.micro_batch_size not in ("any", 1):
        out.append(("micro_batch_size:", [("1", [("batch.micro_batch_size", 1)])]))
    if rl is not None and isinstance(rl.n_samples_per_prompt, int):
        halves = [n for n in (rl.n_samples_per_prompt // 2, rl.n_samples_per_prompt // 4) if n >= 1]
        out.append(("n_samples_per_prompt:", [(str(n), [("rl.n_samples_per_prompt", n)]) for n in halves]))
    if scenario.layout.recomputed_layers not in ("any", "all"):
        out.append(("recomputed_layers:", [("any", [("layout.recomputed_layers", "any")])]))
    if not isinstance(scenario.optimizer, NameWish) and scenario.adapter is None:
        others = [name for name in SMALLER_OPTIMIZERS if name != scenario.optimizer]
        out.append(("optimizer:", [(name, [("optimizer", name)]) for name in others]))
    if problem.engine.optimizer_offload and not scenario.layout.optimizer_offload:
        out.append(("layout.optimizer_offload:", [("true", [("layout.optimizer_offload", True)])]))
    pins = [(p, getattr(scenario.layout, p)) for p in ("tensor_parallel", "pipeline_parallel", "context_parallel")]
    for name, value in pins:
        if value != "any":
            out.append((f"layout.{name}:", [("any", [(f"layout.{name}", "any")])]))
    if rl is not None and rl.rollout.gpu_memory_utilization != "any":
        path = "rl.rollout.gpu_memory_utilization"
        out.append((f"{path}:", [("any", [(path, "any")])]))
    doubled = [(f"{max(problem.num_gpus) * 2**i}", more_gpus(problem, 2**i)) for i in range(1, 7)]
    out.append(("GPUs up to", [(text, changes) for text, changes in doubled]))
    spare = [round(problem.headroom_gib * share, 1) for share in (0.75, 0.5, 0.25, 0.0)]
    out.append(("headroom_gib:", [(f"{g}", less_headroom(problem, g)) for g in spare]))
    return out


def _halves(tokens: int) -> list[int]:
    return [tokens // 2**i for i in range(1, 6) if tokens // 2**i >= 256]
