"""Shape of a training engine and of a rollout engine: everything that differs between engines is data, not code.

A tensor has a `width`, bytes an element of all its copies, and ranks that cut it (`shard`); `costs/memory/` multiplies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from planner.schema.base import BytesEach, Factor, Frozen, Gib, Source
from planner.schema.engine_parts import CodeFamily as CodeFamily
from planner.schema.engine_parts import LinearAttention as LinearAttention
from planner.schema.engine_parts import Overlap as Overlap
from planner.schema.engine_parts import Pipeline as Pipeline
from planner.schema.engine_parts import Recompute as Recompute
from planner.schema.engine_parts import RunAhead as RunAhead
from planner.schema.evidence import OTHER_NUMBERS, Fittable, Stated
from planner.schema.evidence import Fitted as Fitted
from planner.schema.option import Option as Option
from planner.schema.preference import Preference as Preference
from planner.schema.rl_stack import Colocation as Colocation
from planner.schema.rl_stack import Generation as Generation
from planner.schema.rl_stack import Packing as Packing
from planner.schema.rl_stack import RolloutEngine as RolloutEngine
from planner.schema.rl_stack import Separation as Separation
from planner.schema.tensors import Shard as Shard
from planner.schema.tensors import Tensor as Tensor
from planner.schema.tensors import When as When
from planner.schema.tensors import Width as Width
from planner.schema.timing import ElementwiseKernels, Timing


class States(Stated):
    """What one parameter keeps."""

    weight_bytes: BytesEach | Literal["precision"] = "precision"
    """Bytes a parameter of the stored weights; `precision` takes the compute precision's."""
    gradient_bytes: BytesEach | Literal["precision"] = 4.0
    """Bytes a parameter of the gradient kept until the step."""
    keeps_master: bool = True
    """The optimizer keeps its own fp32 copy (where it has one); false where the weights are the fp32 copy."""
    moments_follow_weights: bool = False
    """The optimizer keeps its moments in the weights' own format (plain torch optimizers on 16-bit weights)."""
    fp32_weights_are_master: bool = False
    """Training in fp32, the optimizer works on views of the weights and keeps no copy of its own."""
    fp8_weights: bool = False
    """Layers' weights are kept in fp8, and turned as well where the GPU needs that (`Problem.fp8_copies`)."""
    fp8_copies: Literal["none", "cached", "of each micro-batch"] = "none"
    """Copies in fp8 of weights kept in 16 bits: they stay between micro-batches, or each forward pass makes its own."""
    fp8_block_scales: bool = False
    """A scale a block: where a GPU takes fp8 products of any layout, both layouts are kept, for each has its own."""
    fp8_turned: bool = True
    """Of weights kept in fp8 the turned copy stays; false where it is made again for each product."""
    adapters: Literal["fp32", "as weights"] = "fp32"
    """Format of adapters: fp32 (peft), or weights, gradients and moments as those of a trained network."""
    frozen_base: Literal["as said", "as weights"] = "as said"
    """Format of a frozen base that is not in few bits: the adapter's base precision, or that of the stored weights."""
    frozen_ends_bytes: BytesEach | None = None
    """Bytes a parameter of embedding and head under a frozen base in few bits; none for the compute precision's."""
    shard_over_context: bool = True
    """State is sharded over data * context parallel ranks, not data alone."""
    moment_bytes: BytesEach | None = None
    """Bytes a parameter of all moments together, where the engine keeps them in its own format."""
    optimizer_instances: Annotated[int, Field(le=2**31, ge=1)] | Literal["nodes"] = 1
    """Copies of the sharded state: each is cut over the ranks divided by this, or over those inside one node."""
    reduction_bucket_bytes: Annotated[float, Field(ge=0, le=1e13)] = 0
    """Bytes a parameter of standing gradient buckets, where data_parallel > 1."""
    gradients_appear: bool = False
    """The backward pass makes gradients, the step drops them: the first micro-batch's forward pass has none."""
    optimizer_returns: bool = False
    """The optimizer's state waits on the host between steps, and all of it comes back to the GPU for the step."""
    step_bytes: BytesEach = 0
    """Bytes a parameter of temporaries of the optimizer step, on the shard being updated."""
    step_gradient_bytes: BytesEach = 0
    """Bytes a parameter of the copy that the step makes of gradients in fewer bytes; 0 where it makes none."""
    step_takes_16bit_gradients: bool = False
    """The optimizer's kernel reads 16-bit gradients, so that no such copy is made, but beside block-scaled fp8."""
    step_elements: Annotated[float, Field(ge=1, le=1e13)] | None = None
    """Parameters that the step works on at once where weights are cut (ZeRO-3); all of the shard unless stated."""
    host_gradient_bytes: BytesEach = 0
    """Bytes a parameter of gradients kept on the host beside an optimizer that runs there, each rank for its shard."""
    gradients_follow_optimizer: bool = False
    """From ZeRO-2 on gradient shards go to a host optimizer; up to it the GPU keeps a buffer for the largest one."""
    host_pinned_bytes: BytesEach = 0
    """Of an optimizer on the host and its gradients, bytes a parameter that lie in pinned tensors, one a weight."""
    step_gathered_bytes: BytesEach = 0
    """Bytes a parameter of updated weights gathered from the shards of all ranks (ZeRO-1 and 2), at once."""
    source: str


