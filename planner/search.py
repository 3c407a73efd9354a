"""Space -> costs -> tables -> solver -> verified plan: the search for one problem."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass

import numpy as np

from planner.enumerate import DEFAULT_POINTS, Best, count_points, enumerate_best
from planner.errors import InternalError
from planner.evaluate import RolloutTable, RowCosts
from planner.plan import Plan, make_plan
from planner.problem import Problem
from planner.prune import Bounds, Pruned, prune, row_bounds
from planner.space import Removed, Space, build_space
from planner.tables import Tables, build_tables
from planner.verify import verify

TIME_ERROR = "step times are a first-principles estimate: error not yet measured against published runs"


@dataclass(frozen=True)
class Proof:
    """What was proved, and of how many combinations."""

    status: str
    """optimal, feasible, infeasible or unknown."""
    bound_seconds: float | None
    """No plan of the space is faster than this."""
    gap: float | None
    """(step - bound) / step."""
    candidates: int
    """Combinations of degrees, micro-batch, wishes and rollout choices looked at."""
    points: int
    """With layers and recomputed layers of each stage: every point of the space."""
    removed: tuple[Removed, ...]
    solver_rows: int
    """Rows left for the solver."""
    rounding_only: int
    """Layouts that fit in floats and that only rounding to KiB excludes."""
    enumerated: int | None
    """Points enumerated as a check of the solver; None where it was not done."""


@dataclass(frozen=True)
class Outcome:
    """The answer to one problem."""

    problem: Problem
    status: str
    plan: Plan | None
    proof: Proof
    timings: tuple[tuple[str, float], ...]
    """(part, seconds); never on stdout unless asked for."""


def search(problem: Problem, *, check_points: int = DEFAULT_POINTS, time_limit_s: float | None = None) -> Outcome:
    """Find, prove and re-cost the best plan of a problem.

    Spaces of up to `check_points` points are enumerated too; a difference is InternalError.
    """
    watch: list[tuple[str, float]] = []
    started = clock.monotonic()

    def lap(name: str) -> None:
        watch.append((name, clock.monotonic() - started - sum(s for _, s in watch)))

    space = build_space(problem)
    lap("space")
    costs = RowCosts(problem, space.layouts)
    rollouts = RolloutTable(problem, space.rollouts) if space.rollouts is not None else None
    points = count_points(problem, costs, rollouts)
    bounds = row_bounds(problem, costs) if len(space.layouts) else Bounds(np.zeros(0), np.zeros(0), 0, 0)
    lap("costs and bounds")
    limit = time_limit_s if time_limit_s is not None else problem.scenario.search.time_limit_s
    refuted: set[int] = set()
    while True:
        pruned = prune(problem, costs, rollouts, bounds, frozenset(refuted))
        answer, plan, bound = _solve(problem, costs, rollouts, pruned, space, limit)
        if answer != "infeasible" or pruned.wish is None:
            break
        refuted.add(pruned.wish)
    lap("solver")
    status = "infeasible" if pruned.wish is None else answer
    enumerated = None
    if points <= check_points and status in ("optimal", "infeasible"):
        _check(problem, costs, rollouts, plan, enumerate_best(problem, costs, rollouts))
        enumerated = points
        lap("enumeration check")
    gap = None
    if plan is not None and bound is not None:
        bound = min(bound, plan.step_seconds)
        gap = 0.0 if status == "optimal" else (plan.step_seconds - bound) / plan.step_seconds
    proof = Proof(
        status=status,
        bound_seconds=bound,
        gap=gap,
        candidates=space.candidates + space.rollout_candidates,
        points=points,
        removed=space.removed + pruned.removed,
        solver_rows=len(pruned.rows),
        rounding_only=pruned.rounding_only,
        enumerated=enumerated,
    )
    return Outcome(problem, status, plan, proof, tuple(watch))


def _solve(
    problem: Problem, costs: RowCosts, rollouts: RolloutTable | None, pruned: Pruned, space: Space, limit: float
) -> tuple[str, Plan | None, float | None]:
    """(status, verified plan, proved bound in seconds) of what is left after pruning."""
    from planner.solver.solve import solve

    tables: Tables
    if pruned.wish is None:
        return "infeasible", None, None
    tables = build_tables(problem, costs, rollouts, pruned.rows, pruned.choices, pruned.longest_seconds)
    options = problem.scenario.search
    answer = solve(tables, time_limit_s=limit, seed=options.seed, workers=options.workers)
    if answer.row is None:
        return answer.status, None, None
    row = tables.rows[answer.row]
    choice = tables.choices[answer.choice].index if answer.choice is not None else None
    plan = make_plan(problem, space.layouts, row.index, answer.layers, answer.recomputed, space.rollouts, choice)
    verify(plan, answer, tables)
    slack = tables.time_unit_seconds * (2 + 4 * problem.architecture.num_hidden_layers)
    return answer.status, plan, max(0.0, answer.bound * tables.time_unit_seconds - slack)


def _check(
    problem: Problem, costs: RowCosts, rollouts: RolloutTable | None, plan: Plan | None, best: Best | None
) -> None:
    """Raise InternalError where enumeration and solver disagree."""
    if plan is None and best is None:
        return
    if plan is None or best is None:
        found = (plan is not None, best is not None)
        raise InternalError(f"solver and enumeration disagree whether a plan fits: {found}")
    same = costs.layouts.row(best.row) == plan.layout and best.layers == plan.layers
    same = same and best.recomputed == plan.recomputed
    if rollouts is not None and best.choice is not None and plan.rollout is not None:
        chosen = rollouts.choices.take(best.choice)
        same = same and int(chosen.tensor_parallel[0]) == plan.rollout.tensor_parallel
        same = same and float(chosen.gpu_memory_utilization[0]) == plan.rollout.gpu_memory_utilization
    if not same:
        raise InternalError(
            f"solver and enumeration disagree: {plan.layout} {plan.layers} {plan.recomputed} {plan.rollout}, "
            f"{plan.step_seconds:.6f} s, {plan.headroom_gib:.4f} GiB free, against {costs.layouts.row(best.row)} "
            f"{best.layers} {best.recomputed}, {best.seconds:.6f} s, {best.headroom_bytes / 2**30:.4f} GiB free"
        )
