"""Shape of a question: a scenario file; planner/schema/choices.py has how it states one value or several."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from planner.schema.base import Frozen, Millis, OneLine, SomeGib, Tokens, as_name
from planner.schema.choices import (
    CountChoice,
    GpuCount,
    IntChoice,
    IntWish,
    NameChoice,
    NameWish,
    NonNegativeInt,
    PositiveInt,
    TokenChoice,
    TokenWish,
)
from planner.schema.comparison import Comparison, NamedVariation
from planner.schema.preference import DPO, Dpo
from planner.schema.rl_stack import TrainerPart

WISH_ORDER = ("sequence_length", "response_length", "n_samples_per_prompt", "rollout_batch_size", "optimizer")
"""Order in which wishes are given up: the out-of-memory playbook, where sequence and response length stand first."""

Flag = bool | Literal["any"]
RankOrder = Literal["default", "tp_pp_dp"]
ScheduleName = Literal["1f1b", "interleaved", "zb-h1"]
PlacementName = Literal["colocated", "disaggregated", "asynchronous"]
FrozenPart = Literal["vision_tower", "projector"]


class Pool(Frozen):
    """Machines of one kind; a run trains on one pool."""

    node: str
    """Id of a node type in the catalog."""
    num_gpus: GpuCount | Annotated[list[GpuCount], Field(min_length=1)] | None = None
    max_gpus: GpuCount | None = None
    usable_gib: SomeGib | None = None
    host_memory_gib: SomeGib | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Pool:
        if (self.num_gpus is None) == (self.max_gpus is None):
            raise ValueError("give exactly one of num_gpus and max_gpus")
        return self


class ClusterSpec(Frozen):
    """The machines."""

    node: str | None = None
    """Id of a node type in the catalog."""
    gpu: Annotated[str, BeforeValidator(as_name)] | None = None
    """Instead of node: a GPU of the catalog, in the node type that it usually comes in."""
    pools: Annotated[list[Pool], Field(min_length=1)] | None = None
    """Instead of node and num_gpus: kinds of machines to choose from, each with its own number of GPUs."""
    num_gpus: GpuCount | Annotated[list[GpuCount], Field(min_length=1)] | None = None
    """GPUs used; a list lets the planner choose. Whole nodes, or a share of one."""
    max_gpus: GpuCount | None = None
    """Instead of num_gpus: any number up to this that makes even groups (a share of one node, or whole nodes)."""
    usable_gib: SomeGib | None = None
    """Overrides what the catalog says the driver leaves to torch on one GPU."""
    host_memory_gib: SomeGib | None = None
    """Host memory of one node, where it differs from the catalog."""
    topology: str | None = None
    """Links inside a node, instead of the catalog's: an edge list (.yaml), or the output of `nvidia-smi topo -m`."""
    rank_order: RankOrder | Annotated[list[RankOrder], Field(min_length=1)] | Literal["any"] = "default"
    """Order of ranks, innermost first: tp-cp-ep-dp-pp, or tp-cp-ep-pp-dp (Megatron's --use-tp-pp-dp-mapping)."""
    nccl_tests: list[str] = Field(default_factory=list)
    """Outputs of all_reduce_perf, all_gather_perf, reduce_scatter_perf or alltoall_perf, one run a file."""

    @model_validator(mode="after")
    def _one_of(self) -> ClusterSpec:
        own: dict[str, object] = {"num_gpus": self.num_gpus, "max_gpus": self.max_gpus, "usable_gib": self.usable_gib}
        own |= {"host_memory_gib": self.host_memory_gib, "topology": self.topology}
        if self.pools is not None:
            both = [name for name, value in {"node": self.node, "gpu": self.gpu, **own}.items() if value is not None]
            if both or self.nccl_tests:
                raise ValueError(f"pools: and {(both or ['nccl_tests'])[0]}: exclude each other; say it of a pool")
            names = [pool.node for pool in self.pools]
            if len(set(names)) < len(names):
                raise ValueError("two pools of one node type; list their GPU counts in one")
        elif self.node is None and self.gpu is None:
            raise ValueError("give node or gpu, or pools to choose from")
        elif (self.num_gpus is None) == (self.max_gpus is None):
            raise ValueError("give exactly one of num_gpus and max_gpus")
        return self


class Adapter(Frozen):
    """Low-rank adapters on a frozen base."""

    rank: PositiveInt
    targets: Annotated[list[str], Field(min_length=1)] = Field(default=["all-linear"])
    """Module names as Hugging Face or Megatron call them (q_proj, down_proj, linear_qkv, ...), or `all-linear`."""
    base_precision: str = "bf16"
    """Precision id in which the frozen base is held (nf4 makes it QLoRA), where the engine does not decide it."""
    variant: Literal["lora", "rslora", "dora", "lora-fa"] = "lora"
    """rslora: another scaling, the same memory; dora: a magnitude an output; lora-fa: first matrices stay frozen."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapters' inputs that is dropped; engines that keep masks and dropped copies count them."""
    modules_to_save: list[Literal["embed_tokens", "lm_head"]] = Field(default_factory=list)
    """Tables trained whole beside the adapters, as copies in the compute precision; the frozen ones stay."""


