"""Shape of what sets an engine's speed, beside the work itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.schema.base import BytesEach, Frozen, Micros, Millis


class PassKernels(Frozen):
    """Elementwise kernels of one kind, in the forward and in the backward pass."""

    bytes: tuple[BytesEach, BytesEach]
    """Read and written for each element of what they work on. [B]"""
    launches: tuple[Annotated[int, Field(ge=1, le=1000)], Annotated[int, Field(ge=1, le=1000)]]


class ElementwiseKernels(Frozen):
    """What lies between the matrix products of a layer, as kernels; fused ones where a file says nothing else."""

    norm: PassKernels = PassKernels(bytes=(4, 8), launches=(1, 1))
    """Of one norm, for each element of the hidden states."""
    rotary: PassKernels = PassKernels(bytes=(4, 8), launches=(1, 1))
    """For each element of queries and keys."""
    activation: PassKernels = PassKernels(bytes=(6, 12), launches=(1, 1))
    """Of a gated MLP, for each element of its width."""
    residual: PassKernels = PassKernels(bytes=(6, 12), launches=(1, 1))
    """Of one sum with the residual stream, for each element of the hidden states."""
    source: str = "one kernel each, 16 bits in and out; backward twice"


class Timing(Frozen):
    """What sets an engine's speed beside the work itself. Every number is physical; `source` says which are fitted."""

    attention_kernel: Literal["newest", "flash2", "triton"] = "newest"
    """Fused attention kernel: the best of the GPU, FlashAttention 2, or Triton's of 2023."""
    host_us: Micros = 250
    """Time the host needs to launch one pass (forward, backward or recomputation) over one layer. [us]"""
    host_tensor_parallel_us: Micros = 50
    """The same on top where tensor parallelism splits the layer. [us]"""
    sharded_module_us: Micros = 0
    """ZeRO-3: time the host needs on top in each pass for each module that holds weights of its own, whose gathering
    and release hooks of Python look after. [us]"""
    launched_share: float = Field(default=1, ge=0, le=1)
    """Share of both that is left where CUDA graphs launch the rest."""
    accumulate_bytes: BytesEach = 0
    """Bytes moved a parameter and micro-batch to add its gradient to the accumulated one."""
    expert_accumulate_bytes: BytesEach | None = None
    """The same of routed experts, whose few tokens hide no traffic; none for the same as of other weights."""
    cast_bytes: BytesEach = 0
    """Bytes moved a parameter and micro-batch to cast stored weights to the compute format."""
    loss_bytes: BytesEach = 20
    """Bytes moved a logit by loss and its gradient, matrix products apart."""
    loss_sample_bytes: BytesEach = 0
    """The same for each sample of a packed micro-batch: each takes a slice of the logits, and the gradient of a slice
    is a tensor as large as all of them, made and added."""
    loss_sample_us: Micros = 0
    """Time that the host needs for the loss of each sample, one after the other. [us]"""
    unpack_bytes: BytesEach | None = None
    """Bytes moved an element of a base in few bits to make it 16-bit; none for its own and 2 written."""
    gather_bytes: float = Field(default=2, ge=1e-6, le=1e6)
    """ZeRO-3: bytes a parameter that ranks gather."""
    reduce_bucket_mb: float | None = Field(default=None, ge=1e-6, le=1e6)
    """Largest message of the gradient reduction; none for one message a stage. [MB]"""
    sharded_all_reduce: bool = False
    """ZeRO-1 and 2: whole gradients are added up on every rank in one message, of which each then takes its shard."""
    gather_overlap: float | None = Field(default=None, ge=0, le=1)
    """ZeRO-1 and 2: share of gathering updated weights that the next forward pass hides; none for that of gradients."""
    sm_tax: float = Field(default=0.15, ge=0, le=1)
    """Slow-down of kernels while a collective runs beside them."""
    send_us: Micros = 0
    """Host time of one pipeline send and receive that nothing hides. [us]"""
    send_across_ms: Millis = 0
    """The same between nodes, for each tensor-parallel rank beyond the first. [ms]"""
    chunk_send_share: float = Field(default=1, ge=0, le=1)
    """Share of the sends between interleaved chunks that stays in sight where they run beside the passes."""
    chunk_us: Micros = 0
    """Time that each pass of an interleaved chunk takes beside its kernels and sends: the host's turn of the schedule,
    what it launches for them, and stages that wait for each other. [us]"""
    fp8_gathers: bool = False
    """Sequence-parallel ranks cast what they hold to fp8 before it is gathered, and turn it after."""
    tensor_across_us: Micros = 0
    """Time of each tensor-parallel collective on top, for each node beyond the first that its group spans. [us]"""
    expert_deduplication: bool = False
    """A token crosses to another node once, however many of its experts live there (DeepEP, HybridEP)."""
    expert_overlap: float = Field(default=0, ge=0, le=1)
    """Share of the experts' exchange that runs beside the other micro-batch's kernels."""
    rank_deduplication: bool = False
    """The same inside a node: a token goes to each rank once, however many of its experts live there."""
    expert_host_us: Micros = 0
    """Time the host needs on top to launch routing, permutation and experts of one pass over one layer. [us]"""
    expert_sync_us: Micros = 0
    """Time of such a pass in which the GPU idles because the host waited for the number of tokens of each expert and
    only then launches on. [us]"""
    slower_per_doubling: float = Field(default=0.0066, ge=0, le=1)
    """Longer steps of pretraining by each doubling of GPUs beyond 512, for slow nodes and jitter: the median over 15
    series of published runs that differ in data parallelism alone (dgxc: Grok 1 314B, Llama 3.1 405B, GPT-3 175B on 128
    to 2,304 H100; MLPerf: GPT-3 on 3,584 to 10,752), by what predictions drift. Eight in ten series 0.001 to 0.018;
    0.0062 to 0.0071 with any of the three networks left out; 0.006 in six series of other networks that came later."""
    host_step_bytes: BytesEach = 0
    """Bytes of host memory a parameter that a step moves where the optimizer steps there, beside the optimizer's."""
    host_process_gb_per_s: float = Field(default=36, ge=1e-3, le=1e6)
    """Host memory bandwidth that the process of one rank reaches at most in such a step; fitted to two runs of
    DeepSpeed (Qwen2.5-3B, ZeRO-2, two processes on two EPYC 7742), the same for every engine. [GB/s]"""
    step_ms: Millis = 0
    """Fixed time of one step: gradient norm, loss, logging. [ms]"""
    source: str = "defaults, not fitted"
