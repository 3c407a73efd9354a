"""Seconds of single kernels and collectives on the problem's own GPU and cluster, for all rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from planner.formulas import attention, gemm
from planner.formulas.gemm import GemmGrid
from planner.problem.layouts import Floats, Ints, distinct
from planner.problem.problem import Problem
from planner.schema.catalog import Collective
from planner.units import TERA

Pass = Literal["forward", "backward"]
FP8_SHARE = 0.85
"""Rate of fp8 products over the bf16 grid scaled by the ratio of peaks, of GPUs whose file states none (assumed)."""
CAST_BYTES = 8.0
"""Bytes an element that an fp8 cast and its transpose take of the bandwidth: 2 read and 2 written, at half the rate of
a plain copy; fitted with the rates of H100 in fp8."""
FROZEN_CAST_BYTES = 3.0
"""The same where the weight is frozen: no weight gradient asks for a transpose, so a plain cast, 2 read and 1 written.
Source: TransformerEngine @d0067d0da transformer_engine/pytorch/module/linear.py lines 303 and 388."""
GROUPED_FACTOR = 1.04
"""Seconds of a grouped product over those of its products one by one, weight gradients' accumulation apart: median of
108 shapes with 20 to 256 experts that SimuMax measured on B200 (configs/system/b200_bf16_ceperm.json @4dcaae51), over
our grid at the rate of its dense shapes; quartiles 0.95 and 1.15. Other GPUs are taken alike."""
TRANSPOSE_BYTES = 4.0
"""Bytes an element that turning an fp8 tensor takes: 1 read and 1 written, at half the rate like CAST_BYTES."""
LARGE_GEMM_SHARE = 0.75
"""Share of the peak for the products inside unfused attention."""


@dataclass(frozen=True)
class Kernels:
    """What one GPU and one communicator can do."""

    problem: Problem

    @cached_property
    def _grid(self) -> GemmGrid:
        machines = self.problem.machines
        return machines.tables.gemm_grid(machines.grid_gpu.gemm_grid or "")

    @cached_property
    def peak_tflops(self) -> float:
        """Dense peak in the precision that is computed in. [TFLOP/s]"""
        return self.problem.gpu.dense_tflops[self.problem.precision.compute]

    def _sustained(self, compute: str) -> float:
        """Rate of products in a training run over that of the sweep."""
        rates = self.problem.gpu.sustained_rate
        return rates.get("fp8", FP8_SHARE) if compute == "fp8" else rates.get("bf16", 1.0)

    @property
    def floor_seconds(self) -> float:
        """The fastest product: launch and one tile. [s]"""
        return self._grid.floor_seconds

    @property
    def _fp8(self) -> bool:
        return self.problem.precision.compute == "fp8"

    def gemm(self, *, m: Floats, n: Floats, k: Floats, halves: bool = False, wide: bool = False) -> Floats:
        """One matrix product; in 16 bits beside fp8 ones where it is of `halves`, in fp32 where it is `wide`. [s]

        A thin product in fp32 moves twice the bytes of one in 16 bits, or is as slow as the fp32 units.
        """
        compute = "bf16" if self._fp8 and halves else self.problem.precision.compute
        peak = self.problem.gpu.dense_tflops.get("fp32")
        if wide and peak and compute != "fp32":
            bound = 2.0 * m * n * k / (LARGE_GEMM_SHARE * peak * TERA)
            return np.maximum(2.0 * self._sweep(compute, m=m, n=n, k=k), bound)
        return self._sweep(compute, m=m, n=n, k=k) / self._sustained(compute)

    def _sweep(self, compute: str, *, m: Floats, n: Floats, k: Floats) -> Floats:
        """As the measured grid has it. [s]"""
        gpu = self.problem.gpu
        if gpu.gemm_grid is not None and compute in ("bf16", "fp16"):
            return np.asarray(gemm.grid_gemm_seconds(self._grid, m=m, n=n, k=k))
        seconds = gemm.scaled_gemm_seconds(
            self._grid,
            m=m,
            n=n,
            k=k,
            peak_tflops=gpu.dense_tflops[compute],
            memory_gb_per_s=gpu.memory_bandwidth_gb_per_s,
            sustained_fraction=gpu.sustained_gemm_fraction,
        )
        return np.asarray(seconds)

    def linear(
        self,
        *,
        tokens: Floats,
        out: Floats,
        into: Floats,
        which: Pass,
        gathered: Pass | None = None,
        ranks: Ints | None = None,
    ) -> Floats:
        """A linear layer forward, or both products of its backward pass (input and weight gradient). [s]

        Under adapters there is no weight gradient. `gathered` is the pass whose operand `ranks` sequence-parallel ranks
        hold in parts: the input of a product that is cut by columns, the gradient behind one that is cut by rows.
        """
        parts = ranks if gathered == which else None
        if which == "forward":
            return self.gemm(m=tokens, n=out, k=into) + self._cast(tokens * into, parts)
        inputs = self.gemm(m=tokens, n=into, k=out) + self._cast(tokens * out, parts)
        if self.problem.scenario.adapter is not None:
            return inputs
        return inputs + self.gemm(m=out, n=into, k=tokens)

    def head(self, *, tokens: Floats, out: Floats, into: Floats, which: Pass, trained: bool) -> Floats:
        """The same of the head, which stays in 16 bits where layers are in fp8. [s]

        Source: Megatron-LM core/tensor_parallel/layers.py, ColumnParallelLinear, which the output layer is and no
        fp8 context reaches; torchtitan's float8 converter filters `output`.
        """
        if which == "forward":
            return self.gemm(m=tokens, n=out, k=into, halves=True)
        inputs = self.gemm(m=tokens, n=into, k=out, halves=True)
        return inputs + self.gemm(m=out, n=into, k=tokens, halves=True) if trained else inputs

    def _cast(self, elements: Floats, parts: Ints | None = None) -> Floats | float:
        """Seconds of an fp8 cast and its transpose, where `parts` ranks each cast their own before the gather. [s]

        Source: TransformerEngine @d0067d0da transformer_engine/pytorch/distributed.py lines 1011 to 1063 (an fp8 tensor
        is cast by its owner, gathered, never gathered turned), module/layernorm_linear.py lines 990 and 997 and
        module/base.py line 1746 (it is turned whole, before the weight gradient).
        """
        if not self._fp8:
            return 0.0
        if self.problem.scenario.adapter is not None:
            return self.elementwise(FROZEN_CAST_BYTES * elements)
        at_once = self.elementwise(CAST_BYTES * elements)
        if parts is None or not np.any(parts > 1):
            return at_once
        turned = self.elementwise(TRANSPOSE_BYTES * elements)
        return np.where(parts > 1, self.elementwise(FROZEN_CAST_BYTES * elements / parts) + turned, at_once)

    @property
    def gathers_fp8(self) -> bool:
        """Whether sequence-parallel ranks cast before they gather; frozen weights beside adapters gather 16 bits."""
        return self._fp8 and self.problem.engine.timing.fp8_gathers and self.problem.scenario.adapter is None

    def experts(self, *, experts: Floats, tokens: Floats, out: Floats, into: Floats, which: Pass) -> Floats:
        """The same for a group of experts that each work on `tokens`. [s]"""
        floor = self._grid.floor_seconds
        one = self.linear(tokens=np.maximum(tokens, 1.0), out=out, into=into, which=which)
        return floor + np.where(experts > 1, GROUPED_FACTOR, 1.0) * experts * np.maximum(one - floor, 0.0)

    def attention(
        self,
        *,
        sequence_length: Floats,
        span: Floats | None = None,
        micro_batch_size: Floats,
        heads: Floats,
        kv_heads: Floats,
        which: Pass,
    ) -> Floats:
        """Causal attention over local heads by the engine's kernel, layers with a window weighed in. [s]"""
        a, gpu, engine = self.problem.architecture, self.problem.gpu, self.problem.engine
        if not engine.fused_attention:
            return np.asarray(
                attention.unfused_attention_seconds(
                    sequence_length=sequence_length,
                    micro_batch_size=micro_batch_size,
                    heads=heads,
                    head_dim=a.head_dim,
                    gemm_tflops=LARGE_GEMM_SHARE * gpu.dense_tflops.get("bf16", self.peak_tflops),
                    memory_gb_per_s=gpu.memory_bandwidth_gb_per_s,
                    backward=which == "backward",
                    dropout=True,
                )
            )
        curve = attention.attention_curve(
            chip=gpu.chip,
            peak_tflops=gpu.dense_tflops.get("bf16", self.peak_tflops),
            forward_tflops=gpu.attention_forward_tflops,
            kernel=engine.timing.attention_kernel,
            head_dim=a.head_dim,
            value_head_dim=a.v_head_dim,
        )
        windowed = a.sliding_window_layers / a.num_hidden_layers if a.sliding_window else 0.0
        seconds = np.asarray(0.0)
        for window, share in ((None, 1 - windowed), (a.sliding_window, windowed)):
            if share > 0:
                seconds = seconds + share * np.asarray(
                    attention.flash_attention_seconds(
                        curve,
                        sequence_length=sequence_length,
                        micro_batch_size=micro_batch_size,
                        heads=heads,
                        kv_heads=kv_heads,
                        head_dim=a.head_dim,
                        memory_gb_per_s=gpu.memory_bandwidth_gb_per_s,
                        backward=which == "backward",
                        value_head_dim=a.v_head_dim,
                        window=window,
                        span=span,
                    )
                )
        return seconds

    def elementwise(self, size_bytes: Floats) -> Floats:
        """A kernel that reads and writes so many bytes. [s]"""
        seconds = attention.memory_bound_seconds(
            size_bytes=size_bytes, memory_gb_per_s=self.problem.gpu.memory_bandwidth_gb_per_s
        )
        return np.asarray(seconds)

    def collective(self, op: Collective, *, num_gpus: Ints, size: Ints, stride: Ints, size_bytes: Floats) -> Floats:
        """A collective of groups of `size` ranks that lie `stride` apart; buffers as nccl-tests counts them. [s]"""
        num_gpus, size, stride, size_bytes = np.broadcast_arrays(num_gpus, size, stride, size_bytes)
        seconds = np.zeros(size_bytes.shape)
        flat, sizes = seconds.reshape(-1), size_bytes.reshape(-1)
        unique, inverse = distinct(num_gpus, size, stride)
        for index, (gpus, ranks, step) in enumerate(unique):
            if ranks > 1:
                cluster = self.problem.clusters[gpus]
                rows = np.flatnonzero(inverse == index)
                flat[rows] = cluster.collective_seconds(op, cluster.group(ranks, step), sizes[rows])
        return flat.reshape(size_bytes.shape)

    def ring_hop(self, *, num_gpus: Ints, size: Ints, stride: Ints, size_bytes: Floats) -> Floats:
        """One step of a ring over `size` ranks that lie `stride` apart, at its slowest link. [s]"""
        num_gpus, size, stride, size_bytes = np.broadcast_arrays(num_gpus, size, stride, size_bytes)
        flat, sizes = np.zeros(size_bytes.size), size_bytes.reshape(-1)
        unique, inverse = distinct(num_gpus, size, stride)
        for index, (gpus, ranks, step) in enumerate(unique):
            if ranks > 1:
                cluster = self.problem.clusters[gpus]
                rows = np.flatnonzero(inverse == index)
                flat[rows] = cluster.point_to_point_seconds(cluster.group(ranks, step), sizes[rows])
        return flat.reshape(size_bytes.shape)

    def send(self, *, num_gpus: Ints, stride: Ints, leaves: bool, size_bytes: Floats) -> Floats:
        """One rank sends to the rank `stride` further on, out of its node or inside where there is one so far. [s]"""
        num_gpus, stride, size_bytes = np.broadcast_arrays(num_gpus, stride, size_bytes)
        flat, sizes = np.zeros(size_bytes.size), size_bytes.reshape(-1)
        unique, inverse = distinct(num_gpus, stride)
        for index, (gpus, step) in enumerate(unique):
            cluster = self.problem.clusters[gpus]
            if step < (gpus if leaves else min(gpus, self.problem.node.gpus_per_node)):
                rows = np.flatnonzero(inverse == index)
                link = (
                    cluster.network_link if leaves else cluster.inner.step(step, min(gpus, cluster.node.gpus_per_node))
                )
                flat[rows] = cluster.point_to_point_seconds(link, sizes[rows])
        return flat.reshape(size_bytes.shape)
