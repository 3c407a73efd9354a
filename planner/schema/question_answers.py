"""JSON answers of the commands that search: solve, estimate, near, pareto, whatif, compare, explain, budget."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from planner.schema.answers import Envelope, LayoutDecisions, OptionGainDocument, PlanDocument, SaferDocument
from planner.schema.base import Frozen
from planner.schema.comparison import Published
from planner.schema.near_answers import NearTiesDocument
from planner.schema.proof_answers import ProofDocument as ProofDocument
from planner.schema.proof_answers import Searched as Searched


class NearestDocument(Frozen):
    """What comes nearest where nothing fits."""

    text: list[str]
    largest_headroom_gib: float | None
    plan: PlanDocument | None


class UniformDocument(Frozen):
    """The best plan whose stages are alike."""

    changes: dict[str, str]
    plan: PlanDocument | None
    gain: float | None


class ColumnDocument(Frozen):
    """One column of the comparison."""

    name: str
    num_gpus: int
    verdict: str
    peak_gib: float
    headroom_gib: float
    binding_phase: str
    step_seconds: float
    relative_samples_per_second: float | None
    relative_tokens_per_second: float | None
    sequence_length: int
    changed_wishes: list[str]
    layout: LayoutDecisions
    published: Published | None


class PricedChange(Frozen):
    """One change, priced alone."""

    name: str
    peak_gib: float | None
    headroom_gib: float | None
    training_peak_gib: float | None
    relative_samples_per_second: float | None
    relative_tokens_per_second: float | None


class ComparisonDocument(Frozen):
    """The scenario's `compare:` columns."""

    baseline: str | None
    columns: list[ColumnDocument]
    plan: ColumnDocument | None
    changes_from: str | None
    changes: list[PricedChange]
    own_changes: list[PricedChange]
    contradictions: list[str]
    remarks: list[str]
    left_out: list[str]


class AskedQuestion(Frozen):
    """What feeds a saved answer back to any command."""

    scenario: dict[str, object]
    """Its keys, with the overrides applied."""
    kept_headroom_gib: float | None
    """Headroom that the search asked for, where none keeps the usual one."""
    usual_headroom_gib: float | None
    """Headroom that is usual for the engine, where no layout keeps it."""
    reserve_counted: bool = True
    """False where limits count live memory alone, because no layout has room for its allocator's reserve too."""


class OtherMethod(Frozen):
    """Another way to train with which a layout fits where the scenario's own does not, solved."""

    name: str
    set: list[str]
    """The change as --set takes it."""
    peak_gib: float
    headroom_gib: float
    step_seconds: float


class SolveAnswer(Envelope):
    """`planner solve --format json`."""

    command: Literal["solve"]
    status: Searched
    scenario: str
    asked: AskedQuestion
    plan: PlanDocument | None
    proof: ProofDocument
    near_ties: NearTiesDocument | None = None
    """Null where no published run of such a kind was scored, or nobody asked."""
    nearest: NearestDocument | None = None
    other_methods: list[OtherMethod] = Field(default_factory=list)
    uniform_stages: UniformDocument | None = None
    comparison: ComparisonDocument | None = None
    safer: SaferDocument | None = None
    """Null where the plan is safe, or there is none."""
    known_error: list[str]


class EstimateAnswer(Envelope):
    """`planner estimate SCENARIO --format json`."""

    command: Literal["estimate"]
    status: Literal["estimate"]
    scenario: str
    asked: AskedQuestion
    plan: PlanDocument
    proof: None
    known_error: list[str]


class NearLayout(Frozen):
    """One of the best distinct layouts."""

    status: Literal["optimal", "feasible"]
    layout: LayoutDecisions
    step_seconds: float
    tokens_per_second: float
    headroom_gib: float
    given_back_gib: float = 0.0
    """Of the allocator's estimated reserve, what finds no room: it starts only if so much is given back."""
    variants: int
    """Combinations of micro-batch, chunks, ZeRO stage and the like with these degrees that are known to be as near."""


class NearAnswer(Envelope):
    """`planner near --format json`: best first."""

    command: Literal["near"]
    status: Searched
    scenario: str
    plans: list[NearLayout]
    known_error: list[str]


class FrontPoint(Frozen):
    """One plan of a front."""

    value: float
    """In the answer's `unit`."""
    status: Literal["optimal", "feasible"]
    tokens_per_second: float
    step_seconds: float
    num_gpus: int
    headroom_gib: float
    given_back_gib: float = 0.0
    """Of the allocator's estimated reserve, what finds no room: it starts only if so much is given back."""
    layout: str


class ParetoAnswer(Envelope):
    """`planner pareto --format json`: by rising value."""

    command: Literal["pareto"]
    status: Searched
    scenario: str
    over: Literal["headroom", "gpus", "sequence_length", "dollars"]
    unit: str
    points: list[FrontPoint]
    known_error: list[str]