class ZeroThree(Frozen):
    """Transient whole layers of an engine that shards the weights themselves."""

    gathered_units: Factor
    """Whole layers that lie gathered at once (the running one and prefetched ones)."""
    gathered_bytes: BytesEach = 2
    reduced_units: Factor
    """Whole layers' gradients that lie unreduced at once."""
    reduced_bytes: BytesEach = 4
    root_gradient_bytes: BytesEach = 0
    """Bytes an element of the head's gradient, where the head is part of the root unit, which is reduced last."""
    root_reduced_bytes: BytesEach = 0
    """Bytes an element of embedding and head as their gradient, one flat parameter's, is reduced at the very end."""
    every_layer: bool = False
    """Copies of all layers of the stage stay, beyond the one in use (no resharding after the forward pass)."""
    regathered: bool = True
    """The backward pass gathers weights again; false where those of the forward pass are what stays."""
    whole_in_pipeline: bool = False
    """With a pipeline, weights stay gathered from the first micro-batch to the last."""
    unreduced: Literal["never", "between micro-batches", "in a pipeline"] = "never"
    """When gradients stay whole on each rank until the last micro-batch of a step."""
    unreduced_bytes: BytesEach = 4
    flat_parameters: bool = False
    """A layer's weights are one flat parameter, whose gradient is as large even where only adapters train."""
    head_gradient_bytes: BytesEach = 0
    """Bytes an element of the head's gradient, whole while the loss goes through the head chunk by chunk."""
    ends_apart: bool = False
    """Embedding and head are units of their own: only the head lies gathered when the backward pass starts."""
    modules_apart: bool = False
    """Every module is a unit of its own, one matrix large; at the loss none is gathered, the head's is given back."""
    on_host: Literal["nothing", "weights", "everything"] = "nothing"
    """Shards in host memory: weights, copied in before each gather; all, so that the optimizer steps there."""
    gradients_stay: bool = False
    """Where all is on the host: shards of gradients stay on the GPU too, until the backward pass ends."""
    source: str


class StepBlock(Frozen):
    """A copy of gradients that the allocator makes a block for, and keeps, unless a free one is large enough."""

    of: Literal["weight", "part", "bucket", "shard", "whole"]
    """The largest weight's gradient, the part of it in the rank's shard of the optimizer, gradients flattened before
    ranks reduce them, that shard, or all that a rank reduces at once."""
    bytes: BytesEach
    elements: Annotated[float, Field(ge=1, le=1e13)] | None = None
    """Of a bucket."""
    stays: bool = False
    """Still there when the next one is made."""
    source: str


