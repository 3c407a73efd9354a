"""Shape of what an RL stack adds to a trainer: shared or separate GPUs, and the engine that generates the samples."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.schema.base import BytesEach, Frozen, GbPerSecond, Gib, Micros, Millis, Seconds, Source

TrainerPart = Literal["weights", "optimizer", "reference", "critic"]
"""Weights (with the gradients, where they lie in one buffer), optimizer state, weights of the frozen reference, or all
that a critic keeps between steps."""


class Colocation(Frozen):
    """Residuals of an RL stack whose trainer and rollout engine share the GPUs."""

    rollout_engine: str
    trainer_residual_gib: Gib
    """Left by the sleeping trainer while the rollout engine is awake."""
    rollout_residual_gib: Gib
    """Left by the sleeping rollout engine (CUDA context, graphs) while the trainer is awake."""
    trainer_on_gpu_during_sync: bool | Literal["with adapters"]
    """The trainer's weights are on the GPU, as its layout holds them, while the rollout engine takes them over; or
    where adapters are trained alone."""
    sync_bucket_gib: Gib
    """Weights under way at once; a standing buffer, or tensors gathered up to this size."""
    sync_buckets: int = Field(default=2, ge=1, le=1024)
    """Copies of them that lie on a GPU at once."""
    sync_bucket_grows: bool = False
    """A bucket is no buffer but tensors: one that is larger than a bucket is sent whole."""
    sync_tensor_bytes: BytesEach = 0
    """Bytes an element of the largest weight tensor, which lies whole on each GPU beside the buckets on its way."""
    sync_copies_shards: bool = False
    """Before the first tensor is sent each unit's weights are gathered whole, as they are stored, and every tensor of
    it is copied and cut: a copy of all shards then lies beside the trainer's own."""
    adapters_gather_network: bool = False
    """To send adapters, the weights of the whole network are gathered on each GPU, as they are stored."""
    sync_stacked_experts: bool = False
    """One tensor holds gate and up of all experts of a layer."""
    sync_gb_per_s_per_gpu: GbPerSecond
    """Effective rate of moving new weights into the rollout engine, a GPU."""
    sync_fixed_seconds: Seconds
    sync_tensor_ms: Millis = 0
    """Time of each weight tensor beside its bytes: one gather, one handle and one load each. [ms]"""
    wake_gb_per_s: GbPerSecond
    """Host-device rate of sleeping and waking."""
    host_weight_copies: list[str]
    """Named copies of the weights each rank keeps in host memory."""
    reference_is_base: bool = False
    """Where adapters are trained the reference is their base, with them switched off: no copy of it lies anywhere."""
    host_weight_bytes: dict[str, BytesEach] = Field(default_factory=dict)
    """Bytes a parameter of such a copy, or of a critic's, where it is not as weights of the precision are."""
    pinned_copies: dict[str, Literal["tensors", "buffers"]] = Field(default_factory=dict)
    """Copies in pinned memory: each weight a tensor of its own, or all of one kind of a model chunk in one buffer."""
    sleeping_gradients_on_host: bool = False
    """A sleeping trainer's gradients are copied to the host; otherwise they are dropped and made anew."""
    chunked_log_probs: bool = False
    may_stay: list[TrainerPart] = Field(default_factory=list)
    """Parts of the trainer that the stack leaves on the GPU where its user does not switch offloading on."""
    critic_in_own_process: bool = False
    """A critic has processes of its own on the policy's GPUs, which asleep leave as much there as the policy's."""
    critic_keeps: list[Literal["weights"]] = Field(default_factory=list)
    """Parts of a sleeping critic that never leave the GPU."""
    gradients_with_weights: bool = False
    """Gradients lie in a buffer that stands from the start, and goes where the weights go."""
    scores_without: list[Literal["gradients", "optimizer"]] = Field(default_factory=list)
    """Parts that come back to the GPU for the update only, not for passes that score samples before it."""
    source: str


class Shards(Frozen):
    """Trainers that send each generating GPU its own shard and nothing else."""

    gb_per_s: GbPerSecond
    """Rate at which one GPU receives it."""
    fixed_seconds: Seconds
    source: str


