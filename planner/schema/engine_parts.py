"""What an engine offers besides tensors: recomputation, pipelines, layers with linear attention, waiting buffers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.schema.base import Factor, Frozen
from planner.schema.evidence import Fittable


class Recompute(Frozen):
    """Which activation recomputation the engine offers."""

    granularities: list[Literal["none", "selective", "full"]]
    methods: list[Literal["block", "uniform"]] = Field(default_factory=list)
    """block: the first N layers of each stage; uniform: every layer, in groups of N."""
    per_stage: bool = False
    """Each stage may have its own number (needs a custom layout where the engine has one flag)."""
    partial: bool = True
    """Fewer layers than the stage has may be recomputed."""
    tower_too: bool = False
    """The blocks of a vision tower are recomputed with the layers, by one switch."""
    per_chunk: bool = False
    """The number is that of each chunk of an interleaved stage, so that a stage recomputes a multiple of its chunks."""


CodeFamily = Literal["megatron", "megatron-deepspeed", "torchtitan", "nanotron", "torch", "dualpipe", "llama3"]
"""Families of engines that check what they are told by the same code (or that are published as a paper alone)."""


class Pipeline(Frozen):
    """Which pipelines the engine offers."""

    supported: bool = True
    virtual: bool = False
    uneven: Literal["no", "first_last", "any"] = "no"
    """Which stages may hold another number of layers than the rest."""
    uneven_by_hand: bool = False
    """They may where its code or a list of modules is written for it; `layers_per_stage: auto` leaves stages even."""
    uneven_chunks: bool = False
    """Chunks of one interleaved stage may hold different numbers of layers: each chunk is told its own."""
    empty_stages: bool = False
    """The last stages may hold no layer: head and loss stand alone."""
    group_size: Annotated[int, Field(ge=1, le=2**31)] | None = None
    """Micro-batches that one chunk of an interleaved pipeline takes in turn; pipeline_parallel unless stated."""
    bidirectional: bool = False
    """Half of the micro-batches enter at each end (DualPipe): a rank holds the stage of its own place and that of the
    place opposite. Both are counted as large as the larger of the two; the step's time is taken as that of 1F1B."""
    zero_bubble: str | None = None
    """Source of the engine's ZB-H1 schedule, where it has one: weight gradients wait for the pipeline's bubble."""
    balance: Literal["layers", "cost"] = "layers"
    """How layers fall on stages by default: equal numbers, or equal cost with the head counted as one block."""


class LinearAttention(Frozen):
    """How an engine runs layers with linear attention (a gated delta rule), or with Mamba-2."""

    supported: bool = True
    """False where it builds no such layers; `source` says why."""
    heads_cut: bool = True
    """Their heads are cut over tensor-parallel ranks; false where each rank holds and runs all of them."""
    sequence_cut: bool = True
    """Each context-parallel rank runs its share (of the heads, whole sequences); false where each runs everything."""
    context_parallel: bool = True
    """Context parallelism works on them at all."""
    precisions: list[str] = Field(default_factory=lambda: ["bf16", "fp16"])
    """Precisions in which their tensors were counted."""
    adapters: bool = False
    """Tensors of adapters on their matrices were counted."""
    source: str


class Overlap(Frozen):
    """Share of a collective that hides behind computation, at best."""

    tensor: float = Field(ge=0, le=1)
    data: float = Field(ge=0, le=1)
    data_sharded: float | None = Field(default=None, ge=0, le=1)
    """Of gradients where ZeRO-1 or 2 shards the optimizer; none for `data`."""
    source: str


class RunAhead(Fittable):
    """Buffers of asynchronous collectives that stay reserved because the CPU queues work ahead of the GPU."""

    most_buffers: Factor
    """As many as the launch queue lets wait."""
    buffers_per_layer: Factor
    """Gathered inputs of one layer's forward pass."""
    bytes: Factor = 2
    """Bytes an element; each is as wide as hidden_size, whole on each rank."""
    source: str
