"""JSON answers of the commands that do not search: rules of thumb, diagnose, calibrate, catalog, validate."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from planner.schema.answers import Envelope
from planner.schema.base import Frozen
from planner.schema.catalog import Price
from planner.schema.left_out_answers import LeftOutDocument
from planner.schema.look_answers import LookDocument


class RuleRow(Frozen):
    """One rule of thumb beside our own figure."""

    name: str
    formula: str
    unit: Literal["GB", "%", "x"]
    """Of `rule` and `ours`; x is a ratio."""
    rule: float | None
    """None where the source names the item without a figure."""
    ours: float | None
    rule_gb: float | None
    """Decimal GB; None where the unit is another."""
    ours_gb: float | None
    """Decimal GB; None where the unit is another."""
    ours_is: str
    source: str


class RulesAnswer(Envelope):
    """`planner estimate --rules MODEL --format json`."""

    command: Literal["estimate"]
    status: Literal["answered"]
    model: str
    parameters: int
    batch: int
    sequence_length: int
    precision: str
    rules: list[RuleRow]


class MessageDocument(Frozen):
    """What the message says."""

    quote: str
    exact: bool
    gib: dict[str, float]


class TensorReading(Frozen):
    """One tensor that may have asked."""

    tensor: str
    group: str
    phase: str
    bytes: str
    """The formula."""
    unit_bytes: int | float
    """Bytes of one token, or of the whole tensor where it does not grow with them."""
    tokens: list[int] | None
    times_micro_batch: float | None
    score: float
    plausibility: str


class DiagnoseAnswer(Envelope):
    """`planner diagnose --format json`: readings by plausibility."""

    command: Literal["diagnose"]
    status: Literal["answered"]
    scenario: str
    kind: str
    phase: str | None
    headline: str
    message: MessageDocument
    readings: list[TensorReading]
    host_gib: dict[str, float]
    findings: list[str]
    fixes: list[str]


class FittedPhase(Frozen):
    """One quantity of a log, measured and predicted."""

    name: str
    unit: str
    measured: float
    lines: int
    predicted_before: float
    predicted_after: float
    error_before: float
    error_after: float
    factor: float | None


class FitExplanation(Frozen):
    """A change of the scenario that would bring the prediction near the log."""

    setting: str
    error: float
    """(predicted - measured) / measured with it."""


class FitDoubt(Frozen):
    """A row of a fit more than three known errors away."""

    name: str
    error: float
    """(predicted - measured) / measured, without the fit."""
    known_error: float
    """Median error of such a quantity on published runs, a share."""
    explanations: list[FitExplanation]


class FitLengths(Frozen):
    """Lengths of responses, as the log states them and as the scenario expects them."""

    mean_tokens: float | None
    expected_mean_tokens: float
    share_at_maximum: float | None
    expected_share_at_maximum: float
    at_cap: float | None
    """`rl.response_distribution.at_cap` with which the scenario would expect the log's share at the maximum."""


class CalibrateAnswer(Envelope):
    """`planner calibrate SCENARIO --log FILE --format json`."""

    command: Literal["calibrate"]
    status: Literal["answered"]
    scenario: str
    log: str
    other_seconds: float
    rows: list[FittedPhase]
    doubts: list[FitDoubt]
    """Rows so far from the prediction that the log may be of another run."""
    lengths: FitLengths | None
    """None where the log states none."""


class DeviceAnswer(Envelope):
    """`planner calibrate --device --format json`."""

    command: Literal["calibrate"]
    status: Literal["answered"]
    folder: str
    facts: dict[str, str]
    products: int
    spread_p90: float
    copy_gb_per_s: float
    attention_forward_tflops: float
    left_out: list[str]


class CatalogListAnswer(Envelope):
    """`planner catalog list --format json`."""

    command: Literal["catalog"]
    status: Literal["answered"]
    entries: dict[str, list[str]]
    """Ids by kind."""


class CatalogEntryAnswer(Envelope):
    """`planner catalog show --format json`."""

    command: Literal["catalog"]
    status: Literal["answered"]
    kind: str
    entry: dict[str, Any]
    """As its file states it."""


