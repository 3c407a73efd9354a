"""JSON answer of `planner lint`."""

from __future__ import annotations

from typing import Any, Literal

from planner.schema.answers import Envelope, PlanDocument, SaferDocument
from planner.schema.base import Frozen


class LintFinding(Frozen):
    """One thing that a launch file gets wrong, or that is at the edge."""

    severity: Literal["error", "warning", "note"]
    rule: str
    text: str
    file: str
    line: int | None


class UnreadLine(Frozen):
    """A line that was not understood."""

    file: str
    line: int | None
    why: str


class LintChange(Frozen):
    """What a change of the file does to the peak (`--base`)."""

    before_peak_gib: float | None
    after_peak_gib: float | None
    text: str


class LintAnswer(Envelope):
    """`planner lint FILE --format json`; status infeasible where the layout does not fit, unknown where it is open."""

    command: Literal["lint"]
    status: Literal["estimate", "infeasible", "unknown"]
    file: str
    engine: str
    launcher: str
    fits: bool | None
    verdict: str
    change: LintChange | None
    """Against the file of --base; None without one."""
    findings: list[LintFinding]
    scenario: dict[str, Any]
    """What the file says, by dotted path of a scenario."""
    lines: dict[str, int | None]
    """Where each word stands in the file."""
    assumed: dict[str, str]
    unread: list[UnreadLine]
    open: list[str]
    """What --set must fill in before the layout can be costed."""
    plan: PlanDocument | None
    safer: SaferDocument | None = None
    """The fastest layout that is safe, where the file's is not, with its values towards less memory left open."""
