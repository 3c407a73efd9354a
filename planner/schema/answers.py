"""What every JSON answer shares, and the schema of each: the envelope, and one class a kind of answer."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from planner.schema.base import Frozen


class InputReceipt(Frozen):
    """One file that was asked about."""

    file: str
    """As it was named; `<stdin>` for standard input."""
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the bytes as read, before any override."""
    overrides: list[str]
    """The --set arguments, in order."""
    seed: int | None
    """Of the search; null where none was made."""
    workers: int | None
    """Threads of the solver; null where no search was made."""


class Receipts(Frozen):
    """Everything that a second run needs to print the same bytes."""

    planner: str
    """Version."""
    ortools: str
    """Version."""
    python: str
    """Version."""
    inputs: list[InputReceipt]
    """Scenarios, budgets, saved plans and data."""
    catalog: dict[str, str]
    """SHA-256 of every file of the catalogs, and of every measurement, that the answer rests on."""


class Envelope(Frozen):
    """What stands around every answer."""

    schema_version: Literal[3]
    """Raised when a key changes its meaning or goes away."""
    command: str
    """Of the command line."""
    status: str
    """How it ended."""
    provenance: Receipts


class LayoutDecisions(Frozen):
    """Every decision of a plan, under the name that the field uses; lists have one entry a pipeline stage.

    Decisions may be added without a new schema version; those from `rollout_batch_size` on are of RL scenarios.
    """

    model_config = ConfigDict(extra="allow")

    num_gpus: int
    tensor_parallel: int
    pipeline_parallel: int
    rank_order: str
    virtual_pipeline: int
    schedule: str
    data_parallel: int
    context_parallel: int
    expert_parallel: int
    expert_tensor_parallel: int
    sequence_parallel: bool
    zero_stage: int
    micro_batch_size: int | None
    num_micro_batches: int
    global_batch_size: int
    sequence_length: int
    mean_sequence_length: int
    layers_per_stage: list[int]
    recomputed_layers_per_stage: list[int]
    recompute_granularity: str
    recompute_method: str | None
    recompute_num_layers: int | None
    optimizer: str
    optimizer_offload: bool | None
    activation_offload: bool | None
    recompute_modules: list[str]
    recompute_group: int | None = None
    engine_options: list[str] = Field(default_factory=list)
    precision: str
    node: str
    later_stages_node: str | None
    stages_on_node: int | None
    rollout_batch_size: int | None = None
    n_samples_per_prompt: int | None = None
    steps_per_rollout: int | None = None
    prompt_length: int | None = None
    response_length: int | None = None
    rollout_tensor_parallel: int | None = None
    gpu_memory_utilization: float | None = None
    rollout_precision: str | None = None
    rollout_concurrency: int | None = None
    rollout_max_concurrency: int | None = None
    placement: str | None = None
    training_gpus: int | None = None
    rollout_gpus: int | None = None
    rollout_node: str | None = None


class OptionGainDocument(Frozen):
    """One option of the engine turned the other way round, all else of the plan as it is."""

    name: str
    text: str
    on: bool
    """In the plan."""
    changes_numbers: bool
    throughput_change: float | None
    """Of the plan with it against the plan without it; null where it is refused."""
    free_gib_change: float | None
    refused: str | None


class GibEntry(Frozen):
    """One item of a memory ledger."""

    name: str
    gib: float
    source: str
    """Where the formula or figure comes from."""


class SecondsEntry(Frozen):
    """One item of a time ledger."""

    name: str
    seconds: float
    source: str
    """Where the formula or figure comes from."""


class StageLedger(Frozen):
    """The memory of one stage in one phase."""

    stage: int | None
    """Null for the rollout engine."""
    phase: str
    total_gib: float
    items: list[GibEntry]


class FirstShort(Frozen):
    """The first phase of a step in which a GPU runs out: where a run that does not fit dies."""

    stage: int | None
    phase: str
    missing_gib: float


