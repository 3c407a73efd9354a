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

Pass = Literal["forward", "backward"]
SUSTAINED = {"sm_90": 0.89, "sm_100": 0.89, "sm_103": 0.89}
"""Rate of matrix products in a training run over the measured sweep, by compute capability: boards at their power limit
hold lower clocks over hours than over a sweep. Fitted on DGX H100 rows of dgxc; A100 needs none."""
FP8_SHARE = 0.78
"""Share of the fp8-over-bf16 ratio of peaks that large products reach: H100 1140 TFLOP/s, B200 2450, B300 3000 measured
(aiconfigurator at 095f58a5) give 0.75, 0.83, 0.79."""
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
    def _own_grid(self) -> bool:
        return self.problem.gpu.gemm_grid is not None and self.problem.precision.compute in ("bf16", "fp16")

    @cached_property
    def peak_tflops(self) -> float:
        """Dense peak in the precision that is computed in. [TFLOP/s]"""
        return self.problem.gpu.dense_tflops[self.problem.precision.compute]

    @cached_property
    def _sustained(self) -> float:
        found = [share for name, share in SUSTAINED.items() if name in self.problem.gpu.chip.split()]
        return found[0] if found else 1.0

    @property
    def floor_seconds(self) -> float:
        """The fastest product: launch and one tile. [s]"""
        return self._grid.floor_seconds

    @property
    def _fp8(self) -> bool:
        return self.problem.precision.compute == "fp8"

    def gemm(self, *, m: Floats, n: Floats, k: Floats) -> Floats:
        """One matrix product. [s]"""
        return self._sweep(m=m, n=n, k=k) / (FP8_SHARE if self._fp8 else self._sustained)

    def _sweep(self, *, m: Floats, n: Floats, k: Floats) -> Floats:
        """As the measured grid has it. [s]"""
        if self._own_grid:
            return np.asarray(gemm.grid_gemm_seconds(self._grid, m=m, n=n, k=k))
        gpu = self.problem.gpu
        seconds = gemm.scaled_gemm_seconds(
            self._grid,
            m=m,
            n=n,
            k=k,
            peak_tflops=self.peak_tflops,
            memory_gb_per_s=gpu.memory_bandwidth_gb_per_s,
            sustained_fraction=gpu.sustained_gemm_fraction,
        )
        return np.asarray(seconds)

    def linear(self, *, tokens: Floats, out: Floats, into: Floats, which: Pass, trained: bool = False) -> Floats:
        """A linear layer forward, or both products of its backward pass (input and weight gradient). [s]

        Under adapters only what is `trained` beside them has a weight gradient.
        """
        if which == "forward":
            return self.gemm(m=tokens, n=out, k=into) + self._cast(tokens * into)
        inputs = self.gemm(m=tokens, n=into, k=out) + self._cast(tokens * out)
        if self.problem.scenario.adapter is not None and not trained:
            return inputs
        return inputs + self.gemm(m=out, n=into, k=tokens)

    def _cast(self, elements: Floats) -> Floats | float:
        """Seconds of an fp8 cast and its transpose: 2 bytes read, 2 written. [s]"""
        return self.elementwise(4.0 * elements) if self._fp8 else 0.0

    def experts(self, *, experts: Floats, tokens: Floats, out: Floats, into: Floats, which: Pass) -> Floats:
        """The same for a group of experts that each work on `tokens`. [s]"""
        floor = self._grid.floor_seconds
        one = self.linear(tokens=np.maximum(tokens, 1.0), out=out, into=into, which=which)
        return floor + experts * np.maximum(one - floor, 0.0)

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
