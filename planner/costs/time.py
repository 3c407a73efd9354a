"""Time of one optimizer step as ledgers of seconds, affine in a stage's layers n and recomputed layers r.

A step is a sum over *visits*: a visit repeats a piece of work for every micro-batch through the pipeline, and costs

    (m - 1/v) * max over stages of t + (sum over stages of t) / v           1F1B, interleaved with v chunks

which for equal stages is (m + (p - 1) / v) t. The visit `train` is forward and backward, `score` (RL) the forward
passes for log-probabilities, `update` happens once and is as slow as its slowest stage. `t` of a stage is affine:
n * layer + r * recomputed layer + its ends. Source: Narayanan et al. 2021, arXiv:2104.04473, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planner.costs.kernels import Kernels, Pass
from planner.costs.ledger import Item
from planner.costs.memory import StageMemory
from planner.costs.widths import padded_vocab_size
from planner.layouts import Floats, Ints, Layouts
from planner.problem import Problem
from planner.units import GB

VISITS = ("train", "score", "update")
GRID = "catalogs/measured: GEMM grids of ai-dynamo/aiconfigurator"
NCCL = "catalogs/measured: NCCL curves of ai-dynamo/aiconfigurator; planner/topology.py between nodes"
FLASH = "planner/formulas/attention.py"
BYTES = "bytes moved / (0.8 bandwidth) + 3 us a kernel"
HOST_GB_PER_S = 200.0
"""Host memory bandwidth of one node that a CPU optimizer reaches (two sockets of DDR5, about half of peak; assumed)."""


@dataclass(frozen=True)
class Affine:
    """One time item of a stage: n * layer + r * recomputed + end."""

    name: str
    layer: Floats
    recomputed: Floats
    end: Floats
    """[rows, stages] or broadcastable: what the stage does beside its usual layers."""
    source: str

    def seconds(self, layers: Ints, recomputed: Ints) -> Floats:
        """Seconds of one visit of the stage. [s]"""
        return np.asarray(layers * self.layer + recomputed * self.recomputed + self.end)


@dataclass(frozen=True)
class StepTime:
    """Times of all rows; layouts have shape [rows, 1], stages [rows or 1, stages]."""

    problem: Problem
    layouts: Layouts
    stage: Ints

    @cached_property
    def _kernels(self) -> Kernels:
        return Kernels(self.problem)

    @cached_property
    def _tokens(self) -> Floats:
        lay = self.layouts
        return lay.micro_batch_size * lay.mean_sequence_length / lay.context_parallel

    @cached_property
    def _sequence_tokens(self) -> Floats:
        """Tokens that norms and residuals of one rank work on."""
        lay = self.layouts
        return np.where(lay.sequence_parallel == 1, self._tokens / lay.tensor_parallel, self._tokens)

    @cached_property
    def _is_first(self) -> Floats:
        return np.asarray(self.stage == 0, dtype=float)

    @cached_property
    def _is_last(self) -> Floats:
        return np.asarray(self.stage == self.layouts.pipeline_parallel - 1, dtype=float)

    def _collective(self, op: str, size: Ints, stride: Ints, size_bytes: Floats) -> Floats:
        return self._kernels.collective(
            op,  # type: ignore[arg-type]
            num_gpus=self.layouts.num_gpus,
            size=size,
            stride=stride,
            size_bytes=size_bytes,
        )

    def _attention_products(self, which: Pass) -> Floats:
        a, tp, k = self.problem.architecture, self.layouts.tensor_parallel, self._kernels
        t, h = self._tokens, a.hidden_size
        if a.is_mla:
            latent = (a.kv_lora_rank or 0) + (a.qk_rope_head_dim or 0)
            up = a.num_attention_heads * ((a.qk_nope_head_dim or 0) + (a.v_head_dim or 0))
            parts: list[tuple[Any, Any]] = [(latent, h), (up / tp, a.kv_lora_rank or 0)]
            if a.q_lora_rank:
                parts += [(a.q_lora_rank, h), (a.query_width / tp, a.q_lora_rank)]
            else:
                parts += [(a.query_width / tp, h)]
        else:
            kv = np.maximum(a.num_key_value_heads / tp, 1.0) * a.head_dim
            parts = [(a.query_width / tp + 2 * kv, h)]
        parts.append((h, a.attention_out_width / tp))
        seconds = np.asarray(0.0)
        for out, into in parts:
            seconds = seconds + k.linear(tokens=t, out=np.asarray(out), into=np.asarray(into), which=which)
        return seconds

    def _mlp_products(self, which: Pass, *, moe_layer: bool) -> Floats:
        a, lay, k = self.problem.architecture, self.layouts, self._kernels
        t, h, tp = self._tokens, np.asarray(a.hidden_size), lay.tensor_parallel
        wide = 2 if a.gated_mlp else 1
        if not moe_layer:
            ffn = a.intermediate_size / tp
            return k.linear(tokens=t, out=wide * ffn, into=h, which=which) + k.linear(
                tokens=t, out=h, into=ffn, which=which
            )
        experts = (a.num_experts or 1) / lay.expert_parallel
        routed = t / tp * lay.expert_tensor_parallel * (a.num_experts_per_tok or 1)
        each = routed * self.problem.engine.routed_imbalance / experts
        ffn = (a.moe_intermediate_size or 1) / lay.expert_tensor_parallel
        seconds = k.experts(experts=experts, tokens=each, out=wide * ffn, into=h, which=which)
        seconds = seconds + k.experts(experts=experts, tokens=each, out=h, into=ffn, which=which)
        if a.shared_expert_intermediate_size:
            shared = a.shared_expert_intermediate_size / tp
            seconds = seconds + k.linear(tokens=t, out=wide * shared, into=h, which=which)
            seconds = seconds + k.linear(tokens=t, out=h, into=shared, which=which)
        return seconds

    def _attention(self, which: Pass) -> Floats:
        a, lay = self.problem.architecture, self.layouts
        whole = self._kernels.attention(
            sequence_length=lay.mean_sequence_length * 1.0,
            micro_batch_size=lay.micro_batch_size * 1.0,
            heads=a.num_attention_heads / lay.tensor_parallel,
            kv_heads=np.maximum(a.num_key_value_heads / lay.tensor_parallel, 1.0),
            which=which,
        )
        return whole / lay.context_parallel

    def _elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Norms, residuals, rotary embedding and activation function, each a kernel of its own."""
        a, tp, k = self.problem.architecture, self.layouts.tensor_parallel, self._kernels
        factor = self.problem.engine.elementwise_factor * (1.0 if which == "forward" else 2.0)
        hidden = self._sequence_tokens * a.hidden_size
        seconds = 2 * k.elementwise(factor * 4 * hidden) + 2 * k.elementwise(factor * 6 * hidden)
        seconds = seconds + k.elementwise(factor * 4 * self._tokens * (a.query_width + a.key_value_width) / tp)
        width: float = a.intermediate_size
        if moe_layer:
            width = (a.num_experts_per_tok or 1) * (a.moe_intermediate_size or 1) + a.shared_expert_intermediate_size
            permuted = self._tokens / tp * (a.num_experts_per_tok or 1) * a.hidden_size
            seconds = seconds + 2 * k.elementwise(factor * 4 * permuted)
        moved = 6.0 if a.gated_mlp else 4.0
        return np.asarray(seconds + k.elementwise(factor * moved * self._tokens * width / tp))

    def _tensor_collectives(self) -> Floats:
        """Of one pass over one layer, either way: two all-gathers and two reduce-scatters, or two all-reduces."""
        lay = self.layouts
        one = np.ones_like(lay.tensor_parallel)
        whole = self._tokens * self.problem.architecture.hidden_size * self.problem.precision.activation_bytes
        cut = self._collective("all_gather", lay.tensor_parallel, one, whole) + self._collective(
            "reduce_scatter", lay.tensor_parallel, one, whole
        )
        seconds = cut
        if not bool(np.all(lay.sequence_parallel == 1)):
            reduced = self._collective("all_reduce", lay.tensor_parallel, one, whole)
            seconds = np.where(lay.sequence_parallel == 1, cut, reduced)
        return 2 * seconds * (1 - self.problem.engine.overlap.tensor)

    def _context_collectives(self, which: Pass) -> Floats:
        """Keys and values of the other context-parallel ranks; their gradients travel back in the backward pass."""
        a, lay = self.problem.architecture, self.layouts
        local = np.maximum(a.num_key_value_heads / lay.tensor_parallel, 1.0) * a.head_dim
        whole = 2 * local * lay.micro_batch_size * lay.mean_sequence_length * self.problem.precision.activation_bytes
        gathered = self._collective("all_gather", lay.context_parallel, lay.tensor_parallel, whole)
        if which == "forward":
            return gathered
        return gathered + self._collective("reduce_scatter", lay.context_parallel, lay.tensor_parallel, whole)

    def _expert_collectives(self) -> Floats:
        """Of one pass over one layer: tokens to their experts and back."""
        a, lay = self.problem.architecture, self.layouts
        sent = self._tokens / lay.tensor_parallel * (a.num_experts_per_tok or 1) * a.hidden_size
        sent = sent * lay.expert_tensor_parallel * self.problem.precision.activation_bytes
        return 2 * self._collective("all_to_all", lay.expert_parallel, lay.expert_tensor_parallel, sent)

    def _zero_three(self) -> Floats:
        """Of one layer and micro-batch: weights gathered twice and gradients reduced once, what compute cannot hide."""
        lay, engine = self.layouts, self.problem.engine
        p = self.problem.parameters
        layer = p.moe_layer or p.dense_layer
        whole = layer.total * 2.0
        group = lay.data_parallel * lay.context_parallel
        gathered = self._collective("all_gather", group, lay.tensor_parallel, whole / lay.tensor_parallel)
        reduced = self._collective("reduce_scatter", group, lay.tensor_parallel, whole / lay.tensor_parallel)
        if self.problem.scenario.adapter is not None:
            reduced = reduced * 0.0
        comm = 2 * gathered + reduced
        compute = self._attention_products("forward") * 3 + self._mlp_products("forward", moe_layer=self._moe) * 3
        exposed = np.maximum(comm * (1 - engine.overlap.data), comm - compute)
        return np.where(lay.zero_stage >= 3, exposed, 0.0)

    @property
    def _moe(self) -> bool:
        return self.problem.architecture.is_moe

    @cached_property
    def train(self) -> tuple[Affine, ...]:
        """Forward and backward of one micro-batch on one stage."""
        a, lay = self.problem.architecture, self.layouts
        zero = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(self.stage)))
        leading = self._is_first * self.problem.parameters.num_dense_layers * self._moe
        rows: list[Affine] = []

        def add(name: str, forward: Floats, backward: Floats, swap: Floats | float, end: Floats, source: str) -> None:
            rows.append(Affine(name, forward + backward, forward, zero + leading * swap + end, source))

        def both(function: object, **kwargs: bool) -> tuple[Floats, Floats]:
            return function("forward", **kwargs), function("backward", **kwargs)  # type: ignore[operator]

        forward, backward = both(self._mlp_products, moe_layer=self._moe)
        swap: Floats | float = 0.0
        if self._moe and self.problem.parameters.num_dense_layers:
            dense = both(self._mlp_products, moe_layer=False)
            swap = dense[0] + dense[1] - (forward + backward)
        projected = both(self._attention_products)
        add("matrix products", forward + projected[0], backward + projected[1], swap, zero, GRID)
        add("attention", *both(self._attention), 0.0, zero, FLASH)
        add("elementwise kernels", *both(self._elementwise, moe_layer=self._moe), 0.0, zero, BYTES)
        rows.append(self._head(zero))
        if np.any(lay.tensor_parallel > 1):
            ring = self._tensor_collectives()
            add("tensor-parallel collectives", ring, ring, 0.0, zero, NCCL)
        if np.any(lay.context_parallel > 1):
            add("context-parallel collectives", *both(self._context_collectives), 0.0, zero, NCCL)
        if self._moe and np.any(lay.expert_parallel > 1):
            sent = self._expert_collectives()
            add("expert all-to-all", sent, sent, -2 * sent, zero, NCCL)
        if np.any(lay.zero_stage >= 3):
            rows.append(Affine("gathering sharded weights", self._zero_three(), zero, zero, NCCL))
        if np.any(lay.pipeline_parallel > 1):
            passed = self._sequence_tokens * a.hidden_size * self.problem.precision.activation_bytes
            stride = lay.num_gpus // lay.pipeline_parallel
            hop = self._kernels.point_to_point(num_gpus=lay.num_gpus, stride=stride, size_bytes=passed)
            hops = 2 * hop * (lay.pipeline_parallel > 1) * lay.virtual_pipeline
            rows.append(Affine("pipeline sends", zero, zero, zero + hops, NCCL))
        return tuple(rows)

    def _head(self, zero: Floats) -> Affine:
        """Logits, loss and their backward pass on the last stage; the embedding on the first is a lookup."""
        forward, backward = self._head_seconds()
        lookup = self._kernels.elementwise(6.0 * self._tokens * self.problem.architecture.hidden_size)
        return Affine(
            "logits and loss", zero, zero, zero + self._is_last * (forward + backward) + self._is_first * lookup, GRID
        )

    def _head_seconds(self) -> tuple[Floats, Floats]:
        a, lay, k = self.problem.architecture, self.layouts, self._kernels
        vocab = padded_vocab_size(
            vocab_size=a.vocab_size,
            divisible_by=self.problem.engine.vocab_divisible_by,
            tensor_parallel=lay.tensor_parallel,
        )
        into = np.asarray(a.hidden_size)
        logits = self._tokens * vocab / lay.tensor_parallel
        loss = k.elementwise(10.0 * logits)
        forward = k.linear(tokens=self._tokens, out=vocab / lay.tensor_parallel, into=into, which="forward")
        backward = k.linear(tokens=self._tokens, out=vocab / lay.tensor_parallel, into=into, which="backward")
        return forward + loss, backward + loss

    @cached_property
    def score(self) -> tuple[Affine, ...]:
        """Forward passes for log-probabilities (reference and old policy) of one micro-batch on one stage, in RL."""
        rl = self.problem.scenario.rl
        if rl is None:
            return ()
        passes = float(rl.reference_model) + float(rl.old_log_probs)
        rows = []
        for row in self.train:
            end = passes * (self._is_last * self._head_seconds()[0]) if row.name == "logits and loss" else 0.0
            if row.name == "pipeline sends":
                end = passes * row.end / 2
            rows.append(
                Affine(row.name, passes * row.recomputed, row.recomputed * 0.0, row.end * 0.0 + end, row.source)
            )
        return tuple(rows)

    @cached_property
    def update(self) -> tuple[Affine, ...]:
        """Once a step: gradients reduced, optimizer stepped, parameters gathered."""
        problem, lay = self.problem, self.layouts
        one, zero = np.ones_like(self.stage), np.zeros_like(self.stage)

        def at(layers: Ints) -> StageMemory:
            return StageMemory(problem, lay, self.stage, layers, zero)

        base, more = at(zero), at(one)
        rows: list[Affine] = []
        for name, function in (("data-parallel collectives", self._reduce), ("optimizer step", self._optimizer)):
            end, layer = function(base), function(more)
            source = NCCL if name.startswith("data") else "catalogs/optimizers: bytes moved a parameter"
            rows.append(Affine(name, layer - end, end * 0.0, end, source))
        return tuple(rows)

    def _reduce(self, memory: StageMemory) -> Floats:
        """Seconds of gradient reduction and parameter gathering that the backward pass does not hide. [s]

        Charged at the bandwidth of one whole-stage transfer, so that it stays affine in the layers.
        """
        problem, lay = self.problem, self.layouts
        engine = problem.engine
        reduce_bytes = engine.gradient_reduce_bytes
        each = problem.precision.weight_bytes if reduce_bytes == "precision" else reduce_bytes
        seconds = np.zeros(np.broadcast_shapes(np.shape(lay.tensor_parallel), np.shape(memory.stage)))
        stride = (lay.tensor_parallel, lay.expert_parallel * lay.expert_tensor_parallel)
        for parameters, ranks, step in zip(memory.trainable, memory.shards, stride, strict=True):
            if not np.any(parameters) or not np.any(ranks > 1):
                continue
            group = ranks.astype(np.int64) + np.zeros(seconds.shape, dtype=np.int64)
            rate = self._seconds_per_byte(group, step)
            reduced = np.where(lay.zero_stage == 0, rate[0], rate[1] * 1.0) * parameters * each
            gathered = np.where((lay.zero_stage == 1) | (lay.zero_stage == 2), rate[2], 0.0) * parameters * 2.0
            whole = np.where(lay.zero_stage >= 3, 0.0, reduced + gathered)
            seconds = seconds + whole * (1 - engine.overlap.data)
        return seconds

    def _seconds_per_byte(self, group: Ints, stride: Ints) -> tuple[Floats, Floats, Floats]:
        """(all-reduce, reduce-scatter, all-gather) seconds a byte at the size of a whole even stage. [s/B]"""
        lay, p = self.layouts, self.problem.parameters
        typical = np.maximum(p.total * 4.0 / (lay.tensor_parallel * lay.pipeline_parallel), 1.0)
        typical = np.minimum(typical, 4.0 * GB)
        return tuple(
            self._collective(op, group, stride, typical + np.zeros(group.shape)) / typical
            for op in ("all_reduce", "reduce_scatter", "all_gather")
        )  # type: ignore[return-value]

    def _optimizer(self, memory: StageMemory) -> Floats:
        """Seconds of the optimizer's own memory traffic. [s]"""
        problem, lay = self.problem, self.layouts
        moved = np.array([o.memory_passes_bytes for o in problem.optimizers])[lay.optimizer]
        cut = lay.zero_stage >= 1
        dense, expert = memory.trainable
        local = dense / np.where(cut, memory.shards[0], 1.0) + expert / np.where(cut, memory.shards[1], 1.0)
        if problem.scenario.layout.optimizer_offload:
            ranks = np.minimum(lay.num_gpus, problem.node.gpus_per_host or problem.node.gpus_per_node)
            pcie = (problem.gradient_bytes + problem.weight_bytes) * local / (0.8 * problem.gpu.pcie_gb_per_s * GB)
            return np.asarray(pcie + local * moved * ranks / (HOST_GB_PER_S * GB))
        return np.asarray(local * moved / (0.8 * problem.gpu.memory_bandwidth_gb_per_s * GB))

    def visit(self, name: str) -> tuple[Affine, ...]:
        """The items of a visit by its name."""
        return {"train": self.train, "score": self.score, "update": self.update}[name]

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """(weight of the slowest stage, weight of the sum over stages) of a visit, per row."""
        lay = self.layouts
        if name == "update":
            return np.ones_like(lay.tensor_parallel) * float(self.steps), np.zeros_like(lay.tensor_parallel) * 1.0
        v = lay.virtual_pipeline
        many = lay.num_micro_batches * self.steps
        return many - self.steps / v, self.steps / v * np.ones_like(many)

    @property
    def steps(self) -> int:
        """Optimizer steps that this step time covers (RL: those of one rollout)."""
        rl = self.problem.scenario.rl
        return rl.steps_per_rollout if rl is not None else 1


