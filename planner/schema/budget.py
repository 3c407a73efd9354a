"""Shape of a budget file: work with deadlines, and offers of machines."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from planner.schema.base import Frozen, OneLine
from planner.schema.scenario import PositiveInt, one_line


class Job(Frozen):
    """Work with a deadline."""

    name: OneLine
    scenario: str
    """Scenario file, relative to the budget file; its cluster is replaced by each offer."""
    tokens: Annotated[float, Field(gt=0)]
    """Tokens to train on (RL: prompt and response tokens of trained samples)."""
    deadline_days: Annotated[float, Field(gt=0)]
    set: dict[str, Any] = Field(default_factory=dict)


class Offer(Frozen):
    """Machines that can be had."""

    price: str
    """Id of a price in the catalog."""
    nodes: Annotated[list[PositiveInt], Field(min_length=1)]
    """Node counts that may be rented."""
    terms: Literal["on_demand", "spot", "reserved"] = "on_demand"


class Budget(Frozen):
    """Which offers meet every deadline at the least cost."""

    name: OneLine
    question: Annotated[str, BeforeValidator(one_line)] | None = None
    jobs: Annotated[list[Job], Field(min_length=1)]
    offers: Annotated[list[Offer], Field(min_length=1)]
    max_usd: Annotated[float, Field(gt=0)] | None = None
    max_nodes_at_once: PositiveInt | None = None
    """Machines rented at the same time, over all jobs."""
    goodput: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the time that is really trained (restarts, checkpoints); stated, not guessed."""
