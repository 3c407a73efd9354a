"""The frozen reference of a problem that trains on pairs of answers (DPO)."""

from __future__ import annotations

from planner.problem.preference import scored_by
from planner.problem.problem import Problem
from planner.schema.preference import DPO, SEQUENCES_OF_A_PAIR, Preference

REFERENCE = "reference"
"""The moment of a step at which the reference runs: the policy's forward pass is over, its backward pass to come."""


def preference(problem: Problem) -> Preference | None:
    """How the engine trains on pairs; None in every other task."""
    return problem.engine.preference if problem.scenario.task == DPO else None


def keeps_copy(problem: Problem) -> bool:
    """Whether a frozen reference has weights of its own beside the policy's: not where it is the base of adapters."""
    return bool(scored_by(problem.scenario)) and problem.scenario.adapter is None


def whole_copies(problem: Problem) -> int:
    """Times that all of a sharded reference's weights lie gathered while it runs; 0 where layers are, or it is none."""
    how = preference(problem)
    return how.reference_whole_copies if how is not None and keeps_copy(problem) else 0


def sequences_together(problem: Problem) -> int:
    """Sequences that are one sample of the data, and go through the network together: those of a pair, or one."""
    return SEQUENCES_OF_A_PAIR if problem.scenario.task == DPO else 1
