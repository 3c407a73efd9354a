"""JSON answer of `planner check`."""

from __future__ import annotations

from typing import Literal

from planner.schema.answers import Envelope
from planner.schema.base import Frozen


class CheckedQuantity(Frozen):
    """One quantity of a run beside the plan's."""

    name: str
    unit: Literal["GiB", "s"]
    measured: float
    predicted: float
    error: float
    """(predicted - measured) / measured."""
    interval: list[float] | None
    """90 % interval of the prediction; null where no published run of the engine was scored."""
    inside: bool | None
    statements: int


class SnapshotItem(Frozen):
    """One item of a ledger, as a snapshot holds it and as predicted."""

    name: str
    measured_gib: float
    predicted_gib: float


class UnexplainedBlocks(Frozen):
    """Blocks of one size and stack that no item explains."""

    gib: float
    blocks: int
    what: str


class SnapshotDocument(Frozen):
    """A snapshot at its fullest moment against the ledger that is nearest to it."""

    device: int
    stage: int
    phase: str
    events: int
    peak_event: int | None
    allocated_gib: float
    reserved_gib: float
    refused_gib: float | None
    explained_share: float
    items: list[SnapshotItem]
    unexplained: list[UnexplainedBlocks]


class StepGrowth(Frozen):
    """Memory that rises from step to step."""

    kind: str
    gib_per_step: float
    steps: int


class CheckAnswer(Envelope):
    """`planner check SCENARIO RUN... --format json`."""

    command: Literal["check"]
    status: Literal["answered"]
    scenario: str
    files: list[str]
    inside: bool
    quantities: list[CheckedQuantity]
    snapshots: list[SnapshotDocument]
    growth: StepGrowth | None
    room_gib: float | None
    room_from: str
    changes: list[str]
