"""JSON answers of rows that were read later: what was said of them before anything was changed, and what is now."""

from __future__ import annotations

from planner.schema.base import Frozen


class LookFigures(Frozen):
    """Relative errors of some rows."""

    rows: int
    median: float
    p90: float
    bias: float


class LookDocument(Frozen):
    """Rows read on 2026-11-22 of one engine and metric: before anything was changed for them, and now."""

    development: int
    """3 to 6: in view since; 7: a test still."""
    engine: str
    metric: str
    rows: int
    first_look: LookFigures | None
    """Null where none of them could be said then."""
    inside_90_percent: float
    """Share of those said then that lay in their interval."""
    now: LookFigures | None