class Batch(Frozen):
    """Work of one optimizer step."""

    global_batch_size: PositiveInt | None = None
    """Sequences. In RL it follows from rollout_batch_size * n_samples_per_prompt / steps_per_rollout."""
    sequence_length: Tokens | TokenWish | None = None
    """Tokens. In RL it is prompt_length + the response maximum."""
    micro_batch_size: IntChoice = "any"
    """Sequences one pipeline pass works on."""
    max_tokens_per_gpu: TokenChoice | Literal["none"] | None = None
    """In RL: tokens a GPU up to which samples are packed into a micro-batch, instead of micro_batch_size; `none` for
    fixed sizes. By default open where the engine's own scripts pack, unless micro_batch_size is given."""
    log_prob_micro_batch_size: PositiveInt | None = None
    """In RL: samples of one pass that takes log-probabilities; by default as in training."""
    log_prob_max_tokens_per_gpu: Tokens | None = None
    """The same as tokens a GPU up to which samples are packed; by default as in training, or as the engine has it."""
    image_tokens: Tokens | None = None
    """Of a sequence's tokens, at most how many a vision tower makes; what it keeps for them is counted then."""
    mean_sequence_length: Tokens | None = None
    """Tokens really in a sequence where lengths vary and padding is removed; times follow it, memory the maximum."""


class Distribution(Frozen):
    """Lengths of responses before the maximum cuts them: log-normal with this mean and 99th percentile, in tokens or as
    shares of the largest response."""

    mean: Tokens | None = None
    p99: Tokens | None = None
    mean_share: Annotated[float, Field(gt=0, le=10)] | None = None
    """Instead of mean: share of response_length, so that lengths grow with it."""
    p99_share: Annotated[float, Field(gt=0, le=100)] | None = None
    """Instead of p99: share of response_length."""
    at_cap: Annotated[float, Field(ge=0, le=0.9)] | None = None
    """Share of responses that never end by themselves and run to the maximum, beside those that the maximum cuts; by
    default what `workload` usually has."""
    workload: Literal["short_answers", "math", "reasoning", "agents"] = "math"
    """Kind of task, for the default of `at_cap`."""

    @model_validator(mode="after")
    def _lognormal(self) -> Distribution:
        tokens, shares = (self.mean, self.p99), (self.mean_share, self.p99_share)
        given = shares if self.in_shares else tokens
        other = tokens if self.in_shares else shares
        if given[0] is None or given[1] is None or other != (None, None):
            raise ValueError("give mean and p99 in tokens, or mean_share and p99_share of response_length")
        if not 1.0 < given[1] / given[0] < 14.0:
            raise ValueError("p99 must lie between 1 and 14 times the mean for a log-normal to exist")
        return self

    @property
    def in_shares(self) -> bool:
        """Whether lengths follow the largest response."""
        return self.mean_share is not None or self.p99_share is not None

    def lengths(self, maximum: int) -> tuple[int, int]:
        """(mean, 99th percentile) where the largest response is so long. [tokens]"""
        if self.mean is not None and self.p99 is not None:
            return self.mean, self.p99
        mean = max(1, round((self.mean_share or 0.0) * maximum))
        return mean, max(mean + 1, round((self.p99_share or 0.0) * maximum))