class Reserve(Fittable):
    """From allocated to reserved: what the caching allocator holds beyond what is in use."""

    median: float = Field(ge=1, le=1e6)
    p90: float = Field(ge=1, le=1e6)
    maximum: float = Field(ge=1, le=1e6)
    gradients_apart: bool = False
    """Gradients are allocated on the stream of their collective: its pool keeps their room while there are none."""
    step_blocks: list[StepBlock] = Field(default_factory=list)
    """Made in this order between a backward pass and the end of the step, too large for blocks that passes leave."""
    assumed: bool = False
    """True where fewer than two networks were measured; the interval of a prediction is then wider."""
    source: str


class MagnitudeNorm(Frozen):
    """Temporaries of the weight norm that DoRA adapters divide their magnitudes by, of one matrix at a time."""

    matrix_bytes: BytesEach
    """Bytes an element of the adapted matrix."""
    input_bytes: BytesEach
    """Bytes an element of a square as wide as the matrix's inputs."""
    source: str


class Overhead(Fittable):
    """What a process holds outside the allocator."""

    cuda_context_gib: Gib
    nccl_gib_per_group: Gib
    """For each communicator over more than one rank that the layout needs."""
    framework_gib: Gib = 0
    workspace_gib: Gib = 0
    """Standing buffers of libraries inside the allocator (matrix product workspaces)."""
    expert_workspace_gib: Gib = 0
    """The same for grouped products of experts, where the network has any."""
    source: str


