"""Time of one optimizer step as ledgers of seconds, affine in a stage's layers n and recomputed layers r.

A step is a sum over *visits*: a visit repeats a piece of work for every micro-batch through the pipeline, and costs

    (m - 1/v) * max over stages of t + (sum over stages of t) / v           1F1B, interleaved with v chunks
    (m - k) * max over stages of t + k * sum over stages of t               ZB-H1, k = (F + B - W) / (F + B + W)

which for equal stages is (m + (p - 1) / v) t. The visit `train` is forward and backward, `score` (RL) the forward
passes for log-probabilities, `update` happens once and is as slow as its slowest stage. `t` of a stage is affine:
n * layer + r * recomputed layer + its ends. Source: Narayanan et al. 2021, arXiv:2104.04473, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.costs.micro_batches import UnequalSamples
from planner.costs.time.adapters import KERNELS_OF_A_PASS, AdapterTime
from planner.costs.time.affine import Affine
from planner.costs.time.kernels import Kernels
from planner.costs.time.layer import PASSES, LayerTime
from planner.costs.time.rl_passes import loss_by_sample, seconds_to_swap_an_element, swapped_elements
from planner.costs.time.selective import selective_seconds
from planner.costs.time.strides import hops_between_nodes, pipeline_stride, seams_beside
from planner.costs.time.update import MS, UpdateTime
from planner.formulas.faults import factor_at_scale
from planner.formulas.schedule import WEIGHT_SHARE
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.units import US_PER_S

VISITS = ("train", "score", "update")
GRID = "catalogs/measured: GEMM grids of ai-dynamo/aiconfigurator"
HOST = "engine file: time the host needs to launch kernels"
NCCL = "catalogs/measured: NCCL curves of ai-dynamo/aiconfigurator; planner/cluster between nodes"
PCIE = "engine file: what activation_offload takes off the GPU; 0.8 of the PCIe rate each way"
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
class StepTime:
    """Times of all rows; layouts have shape [rows, 1], stages [rows or 1, stages]."""

    problem: Problem
    layouts: Layouts
    stage: Ints

    @cached_property
    def _layer(self) -> LayerTime:
        return LayerTime(self.problem, self.layouts)

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
    def _busy(self) -> tuple[Affine, ...]:
        """What keeps the GPU or its links busy in both passes of one micro-batch."""
        lay = self.layouts
        zero = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        leading = self._is_first * self.problem.parameters.num_dense_layers * self._moe
        rows: list[Affine] = []

        def add(name: str, forward: Floats, backward: Floats, swap: Floats | float, source: str) -> None:
            rows.append(Affine(name, forward + backward, forward, zero + leading * swap, source))

        def both(function: Callable[..., Floats], **kwargs: bool) -> tuple[Floats, Floats]:
            return function("forward", **kwargs), function("backward", **kwargs)

        layer = self._layer
        forward, backward = both(layer.mlp_products, moe_layer=self._moe)
        swap: Floats | float = 0.0
        if self._moe and self.problem.parameters.num_dense_layers:
            dense = both(layer.mlp_products, moe_layer=False)
            swap = dense[0] + dense[1] - (forward + backward)
        projected = both(layer.attention_products)
        add(ItemName.MATRIX_PRODUCTS, forward + projected[0], backward + projected[1], swap, GRID)
        add(ItemName.ATTENTION, *both(layer.attention), 0.0, FLASH)
        add(ItemName.ELEMENTWISE_KERNELS, *both(layer.elementwise, moe_layer=self._moe), 0.0, BYTES)
        rows.append(self._head(zero))
        if self._adapters is not None:
            forward, backward = both(self._adapters.products, moe_layer=self._moe)
            swap = 0.0
            if self._moe and self.problem.parameters.num_dense_layers:
                swap = sum(both(self._adapters.products, moe_layer=False)) - (forward + backward)
            add(ItemName.ADAPTER_PRODUCTS, forward, backward, swap, ADAPTERS)
            if self._adapters.unpacks:
                unpacked = self._adapters.unpacking()
                add(ItemName.UNPACKING_FROZEN_WEIGHTS, unpacked, unpacked, 0.0, BYTES)
        if np.any(lay.tensor_parallel > 1):
            ring = layer.tensor_collectives()
            add(ItemName.TENSOR_PARALLEL_COLLECTIVES, ring, ring, 0.0, NCCL)
        if np.any(lay.context_parallel > 1):
            add(ItemName.CONTEXT_PARALLEL_COLLECTIVES, self._context[0][0], self._context[1][0], 0.0, NCCL)
        if self._moe and np.any(lay.expert_parallel * lay.expert_tensor_parallel > 1):
            sent = layer.expert_collectives()
            add(ItemName.EXPERT_ALL_TO_ALL, sent, sent, -2 * sent, NCCL)
        return tuple(rows)

    @cached_property
    def _waits(self) -> tuple[Floats, Floats]:
        """Seconds of the (forward, backward) pass over a layer in which the GPU waits for launches. [s]"""
        return self._waiting(1.0)

    def _waiting(self, larger: Floats | float) -> tuple[Floats, Floats]:
        """The same of micro-batches so many times as large, for each of the usual size. [s]"""
        busy = (sum(r.recomputed for r in self._busy), sum(r.layer - r.recomputed for r in self._busy))
        more = [
            0.0 if self._adapters is None else self._adapters.kernels_of_a_pass(p) / KERNELS_OF_A_PASS for p in PASSES
        ]
        synchronised = self.problem.engine.timing.expert_sync_us / US_PER_S * self._moe
        forward, backward = (
            np.maximum(self._layer.host(m, moe_layer=self._moe) - larger * b, 0.0) + synchronised
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

    @property
    def _moved(self) -> Floats:
        """Moving the activations of a layer that wait in host memory, one way; all layers recomputed or none. [s]"""
        kept, stub = self._layer.to_the_host()
        return stub if self.problem.scenario.layout.recomputed_layers == "all" else kept

    @cached_property
    def free(self) -> tuple[Floats, Floats]:
        """Seconds of both passes that are left for data-parallel collectives: the GPU's PCIe link serves both. [s]"""
        forward, backward = (seconds - np.minimum(self._moved, seconds) for seconds in self._open)
        return forward, backward

    def _to_the_host(self, recomputing: Floats) -> Affine:
        """What no kernel hides of moving activations to the host in the forward pass and back in the backward pass.

        A recomputed layer moves less, which is counted as far as it does not outweigh `recomputing` it.
        """
        stub = self._layer.to_the_host()[1]
        seen = sum(np.maximum(self._moved - seconds, 0.0) for seconds in self._open)
        again = sum(np.maximum(stub - seconds, 0.0) for seconds in self._open)
        zero = np.zeros(np.broadcast_shapes(np.shape(self.layouts.tensor_parallel), np.shape(self.stage)))
        return Affine(
            ItemName.MOVING_ACTIVATIONS_TO_THE_HOST,
            np.asarray(seen),
            np.maximum(again - seen, -recomputing),
            zero,
            PCIE,
        )

    @cached_property
    def train(self) -> tuple[Affine, ...]:
        """Forward and backward of one micro-batch on one stage."""
        lay, layer = self.layouts, self._layer
        zero = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        rows = [
            *self._busy,
            Affine(ItemName.WAITING_FOR_LAUNCHES, self._waits[0] + self._waits[1], self._waits[0], zero, HOST),
        ]
        if self.problem.scenario.layout.recompute_modules:
            again = selective_seconds(layer, moe_layer=self._moe)
            rows.append(Affine(ItemName.RECOMPUTED_MODULES, again, zero, zero, GRID))
        if self.problem.engine.offloaded or self.problem.engine.offloaded_stub:
            rows.append(self._to_the_host(np.asarray(sum(row.recomputed for row in rows))))
        if np.any(lay.zero_stage >= 3):
            gathers = layer.zero_three(self.free)
            rows.append(Affine(ItemName.GATHERING_SHARDED_WEIGHTS, gathers[0] + gathers[1], zero, zero, NCCL))
        if np.any(layer.accumulate() > 0):
            source = "engine file: bytes moved a parameter and micro-batch"
            rows.append(Affine(ItemName.GRADIENT_ACCUMULATION_AND_CASTS, layer.accumulate(), zero, zero, source))
        if np.any(lay.pipeline_parallel > 1):
            rows.append(Affine(ItemName.PIPELINE_SENDS, zero, zero, zero + self.sends, NCCL))
        return tuple(rows)

    @cached_property
    def seams(self) -> tuple[Floats, Floats]:
        """One send from each stage to the next, the last one's to the first: (on the wire, of the host). [s]

        Nothing hides the host's part. Shape [rows, stages of the longest pipeline].
        """
        lay, timing = self.layouts, self.problem.engine.timing
        hidden = self.problem.architecture.hidden_size
        passed = self._layer.sequence_tokens * hidden * self.problem.precision.activation_bytes
        leaves = hops_between_nodes(self.problem, lay)
        stride = pipeline_stride(self.problem, lay)
        sends = [
            self._kernels.send(num_gpus=lay.num_gpus, stride=stride, leaves=out, size_bytes=passed)
            for out in (False, bool(np.any(leaves)))
        ]
        wire = np.where(leaves, sends[1], sends[0])
        return wire, timing.send_us / US_PER_S + timing.send_across_ms * MS * leaves * (lay.tensor_parallel - 1)

    @cached_property
    def sends(self) -> Floats:
        """What a stage waits for its sends to and from its neighbours, activations or gradients of its chunks. [s]

        One chunk a stage: of the seams before and behind it the slower one counts, for each micro-batch once, because
        forward and backward passes of neighbours alternate. Interleaved: both seams and the ends' outer one for each
        chunk, in full: 105 published runs with 4 to 20 chunks show no share of them hidden.
        """
        lay, wraps = self.layouts, self.layouts.virtual_pipeline > 1
        wire, host = (seams_beside(each, lay, self.stage) for each in self.seams)
        around = np.where(wraps, wire[0] + wire[1], np.maximum(*wire)) + host[0] + host[1]
        return np.asarray(around * lay.virtual_pipeline * (lay.pipeline_parallel > 1))

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

    @cached_property
    def score(self) -> tuple[Affine, ...]:
        """Forward passes for log-probabilities (reference and old policy) of one micro-batch on one stage, in RL."""
        passes, lay = float(len(self.problem.scored_by)), self.layouts
        if not passes:
            return ()
        rows = []
        larger = self._unequal.fewer  # micro-batches: fewer launches to wait for, and fewer gathers of sharded weights
        free = larger * self.free[0]
        once: dict[str, Callable[[], Floats]] = {
            ItemName.WAITING_FOR_LAUNCHES: lambda: self._waiting(larger)[0],
            ItemName.GATHERING_SHARDED_WEIGHTS: lambda: self._layer.zero_three((free, free))[0] / larger,
        }
        for row in self.train:
            if row.name == ItemName.MOVING_ACTIVATIONS_TO_THE_HOST:
                continue
            again = once[row.name]() if row.name in once else row.recomputed
            end = passes * (self._is_last * self._head_seconds()[0]) if row.name == ItemName.LOGITS_AND_LOSS else 0.0
            if row.name == ItemName.PIPELINE_SENDS:
                end = passes * row.end / 2
            rows.append(Affine(row.name, passes * again, row.recomputed * 0.0, row.end * 0.0 + end, row.source))
        each = seconds_to_swap_an_element(self.problem, lay, self.steps)
        if np.any(each > 0):
            ends, one = (swapped_elements(self.problem, lay, self.stage, number) for number in (0, 1))
            name, layer = ItemName.REFERENCE_WEIGHTS_SWAPPED, each * (one - ends)
            rows.append(Affine(name, layer, ends * 0.0, each * ends, "engine file: swapped_gb_per_s"))
        return tuple(rows)

    @cached_property
    def update(self) -> tuple[Affine, ...]:
        """Once a step: gradients reduced, optimizer stepped, parameters gathered."""
        problem, lay = self.problem, self.layouts
        one, zero = np.ones_like(self.stage), np.zeros_like(self.stage)

        def at(layers: Ints) -> StageMemory:
            return StageMemory(problem, lay, self.stage, layers, zero)

        base, more = at(zero), at(one)
        update = UpdateTime(problem, lay, self.stage, self._layer)
        rows: list[Affine] = []
        one_layer = tuple(after - before for after, before in zip(more.trainable, base.trainable, strict=True))
        ends = update.reduce(base.trainable, base.shards, (np.inf, np.inf))
        layers = update.reduce((one_layer[0], one_layer[1]), base.shards, self.free)
        rows.append(Affine(ItemName.DATA_PARALLEL_COLLECTIVES, layers, ends * 0.0, ends, NCCL))
        stepped = update.optimizer(base)
        more_stepped = update.optimizer(more) - stepped
        rows.append(
            Affine(ItemName.OPTIMIZER_STEP, more_stepped, stepped * 0.0, stepped, "catalogs/optimizers: bytes moved")
        )
        if problem.engine.timing.step_ms:
            rows.append(Affine(ItemName.FIXED_TIME_OF_A_STEP, zero * 0.0, zero * 0.0, zero + update.fixed(), HOST))
        return tuple(rows)

    def visit(self, name: str) -> tuple[Affine, ...]:
        """The items of a visit by its name, with the factor of the scenario's calibration on them."""
        rows = {"train": self.train, "score": self.score, "update": self.update}[name]
        slower = self.problem.engine.passes_factor
        if self.problem.is_rl and name == "train" and slower != 1:
            rows = tuple(row.scaled(slower, "engine file: passes_factor") for row in rows)
        factor = self.problem.factor("log_probs" if name == "score" else "train")
        return rows if factor == 1 else tuple(row.scaled(factor, "the calibration") for row in rows)

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """(weight of the slowest stage, weight of the sum over stages) of a visit, per row."""
        lay = self.layouts
        if name == "update":
            return np.ones_like(lay.tensor_parallel) * float(self.steps), np.zeros_like(lay.tensor_parallel) * 1.0
        v = lay.virtual_pipeline
        many = lay.num_micro_batches * self.steps
        light = self.steps / v * np.ones_like(many)
        if name == "score":  # the samples of all optimizer steps in one go, in larger micro-batches
            light = np.minimum(self._unequal.fewer / v, many)
        if name == "train" and self.problem.scenario.layout.schedule == "zb-h1":
            light = light * self._zero_bubble_share
        return many - light, light

    def waits(self, name: str) -> Floats:
        """Times as long as a visit of equal micro-batches: samples of unequal length keep stages and ranks waiting."""
        return self._unequal.wait(name)

    @cached_property
    def slower(self) -> Floats:
        """Times as long as on few GPUs: slow nodes and jitter, unless the scenario states its slowest rank, or RL."""
        if self.problem.is_rl or self.problem.slowest_rank_stated:
            return np.ones_like(self.layouts.num_gpus, dtype=float)
        return factor_at_scale(self.layouts.num_gpus, per_doubling=self.problem.engine.timing.slower_per_doubling)

    @cached_property
    def _unequal(self) -> UnequalSamples:
        return UnequalSamples(self.problem, self.layouts)

    @property
    def _zero_bubble_share(self) -> Floats:
        """Bubble of ZB-H1 over that of 1F1B, by a usual layer: (F + B - W) / (F + B + W).

        Where layers may be recomputed, as if all were: their forward pass is in B, which makes the bubble longer.
        Source: Qi et al. 2023, arXiv:2401.10241, section 2.2; bubble (p - 1) (F + B - W).
        """
        whole: Floats | float = sum(row.layer for row in self.train)
        if self.problem.scenario.layout.recomputed_layers != 0:
            whole = whole + sum(row.recomputed for row in self.train)
        weight = sum(
            WEIGHT_SHARE * (row.layer - row.recomputed) for row in self.train if row.name == ItemName.MATRIX_PRODUCTS
        )
        return np.asarray(1.0 - 2.0 * weight / whole)

    @property
    def steps(self) -> int:
        """Optimizer steps that this step time covers (RL: those of one rollout)."""
        rl = self.problem.scenario.rl
        return rl.steps_per_rollout if rl is not None else 1
