"""GPU memory of one pipeline stage as ledgers, one for each moment of a step at which memory can peak.

All amounts are affine in the stage's layers n and recomputed layers r, so that the solver can hold the same equation
in integers; `tables` reads its coefficients off these functions and never types a formula again.

    moment          alive (f micro-batches in flight, A kept by a layer, S by a recomputed one, T the running layer's)
    backward        state + f ((n - r) A + r S) + T
    recomputation   state + (f - 1) ((n - r) A + r S) + r S + A + T     kept layers of the running micro-batch are freed
    loss            state + f ((n - r) A + r S) + logits                last stage
    optimizer       state + temporaries of the step
    log_prob        state + logits + two layers' stubs                  RL, last stage
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.ledger import Item, total
from planner.costs.widths import padded_vocab_size, tensor_bytes
from planner.formulas.activations import in_flight_layers_factor
from planner.formulas.parameters import LayerParameters, lora_parameters
from planner.layouts import Floats, Ints, Layouts
from planner.problem import Problem
from planner.schema.engine import Tensor
from planner.units import GIB

MOMENTS = ("backward", "recomputation", "loss", "optimizer", "log_prob")
ADAPTER_BYTES = 4.0
"""Adapters train in fp32 (peft autocast_adapter_dtype), weights and gradients alike."""


@dataclass(frozen=True)
class StageMemory:
    """Memory of stages; `stage`, `layers` and `recomputed` broadcast against the layouts' columns."""

    problem: Problem
    layouts: Layouts
    stage: Ints
    layers: Ints
    recomputed: Ints

    @cached_property
    def _is_first(self) -> Floats:
        return np.asarray(self.stage == 0, dtype=float)

    @cached_property
    def _is_last(self) -> Floats:
        return np.asarray(self.stage == self.layouts.pipeline_parallel - 1, dtype=float)

    @property
    def _moe(self) -> bool:
        return self.problem.architecture.is_moe

    def _layer_share(self, layer: LayerParameters) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of one layer on one rank."""
        tp = self.layouts.tensor_parallel
        dense = (layer.attention_sharded + layer.dense_mlp_sharded + layer.shared_experts) / tp + (
            layer.attention_replicated + layer.dense_mlp_replicated + layer.norm + layer.router
        )
        expert = layer.routed_experts / (self.layouts.expert_parallel * self.layouts.expert_tensor_parallel)
        return dense, expert

    @cached_property
    def _end_parameters(self) -> tuple[Floats, Floats]:
        """(embedding side, head side) parameters on one rank of the first and last stage."""
        p, a, tp = self.problem.parameters, self.problem.architecture, self.layouts.tensor_parallel
        vocab = padded_vocab_size(
            vocab_size=a.vocab_size, divisible_by=self.problem.engine.vocab_divisible_by, tensor_parallel=tp
        )
        table = vocab * a.hidden_size / tp
        # A tied head is the embedding itself; with several stages the last one holds a copy of it.
        copies = (self.layouts.pipeline_parallel > 1) if a.tie_word_embeddings else 1.0
        return table + p.position_embedding, table * copies + p.final_norm

    @cached_property
    def parameters(self) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of the stage on one rank.

        Leading dense layers of an architecture with experts stand on the first stage.
        """
        p = self.problem.parameters
        dense_layer = self._layer_share(p.dense_layer)
        embedding, head = self._end_parameters
        ends = self._is_first * embedding + self._is_last * head
        if p.moe_layer is None:
            return self.layers * dense_layer[0] + ends, self.layers * 0.0 * dense_layer[1]
        dense, expert = self._layer_share(p.moe_layer)
        swapped = self._is_first * p.num_dense_layers
        return self.layers * dense + ends + swapped * (dense_layer[0] - dense), (self.layers - swapped) * expert

    @cached_property
    def shards(self) -> tuple[Floats, Floats]:
        """(dense, expert) ranks over which state is sharded, before the ZeRO stage is looked at."""
        lay = self.layouts
        context = lay.context_parallel if self.problem.engine.states.shard_over_context else 1
        dense = lay.data_parallel * context
        ranks = lay.data_parallel * lay.context_parallel * lay.tensor_parallel
        return dense * 1.0, ranks / (lay.expert_parallel * lay.expert_tensor_parallel)

    def _sharded(self, parameters: tuple[Floats, Floats], from_stage: int) -> Floats:
        """Parameters whose state lies on one rank: cut over the data-parallel ranks from that ZeRO stage on."""
        on = self.layouts.zero_stage >= from_stage
        return parameters[0] / np.where(on, self.shards[0], 1.0) + parameters[1] / np.where(on, self.shards[1], 1.0)

    @cached_property
    def trainable(self) -> tuple[Floats, Floats]:
        """(dense, expert) trainable parameters of the stage on one rank."""
        adapter = self.problem.scenario.adapter
        if adapter is None:
            return self.parameters
        arch = self.problem.architecture
        each = lora_parameters(arch, adapter.rank, tuple(adapter.targets)) / arch.num_hidden_layers
        return self.layers * each / self.layouts.tensor_parallel, self.layers * 0.0

    @cached_property
    def state(self) -> tuple[Item, ...]:
        """Weights, gradients, optimizer state and standing buffers."""
        problem, engine = self.problem, self.problem.engine
        states, trainable = engine.states, self.trainable
        items = []
        weight_bytes, gradient_bytes = problem.weight_bytes, problem.gradient_bytes
        if problem.scenario.adapter is not None:
            base = problem.base_precision
            frozen = self._sharded(self.parameters, 3) * base.weight_bytes
            items.append(Item("frozen base weights", frozen, f"catalogs/precisions/{base.id}.yaml"))
            weight_bytes = gradient_bytes = ADAPTER_BYTES
        items.append(Item("weights", self._sharded(trainable, 3) * weight_bytes, states.source))
        items.append(Item("gradients", self._sharded(trainable, 2) * gradient_bytes, states.source))
        each = problem.optimizer_state_bytes[self.layouts.optimizer]
        if problem.scenario.layout.optimizer_offload:
            each = each * 0.0
        chosen = ", ".join(f"catalogs/optimizers/{o.id}.yaml" for o in problem.optimizers)
        items.append(Item("optimizer", self._sharded(trainable, 1) * each, chosen))
        if engine.weight_gradient_buffer_bytes:
            items.append(self._weight_gradient_buffers())
        if engine.zero_three is not None:
            items.append(self._gathered())
        return tuple(items)

    def _weight_gradient_buffers(self) -> Item:
        """One buffer for each distinct weight shape of a layer, and of the head on the stage that owns it."""
        p, a, lay = self.problem.parameters, self.problem.architecture, self.layouts
        shapes = (p.dense_layer.attention_sharded + p.dense_layer.dense_mlp_sharded) / lay.tensor_parallel
        if p.moe_layer is not None:
            one_expert = p.moe_layer.routed_experts / (a.num_experts or 1) / lay.expert_tensor_parallel
            shapes = (p.moe_layer.attention_sharded + p.moe_layer.shared_experts) / lay.tensor_parallel + one_expert
            shapes = shapes + self._is_first * (p.num_dense_layers > 0) * (
                p.dense_layer.dense_mlp_sharded / lay.tensor_parallel
            )
        head = self._is_last * self._end_parameters[1]
        engine = self.problem.engine
        return Item(
            "weight-gradient buffers",
            engine.weight_gradient_buffer_bytes * (shapes + head),
            engine.weight_gradient_buffer_source or "",
        )

    def _gathered(self) -> Item:
        """Whole layers that lie gathered or unreduced at once where the weights themselves are sharded."""
        zero = self.problem.engine.zero_three
        assert zero is not None
        p = self.problem.parameters
        unit = self._layer_share(p.moe_layer or p.dense_layer)
        layer = unit[0] + unit[1]
        end = self._is_first * self._end_parameters[0] + self._is_last * self._end_parameters[1]
        largest = np.maximum(layer, end)
        each = layer * max(0.0, zero.gathered_units - 1) * zero.gathered_bytes + largest * zero.gathered_bytes
        if self.problem.scenario.adapter is None:
            each = each + largest * zero.reduced_units * zero.reduced_bytes
        on = (self.layouts.zero_stage >= 3) & (self.shards[0] > 1)
        return Item("gathered layers", np.where(on, each, 0.0), zero.source)

    def _layer_bytes(self, tensors: Sequence[Tensor]) -> tuple[Floats, Floats]:
        """(bytes of a usual layer, extra of each leading dense layer) for one micro-batch on one rank."""
        usual = tensor_bytes(self.problem, self.layouts, tensors, moe_layer=self._moe)
        if not self._moe or not self.problem.parameters.num_dense_layers:
            return usual, usual * 0.0
        return usual, tensor_bytes(self.problem, self.layouts, tensors, moe_layer=False) - usual

    @cached_property
    def layer_activations(self) -> tuple[Floats, Floats]:
        """(bytes that one layer keeps, extra of each leading dense layer) for one micro-batch."""
        engine = self.problem.engine
        saved = engine.saved
        if self.problem.scenario.adapter is not None:
            saved = [*saved, *engine.saved_by_adapter]
        return self._layer_bytes(saved)

    @cached_property
    def in_flight(self) -> Floats:
        """Micro-batches alive on the stage at the peak."""
        return in_flight_layers_factor(
            stage=self.stage,
            pipeline_parallel=self.layouts.pipeline_parallel,
            virtual_pipeline=self.layouts.virtual_pipeline,
            num_micro_batches=self.layouts.num_micro_batches,
        )

    def _activations(self, in_flight: Floats) -> tuple[Floats, Floats]:
        """(bytes of layers kept whole, bytes of recomputed layers' stubs)."""
        kept, extra = self.layer_activations
        leading = self._is_first * self.problem.parameters.num_dense_layers if self._moe else 0.0
        stub, _ = self._layer_bytes(self.problem.engine.stub)
        whole = in_flight * ((self.layers - self.recomputed) * kept + leading * extra)
        return whole, in_flight * self.recomputed * stub

    def moment(self, name: str) -> tuple[Item, ...]:
        """The ledger of allocated memory at one moment."""
        if name == "optimizer":
            return self.state + self._optimizer_temporaries()
        if name == "log_prob":
            return self.state + self._log_prob()
        flight = self.in_flight if name != "recomputation" else self.in_flight - 1
        whole, stubs = self._activations(flight)
        engine = self.problem.engine
        saved = "; ".join(dict.fromkeys(t.source for t in engine.saved))
        items = [Item("activations, kept layers", whole, saved)]
        if name == "recomputation":
            _, own = self._activations(np.ones_like(flight))
            stubs = stubs + own
            rebuilt, _ = self.layer_activations
            items.append(Item("activations, layer being recomputed", rebuilt * np.ones(np.shape(stubs)), saved))
        items.append(Item("activations, recomputed layers", stubs, engine.stub[0].source))
        if name == "loss":
            logits = self._is_last * tensor_bytes(self.problem, self.layouts, engine.loss, moe_layer=False)
            items.append(Item("logits and loss", logits, engine.loss[0].source))
        else:
            running, _ = self._layer_bytes(engine.backward)
            items.append(Item("layer running backward", running * np.ones(np.shape(whole)), engine.backward[0].source))
        return self.state + tuple(items)

    def _optimizer_temporaries(self) -> tuple[Item, ...]:
        each = np.array([o.transient_bytes for o in self.problem.optimizers])[self.layouts.optimizer]
        if self.problem.scenario.layout.optimizer_offload:
            each = each * 0.0
        return (Item("optimizer temporaries", self._sharded(self.trainable, 1) * each, "catalogs/optimizers"),)

    def _log_prob(self) -> tuple[Item, ...]:
        engine = self.problem.engine
        if not engine.log_prob:
            return ()
        logits = self._is_last * tensor_bytes(self.problem, self.layouts, engine.log_prob, moe_layer=False)
        running, _ = self.layer_activations
        return (
            Item("log-probability logits", logits, engine.log_prob[0].source),
            Item("layer running forward", running * np.ones(np.shape(logits)), engine.saved[0].source),
        )

    def _outside(self) -> tuple[Item, ...]:
        """What the process holds outside the allocator, and what a sleeping rollout engine leaves."""
        lay, over = self.layouts, self.problem.engine.overhead
        groups = sum(
            (degree > 1).astype(float)
            for degree in (
                lay.tensor_parallel,
                lay.pipeline_parallel,
                lay.data_parallel * lay.context_parallel,
                lay.context_parallel,
                lay.expert_parallel,
            )
        )
        shape = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        items = [
            Item("CUDA context", shape + over.cuda_context_gib * GIB, over.source),
            Item("NCCL buffers", shape + groups * over.nccl_gib_per_group * GIB, over.source),
        ]
        if over.framework_gib:
            items.append(Item("framework", shape + over.framework_gib * GIB, over.source))
        if self.problem.is_rl:
            coloc = self.problem.colocation
            items.append(Item("sleeping rollout engine", shape + coloc.rollout_residual_gib * GIB, coloc.source))
        return tuple(items)

    def ledger(self, name: str) -> tuple[Item, ...]:
        """What the card sees at one moment: allocated, allocator reserve, and memory outside the allocator."""
        allocated = self.moment(name)
        reserve = self.problem.engine.reserve
        extra = total(allocated) * (reserve.median - 1)
        return (*allocated, Item("allocator reserve", extra, reserve.source), *self._outside())


def moments(problem: Problem) -> tuple[str, ...]:
    """The moments at which this problem's training phase can peak."""
    return MOMENTS if problem.is_rl and problem.engine.log_prob else MOMENTS[:-1]
