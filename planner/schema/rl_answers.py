"""JSON answer of `planner rl-lengths`."""

from __future__ import annotations

from typing import Literal

from planner.schema.answers import Envelope, LayoutDecisions
from planner.schema.base import Frozen
from planner.schema.question_answers import Searched


class ScaledLengths(Frozen):
    """The distribution of response lengths, scaled with the largest one. [tokens]"""

    mean: int | None
    p99: int | None


class LengthPlan(Frozen):
    """The plan for one largest response."""

    layout: LayoutDecisions
    pool_tokens: float
    """What the key-value pool of one engine holds."""
    mean_demand_tokens: float
    """What its samples ask for at their end, of mean length."""
    worst_demand_tokens: float
    """The same if every sample had the largest length."""
    peak_gib: float
    headroom_gib: float
    rollout_seconds: float
    step_seconds: float
    samples_per_second: float
    host_gib: float
    """Host memory of one node."""


class LengthRow(Frozen):
    """One largest response."""

    response_length: int
    """[tokens]"""
    response_distribution: ScaledLengths
    status: Searched
    plan: LengthPlan | None


class RlLengthsAnswer(Envelope):
    """`planner rl-lengths --format json`."""

    command: Literal["rl-lengths"]
    status: Searched
    scenario: str
    rows: list[LengthRow]
