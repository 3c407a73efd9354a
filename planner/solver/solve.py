"""Solve tables: goal after goal, with the proof of each."""

from __future__ import annotations

import math
import time as clock
from dataclasses import dataclass
from typing import Any

from planner.errors import InternalError
from planner.solver.constraints import GROUPS
from planner.solver.model import Model, declare
from planner.solver.objective import goals
from planner.solver.selftest import refuse_broken_solver
from planner.tables import Tables

SEARCHES: tuple[tuple[float, dict[str, Any]], ...] = (
    (8.0, {"use_objective_lb_search": True}),
    (16.0, {"use_objective_lb_search": True, "linearization_level": 2}),
    (math.inf, {}),
)
"""(deterministic effort, parameters). The objective's variables have wide domains, and the default search may close a
gap unit by unit, even in a problem of two rows; starting from the lower bound it does not."""


@dataclass(frozen=True)
class Answer:
    """Which values; never a number to report."""

    status: str
    """optimal, feasible, infeasible or unknown."""
    row: int | None
    """Position in the tables' rows."""
    choice: int | None
    """Position in the tables' rollout choices."""
    layers: tuple[int, ...]
    recomputed: tuple[int, ...]
    time: int
    """Objective in time units."""
    bound: int
    """Proved lower bound of the first goal in time units."""
    headroom: int
    """In memory units."""
    solves: int
    wall_seconds: float


NOTHING = Answer("infeasible", None, None, (), (), 0, 0, 0, 0, 0.0)


def solve(tables: Tables, *, time_limit_s: float, seed: int, workers: int) -> Answer:
    """The best assignment by the order of goals, or the proof that there is none.

    Raises InternalError for a solver that fails its self-test or calls the model invalid.
    """
    from ortools.sat.python import cp_model

    refuse_broken_solver(cp_model)
    if not tables.rows or tables.capacity < tables.headroom:
        return NOTHING
    started = clock.monotonic()
    model = declare(cp_model, tables)
    for group in GROUPS:
        group(model)
    best: dict[str, Any] | None = None
    first_bound, proved, solves = 0, True, 0
    for goal in goals(model):
        left = time_limit_s - (clock.monotonic() - started)
        if best is not None and left <= 0:
            proved = False
            break
        model.cp.minimize(goal.expression)
        status, solver, asked = _minimise(cp_model, model, max(0.05, left), seed, workers)
        solves += asked
        if status == cp_model.INFEASIBLE:
            if best is not None:
                raise InternalError(f"goal {goal.name} has no solution although the goal before it had one")
            return Answer("infeasible", None, None, (), (), 0, 0, 0, solves, clock.monotonic() - started)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            proved = False
            if best is None:
                return Answer("unknown", None, None, (), (), 0, 0, 0, solves, clock.monotonic() - started)
            break
        best = _read(solver, model)
        if goal.name == "time":
            first_bound = math.floor(solver.best_objective_bound)
        if status != cp_model.OPTIMAL:
            proved = False
            break
        least = round(solver.objective_value)
        _agree(goal.name, least, best)
        model.cp.add(goal.expression <= goal.fix(least))
    assert best is not None
    return Answer(
        status="optimal" if proved else "feasible",
        bound=first_bound,
        solves=solves,
        wall_seconds=clock.monotonic() - started,
        **best,
    )


def _minimise(cp_model: Any, model: Model, seconds: float, seed: int, workers: int) -> tuple[Any, Any, int]:
    """(status, solver, solves) of one goal: one way of searching after the other, until one of them is conclusive.

    Raises InternalError when CP-SAT calls the model invalid.
    """
    started = clock.monotonic()
    found: tuple[Any, Any, int] | None = None
    for asked, (effort, changes) in enumerate(SEARCHES, start=1):
        solver = cp_model.CpSolver()
        solver.parameters.num_workers = workers
        solver.parameters.random_seed = seed
        solver.parameters.max_time_in_seconds = max(0.05, seconds - (clock.monotonic() - started))
        solver.parameters.max_deterministic_time = effort
        for name, value in changes.items():
            setattr(solver.parameters, name, value)
        status = solver.solve(model.cp)
        if status == cp_model.MODEL_INVALID:
            raise InternalError(f"CP-SAT calls the model invalid: {model.cp.validate()}")
        if status in (cp_model.OPTIMAL, cp_model.INFEASIBLE):
            return status, solver, asked
        better = found is None or found[0] != cp_model.FEASIBLE or solver.objective_value <= found[1].objective_value
        if found is None or (status == cp_model.FEASIBLE and better):
            found = (status, solver, asked)
        if clock.monotonic() - started >= seconds:
            break
    assert found is not None
    return found


def _agree(goal: str, least: int, best: dict[str, Any]) -> None:
    """Raise InternalError where the tables do not give the value that the solver calls least."""
    found = {"time": best["time"], "headroom": -best["headroom"]}.get(goal, least)
    if found != least:
        raise InternalError(f"the solver proves {goal} {least} for a plan whose tables say {found}")


def _read(solver: Any, model: Model) -> dict[str, Any]:
    """The decisions, and the time and headroom they have in the tables (the variables themselves may be slack)."""
    tables = model.tables
    picked = next(i for i, b in enumerate(model.picked) if solver.boolean_value(b))
    chosen = next((i for i, b in enumerate(model.chosen) if solver.boolean_value(b)), None)
    row, choice = tables.rows[picked], tables.choices[chosen] if chosen is not None else None
    layers = tuple(solver.value(v) for v in model.layers[: row.stages])
    recomputed = tuple(solver.value(v) for v in model.recomputed[: row.stages])
    return {
        "row": picked,
        "choice": chosen,
        "layers": layers,
        "recomputed": recomputed,
        "time": row.time(layers, recomputed) + (choice.time if choice is not None else 0),
        "headroom": tables.capacity - max(row.peak(layers, recomputed), choice.memory if choice is not None else 0),
    }
