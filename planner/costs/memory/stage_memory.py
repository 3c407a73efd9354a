"""GPU memory of one pipeline stage as ledgers, one for each moment of a step at which memory can peak.

All amounts are affine in the stage's layers n and recomputed layers r, so that the solver can hold the same equation
in integers; `tables` reads its coefficients off these functions and never types a formula again. What leading dense
layers keep is the larger of two affine functions (`leading.py`).

    moment          alive (f micro-batches in flight, A kept by a layer, S by a recomputed one, T the running layer's)
    backward        state + f ((n - r) A + r S) + T
    recomputation   state + (f - 1) ((n - r) A + r S) + r S + A + T     kept layers of the running micro-batch are freed
                    + (r - 1) L                                         what a layer leaves behind until the pass ends
    loss            state + f ((n - r) A + r S) + logits                last stage
    reference       the same without logits, one layer of the reference running         training on pairs
    end of backward state, all gradients made, + A + S + T of the first layer, or parts of a tied table being added
    optimizer       state + temporaries of the step
    log_prob        weights (+ what is left of the state) + logits      RL, last stage
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item, total
from planner.costs.memory.awake_together import beside_rollouts, other_networks, rollouts_beside, while_scoring
from planner.costs.memory.cached_blocks import cached_blocks, reduced_at_once
from planner.costs.memory.communicators import nccl_buffers
from planner.costs.memory.end_of_backward import END_OF_BACKWARD, first_layer_or_tied_table
from planner.costs.memory.gathered import gathered, root_units_gradient
from planner.costs.memory.leading import Line, leading_kept
from planner.costs.memory.magnitudes import norm_under_magnitudes
from planner.costs.memory.optimizer import (
    gradients_here,
    largest_gradient_bytes,
    largest_tensor_bytes,
    optimizer_bytes,
    paged,
    stepped_at_once,
    temporary_bytes,
)
from planner.costs.memory.pairs import reference_beside, reference_running
from planner.costs.memory.run_ahead import run_ahead
from planner.costs.memory.stage_tensors import StageTensors
from planner.costs.memory.tensor_widths import TensorSizes, tokens_per_rank
from planner.costs.memory.weight_copies import weight_copies
from planner.costs.memory.weights import cached_fp8_copies, passing_fp8_copies, reduction_buckets, weights_here
from planner.costs.rollout import ROLLOUT_MOMENTS, WEIGHT_SYNC
from planner.formulas.activations import postponed_weight_gradients
from planner.problem.awake_together import sends_from_gpu
from planner.problem.layouts import Floats
from planner.problem.problem import Problem
from planner.problem.reference import REFERENCE
from planner.problem.scoring import scored_layouts
from planner.schema.engine import Tensor
from planner.units import GIB

MOMENTS = ("backward", "recomputation", "loss", END_OF_BACKWARD, "optimizer", "log_prob", REFERENCE)


@dataclass(frozen=True)
class StageMemory(StageTensors):
    """Memory of stages; `stage`, `layers` and `recomputed` broadcast against the layouts' columns."""

    line: Line = None
    """Which of the two affine functions of leading dense layers; the larger one by default."""

    @cached_property
    def state(self) -> tuple[Item, ...]:
        """Weights, gradients, optimizer state and standing buffers."""
        problem, engine = self.problem, self.problem.engine
        states, trainable = engine.states, self.trainable
        items = [*weights_here(self)]
        items += cached_fp8_copies(self)
        gradients = self.sharded(trainable, 2) * problem.gradient_bytes
        if problem.scenario.adapter is not None:
            zero, tables = 0.0 * self.layers, (self.trained_tables, 0.0 * self.layers)
            adapters, untrained = self.adapters
            gradients = self.sharded((adapters - untrained, zero), 2) * problem.adapter_gradient_bytes
            gradients = gradients + self.sharded(tables, 2) * problem.gradient_bytes
        items.append(Item(ItemName.GRADIENTS, gradients * gradients_here(problem, self.layouts), states.source))
        elsewhere = problem.optimizer_on_host | states.optimizer_returns | paged(problem)[self.layouts.optimizer]
        chosen = ", ".join(f"catalogs/optimizers/{o.id}.yaml" for o in problem.optimizers)
        if states.moments_follow_weights and problem.weight_bytes < 4 and problem.scenario.adapter is None:
            chosen += f", moments in the weights' own format: {states.source}"
        items.append(Item(ItemName.OPTIMIZER, np.where(elsewhere, 0.0, optimizer_bytes(self)), chosen))
        if states.gradients_follow_optimizer and problem.optimizer_on_host:
            items.append(Item(ItemName.GRADIENT_ON_ITS_WAY_TO_THE_HOST, largest_gradient_bytes(self), states.source))
        if states.reduction_bucket_bytes:
            items.append(Item(ItemName.GRADIENT_BUCKETS, reduction_buckets(self), states.source))
        if workspace := engine.overhead.workspace_gib + self._moe * engine.overhead.expert_workspace_gib:
            space = np.zeros(np.shape(items[-1].amount)) + workspace * GIB
            items.append(Item(ItemName.LIBRARY_WORKSPACES, space, engine.overhead.source))
        if engine.weight_gradient_buffer_bytes and problem.trains_all_weights:
            items.append(self._weight_gradient_buffers())
        return tuple(items)

    def _weight_gradient_buffers(self) -> Item:
        """One buffer for each distinct weight shape of a layer, and of the head on the stage that owns it.

        A frozen weight has none: TransformerEngine pytorch/module/linear.py lines 1354 to 1374 at d0067d0da.
        """
        p, a, lay, engine = self.problem.parameters, self.problem.architecture, self.layouts, self.problem.engine
        shapes = self.attention_shapes + p.dense_layer.dense_mlp_sharded / lay.tensor_parallel
        if p.moe_layer is not None:
            one_expert = p.moe_layer.routed_experts / (a.num_experts or 1) / lay.expert_tensor_parallel
            shapes = self.attention_shapes + p.moe_layer.shared_experts / lay.tensor_parallel + one_expert
            shapes = shapes + self.is_first * (p.num_dense_layers > 0) * (
                p.dense_layer.dense_mlp_sharded / lay.tensor_parallel
            )
        head = self.is_last * self.end_parameters[1]
        return Item(
            ItemName.WEIGHT_GRADIENT_BUFFERS,
            self.problem.under_way(engine.weight_gradient_buffer_bytes) * (shapes + head),
            engine.weight_gradient_buffer_source or "",
        )

    def _postponed(self) -> tuple[Item, ...]:
        """What waits for its weight gradients under ZB-H1, recomputed layers rebuilt and the head too."""
        source = self.problem.engine.pipeline.zero_bubble
        if self.problem.scenario.layout.schedule != "zb-h1" or source is None:
            return ()
        lay, (kept, extra) = self.layouts, self.layer_activations
        waiting = postponed_weight_gradients(
            stage=self.stage, pipeline_parallel=lay.pipeline_parallel, num_micro_batches=lay.num_micro_batches
        )
        leading = self.is_first * self.problem.parameters.num_dense_layers * self._moe
        logits = self.is_last * tokens_per_rank(lay) * self.sizes.elements("vocab") / lay.tensor_parallel
        held = waiting * ((self.layers + self._further) * kept + leading * extra)
        return (
            Item(ItemName.ACTIVATIONS_AWAITING_WEIGHT_GRADIENTS, held, source),
            Item(ItemName.LOGIT_GRADIENTS_AWAITING_WEIGHT_GRADIENTS, waiting * logits * 2.0, source),
        )

    @cached_property
    def _alive(self) -> tuple[Floats, Floats]:
        """Of one micro-batch: (bytes of layers kept whole, how many layers keep a stub)."""
        kept, extra = self.layer_activations
        dense = self.is_first * float(self.problem.parameters.num_dense_layers if self._moe else 0)
        leading = leading_kept(dense, self.recomputed, self.layouts.virtual_pipeline, extra > 0, self.line)
        size, more = self._group
        return (self.layers - self.recomputed) * kept + leading * extra, self.recomputed / size + more

    def _activations(self, in_flight: Floats) -> tuple[Floats, Floats]:
        """(bytes of layers kept whole, bytes of recomputed layers' stubs)."""
        whole, stubs = self._alive
        beside = self._short_chunk, self._further * self.layer_activations[0]
        return in_flight * whole + beside[0] + beside[1], in_flight * stubs * self._stub

    @cached_property
    def _sources_of_saved(self) -> str:
        return "; ".join(dict.fromkeys(t.source for t in self.problem.engine.saved))

    def moment(self, name: str) -> tuple[Item, ...]:
        """The ledger of allocated memory at one moment."""
        if name == "optimizer":
            return self.state + self._optimizer_temporaries()
        if name == END_OF_BACKWARD:
            return self._end_of_backward()
        if name == "log_prob":
            return while_scoring(self, self.state) + gathered(self, name) + self._log_prob()
        flight = self.in_flight if name != "recomputation" else self.in_flight - 1
        whole, stubs = self._activations(flight)
        engine = self.problem.engine
        saved = self._sources_of_saved
        items = [Item(ItemName.ACTIVATIONS_KEPT_LAYERS, whole, saved)]
        if name == "recomputation":
            stubs = stubs + self._activations(np.ones_like(flight))[1] + self._brought_back
            rebuilt = self._rebuilt * self._group[0]
            items.append(Item(ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED, rebuilt * np.ones(np.shape(stubs)), saved))
            if engine.left_behind:
                waiting = self.recomputed * self._layer_bytes(engine.left_behind)[0]
                items.append(Item(ItemName.LEFT_UNTIL_THE_BACKWARD_PASS_ENDS, waiting, engine.left_behind[0].source))
        items.append(Item(ItemName.ACTIVATIONS_RECOMPUTED_LAYERS, stubs, _source(engine.stub)))
        items += self.of_embedding(self.in_flight)
        if name == "loss":
            once = self.sizes.of(engine.loss, moe_layer=False)
            logits = (self.is_last + self._further) * once
            items.append(Item(ItemName.LOGITS_AND_LOSS, logits, _source(engine.loss)))
        elif name == REFERENCE:
            items += reference_running(self)
        else:
            running = self._running
            if name == "recomputation":
                # The gradient of the running layer's output is one of those left behind.
                running = running - self._layer_bytes(engine.left_behind)[0]
            everywhere = running * np.ones(np.shape(whole))
            items.append(Item(ItemName.LAYER_RUNNING_BACKWARD, everywhere, _source(engine.backward)))
            items += self._held()
            items += norm_under_magnitudes(self.problem, running if name == "backward" else running * 0.0)
        copies = weight_copies(self, name, self._forward_loss_spares) + passing_fp8_copies(self, name, self.in_flight)
        before = self._state_before_step(name) + copies + gathered(self, name)
        return before + tuple(items) + self._postponed()

    def _held(self) -> tuple[Item, ...]:
        """Outputs that the caller holds while layers run backward; at the loss they are part of it."""
        held = self.problem.engine.held
        outputs = self.is_last * self.sizes.of(held, moe_layer=False)
        return (Item(ItemName.LOGITS_AND_LOSS, outputs, _source(held)),) if held else ()

    def _end_of_backward(self) -> tuple[Item, ...]:
        """The first layer runs backward while the gradients of all others are there, or a tied table's are added up."""
        engine = self.problem.engine
        kept, extra = self.layer_activations
        dense = self.is_first * float(self.problem.parameters.num_dense_layers > 0 and self._moe)
        layer = kept + dense * extra + self._stub + self._brought_back
        running = layer + self._running
        whole = gathered(self, END_OF_BACKWARD)
        last = first_layer_or_tied_table(self, running, _source(engine.backward))
        last += root_units_gradient(self, whole + last)
        copies = weight_copies(self, "recomputation", self._forward_loss_spares)
        beside = last + self.of_embedding(np.ones_like(self.in_flight)) + self._held() + self._postponed()
        return self.state + copies + whole + beside

    def _state_before_step(self, name: str) -> tuple[Item, ...]:
        """State while the first layers of the backward pass run.

        Where gradients appear in the backward pass and there is one micro-batch, none exist yet but the head's. Later
        in the pass they grow as activations shrink, so that this and its end bound it. That of a tied head waits for
        the embedding's (`end_of_backward.TIED`).
        """
        states = self.problem.engine.states
        if not states.gradients_appear or self.problem.scenario.adapter is not None:
            return self.state
        made = name != "loss" or self.problem.engine.fused_head
        none = self.layers * 0.0
        head, tied = ((each * made, none) for each in (self.is_last * self.end_parameters[1], self.tied_table))
        here = self.problem.gradient_bytes * gradients_here(self.problem, self.layouts)
        early, waiting = (self.sharded(each, 2) * here for each in (head, tied))
        several = self.layouts.num_micro_batches > 1
        waiting = waiting * (not self.problem.engine.reserve.gradients_apart)  # else the room kept for gradients has it
        return tuple(
            Item(i.name, np.where(several, i.amount, early) + waiting, i.source) if i.name == ItemName.GRADIENTS else i
            for i in self.state
        )

    def _optimizer_temporaries(self) -> tuple[Item, ...]:
        states = self.problem.engine.states
        shard = self.sharded(self.trainable, 1)
        made = temporary_bytes(self) + shard * (states.step_bytes + self.problem.step_gradient_bytes)
        made = made * (not self.problem.optimizer_on_host)
        items = [Item(ItemName.OPTIMIZER_TEMPORARIES, made * stepped_at_once(self), "catalogs/optimizers")]
        returning = paged(self.problem)[self.layouts.optimizer] & (not self.problem.optimizer_on_host)
        if np.any(returning):
            brought = np.where(returning, largest_tensor_bytes(self), 0.0)
            items.append(Item(ItemName.OPTIMIZER_STATE_BROUGHT_BACK, brought, "catalogs/optimizers: paged"))
        elif states.optimizer_returns and not self.problem.optimizer_on_host:
            items.append(Item(ItemName.OPTIMIZER_STATE_BROUGHT_BACK, optimizer_bytes(self), states.source))
        if states.step_gathered_bytes:
            between = (self.layouts.zero_stage >= 1) & (self.layouts.zero_stage < 3) & (self.shards[0] > 1)
            whole = (self.trainable[0] + self.trainable[1] + shard) * between * states.step_gathered_bytes
            items.append(Item(ItemName.UPDATED_WEIGHTS_BEING_GATHERED, whole, states.source))
        return (*items, *reduced_at_once(self))

    def _log_prob(self) -> tuple[Item, ...]:
        engine = self.problem.engine
        if not engine.log_prob:
            return ()
        scored = scored_layouts(self.problem, self.layouts)
        logits = self.is_last * TensorSizes(self.problem, scored).of(engine.log_prob, moe_layer=False)
        running = self.layer_activations[0] * tokens_per_rank(scored) / tokens_per_rank(self.layouts)
        return (
            Item(ItemName.LOG_PROBABILITY_LOGITS, logits, engine.log_prob[0].source),
            Item(ItemName.LAYER_RUNNING_FORWARD, running * np.ones(np.shape(logits)), engine.saved[0].source),
        )

    @cached_property
    def _outside(self) -> tuple[Item, ...]:
        """What the process holds outside the allocator, and what a sleeping rollout engine leaves."""
        lay, over = self.layouts, self.problem.engine.overhead
        shape = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        items = [
            Item(ItemName.CUDA_CONTEXT, shape + over.cuda_context_gib * GIB, over.source),
            *nccl_buffers(self),
        ]
        if over.framework_gib:
            items.append(Item(ItemName.FRAMEWORK, shape + over.framework_gib * GIB, over.source))
        if self.problem.is_rl and not self.problem.colocated:
            apart = self.problem.separation
            items.append(Item(ItemName.SYNC_BUCKETS, shape + apart.sync_bucket_gib * GIB, apart.source))
        elif self.problem.is_rl:
            items += [Item(i.name, shape + i.amount, i.source) for i in rollouts_beside(self)]
        return tuple(items)

    @property
    def outside_bytes(self) -> Floats:
        """Everything outside the allocator. [bytes]"""
        return total(self._outside)

    def _needed(self, name: str, allocated: tuple[Item, ...]) -> tuple[Item, ...]:
        reserve = self.problem.engine.reserve
        items = [*allocated, Item(ItemName.ALLOCATOR_RESERVE, total(allocated) * (reserve.median - 1), reserve.source)]
        items += cached_blocks(self, name, self.state, allocated)
        known = self.problem.calibration
        if known is not None and known.memory is not None:
            factor, spare = known.memory.factor, items[len(allocated) :]
            more, source = total(allocated) * (factor - 1), f"calibration: {known.source}"
            items = [*allocated, *(Item(i.name, i.amount * factor, i.source) for i in spare)]
            items.append(Item(ItemName.DIFFERENCE_TO_THE_CALIBRATED_RUN, more, source))
        return tuple(items)

    def reserved(self, name: str) -> tuple[Item, ...]:
        """What the allocator is seen to hold at one moment.

        The allocator gives back what is only cached when a card is full, and buffers that wait for another stream are
        waited for: neither causes an out-of-memory error by itself, so both fill at most what is left.
        """
        live = self.moment(name)
        left = np.maximum(0.0, self.problem.usable_gib * GIB - total(live) - self.outside_bytes)
        items = list(live)
        spare = self._needed(name, live)[len(live) :]
        ahead = run_ahead(self)
        if ahead is not None and name in ("backward", "recomputation", "loss"):
            spare = (*spare, ahead)
        for item in spare:
            items.append(Item(item.name, np.minimum(item.amount, left), item.source))
            left = left - items[-1].amount
        return tuple(items)

    def ledger(self, name: str) -> tuple[Item, ...]:
        """What the card must hold at one moment: allocated, allocator reserve, and memory outside the allocator."""
        if name in ROLLOUT_MOMENTS:
            return beside_rollouts(self, name, self.state)
        beside = (*other_networks(self, self.state), *reference_beside(self, name))
        return (*self._needed(name, self.moment(name)), *beside, *self._outside)


def moments(problem: Problem) -> tuple[str, ...]:
    """The moments at which this problem's training phase can peak.

    Where gradients stand from the start, no moment of the backward pass has more of them than another. Each stage has
    the moments of generation where both share a GPU awake, that of weight sync where weights are sent from there.
    """
    appear = problem.engine.states.gradients_appear and problem.scenario.adapter is None
    there = {END_OF_BACKWARD: appear, "log_prob": problem.is_rl and bool(problem.engine.log_prob)}
    there[REFERENCE] = not problem.is_rl and bool(problem.scored_by)
    shared = ROLLOUT_MOMENTS if problem.awake_together else (WEIGHT_SYNC,) * sends_from_gpu(problem)
    return (*(name for name in MOMENTS if there.get(name, True)), *shared)


def _source(tensors: list[Tensor]) -> str:
    """Where a list of tensors comes from; nothing where all of them were left out."""
    return tensors[0].source if tensors else ""
