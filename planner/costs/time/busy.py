"""What keeps a GPU busy, and what it waits for, in one micro-batch of a stage: kernels, collectives, launches, head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.costs.time.adapters import KERNELS_OF_A_PASS, AdapterTime
from planner.costs.time.affine import Affine
from planner.costs.time.kernels import Kernels
from planner.costs.time.layer import PASSES, LayerTime
from planner.costs.time.linear_attention import layer_time
from planner.costs.time.rl_passes import loss_by_sample
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.units import US_PER_S

GRID = "catalogs/measured: GEMM grids of ai-dynamo/aiconfigurator"
HOST = "engine file: time the host needs to launch kernels"
NCCL = "catalogs/measured: NCCL curves of ai-dynamo/aiconfigurator; planner/cluster between nodes"
Swap = tuple[Floats | float, Floats | float]
"""(forward, backward) seconds of one kind of layer less those of another."""
NO_SWAP: Swap = (0.0, 0.0)
HIDING = (
    ItemName.MATRIX_PRODUCTS,
    ItemName.ATTENTION,
    ItemName.ELEMENTWISE_KERNELS,
    ItemName.ADAPTER_PRODUCTS,
    ItemName.UNPACKING_FROZEN_WEIGHTS,
    ItemName.TENSOR_PARALLEL_COLLECTIVES,
)
"""Items behind which data-parallel collectives can hide."""
FLASH = "planner/formulas/attention.py"
ADAPTERS = "planner/costs/adapters.py: products of rank r on the same grids, sums, DoRA's norms"
BYTES = "bytes moved / (0.8 bandwidth) + 3 us a kernel"


@dataclass(frozen=True)
class BusyTime:
    """Of all rows; layouts have shape [rows, 1], stages [rows or 1, stages]."""

    problem: Problem
    layouts: Layouts
    stage: Ints

    @cached_property
    def _layer(self) -> LayerTime:
        return layer_time(self.problem, self.layouts)

    @property
    def _kernels(self) -> Kernels:
        return self._layer.kernels

    @cached_property
    def _adapters(self) -> AdapterTime | None:
        adapter = self.problem.scenario.adapter
        return None if adapter is None else AdapterTime(self.problem, self._layer, adapter)

    @cached_property
    def _is_first(self) -> Floats:
        return np.asarray(self.stage == 0, dtype=float)

    @cached_property
    def _is_last(self) -> Floats:
        return np.asarray(self.stage == self.layouts.pipeline_parallel - 1, dtype=float)

    @property
    def _moe(self) -> bool:
        return self.problem.architecture.is_moe

    @cached_property
    def _leading(self) -> Floats:
        """Dense layers at the head of a network of experts, on the first stage."""
        return self._is_first * self.problem.parameters.num_dense_layers * self._moe

    @property
    def _busy(self) -> tuple[Affine, ...]:
        """What keeps the GPU or its links busy in both passes of one micro-batch."""
        return self._work[0]

    @cached_property
    def _work(self) -> tuple[tuple[Affine, ...], tuple[Swap, ...]]:
        """What keeps the GPU busy, and of each what a leading dense layer takes beyond a usual one."""
        lay = self.layouts
        zero = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        rows: list[Affine] = []
        swaps: list[Swap] = []

        def add(name: str, forward: Floats, backward: Floats, swap: Swap, source: str) -> None:
            rows.append(Affine(name, forward + backward, forward, zero + self._leading * (swap[0] + swap[1]), source))
            swaps.append(swap)

        def both(function: Callable[..., Floats], **kwargs: bool) -> tuple[Floats, Floats]:
            return function("forward", **kwargs), function("backward", **kwargs)

        layer = self._layer
        forward, backward = both(layer.mlp_products, moe_layer=self._moe)
        swap: Swap = NO_SWAP
        if self._moe and self.problem.parameters.num_dense_layers:
            dense = both(layer.mlp_products, moe_layer=False)
            swap = dense[0] - forward, dense[1] - backward
        projected = both(layer.attention_products)
        add(ItemName.MATRIX_PRODUCTS, forward + projected[0], backward + projected[1], swap, GRID)
        add(ItemName.ATTENTION, *both(layer.attention), NO_SWAP, FLASH)
        add(ItemName.ELEMENTWISE_KERNELS, *both(layer.elementwise, moe_layer=self._moe), NO_SWAP, BYTES)
        rows.append(self._head(zero))
        if self._adapters is not None:
            forward, backward = both(self._adapters.products, moe_layer=self._moe)
            swap = NO_SWAP
            if self._moe and self.problem.parameters.num_dense_layers:
                dense = both(self._adapters.products, moe_layer=False)
                swap = dense[0] - forward, dense[1] - backward
            add(ItemName.ADAPTER_PRODUCTS, forward, backward, swap, ADAPTERS)
            if self._adapters.unpacks:
                unpacked = self._adapters.unpacking()
                add(ItemName.UNPACKING_FROZEN_WEIGHTS, unpacked, unpacked, NO_SWAP, BYTES)
        if np.any(lay.tensor_parallel > 1):
            ring = layer.tensor_collectives()
            add(ItemName.TENSOR_PARALLEL_COLLECTIVES, ring, ring, NO_SWAP, NCCL)
        if np.any(lay.context_parallel > 1):
            add(ItemName.CONTEXT_PARALLEL_COLLECTIVES, self._context[0][0], self._context[1][0], NO_SWAP, NCCL)
        if self._moe and np.any(lay.expert_parallel * lay.expert_tensor_parallel > 1):
            sent = layer.expert_collectives()
            add(ItemName.EXPERT_ALL_TO_ALL, sent, sent, (-sent, -sent), NCCL)
        return tuple(rows), tuple(swaps)

    @cached_property
    def _waits(self) -> tuple[Floats, Floats]:
        """Seconds of the (forward, backward) pass over a layer in which the GPU waits for launches. [s]"""
        return self._waiting(1.0)

    def _waiting(self, larger: Floats | float, *, leading: bool = False) -> tuple[Floats, Floats]:
        """The same of micro-batches so many times as large, for each of the usual size; of a `leading` layer. [s]"""
        rows = self._busy
        busy = [np.asarray(sum(r.recomputed for r in rows)), np.asarray(sum(r.layer - r.recomputed for r in rows))]
        moe = self._moe and not leading
        if leading:
            swaps = self._work[1]
            busy = [np.asarray(each + sum(swap[p] for swap in swaps)) for p, each in enumerate(busy)]
        more = [
            0.0 if self._adapters is None else self._adapters.kernels_of_a_pass(p) / KERNELS_OF_A_PASS for p in PASSES
        ]
        synchronised = self.problem.engine.timing.expert_sync_us / US_PER_S * moe
        forward, backward = (
            np.maximum(self._layer.host(m, moe_layer=moe) - larger * b, 0.0) + synchronised
            for m, b in zip(more, busy, strict=True)
        )
        return forward / larger, backward / larger

    @cached_property
    def _open(self) -> tuple[Floats, Floats]:
        """Seconds of the (forward, backward) pass over a layer behind which something can hide. [s]

        Kernels, tensor-parallel collectives and waits, less what the context ring hides behind already.
        """
        rows = [row for row in self._busy if row.name in HIDING]
        found: tuple[Floats | float, ...] = (
            sum(r.recomputed for r in rows) + self._waits[0],
            sum(r.layer - r.recomputed for r in rows) + self._waits[1],
        )
        if np.any(self.layouts.context_parallel > 1):
            found = tuple(seconds - ring[1] for seconds, ring in zip(found, self._context, strict=True))
        return np.asarray(found[0]), np.asarray(found[1])

    @cached_property
    def _context(self) -> tuple[tuple[Floats, Floats], ...]:
        return tuple(self._layer.context_collectives(which) for which in PASSES)

    def _head(self, zero: Floats) -> Affine:
        """Logits, loss and their backward pass on the last stage; the embedding on the first is a lookup."""
        forward, backward = self._head_seconds()
        lookup = self._kernels.elementwise(6.0 * self._layer.tokens * self.problem.architecture.hidden_size)
        return Affine(
            ItemName.LOGITS_AND_LOSS,
            zero,
            zero,
            zero + self._is_last * (forward + backward) + self._is_first * lookup,
            GRID,
        )

    def _head_seconds(self) -> tuple[Floats, Floats]:
        a, lay, k = self.problem.architecture, self.layouts, self._kernels
        vocab = padded_vocab_size(
            vocab_size=a.vocab_size,
            divisible_by=self.problem.engine.vocab_divisible_by,
            tensor_parallel=lay.tensor_parallel,
        )
        adapter, out = self.problem.scenario.adapter, vocab / lay.tensor_parallel
        trained = adapter is None or "lm_head" in adapter.modules_to_save
        loss = k.elementwise(self.problem.engine.timing.loss_bytes / 2 * self._layer.tokens * out)
        forward, backward = (
            k.head(tokens=self._layer.tokens, out=out, into=np.asarray(a.hidden_size), which=which, trained=trained)
            for which in PASSES
        )
        return forward + loss, backward + loss + loss_by_sample(self.problem, self._layer, np.asarray(out))
