"""Is this the run? A log that lies far outside the known errors, and changes of the scenario that would explain it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.analysis.calibrate.fit import FactorRow, FittedFactors, allocator_gib, phase_seconds
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.option_sets import turned_on
from planner.problem.problem import Problem
from planner.search.estimate import estimate
from planner.search.plan import Plan

MEMORY = "reserved memory"
"""The row of a fit that is no time."""
TIMES_KNOWN = 3.0
"""A difference beyond so many known errors is asked about."""
UNSCORED = 0.2
"""Known error taken for a quantity of which no published run was scored (assumed)."""
MOST_EXPLANATIONS = 4


@dataclass(frozen=True)
class FittingChange:
    """Another scenario that would have given the log's figures more nearly."""

    setting: str
    """PATH=VALUE"""
    error: float
    """(predicted - measured) / measured of the doubtful quantity, with it."""


@dataclass(frozen=True)
class Doubt:
    """A quantity that lies more than TIMES_KNOWN known errors away."""

    row: FactorRow
    known: float
    """Median error of such a quantity on published runs, a share."""
    explanations: tuple[FittingChange, ...]
    """Nearest first."""


def doubts(fitted: FittedFactors, catalog: Catalog) -> tuple[Doubt, ...]:
    """Doubtful rows of a fit: training, rollout, the whole step and memory, as far as the log states them."""
    problem = fitted.before.problem
    doubtful = [
        (row, known)
        for row in fitted.rows
        for known in [known_error(problem, row.name)]
        if abs(math.log(row.before / row.measured.value)) > math.log1p(TIMES_KNOWN * known)
    ]
    others = _other_plans(fitted.before, catalog) if doubtful else []
    return tuple(Doubt(row, known, _explanations(row, others)) for row, known in doubtful)


def known_error(problem: Problem, name: str) -> float:
    """Median error of a row on published runs, a share."""
    known = problem.known_errors
    if name == MEMORY:
        return known.memory.median if known.memory is not None else UNSCORED
    if problem.is_rl:
        return known.rl.median if known.rl is not None else UNSCORED
    return known.time.median if known.time is not None and not known.time.missing else UNSCORED


def _other_plans(before: Plan, catalog: Catalog) -> list[tuple[str, Plan]]:
    """(PATH=VALUE, the same plan with it) of each single change that can be said."""
    found = []
    for path, value in _changes(before, catalog):
        try:
            plan = estimate(override(before.problem.document, {path: value}), catalog)
        except InputError:
            continue
        said = f"[{','.join(value)}]" if isinstance(value, list) else f"{value}"
        found.append((f"{path}={said}", plan))
    return found


def _explanations(row: FactorRow, others: list[tuple[str, Plan]]) -> tuple[FittingChange, ...]:
    """Single changes that bring the prediction nearer than half the distance it has now."""
    now = abs(math.log(row.before / row.measured.value))
    tried = []
    for setting, plan in others:
        predicted = _quantity(plan, row.name)
        if predicted is not None and abs(math.log(predicted / row.measured.value)) < now / 2:
            tried.append(FittingChange(setting, predicted / row.measured.value - 1))
    return tuple(sorted(tried, key=lambda one: abs(one.error))[:MOST_EXPLANATIONS])


def _changes(before: Plan, catalog: Catalog) -> list[tuple[str, object]]:
    """Other micro-batches and token caps, recomputation, and each option of the engine that is off."""
    layout, problem = before.layout, before.problem
    cap = layout["max_tokens"]
    size, path = (cap, "batch.max_tokens_per_gpu") if cap else (layout["micro_batch_size"], "batch.micro_batch_size")
    out: list[tuple[str, object]] = [(path, size * times) for times in (2, 4)]
    out += [(path, size // times) for times in (2, 4) if size // times]
    out += [("layout.recomputed_layers", value) for value in ("all", 0)]
    out += [("layout.optimizer_offload", not problem.scenario.layout.optimizer_offload)]
    on = list(problem.scenario.engine_options)
    engine = catalog.find("engines", problem.engine.id)
    off = [name for name in sorted(engine.options) if name not in on]
    return out + [("engine_options", [*turned_on(engine, on, name)]) for name in off]


def _quantity(plan: Plan, name: str) -> float | None:
    if name == MEMORY:
        return allocator_gib(plan)
    value = phase_seconds(plan).get(name)
    return value or None