class Rollout(Frozen):
    """Decisions about the rollout engine."""

    tensor_parallel: IntChoice = "any"
    gpu_memory_utilization: (
        Annotated[float, Field(gt=0, lt=1)]
        | Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)]
        | Literal["any"]
    ) = "any"
    """Static memory fraction of the rollout engine (weights and key-value pool)."""
    precision: str | None = None
    """Precision in which it holds the weights; the one trained in by default."""
    max_concurrency: IntChoice | None = None
    """Requests one engine runs at once; as many as it takes by default."""
    speculative_tokens: Annotated[int, Field(ge=0, le=16)] = 0
    """Tokens drafted in one decode step (layers that predict further tokens, or EAGLE); 0 without drafts."""
    speculative_accepted: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Chance that a drafted token is accepted where those before it were; of one drafted token, the share accepted."""
    num_gpus: IntChoice = "any"
    """GPUs that only generate, where placement is not colocated."""
    node: str | None = None
    """Pool of the cluster whose GPUs only generate; any of them by default."""
    sleeps: bool = True
    """Colocated: weights and key-value pool leave the GPU while the trainer works (vLLM's and SGLang's sleep)."""
    cuda_graphs: bool = True
    """Decode steps are replayed as CUDA graphs; without them the host launches each kernel (enforce_eager)."""


class Rl(Frozen):
    """One step of reinforcement learning: with grouped samples (GRPO and its relatives), or with a critic (PPO)."""

    algorithm: Literal["grpo", "ppo"] = "grpo"
    """ppo: a critic is trained beside the policy, a network of the policy's own shape with one value a token instead of
    a vocabulary, laid out as the policy on the same GPUs."""
    critic_model: str | None = None
    """ppo: the critic's network, where it is not the policy's own; no larger, and laid out as the policy."""
    prompt_length: Tokens
    response_length: Tokens | TokenWish
    """Largest response [tokens]."""
    response_distribution: Distribution
    rollout_batch_size: PositiveInt | IntWish
    """Prompts of one rollout."""
    n_samples_per_prompt: PositiveInt | IntWish
    steps_per_rollout: PositiveInt = 1
    """Optimizer steps made from one rollout."""
    reference_model: bool = True
    """A frozen reference scores every sample (KL term)."""
    old_log_probs: bool | None = None
    """The trainer scores every sample once more before the update; by default where the engine does so."""
    answer_ms: Millis | None = None
    """Time to check the answer of one sample that generation does not hide, all workers together [ms]; by default the
    engine's."""
    placement: PlacementName | Annotated[list[PlacementName], Field(min_length=1)] | Literal["any"] = "colocated"
    """Trainer and rollout engine share the GPUs in turn, or have GPUs of their own: one waits for the other, or the
    trainer works on the samples of the weights before (asynchronous, one step off policy)."""
    weight_sync: Literal["whole", "shards"] = "whole"
    """With GPUs of their own: whole weights to every rollout engine, or to each GPU its shard, where the stack can."""
    steps_off_policy: PositiveInt = 1
    """Asynchronous: how many optimizer steps old the weights may be that made a sample. Above 1 the samples of several
    steps are under way, and the rollout engine never waits for its longest one."""
    trainer_on_gpu: list[TrainerPart] = Field(default_factory=list)
    """Colocated: parts of the trainer that stay on the GPU while the rollout engine is awake; by default none."""
    partial_rollouts: bool = False
    """Samples that are not finished when a step has enough go on in the next one, with new weights (also called
    in-flight weight updates)."""
    rollout: Rollout = Rollout()


class LayoutSpec(Frozen):
    """Decisions of the training layout; what is left out is free."""

    tensor_parallel: IntChoice = "any"
    pipeline_parallel: IntChoice = "any"
    virtual_pipeline: IntChoice = 1
    """Chunks of layers on each stage (interleaved 1F1B)."""
    schedule: ScheduleName | Annotated[list[ScheduleName], Field(min_length=1)] | Literal["any"] | None = None
    """Order of a pipeline's passes: 1f1b, interleaved where virtual_pipeline > 1, or zb-h1 where the engine has it."""
    data_parallel: IntChoice = "any"
    context_parallel: IntChoice = "any"
    expert_parallel: IntChoice = "any"
    expert_tensor_parallel: IntChoice = "any"
    zero_stage: CountChoice = "any"
    sequence_parallel: Flag | None = None
    """Only where the engine leaves the choice."""
    layers_per_stage: Literal["auto", "even", "free"] | Annotated[list[NonNegativeInt], Field(min_length=1)] = "auto"
    """auto: every split the engine can be told, an even one where it is a near tie; free: the same without that
    preference; even; or the layers of each stage. A list may end in stages of 0 layers where the engine allows stages
    without any (the head stands alone)."""
    recompute: Literal["uniform", "per_stage"] = "uniform"
    """One number of recomputed layers for all stages, or each stage its own."""
    recompute_method: Literal["block", "uniform"] | None = None
    recompute_group: IntChoice | Literal["sqrt"] = 1
    """Layers recomputed together, which keep one input: above 1 every layer of a stage is, in groups of so many (method
    uniform); sqrt: the root of a chunk's layers, so that inputs and what one group keeps are least."""
    recomputed_layers: CountChoice = "any"
    """Layers of each stage that are really recomputed; `all` for every one."""
    recompute_modules: list[str] | Literal["any"] = Field(default_factory=list)
    """Modules recomputed in every layer that is not recomputed whole (selective recomputation); `any` tries them."""
    later_stages_on: str | None = None
    """Another pool of the cluster, or `any`: it holds the later stages of each pipeline, the run's own the first."""
    optimizer_offload: Flag = False
    """Optimizer state and step on the host."""
    activation_offload: Flag = False
    """Activations wait on the host for the backward pass."""