class PriceRowsLeftOut(Frozen):
    """Rows of a foreign price list that gave no price, for one reason."""

    why: str
    rows: int
    first_line: int
    names: list[str]
    """Instance types, or accelerators where a row names no instance."""


class PriceImportAnswer(Envelope):
    """`planner catalog import-prices --format json`."""

    command: Literal["catalog"]
    status: Literal["answered"]
    file: str
    sha256: str
    provider: str
    rows: int
    prices: list[Price]
    without_node_type: list[str]
    """Ids that no budget can use."""
    left_out: list[PriceRowsLeftOut]


Reached = Literal["reached", "not reached"]


class MemoryBarDocument(Frozen):
    """A promise of the memory model and what was reached."""

    class_: str = Field(alias="class")
    rows: int
    unit: Literal["relative", "MiB"]
    median: float
    median_bar: float
    p90: float
    p90_bar: float
    reached: bool


class FitShares(Frozen):
    """Fit or out of memory: shares called right."""

    rows: int
    hard_rows: int
    hard_accuracy: float
    accuracy: float
    oom_among_safe: float
    safe_successes: float
    reached: bool


class ErrorItem(Frozen):
    """One item of a predicted ledger."""

    name: str
    gib: float
    source: str


class WorstRow(Frozen):
    """The row with the largest relative error."""

    id: str
    error: float
    ledger: list[ErrorItem]


class MemoryErrors(Frozen):
    """Errors over some published rows."""

    name: str
    metric: str
    rows: int
    median: float
    p90: float
    bias: float
    median_mib: float
    p90_mib: float
    worst: WorstRow


class UnscoredRow(Frozen):
    """A published row that does not count, and why."""

    id: str
    class_: str | None = Field(default=None, alias="class")
    reason: str


class MemoryValidationRow(Frozen):
    """One published row, measured and predicted."""

    id: str
    class_: str = Field(alias="class")
    metric: str
    outcome: str
    measured_gib: float | None
    predicted_gib: float
    peak_gib: float
    stage: int | None
    moment: str
    excluded: str | None


class StackErrors(Frozen):
    """One training stack in the rows known first, in those kept aside, and in those read on 2026-11-22 and 23."""

    stack: str
    dev_1: MemoryErrors | None
    dev_2: MemoryErrors | None
    dev_3: MemoryErrors | None
    dev_4: MemoryErrors | None
    dev_5: MemoryErrors | None
    dev_6: MemoryErrors | None
    dev_2_bar: list[float | None] | None
    """Largest median and 90th percentile of the error."""
    reached: bool | None


class ValidateMemoryAnswer(Envelope):
    """`planner validate memory --format json`."""

    command: Literal["validate memory"]
    status: Reached
    bars: list[MemoryBarDocument]
    fit: FitShares | None
    developments: list[StackErrors]
    later: list[LookDocument]
    left_out: LeftOutDocument | None = None
    """Null where only some rows were asked for."""
    classes: list[MemoryErrors]
    sources: list[MemoryErrors]
    excluded: list[UnscoredRow]
    unexpressed: list[UnscoredRow]
    reached: bool
    rows: list[MemoryValidationRow] | None = None


class ThroughputBar(Frozen):
    """A promise of the time model and what was reached."""

    name: str
    wanted: str
    value: float | None
    reached: bool
    rows: int


class ValidateThroughputAnswer(Envelope):
    """`planner validate throughput --format json`."""

    command: Literal["validate throughput"]
    status: Reached
    bars: list[ThroughputBar]
    accuracy: list[dict[str, Any]]
    """Error of tokens/s by class, source, GPU and size."""
    groups: list[dict[str, Any]]
    """Choice inside sweeps: rank correlation, and the share of the best measured speed."""
    left_out: dict[str, Any] | None = None
    """The same errors and bars with constants fitted without each row's source, engine or network, and every refit."""
    not_scored: list[UnscoredRow]
    memory_of_runs_that_ran: list[dict[str, object]]
    """By engine file: how many of these runs the memory model says do not fit, and which."""
    rl: dict[str, Any] | None = None
    rl_placements: dict[str, Any] | None = None
    rl_steps: dict[str, Any] | None = None
    rows: list[dict[str, Any]] | None = None
