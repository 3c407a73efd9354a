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
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.micro_batches import UnequalSamples
from planner.costs.time.affine import Affine
from planner.costs.time.busy import GRID, HOST, NCCL, BusyTime
from planner.costs.time.rl_passes import seconds_to_swap_an_element, swapped_elements
from planner.costs.time.selective import selective_seconds
from planner.costs.time.strides import hops_between_nodes, pipeline_stride, seams_beside
from planner.costs.time.update import MS, UpdateTime
from planner.formulas.faults import factor_at_scale
from planner.formulas.schedule import WEIGHT_SHARE
from planner.problem.awake_together import has_critic
from planner.problem.critics import of_critic
from planner.problem.layouts import Floats, Ints
from planner.units import US_PER_S

VISITS = ("train", "score", "swap", "update")
ONCE = ("swap", "update")
"""Visits in which no stage waits for another's micro-batches: as slow as the slowest stage."""
PCIE = "engine file: what activation_offload takes off the GPU; 0.8 of the PCIe rate each way"


@dataclass(frozen=True)
class StepTime(BusyTime):
    """Times of all rows; layouts have shape [rows, 1], stages [rows or 1, stages]."""

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
        """Forward and backward of one micro-batch on one stage; a critic's after the policy's, without logits."""
        return self._with_critic(self._policy, lambda critic: critic._policy, no_end=(ItemName.LOGITS_AND_LOSS,))

    @cached_property
    def _critic(self) -> StepTime | None:
        """Times of the critic's network in the policy's place."""
        if not has_critic(self.problem):
            return None
        own = of_critic(self.problem)
        return self if own is self.problem else replace(self, problem=own)

    def _with_critic(
        self, rows: tuple[Affine, ...], of: Callable[[StepTime], tuple[Affine, ...]], no_end: tuple[str, ...] = ()
    ) -> tuple[Affine, ...]:
        """The policy's items with those of a critic, if there is one, of whose layers a share runs for each of its."""
        critic = self._critic
        if critic is None:
            return rows
        share = critic.problem.architecture.num_hidden_layers / self.problem.architecture.num_hidden_layers
        more = {row.name: row for row in of(critic)}
        return tuple(
            row.beside(more[row.name], share, end=row.name not in no_end) if row.name in more else row for row in rows
        )

    @cached_property
    def _policy(self) -> tuple[Affine, ...]:
        lay, layer = self.layouts, self._layer
        zero = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        waits, end = self._waits[0] + self._waits[1], zero
        if np.any(self._leading):
            end = zero + self._leading * (sum(self._waiting(1.0, leading=True)) - waits)
        rows = [*self._busy, Affine(ItemName.WAITING_FOR_LAUNCHES, waits, self._waits[0], end, HOST)]
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

        Nothing hides the host's part, to which the gather of a tensor counts whose tensor-parallel ranks each send a
        part. Shape [rows, stages of the longest pipeline].
        """
        lay, timing = self.layouts, self.problem.engine.timing
        hidden = self.problem.architecture.hidden_size
        passed = whole = self._layer.sequence_tokens * hidden * self.problem.precision.activation_bytes
        gathered = np.zeros(np.shape(passed))
        if timing.partitioned_sends:
            cut = lay.sequence_parallel == 0
            passed = np.where(cut, whole / lay.tensor_parallel, whole)
            one = np.ones_like(lay.tensor_parallel)
            gathered = cut * self._layer.collective("all_gather", lay.tensor_parallel, one, whole)
        leaves = hops_between_nodes(self.problem, lay)
        stride = pipeline_stride(self.problem, lay)
        sends = [
            self._kernels.send(num_gpus=lay.num_gpus, stride=stride, leaves=out, size_bytes=passed)
            for out in (False, bool(np.any(leaves)))
        ]
        wire = np.where(leaves, sends[1], sends[0])
        across = timing.send_across_ms * MS * leaves * (lay.tensor_parallel - 1)
        return wire, timing.send_us / US_PER_S + across + gathered

    @cached_property
    def sends(self) -> Floats:
        """What a stage waits for its sends to and from its neighbours in both passes of one micro-batch. [s]

        One chunk a stage: both seams beside it, since a pass is sent and the next one received before anything else
        runs (Megatron-LM core/pipeline_parallel/p2p_communication.py, send_forward_recv_backward and its like wait for
        both). Interleaved: of both seams and the ends' outer one what the engine's overlap leaves, the turn of each of
        a chunk's two passes, and this micro-batch's share of `filling`.
        """
        lay, wraps = self.layouts, self.layouts.virtual_pipeline > 1
        wire, host = (seams_beside(each, lay, self.stage) for each in self.seams)
        around = self.send_share * (wire[0] + wire[1]) + host[0] + host[1] + 2 * self.chunk_seconds * wraps
        heavy, light = 1.0 * lay.num_micro_batches - 1 / lay.virtual_pipeline, 1 / lay.virtual_pipeline
        spread = self.filling / (heavy + light * lay.pipeline_parallel)
        return np.asarray((around * lay.virtual_pipeline + spread) * (lay.pipeline_parallel > 1))

    @property
    def send_share(self) -> Floats:
        """Times that a stage waits for a send over each seam beside it in both passes, in halves of what crosses it.

        1 where sends and receipts of one moment share the wire's two directions; 2 where they come one after another.
        """
        timing = self.problem.engine.timing
        return np.where(self.layouts.virtual_pipeline > 1, timing.chunk_send_share, 2.0 if timing.serial_sends else 1.0)

    @cached_property
    def filling(self) -> Floats:
        """What interleaved sends delay one filling and draining of the pipeline, where no other pass hides them. [s]

        The first micro-batch passes all p v - 1 seams on its way through, and its gradients on their way back; engines
        overlap sends in between (overlap_p2p_comm_warmup_flush of Megatron-LM is off unless told). Turns of more than p
        micro-batches leave room for the way back to the first stage: p - 1 seams. Shape [rows, 1].
        """
        lay, timing = self.layouts, self.problem.engine.timing
        seams = np.broadcast_to(self.seams[0], (len(lay), np.shape(self.seams[0])[-1]))
        index = np.arange(seams.shape[-1])[None, :]
        once = (seams * (index < lay.pipeline_parallel - 1)).sum(axis=-1, keepdims=True)
        last = (seams * (index == lay.pipeline_parallel - 1)).sum(axis=-1, keepdims=True)
        roomy = (self.problem.engine.pipeline.group_size or 0) > lay.pipeline_parallel
        rounds = np.where(roomy, 0, lay.virtual_pipeline - 1)
        hidden = (1 - timing.chunk_send_share) * (lay.virtual_pipeline > 1)
        return np.asarray(2 * hidden * (once + rounds * (once + last)))

    @cached_property
    def sends_of_scoring(self) -> Floats:
        """The same of forward passes alone, among which nothing hides a send. [s]"""
        lay = self.layouts
        wire, host = (seams_beside(each, lay, self.stage) for each in self.seams)
        around = (wire[0] + wire[1] + host[0] + host[1]) / 2 + self.chunk_seconds * (lay.virtual_pipeline > 1)
        return np.asarray(around * lay.virtual_pipeline * (lay.pipeline_parallel > 1))

    @property
    def chunk_seconds(self) -> float:
        """Of one pass of an interleaved chunk, beside its kernels and sends. [s]"""
        timing = self.problem.engine.timing
        return timing.launched_share * timing.chunk_us / US_PER_S

    @cached_property
    def score(self) -> tuple[Affine, ...]:
        """Forward passes before training of one micro-batch on one stage, in RL.

        They make log-probabilities (reference and old policy), and a critic's values, which have no logits.
        """
        passes = float(len(self.problem.scored_by))
        if not passes and self._critic is None:
            return ()
        return self._with_critic(self._scored(passes), lambda critic: critic._scored(1.0, logits=False))

    def _scored(self, passes: float, *, logits: bool = True) -> tuple[Affine, ...]:
        """So many forward passes; without logits no head runs."""
        rows = []
        larger = self._unequal.fewer  # micro-batches: fewer launches to wait for, and fewer gathers of sharded weights
        free = larger * self.free[0]
        once: dict[str, Callable[[], Floats]] = {
            ItemName.WAITING_FOR_LAUNCHES: lambda: self._waiting(larger)[0],
            ItemName.GATHERING_SHARDED_WEIGHTS: lambda: self._layer.zero_three((free, free))[0] / larger,
        }
        for row in self._policy:
            if row.name == ItemName.MOVING_ACTIVATIONS_TO_THE_HOST:
                continue
            again = once[row.name]() if row.name in once else row.recomputed
            end: Floats | float = 0.0
            if row.name == ItemName.LOGITS_AND_LOSS and logits:
                end = passes * (self._is_last * self._head_seconds()[0])
            if row.name == ItemName.PIPELINE_SENDS:
                end = passes * self.sends_of_scoring
            rows.append(Affine(row.name, passes * again, row.recomputed * 0.0, row.end * 0.0 + end, row.source))
        return tuple(rows)

    @cached_property
    def swap(self) -> tuple[Affine, ...]:
        """Once a step: the reference's weights take the place of the policy's on the GPU, and these theirs again."""
        each = seconds_to_swap_an_element(self.problem)
        if not each:
            return ()
        ends, one = (swapped_elements(self.problem, self.layouts, self.stage, number) for number in (0, 1))
        source = "engine file: swapped_gb_per_s"
        return (Affine(ItemName.REFERENCE_WEIGHTS_SWAPPED, each * (one - ends), ends * 0.0, each * ends, source),)

    @cached_property
    def update(self) -> tuple[Affine, ...]:
        """Once a step: gradients reduced, optimizer stepped, parameters gathered; of a critic too."""
        return self._with_critic(self._updated, lambda critic: critic._updated)

    @cached_property
    def _updated(self) -> tuple[Affine, ...]:
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
        rows = {"train": self.train, "score": self.score, "swap": self.swap, "update": self.update}[name]
        slower = self.problem.engine.passes_factor
        if self.problem.is_rl and name == "train" and slower != 1:
            rows = tuple(row.scaled(slower, "engine file: passes_factor") for row in rows)
        factor = self.problem.factor("log_probs" if name in ("score", "swap") else "train")
        return rows if factor == 1 else tuple(row.scaled(factor, "the calibration") for row in rows)

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """(weight of the slowest stage, weight of the sum over stages) of a visit, per row."""
        lay = self.layouts
        if name in ONCE:
            times = self.steps if name == "update" else 1
            return np.ones_like(lay.tensor_parallel) * float(times), np.zeros_like(lay.tensor_parallel) * 1.0
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
    def larger_when_scoring(self) -> Floats:
        """Micro-batches of training whose tokens one of scoring holds, per row."""
        return self._unequal.fewer

    @property
    def steps(self) -> int:
        """Optimizer steps that this step time covers (RL: those of one rollout)."""
        rl = self.problem.scenario.rl
        return rl.steps_per_rollout if rl is not None else 1