class VariationPlan(Frozen):
    """The plan of one variation."""

    verdict: str
    layout: LayoutDecisions
    peak_gib: float
    headroom_gib: float
    given_back_gib: float = 0.0
    """Of the allocator's estimated reserve, what finds no room: it starts only if so much is given back."""
    binding_stage: int | None
    binding_phase: str
    step_seconds: float
    tokens_per_second: float
    samples_per_second: float
    relative_throughput: float | None
    """Over the scenario as it stands."""
    same_work_per_sample: bool
    wishes_given_up: dict[str, str]


class SideFigures(Frozen):
    """Figures of one plan."""

    peak_gib: float
    usable_gib: float
    headroom_gib: float
    given_back_gib: float = 0.0
    """Of the allocator's estimated reserve, what finds no room: it starts only if so much is given back."""
    binding_stage: int | None
    binding_phase: str
    step_seconds: float
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    mfu: float
    model_tflops_per_gpu: float | None
    """Null for a saved plan of before it was stated."""


class ComparedSide(Frozen):
    """One side: a plan, or why there is none."""

    name: str
    status: str
    because: str | None
    figures: SideFigures | None


class DecisionPair(Frozen):
    """One decision on both sides."""

    name: str
    a: Any
    b: Any
    same: bool


class GibDifference(Frozen):
    """One item of memory on both sides."""

    name: str
    a_gib: float
    b_gib: float
    change_gib: float


class SecondsDifference(Frozen):
    """One item of time on both sides."""

    name: str
    a_seconds: float
    b_seconds: float
    change_seconds: float


class PairOfSides(Frozen):
    """The first plan (a) and another one (b): largest differences first."""

    side: str
    """B, C, ...: the place of b among the sides; in a what-if its label."""
    layout: list[DecisionPair]
    memory: list[GibDifference]
    time: list[SecondsDifference]


class VariationRow(Frozen):
    """One combination of values."""

    name: str | None
    """As `what_if:` of the scenario names it."""
    set: dict[str, Any]
    status: Literal["optimal", "feasible", "infeasible", "unknown", "refused"]
    plan: VariationPlan | None
    because: str | None = None
    """Why there is no plan."""


class WhatIfAnswer(Envelope):
    """`planner whatif --format json`."""

    command: Literal["whatif"]
    status: Searched
    scenario: str
    values: list[str]
    base: VariationRow
    rows: list[VariationRow]
    differences: list[PairOfSides]
    """Of the scenario as it stands and each variation that fits."""
    known_error: list[str]


class CompareAnswer(Envelope):
    """`planner compare --format json`."""

    command: Literal["compare"]
    status: Literal["answered"]
    sides: list[ComparedSide]
    """A, B, C, ... in the order given."""
    sentences: list[str]
    """Of the largest differences, with the decision that explains them."""
    differences: list[PairOfSides]
    known_error: list[str]


class BindingItem(Frozen):
    """One item of the fullest moment."""

    name: str
    gib: float


class BindingLedger(Frozen):
    """Where memory peaks."""

    phase: str
    stage: int | None
    items: list[BindingItem]


class ConflictLimit(Frozen):
    """One of the limits that contradict each other."""

    name: str
    text: str
    without: dict[str, Any]
    """What stands in the file instead where it is let go of."""
    fits_without_it_alone: bool | None
    """Whether a plan exists where it alone is let go of and the file keeps all else; null where time was up."""


class RepairDocument(Frozen):
    """One change that helps, solved again."""

    text: str
    change: dict[str, Any]
    set: list[str]
    """What to type after --set."""
    headroom_gib: float
    step_seconds: float
    tokens_per_second: float
    throughput_change: float


class ConflictDocument(Frozen):
    """Why nothing fits."""

    hopeless: bool
    limits: list[ConflictLimit]
    """They contradict each other whatever else of `let_go_of` is let go of, and none can be left out of this list."""
    let_go_of: list[str]
    """All limits and pins of the file that were let go of in the search for the conflict."""
    rules: list[str]
    asked_tokens_per_second: float | None
    repairs: list[RepairDocument]


class AlternativeDocument(Frozen):
    """One other decision, solved again."""

    change: dict[str, Any]
    status: Literal["optimal", "feasible", "infeasible", "unknown", "refused"]
    refused: str | None
    layout: str | None
    throughput_change: float | None
    headroom_gib: float | None


class ExplainAnswer(Envelope):
    """`planner explain --format json`."""

    command: Literal["explain"]
    status: Searched
    scenario: str
    binding: BindingLedger | None
    conflict: ConflictDocument | None
    alternatives: list[AlternativeDocument]
    why_not: list[AlternativeDocument]
    other_methods: list[OtherMethod]
    options: list[OptionGainDocument]
    safer: SaferDocument | None = None
    known_error: list[str]