def step_items(
    time: StepTime, *, layers: Ints, recomputed: Ints, stages: Floats
) -> dict[str, tuple[tuple[Item, ...], Floats]]:
    """(items, seconds) of each visit for rows of layouts; `stages` is 1 where a row has that stage.

    Items are those of the slowest stage times the micro-batches, and the pipeline's fill and drain on top; they add up.
    """
    out = {}
    for name in VISITS:
        rows = time.visit(name)
        if not rows:
            continue
        each = [row.seconds(layers, recomputed) * stages for row in rows]
        whole = np.sum(each, axis=0)
        slowest = np.argmax(whole, axis=-1)[..., None]
        heavy, light = (w[..., 0] for w in time.weights(name))
        top = np.take_along_axis(whole, slowest, axis=-1)[..., 0]
        items = [
            Item(row.name, np.take_along_axis(part, slowest, axis=-1)[..., 0] * (heavy + light), row.source)
            for row, part in zip(rows, each, strict=True)
        ]
        if name != "update":
            rest = light * (whole.sum(axis=-1) - top)
            items.append(
                Item("pipeline bubble", rest, "arXiv:2104.04473, (p - 1) / v micro-batches, unequal stages summed")
            )
        out[name] = (tuple(items), heavy * top + light * whole.sum(axis=-1))
    return out
