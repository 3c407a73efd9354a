"""How much of a predicted peak rests on numbers that an engine file calls assumed."""

from __future__ import annotations

from dataclasses import replace

from planner.problem.problem import Problem
from planner.schema.engine import Engine

_KEPT = ("saved", "saved_by_adapter", "stub", "left_behind", "embedded")
_LISTS = (*_KEPT, "backward", "loss", "held", "log_prob", "cached")


def without_assumed(problem: Problem) -> Problem | None:
    """The problem with everything assumed about the trainer's tensors and states left out; None where nothing is."""
    engine = _read_only(problem.engine)
    return None if engine is None else replace(problem, engine=engine)


def _read_only(whole: Engine) -> Engine | None:
    """The engine with what was read in code or fitted alone; None where that is all of it."""
    kept = {name: [t for t in getattr(whole, name) if not t.assumed] for name in _LISTS}
    changed = {name: tensors for name, tensors in kept.items() if len(tensors) < len(getattr(whole, name))}
    if not changed and not whole.states.assumed:
        return None
    states = whole.states.model_copy(update=dict.fromkeys(whole.states.assumed, 0.0))
    return whole.model_copy(update={**changed, "states": states})