class Separation(Frozen):
    """An RL stack whose trainer and rollout engine can have GPUs of their own."""

    asynchronous: bool
    """The trainer can work on the samples of the weights before, while new ones are generated."""
    sync_network_share: float = Field(ge=1e-6, le=1e6)
    """Rate at which whole weights reach the rollout engines, in rates of one network adapter; above 1 where the
    collective uses several adapters of a node."""
    sync_fixed_seconds: Seconds
    sync_tensor_ms: Millis = 0
    """Time of each weight tensor beside its bytes. [ms]"""
    sync_bucket_gib: Gib
    """Weights under way, on trainer and rollout engine alike."""
    shards: Shards | None = None
    """Only where the stack can send shards instead of whole weights."""
    source: str


class Generation(Frozen):
    """What an RL stack asks of its rollout engine, and which of its own passes it leaves out."""

    critic: str | None = None
    """Source of a critic beside the policy on its GPUs; none where the stack has none, or nobody has read it."""
    log_probs: bool = False
    """The rollout engine returns the log-probability of each token."""
    answer_ms: Millis = 0
    """Time to check the answer of one sample that generation does not hide, all workers together. [ms]"""
    reuses_log_probs: bool = False
    """With one optimizer step a rollout the policy's log-probabilities are those of the training pass itself."""
    swapped_gb_per_s: GbPerSecond | None = None
    """Rate of each of three copies for the reference pass: the policy's weights to the host, the reference's in, the
    policy's back; none where the reference has GPU memory of its own or streams in behind the pass."""
    source: str


class Packing(Frozen):
    """How a trainer puts samples of unequal length into micro-batches up to a number of tokens."""

    method: Literal["first_fit", "balanced", "first_fit_decreasing"]
    usual: bool = True
    """The engine's own scripts pack."""
    balanced_ranks: bool
    """Data-parallel ranks get like work, not samples as they come."""
    padded_in_pipeline: bool = False
    """With several stages, micro-batches are padded to the cap."""
    log_prob_times: int = Field(le=2**31, default=1, ge=1)
    """Micro-batches of log-probability passes hold so many times the tokens of those of training."""
    holds_longest: bool = False
    """The cap must hold the longest sample; elsewhere a longer one stands alone."""
    source: str


class RolloutEngine(Frozen):
    """An inference engine that generates the samples of an RL step."""

    id: str
    name: str
    version: str
    fraction_flag: str
    """Name of its memory fraction in launch files."""
    fraction_of: Literal["total", "usable"]
    runtime_reserve_gib: Gib
    """Beside the static fraction: activations, CUDA graphs, workspace."""
    runtime_reserve_gib_per_tensor_parallel: Gib
    graph_gib: Gib = 0
    """CUDA graphs of decoding, whatever the network; a sleeping engine keeps them."""
    graph_gib_per_tensor_parallel: Gib = 0
    graph_gib_per_layer: Gib = 0
    """CUDA graphs of decoding, of one layer of the network."""
    prefill_tokens: int = Field(le=2**31, default=0, ge=0)
    """Tokens that are prefilled at once, whose activations and last logits lie beside the static fraction; 0 where the
    fraction holds them."""
    cuda_context_gib: Gib
    nccl_gib_per_group: Gib
    precisions: list[str] = Field(min_length=1)
    """Ids of the precisions in which it can hold weights."""
    kv_bytes: float = Field(default=2, ge=1e-6, le=1e6)
    """Bytes an element of the key-value cache."""
    max_concurrency: int = Field(le=2**31, gt=0)
    """Requests one engine runs at once."""
    shares_prompt_prefix: bool = True
    """Prompts shared by several samples are prefilled once."""
    step_overhead_us: Micros
    """Scheduler time of one decode step that no kernel hides. [us]"""
    across_hosts_us: Micros = 0
    """Time of one decode step on top where the engine spans several hosts of one NVLink domain. [us]"""
    sequence_us: Micros = 0
    """Host time of one sequence in one decode step: scheduling, sampling, detokenising. [us]"""
    log_prob_sequence_us: Micros = 0
    """The same on top where the log-probability of each token is asked for. [us]"""
    graph_batch: int = Field(le=2**31, default=512, gt=0)
    """Largest batch that is replayed as a CUDA graph; kernels of larger ones are launched one by one."""
    eager_us: Micros = 8
    """Host time of one counted kernel of a decode step without CUDA graphs: the network's own code is run. [us]"""
    bandwidth_fraction: float = Field(gt=0, le=1)
    """Share of the GPU's memory bandwidth that decoding reaches."""
    fractions: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1, max_length=64)
    """Memory fractions tried when the scenario leaves them open."""
    time_error: str
    """Known error of rollout times made from these constants."""
    sources: list[Source] = Field(min_length=1)
