"""Shape of what a scenario wants printed beside its plan: columns of one's own or published, and changes alone."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from planner.schema.base import Frozen, OneLine, Source


class Published(Frozen):
    """Rows of somebody's published table, per GPU, in the unit they print (decimal GB)."""

    source: Source
    rows_gb: dict[str, Annotated[float, Field(ge=-1e6, le=1e6)]]
    total_gb: Annotated[float, Field(gt=0, le=1e6)]
    relative_throughput: str | None = None
    stability: str | None = None


class Column(Frozen):
    """One configuration to show beside the plan: overrides of this scenario, and what was published about it."""

    name: OneLine
    set: dict[str, Any] = Field(default_factory=dict)
    assumed: list[str] = Field(default_factory=list)
    """Paths among those of `set` whose values nobody published."""
    published: Published | None = None
    baseline: bool = False
    """Throughput of every other column is printed relative to this one."""


class Change(Frozen):
    """One change, priced alone."""

    name: OneLine
    published: bool = True
    """Somebody published it; otherwise it is a question of one's own."""
    set: dict[str, Any]


class Comparison(Frozen):
    """What to print beside the plan."""

    columns: list[Column] = Field(default_factory=list)
    changes_from: str | None = None
    """Name of the column whose configuration each change is applied to, alone."""
    changes_set: dict[str, Any] = Field(default_factory=dict)
    """Overrides on top of that column before any change (for instance fewer GPUs)."""
    changes: list[Change] = Field(default_factory=list)
    remarks: list[str] = Field(default_factory=list)
    """Contradictions of the published figures that arithmetic alone does not show."""