class Limits(Frozen):
    """Hard limits."""

    headroom_gib: Annotated[float, Field(ge=0, le=2**24)] | None = None
    """GiB of usable memory that must stay free on every GPU; by default the engine's own share."""
    reserved_cliff: bool = True
    """Where the engine's allocator has no expandable segments: at most 88 % of usable memory is filled, because fuller
    runs were 3 to 12 times slower."""
    tensor_parallel_inside_domain: bool = True
    """A tensor-parallel group stays inside one NVLink domain (or PCIe bridge)."""
    host_memory: bool = True
    """Copies and offloaded state must fit the host."""
    max_sequences_per_micro_batch: PositiveInt = 64


class Faults(Frozen):
    """What interrupts a run and slows it down; stated by the user, never guessed. Gives a goodput share."""

    mean_hours_between_failures_per_gpu: Annotated[float, Field(ge=1e-3, le=1e9)]
    """Mean time between failures that stop the job, of one GPU with its share of node and network. [h]"""
    restart_minutes: Annotated[float, Field(ge=0, le=1e6)]
    """From a failure until the job trains again. [min]"""
    checkpoint_minutes: Annotated[float, Field(ge=1e-6, le=1e6)]
    """Time that training stands still for one checkpoint. [min]"""
    checkpoint_interval_minutes: Annotated[float, Field(ge=1e-6, le=1e6)] | Literal["optimal"] = "optimal"
    """Training between two checkpoints [min]; `optimal` takes Daly's."""
    straggler_factor: Annotated[float, Field(ge=1, le=10)] = 1.0
    """How many times as long the slowest rank makes every step."""


class Search(Frozen):
    """How long and how to search."""

    time_limit_s: Annotated[float, Field(gt=0, le=1e6)] = 60
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    near_tie: Annotated[float, Field(ge=0, lt=0.2)] = 0.005
    """Plans within this share of the best throughput are told apart by headroom, then simplicity."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1


def one_line(value: object) -> object:
    """Text with its line breaks and runs of spaces as one space."""
    return " ".join(value.split()) if isinstance(value, str) else value


class Scenario(Frozen):
    """A question to the planner."""

    name: OneLine
    question: Annotated[str, BeforeValidator(one_line)] | None = None
    task: Literal["pretrain", "sft", "dpo", "rl"]
    model: str
    """Architecture id, or path of a Hugging Face config.json."""
    engine: str
    engine_options: list[str] = Field(default_factory=list)
    """Switches of the engine that are on, by the names its catalog file gives them."""
    options_to_try: list[str] | Literal["any"] = Field(default_factory=list)
    """Switches that the search may turn on; `any` for all that leave results as they are."""
    cluster: ClusterSpec
    precision: NameChoice = "bf16"
    optimizer: str | NameWish = "adamw"
    adapter: Adapter | None = None
    frozen: list[FrozenPart] = Field(default_factory=list)
    """Parts of a network with a vision tower that are not trained: weights alone, no gradient and no optimizer state.
    vision_tower: all of it but the projector, which turns its patches into tokens (merger, aligner)."""
    batch: Batch = Batch()
    rl: Rl | None = None
    dpo: Dpo | None = None
    """Of task dpo; its defaults where it is left out."""
    layout: LayoutSpec = LayoutSpec()
    limits: Limits = Limits()
    playbook: (
        list[Literal["sequence_length", "response_length", "n_samples_per_prompt", "rollout_batch_size", "optimizer"]]
        | None
    ) = None
    """Own order in which wishes are given up, first one first."""
    calibration: str | None = None
    """File of factors fitted to one's own run by `planner calibrate`, relative to the scenario."""
    faults: Faults | None = None
    compare: Comparison = Comparison()
    what_if: Annotated[list[NamedVariation], Field(max_length=64)] = Field(default_factory=list)
    """Named overrides that `planner whatif` solves beside the scenario as it stands."""
    search: Search = Search()

    @model_validator(mode="after")
    def _complete(self) -> Scenario:
        if self.task == "rl":
            if self.rl is None:
                raise ValueError("task rl needs a block rl:")
            if self.batch.global_batch_size is not None or self.batch.sequence_length is not None:
                raise ValueError(
                    "in RL, global_batch_size and sequence_length follow from the block rl: and cannot be set in batch:"
                )
        else:
            if self.rl is not None:
                raise ValueError(f"the block rl: needs task: rl, not task: {self.task}")
            if self.dpo is not None and self.task != DPO:
                raise ValueError(f"the block dpo: needs task: dpo, not task: {self.task}")
            if self.batch.global_batch_size is None or self.batch.sequence_length is None:
                raise ValueError("batch: needs global_batch_size and sequence_length")
        return self