class Engine(Stated):
    """A training engine (or RL stack): what it keeps, shards, gathers, buffers and refuses."""

    id: str
    name: str
    version: str
    """The release whose behaviour this file states."""
    checked_by: CodeFamily
    """Whose code refuses what this engine is told (planner/search/witness)."""
    aliases: list[str] = Field(default_factory=list)
    """Other names that people type for it."""
    launch: list[str] = Field(default_factory=list)
    """Names of the launchers that speak its settings, the engine's own first."""
    optimizers: list[str] | None = None
    """Optimizers of the catalog that the engine's own settings can name; nobody has looked where it is absent."""
    zero_stages: list[Annotated[int, Field(ge=0, le=3)]] = Field(min_length=1)
    """0 nothing sharded, 1 optimizer, 2 and gradients, 3 and weights; the first is the default."""
    tensor_parallel: bool = True
    context_parallel: bool = True
    context_by_heads: bool = False
    """Context parallelism sends whole heads by all-to-all (Ulysses) instead of keys and values round a ring."""
    context_by_sends: bool = False
    """A ring's ranks send to their neighbours and receive; else keys and values of all ranks are gathered at once."""
    expert_parallel: bool = True
    data_parallel: bool = True
    sequence_parallel: Literal["always", "never", "choice"] = "always"
    """With tensor parallelism, are norms and residuals cut along the sequence."""
    autocast: bool = False
    """Products run under torch's autocast, which casts their inputs."""
    fp32_stream: bool = False
    """Embedding and norms stand in fp32, and with them the residual stream, whatever products are computed in."""
    fp32_products: bool = False
    """Where no autocast runs, products too are handed on in fp32, whatever they are computed in."""
    pipeline: Pipeline
    recompute: Recompute
    states: States
    zero_three: ZeroThree | None = None
    saved: list[Tensor] = Field(min_length=1)
    """Kept by one layer for its backward pass, nothing recomputed."""
    saved_by_adapter: list[Tensor] = Field(default_factory=list)
    magnitude_norm: MagnitudeNorm | None = None
    """Only where the engine has DoRA adapters."""
    stub: list[Tensor]
    """Kept by a layer that is recomputed in full; empty where all of it waits on the host."""
    left_behind: list[Tensor] = Field(default_factory=list)
    """Freed only as the backward pass ends, of each recomputed layer that has run backward; its stub stays as long."""
    offloaded: list[Tensor] = Field(default_factory=list)
    """Waits on the host between passes, of a layer kept: what the option that decides activation_offload takes out."""
    offloaded_stub: list[Tensor] = Field(default_factory=list)
    """The same of a layer that is recomputed in full."""
    backward: list[Tensor] = Field(min_length=1)
    """Temporary while one layer runs backward."""
    loss: list[Tensor] = Field(min_length=1)
    """Temporary while the last stage computes logits, loss and their gradient."""
    embedded: list[Tensor] = Field(default_factory=list)
    """Kept by the embedding on the first stage, of each micro-batch in flight, beside what layers keep."""
    held: list[Tensor] = Field(default_factory=list)
    """The network's outputs, of one micro-batch, where the caller holds them until the backward pass ends."""
    log_prob: list[Tensor] = Field(default_factory=list)
    """Temporary while the last stage computes log-probabilities without a gradient (RL)."""
    cached: list[Tensor] = Field(default_factory=list)
    """Blocks that the caching allocator keeps for logits of other lengths, beyond what is in use."""
    weight_gradient_buffer_bytes: BytesEach = 0
    """Bytes an element of one buffer for each distinct weight shape of a layer, and of the head."""
    weight_gradient_buffer_source: str | None = None
    trains_further_tokens: bool = False
    """The architecture's layers that predict further tokens are trained, on the last stage."""
    routed_imbalance: float = Field(default=1.0, ge=1, le=1e6)
    """Tokens of the busiest expert-parallel rank relative to an even share."""
    vocab_divisible_by: int = Field(default=1, ge=1, le=2**20)
    """The vocabulary is padded to a multiple of this times tensor_parallel."""
    fused_attention: bool = True
    fused_head_multiple: int = Field(default=1, ge=1, le=256)
    """Head sizes of no multiple of this run by the option unfused_attention, whatever is asked for."""
    fused_qkv: bool = False
    """One product makes queries, keys and values of any network; grouped keys and values are repeated for all heads."""
    made_logits_stay: bool = False
    """Logits as made are there at the peak of the loss: the caller holds them, or it peaks inside the forward pass."""
    fused_head: bool = False
    """Head and loss are one function, which makes the gradients of head and head input on its way forward."""
    quantised_base_keeps_inputs: bool = False
    """Frozen quantised layers keep their inputs for backward (bitsandbytes before 0.42)."""
    linear_attention: LinearAttention | None = None
    mamba: LinearAttention | None = None
    """None where nobody has looked; networks with linear attention, or with Mamba-2, are refused then."""
    run_ahead: RunAhead | None = None
    reserve: Reserve
    expandable_segments: bool = False
    overhead: Overhead
    overlap: Overlap
    timing: Timing = Field(default_factory=Timing)
    default_headroom_fraction: float = Field(gt=0, lt=1)
    """Share of usable memory left free when the scenario does not say, from the spread of `reserve`."""
    critical_headroom_fraction: float = Field(gt=0, lt=1)
    """Below this share a plan is called critical: one spike of the allocator away from an out-of-memory error."""
    headroom_source: str
    colocation: Colocation | None = None
    separation: Separation | None = None
    passes_factor: float = Field(default=1, ge=1, le=1e6)
    """Times as long as in pretraining that training passes of RL take on like shapes: packed, called from outside."""
    generation: Generation | None = None
    """Only of RL stacks."""
    packing: Packing | None = None
    """Only of RL stacks that pack."""
    preference: Preference | None = None
    """None where nobody has read how the engine trains on pairs of answers; task dpo is refused then."""
    rules: list[str] = Field(default_factory=list)
    """Names of the engine's own divisibility and compatibility rules (planner/axes)."""
    optimizer_offload: bool = False
    gradient_reduce_bytes: BytesEach | Literal["precision"] = 4.0
    """Bytes a parameter that data-parallel ranks reduce."""
    elementwise_factor: float = Field(default=1.0, ge=1e-6, le=1e6)
    """Bytes that elementwise kernels move relative to those of `elementwise`."""
    elementwise: ElementwiseKernels = Field(default_factory=ElementwiseKernels)
    fused_projections: bool = True
    """Query, key and value are one product, gate and up another; else each has its own."""
    options: dict[str, Option] = Field(default_factory=dict)
    recompute_modules: list[str] = Field(default_factory=list)
    """Modules that can be recomputed alone (selective recomputation)."""
    precisions: list[str] = Field(default_factory=list)
    """Precisions it trains in, where these are known to be fewer than its GPUs have."""
    rank_orders: list[Literal["default", "tp_pp_dp"]] = Field(default=["default"])
    """Values of cluster.rank_order that it knows."""
    scored_as: str | None = None
    """Engine whose published runs stand for this one's errors, where it has none of its own."""
    notes: str | None = None
    sources: list[Source] = Field(min_length=1)

    @model_validator(mode="after")
    def _options_are_valid(self, info: ValidationInfo) -> Engine:
        for name in self.options if info.context != OTHER_NUMBERS else ():
            configured(self, [name])
        return self


