"""What every catalog entry and scenario block shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record; an unknown key is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Source(Frozen):
    """Where a block of facts comes from."""

    ref: str
    """Document, repository at a commit, or paper, precise enough to find the value again."""
    date: str
    """When it was published or read, YYYY-MM-DD or YYYY-MM."""
    note: str | None = None
    """What to beware of."""