class MemoryDocument(Frozen):
    """Memory of the fullest GPU and of every stage."""

    peak_gib: float
    usable_gib: float
    headroom_gib: float
    """Usable less peak; negative where the layout does not fit: where live memory alone exceeds the card."""
    headroom_demanded_gib: float
    interval_90_percent_gib: list[float] | None
    """Bounds of the peak from published runs of this engine; null where too few are known."""
    fit_probability: float | None
    """Chance that the run fits: its peak, and a spike where runs that ran out are known."""
    keep_probability: float | None = None
    """Chance that the headroom that the scenario demands stays free; that of fitting where it demands none."""
    start_probability: float | None = None
    """Chance that live memory fits, so that the run starts."""
    live_room_gib: float | None = None
    """Usable less live memory: tensors, and what lies outside the allocator."""
    given_back_gib: float = 0.0
    """Of the allocator's estimated reserve, what does not fit beside live memory: a run waits until it is freed."""
    binding_stage: int | None
    binding_phase: str
    dies_in: FirstShort | None = None
    """Null for a plan that fits. Another phase than `binding_phase` where a fuller one comes later in the step."""
    stages: list[StageLedger]


class SimulatedSchedule(Frozen):
    """The pipeline schedule, simulated."""

    name: str
    bubble: float
    """Share of forward and backward in which stages wait."""
    idle_seconds_per_stage: list[float]
    zero_bubble_step_seconds: float | None


class PhaseSeconds(Frozen):
    """One phase of a step."""

    name: str
    seconds: float


class GoodputShare(Frozen):
    """What faults leave of the throughput."""

    share: float
    failure_minutes: float
    checkpoint_interval_minutes: float
    tokens_per_second: float


class TimeDocument(Frozen):
    """One optimizer step."""

    step_seconds: float
    step_interval_90_percent_seconds: list[float] | None
    """Null where no published step of such a run was scored, or factors of an own run are put on it."""
    tokens_per_second_interval_90_percent: list[float] | None
    simulated_step_seconds: float | None
    schedule: SimulatedSchedule | None
    """Null without a pipeline."""
    tokens_per_second: float
    tokens_per_second_per_gpu: float
    samples_per_second: float
    mfu: float
    """Model FLOP over peak FLOP, a share."""
    mfu_convention: str
    """What is counted as model FLOP."""
    model_tflops_per_gpu: float
    """Of a GPU that trains, while it trains."""
    peak_tflops_per_gpu: float
    """Dense, of the precision that products are computed in."""
    items: list[SecondsEntry]
    phases: list[PhaseSeconds]
    goodput: GoodputShare | None = None
    calibration: dict[str, float] | None = None
    """Factor by phase, where the scenario names a calibration."""


class HostLedger(Frozen):
    """Host memory of one node."""

    needed_gib: float
    available_gib: float
    items: list[GibEntry]


class GpuOrder(Frozen):
    """Which physical GPUs the ranks get, on a node that the scenario describes itself."""

    visible_devices: list[int]
    tensor_ring_slowest_link: str | None
    tensor_ring_slowest_gb_per_s: float | None


class WishGranted(Frozen):
    """A wish that a plan gives up."""

    wanted: int | str
    granted: int | str


class AttentionKernel(Frozen):
    """Fused attention of a network that Transformers has no sdpa for."""

    named: str | None
    """What the script must name; null where no kernel is known to train the network there."""
    where: str
    """Generation of the chip, or the precision that rules every kernel out."""


class PlanDocument(Frozen):
    """One plan with its ledgers."""

    verdict: str
    critical: bool
    """Fits, but with less headroom than the engine's critical share."""
    wishes_given_up: dict[str, WishGranted]
    """`wanted` and `granted` by wish."""
    layout: LayoutDecisions
    placement: GpuOrder | None
    attention_kernel: AttentionKernel | None = None
    """Fused attention that the figures count and that the trainer does not take by itself; absent for most networks."""
    memory: MemoryDocument
    time: TimeDocument
    host: HostLedger


class SaferDocument(Frozen):
    """The fastest layout that is safe, where the plan is not, solved."""

    text: str
    headroom_gib_asked: float
    opened: list[str]
    """Decisions that were left open beside the layout, one at a time."""
    freed: list[str]
    """Pinned values that were free beside them, towards less memory."""
    proved: bool
    """That none is faster, or that there is none."""
    set: list[str]
    """Its question as --set takes it; empty where there is none."""
    layout: str | None
    headroom_gib: float | None
    fit_probability: float | None
    throughput_change: float | None
    """Against the plan, negative where it is slower."""
