"""JSON of a proof: what was looked at, what removed the rest, and what nothing is proved of."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from planner.schema.base import Frozen

Searched = Literal["optimal", "feasible", "infeasible", "unknown"]
"""optimal and infeasible are proved; feasible is a plan without its proof; unknown: the time limit came first."""


class RemovedCandidates(Frozen):
    """What one rule removed."""

    rule: str
    count: int
    text: str


class HeldAtDefault(Frozen):
    """A decision that the scenario does not name and that its default holds at one value."""

    path: str
    at: str
    opened: str | bool | int
    """A value with which the search decides."""


class ProofDocument(Frozen):
    """What was proved, and of how many combinations."""

    status: Searched
    bound: float | None
    """No plan of the space is faster. [s]"""
    gap: float | None
    throughput_proved: bool
    candidates: int
    points: int
    removed: list[RemovedCandidates]
    solver_rows: int
    rounding_only: int
    decided_by_rounding: bool
    enumerated: int | None
    held: list[HeldAtDefault] = Field(default_factory=list)
    """Nothing is proved of other values than these."""