def can_name(engine: Engine, optimizer: str) -> bool:
    """Can the engine's own settings name this optimizer, as far as anybody has looked."""
    return engine.optimizers is None or optimizer in engine.optimizers


_KEPT_LISTS = ("saved", "saved_by_adapter", "stub", "left_behind", "offloaded", "offloaded_stub")
_TENSOR_LISTS = (*_KEPT_LISTS, "embedded", "backward", "loss", "held", "log_prob", "cached")
_MOVED = {"saved": "offloaded", "saved_by_adapter": "offloaded", "stub": "offloaded_stub"}
"""Lists of what stays on the GPU, and of what is taken out of them."""


def configured(engine: Engine, options: Sequence[str], modules: Sequence[str] = ()) -> Engine:
    """The engine with these options on and these modules recomputed; nothing left to switch.

    An option may also be the name of a precision; it then needs no entry in `engine.options`. Single modules are
    recomputed instead of whole layers, never beside them: engines take one granularity.
    """
    data = engine.model_dump(exclude={"options"}) if engine.options or options or modules else {}
    # What waits on the host is what is left of the other options' tensors.
    for name in sorted(options, key=lambda name: name in engine.options and engine.options[name].decides is not None):
        if name in engine.options:
            before, data = data, _merged(data, engine.options[name].set)
            data["rules"] = list(dict.fromkeys([*data["rules"], *engine.options[name].rules]))
            if engine.options[name].decides == "activation_offload":
                for stays, goes in _MOVED.items():
                    data[goes] = [*data[goes], *_taken_out(before[stays], data[stays])]
    if modules:
        data["recompute"] = {**data["recompute"], "granularities": ["none", "selective"]}
    changed = Engine.model_validate(data) if data else engine
    on = [*options, *(f"recompute {module}" for module in modules)]
    kept = {
        name: [t for t in getattr(changed, name) if _is_on(t, on) and not set(t.unless_recomputed) & set(modules)]
        for name in _TENSOR_LISTS
    }
    return changed.model_copy(update={**kept, "options": {}})


def _taken_out(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Tensors of the first list with the bytes that the second one keeps no longer."""

    def place(tensor: dict[str, Any]) -> tuple[str, ...]:
        return tuple(str(tensor[name]) for name in ("name", "width", "shard", "when", "option", "format", "each"))

    left: dict[tuple[str, ...], dict[str, float]] = {}
    for tensor in (Tensor.model_validate(each).model_dump() for each in after):
        amounts = left.setdefault(place(tensor), {"bytes": 0.0, "copies": 0.0})
        amounts.update({kind: amounts[kind] + (tensor[kind] or 0.0) for kind in amounts})
    gone = []
    for tensor in (Tensor.model_validate(each).model_dump() for each in before):
        stays = left.get(place(tensor), {})
        amounts = {kind: (tensor[kind] or 0.0) - stays.get(kind, 0.0) for kind in ("bytes", "copies")}
        if any(amount > 0 for amount in amounts.values()):
            gone.append({**tensor, **{kind: amount if amount > 0 else None for kind, amount in amounts.items()}})
    return gone


def _is_on(tensor: Tensor, options: Sequence[str]) -> bool:
    name = (tensor.option or "").removeprefix("not ")
    return not name or (name in options) == (name == tensor.option)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Values of `new` over those of `old`, mapping by mapping."""
    out = dict(old)
    for key, value in new.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merged(out[key], value) if both else value
    return out
