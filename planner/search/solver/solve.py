"""Solve tables: goal after goal, with the proof of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from planner import clock
from planner.errors import InternalError
from planner.search.solver.constraints import GROUPS
from planner.search.solver.loaded import solver_module
from planner.search.solver.model import Model, declare
from planner.search.solver.objective import Goal, first_goals, last_goals
from planner.search.solver.selftest import refuse_broken_solver
from planner.search.tables import Tables

SEARCHES: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.5, {"use_objective_lb_search": True, "cp_model_presolve": False}),
    (8.0, {"use_objective_lb_search": True}),
    (16.0, {"use_objective_lb_search": True, "linearization_level": 2}),
    (math.inf, {}),
)
"""(deterministic effort, parameters). The objective's variables have wide domains, and the default search may close a
gap unit by unit, even in a problem of two rows; starting from the lower bound it does not. What pruning leaves is
mostly a few dozen variables, and presolving them takes ten times as long as the search."""


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
    time_proved: bool = False
    """No plan is faster than the near-tie band; what may be open is which plan of the band it is."""


NOTHING = Answer("infeasible", None, None, (), (), 0, 0, 0, 0, 0.0)


def solve(tables: Tables, *, time_limit_s: float, seed: int, workers: int) -> Answer:
    """The best assignment by the order of goals, or the proof that there is none.

    Raises InternalError for a solver that fails its self-test or calls the model invalid.
    """
    cp_model = solver_module()
    refuse_broken_solver(cp_model)
    if not tables.rows or tables.capacity < tables.headroom:
        return NOTHING
    run = _Run(cp_model, clock.now(), time_limit_s, seed, workers)
    model = run.build(tables)
    run.climb(model, first_goals(model))
    if run.best is None:
        status = "infeasible" if run.proved else "unknown"
        return replace(NOTHING, status=status, solves=run.solves, wall_seconds=run.spent)
    if run.proved:
        # The layout is settled: what is left is its layers and recomputed layers, in a model of this row alone.
        settled = run.best
        model = run.build(replace(tables, rows=(tables.rows[settled.row],)))
        model.cp.add(model.time <= tables.near(run.least["time"]))
        model.cp.add(model.spare >= -run.least["spare"])
        if len(set(settled.layers)) == 1:
            model.cp.add(model.uneven == 0)
        run.climb(model, last_goals(model))
        run.best = replace(run.best, row=settled.row)
    return Answer(
        status="optimal" if run.proved else "feasible",
        bound=run.bound,
        solves=run.solves,
        wall_seconds=run.spent,
        time_proved="time" in run.least,
        **vars(run.best),
    )


@dataclass(frozen=True)
class _Solved:
    """The decisions, and the time and headroom they have in the tables (the variables themselves may be slack)."""

    row: int
    choice: int | None
    layers: tuple[int, ...]
    recomputed: tuple[int, ...]
    time: int
    headroom: int


class _Run:
    """One search: what is left of the time, and the best found so far."""

    def __init__(self, cp_model: Any, started: float, seconds: float, seed: int, workers: int) -> None:
        self.cp_model, self.started, self.seconds = cp_model, started, seconds
        self.seed, self.workers = seed, workers
        self.best: _Solved | None = None
        self.proved, self.solves, self.bound = True, 0, 0
        self.least: dict[str, int] = {}

    @property
    def spent(self) -> float:
        return clock.now() - self.started

    def build(self, tables: Tables) -> Model:
        """The model of these rows with all constraint groups."""
        model = declare(self.cp_model, tables)
        for group in GROUPS:
            group(model)
        return model

    def climb(self, model: Model, goals: Sequence[Goal]) -> None:
        """Solve for each goal and fix it for the next; stops where the time is up or nothing fits."""
        for goal in goals:
            if self.best is not None and self.spent >= self.seconds:
                self.proved = False
                return
            model.cp.minimize(goal.expression)
            status, solver = self._minimise(model)
            if status == self.cp_model.INFEASIBLE:
                if self.best is not None:
                    raise InternalError(f"goal {goal.name} has no solution although the goal before it had one")
                return
            self.proved = status == self.cp_model.OPTIMAL
            if status not in (self.cp_model.OPTIMAL, self.cp_model.FEASIBLE):
                return
            self.best = _read(solver, model)
            if goal.name == "time":
                self.bound = math.floor(solver.best_objective_bound)
            if not self.proved:
                return
            least = round(solver.objective_value)
            _agree(goal.name, least, self.best, model.tables)
            self.least[goal.name] = least
            model.cp.add(goal.expression <= goal.fix(least))

    def _minimise(self, model: Model) -> tuple[Any, Any]:
        """(status, solver) of one goal: one way of searching after the other, until one of them is conclusive.

        Raises InternalError when CP-SAT calls the model invalid.
        """
        cp_model = self.cp_model
        found: tuple[Any, Any] | None = None
        for effort, changes in SEARCHES:
            solver = cp_model.CpSolver()
            solver.parameters.num_workers = self.workers
            solver.parameters.random_seed = self.seed
            solver.parameters.max_time_in_seconds = clock.wall_s(max(0.05, self.seconds - self.spent))
            solver.parameters.max_deterministic_time = effort
            solver.parameters.catch_sigint_signal = False  # it would end this solve alone, and the command would go on
            for name, value in changes.items():
                setattr(solver.parameters, name, value)
            status = solver.solve(model.cp)
            self.solves += 1
            if status == cp_model.MODEL_INVALID:
                raise InternalError(f"CP-SAT calls the model invalid: {model.cp.validate()}")
            if status in (cp_model.OPTIMAL, cp_model.INFEASIBLE):
                return status, solver
            better = (
                found is None or found[0] != cp_model.FEASIBLE or solver.objective_value <= found[1].objective_value
            )
            if found is None or (status == cp_model.FEASIBLE and better):
                found = (status, solver)
            if self.spent >= self.seconds:
                break
        assert found is not None
        return found


def _agree(goal: str, least: int, best: _Solved, tables: Tables) -> None:
    """Raise InternalError where the tables do not give the value that the solver calls least."""
    spare = (best.headroom - tables.headroom) // tables.headroom_step
    found = {"time": best.time, "spare": -spare}.get(goal, least)
    if found != least:
        raise InternalError(f"the solver proves {goal} {least} for a plan whose tables say {found}")


def _read(solver: Any, model: Model) -> _Solved:
    tables = model.tables
    picked = next(i for i, b in enumerate(model.picked) if solver.boolean_value(b))
    chosen = next((i for i, b in enumerate(model.chosen) if solver.boolean_value(b)), None)
    row, choice = tables.rows[picked], tables.choices[chosen] if chosen is not None else None
    layers = tuple(solver.value(v) for v in model.layers[: row.stages])
    recomputed = tuple(solver.value(v) for v in model.recomputed[: row.stages])
    return _Solved(
        row=picked,
        choice=chosen,
        layers=layers,
        recomputed=recomputed,
        time=max(row.time(layers, recomputed) + choice.time, choice.least) if choice else row.time(layers, recomputed),
        headroom=tables.capacity - max(row.peak(layers, recomputed), choice.memory if choice is not None else 0),
    )
