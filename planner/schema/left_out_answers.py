"""What `planner validate memory --leave-out` adds to its JSON answer."""

from __future__ import annotations

from typing import Literal

from planner.schema.base import Frozen


class LeftOutStack(Frozen):
    """Left-out errors of one training stack."""

    stack: str
    rows: int
    median: float
    p90: float
    in_sample_rows: int
    """Rows that rest on a number fitted on their own group alone."""


class RefitRow(Frozen):
    """A fitted number of an engine file without one group of rows."""

    number: str
    shipped: float
    without: str
    value: float | None
    """Fitted again; null where no other group has rows."""
    rows: int
    """Of the group, that rest on the number."""
    assumed: bool


class IntervalCoverage(Frozen):
    """How many rows of an engine lie in the 90 % interval that is made without their network and date."""

    engine: str
    under_5_gib: bool
    """Of its runs under 5 GiB, else of the others."""
    rows: int
    inside: float
    below: int
    """Rows under its lower end."""
    like_none: int
    """Rows like no other once their own are left out."""
    inside_of_others: float | None
    """Share inside of the rows that are like another; null where none is."""
    width: float
    """Median of upper over lower end."""
    groups: int
    """Networks of a source and date."""
    inside_by_group: float
    """Share inside, each group the same."""
    chance_at_90_percent: float
    """Chance that as many groups lie inside as do, were the interval one of 90 % exactly."""
    reached: bool


class LeftOutDocument(Frozen):
    """Errors of rows that the fitted numbers under them have not seen."""

    by: Literal["source", "engine", "network"]
    stacks: list[LeftOutStack]
    refits: list[RefitRow]
    coverage: list[IntervalCoverage]
