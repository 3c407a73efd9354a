"""Refuse a solver that proves wrong optima, before it is asked anything that matters."""

from __future__ import annotations

from typing import Any

from planner.errors import InternalError

TRUTH = 17_219_174_400
_ROWS = (
    (20, 151_998, 4_096, 17_783_193_600, 296_386_560),
    (10, 62_989, 2_048, 17_219_174_400, 573_972_480),
    (10, 84_749, 4_096, 17_451_417_600, 581_713_920),
)
"""(most recomputed layers, memory, memory saved by one, time, time of recomputing one); OR-Tools 9.15 gets it wrong."""


def proved_minimum(cp_model: Any) -> int:
    """What this solver proves to be the least time of three layouts; the truth is 17,219,174,400."""
    model = cp_model.CpModel()
    chosen = [model.new_bool_var("") for _ in _ROWS]
    model.add_exactly_one(chosen)
    recomputed, time = model.new_int_var(0, 80, ""), model.new_int_var(0, 10**12, "")
    for pick, (most, memory, saved, base, each) in zip(chosen, _ROWS, strict=True):
        model.add(recomputed <= most).only_enforce_if(pick)
        model.add(memory - saved * recomputed <= 73_728).only_enforce_if(pick)
        model.add(time >= base + each * recomputed).only_enforce_if(pick)
    model.minimize(time)
    solver = cp_model.CpSolver()
    solver.parameters.catch_sigint_signal = False  # it would leave the process without a handler of interrupts
    solver.parameters.num_workers = 1
    solver.solve(model)
    return int(solver.objective_value)


def refuse_broken_solver(cp_model: Any) -> None:
    """Raise InternalError when the installed solver fails a proof with a known answer."""
    proved = proved_minimum(cp_model)
    if proved != TRUTH:
        raise InternalError(
            f"the installed OR-Tools proves {proved:,} optimal where {TRUTH:,} is; "
            "install a release that passes: pip install 'ortools>=9.13,<9.15'"
        )
