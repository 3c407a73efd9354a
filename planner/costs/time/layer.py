"""Seconds of one pass over one layer, piece by piece: matrix products, attention, elementwise kernels, collectives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planner.costs.memory.layer_kinds import linear_cut
from planner.costs.memory.tensor_widths import offloaded_bytes
from planner.costs.micro_batches import tokens_at_most, tokens_on_average
from planner.costs.time.deduplicated import sent_copies
from planner.costs.time.kernels import Kernels, Pass
from planner.costs.time.modules import modules
from planner.costs.time.strides import data_strides
from planner.formulas.attention import LAUNCH_SECONDS
from planner.problem.copies import sharded_copies
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.problem.whole_gradients import (
    adding_bytes,
    gathering_shares,
    left_whole,
    reduced_at_the_end,
    reducing_share,
)
from planner.schema.catalog import Collective
from planner.schema.timing import PassKernels
from planner.units import GB, US_PER_S

CONTEXT_OVERLAP = 0.8
"""Share of a ring step's transfer of keys and values that the attention of the step before hides; assumed."""

UNGATED_SHARE = 2 / 3
"""Bytes of an activation function alone over those of one with a gate: 4 of 6 an element."""
PASSES: tuple[Pass, Pass] = ("forward", "backward")
COPY_SHARE = 0.8
"""Share of the PCIe rate that copies from and to pinned host memory reach (assumed)."""
HOST_GB_PER_S = 200.0
"""Host memory bandwidth of one node that a CPU optimizer reaches (two sockets of DDR5, about half of peak; assumed)."""


@dataclass(frozen=True)
class LayerTime:
    """Times of all rows; layouts have shape [rows, 1]."""

    problem: Problem
    layouts: Layouts

    @cached_property
    def kernels(self) -> Kernels:
        """Single kernels and collectives on the problem's GPU and cluster."""
        return Kernels(self.problem)

    @cached_property
    def tokens(self) -> Floats:
        """Tokens of one micro-batch on one context-parallel rank."""
        return tokens_on_average(self.problem, self.layouts)

    @cached_property
    def sequence_tokens(self) -> Floats:
        """Tokens that norms and residuals of one rank work on."""
        lay = self.layouts
        return np.where(lay.sequence_parallel == 1, self.tokens / lay.tensor_parallel, self.tokens)

    def collective(self, op: Collective, size: Ints, stride: Ints, size_bytes: Floats) -> Floats:
        """A collective of groups of `size` ranks that lie `stride` apart. [s]"""
        return self.kernels.collective(
            op,
            num_gpus=self.layouts.num_gpus,
            size=size,
            stride=stride,
            size_bytes=size_bytes,
        )

    def attention_products(self, which: Pass) -> Floats:
        """Query, key, value and output projections. [s]"""
        a, tp, k = self.problem.architecture, self.layouts.tensor_parallel, self.kernels
        t, h = self.tokens, a.hidden_size
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
            query = a.query_width * (1 + a.attn_output_gate) / tp
            apart = [(query, h), (kv, h), (kv, h)]
            parts = [(query + 2 * kv, h)] if self.problem.engine.fused_projections else apart
        gathered: Pass | None = None if a.is_mla else "forward"
        seconds = k.linear(
            tokens=t,
            out=np.asarray(h),
            into=a.attention_out_width / tp,
            which=which,
            gathered="backward",
            ranks=self.cast_ranks,
        )
        for out, into in parts:
            seconds = seconds + k.linear(
                tokens=t,
                out=np.asarray(out),
                into=np.asarray(into),
                which=which,
                gathered=gathered,
                ranks=self.cast_ranks,
            )
        return seconds

    @cached_property
    def cast_ranks(self) -> Ints | None:
        """Ranks that each cast their part of a sequence to fp8 before the gather; none where it is gathered first."""
        lay = self.layouts
        return np.where(lay.sequence_parallel == 1, lay.tensor_parallel, 1) if self.kernels.gathers_fp8 else None

    def mlp_products(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Dense MLP, or routed and shared experts. [s]"""
        a, lay, k = self.problem.architecture, self.layouts, self.kernels
        t, h, tp = self.tokens, np.asarray(a.hidden_size), lay.tensor_parallel
        wide = 2 if a.gated_mlp else 1
        if not moe_layer:
            ffn = a.intermediate_size / tp
            together = wide if self.problem.engine.fused_projections else 1
            cut = self.cast_ranks
            up = k.linear(tokens=t, out=together * ffn, into=h, which=which, gathered="forward", ranks=cut)
            down = k.linear(tokens=t, out=h, into=ffn, which=which, gathered="backward", ranks=cut)
            return wide // together * up + down
        experts, each = self.routed
        ffn = (a.moe_intermediate_size or 1) / lay.expert_tensor_parallel
        seconds = k.experts(experts=experts, tokens=each, out=wide * ffn, into=h, which=which)
        seconds = seconds + k.experts(experts=experts, tokens=each, out=h, into=ffn, which=which)
        if a.shared_expert_intermediate_size:
            shared = a.shared_expert_intermediate_size / tp
            seconds = seconds + k.linear(tokens=t, out=wide * shared, into=h, which=which)
            seconds = seconds + k.linear(tokens=t, out=h, into=shared, which=which)
        return seconds

    @property
    def routed(self) -> tuple[Floats, Floats]:
        """(experts of one rank, tokens of each): a rank's tokens go to its whole group, and as many come back."""
        a, lay = self.problem.architecture, self.layouts
        experts = (a.num_experts or 1) / lay.expert_parallel
        routed = self.tokens / lay.tensor_parallel * lay.expert_tensor_parallel * (a.num_experts_per_tok or 1)
        return experts, routed * self.problem.engine.routed_imbalance / experts

    @cached_property
    def attention_length(self) -> Floats:
        """Length of like sequences that make as much attention as many tokens: second moment over mean. [tokens]"""
        lay = self.layouts
        laws = [wish.law for wish in self.problem.wishes]
        longer = np.array([1.0 if law is None else law.attention_tokens / law.mean_tokens for law in laws])
        return np.asarray(lay.mean_sequence_length * longer[np.minimum(lay.wish, len(laws) - 1)])

    def attention(self, which: Pass) -> Floats:
        """Scores and their sum. With context parallelism a balanced ring: one kernel on a shorter span for each step.

        Each of the cp steps works on 1/cp of the sequence and merges its fp32 output with the one before. By
        all-to-all, one kernel on whole sequences of 1/cp of the heads.
        """
        a, lay = self.problem.architecture, self.layouts
        cp, by_heads = lay.context_parallel, self.problem.engine.context_by_heads
        length, ranks = self.attention_length, lay.tensor_parallel * (cp if by_heads else 1)
        whole = self.kernels.attention(
            sequence_length=length,
            span=length if by_heads else length / cp,
            micro_batch_size=self.tokens * cp / length,
            heads=a.num_attention_heads / ranks,
            kv_heads=np.maximum(a.num_key_value_heads / ranks, 1.0),
            which=which,
        )
        if by_heads:
            return whole
        merged = 12.0 * self.tokens * a.attention_out_width / lay.tensor_parallel
        steps = (cp - 1) * (self.kernels.elementwise(merged) + 20 / US_PER_S)
        return np.asarray(whole / cp + np.where(cp > 1, steps, 0.0))

    def elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Norms, residuals, rotary embedding and activation function, each a kernel of its own. [s]"""
        a, tp = self.problem.architecture, self.layouts.tensor_parallel
        kinds = self.problem.engine.elementwise
        seconds = self.norms(which) + 2 * self._pass(kinds.residual, which, self.sequence_tokens * a.hidden_size)
        turned = self.tokens * (a.query_width + a.key_value_width) / tp
        seconds = seconds + self._pass(kinds.rotary, which, turned)
        return np.asarray(seconds + self.mlp_elementwise(which, moe_layer=moe_layer))

    def mlp_elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """The activation function of a dense MLP, or of experts with the permutations around them. [s]"""
        a, kinds = self.problem.architecture, self.problem.engine.elementwise
        if not moe_layer:
            return self.activation(which, a.intermediate_size)
        width = (a.num_experts_per_tok or 1) * (a.moe_intermediate_size or 1) + a.shared_expert_intermediate_size
        permuted = self.tokens / self.layouts.tensor_parallel * (a.num_experts_per_tok or 1) * a.hidden_size
        seconds = 2 * self.kernels.elementwise(self._moves(which) * 4 * permuted)
        if a.mlp_bias and any(kinds.expert_bias.bytes):
            seconds = seconds + self._pass(kinds.expert_bias, which, permuted)
        return seconds + self.activation(which, width)

    def _moves(self, which: Pass) -> float:
        """Times that a pass moves the bytes of a fused forward kernel."""
        return self.problem.engine.elementwise_factor * (1.0 if which == "forward" else 2.0)

    def _pass(self, kind: PassKernels, which: Pass, elements: Floats, share: float = 1.0) -> Floats:
        """Seconds of the kernels of one kind; `share` of their bytes where they move less. [s]"""
        place = PASSES.index(which)
        moved = self.problem.engine.elementwise_factor * share * kind.bytes[place] * elements
        return self.kernels.elementwise(moved) + (kind.launches[place] - 1) * LAUNCH_SECONDS

    def norms(self, which: Pass) -> Floats:
        """The two norms of a layer. [s]"""
        hidden = self.sequence_tokens * self.problem.architecture.hidden_size
        return 2 * self._pass(self.problem.engine.elementwise.norm, which, hidden)

    def activation(self, which: Pass, width: float) -> Floats:
        """The activation function of an MLP or of experts that are so wide together. [s]"""
        elements = self.tokens * width / self.layouts.tensor_parallel
        share = 1.0 if self.problem.architecture.gated_mlp else UNGATED_SHARE
        return self._pass(self.problem.engine.elementwise.activation, which, elements, share)

    @cached_property
    def layer_parameters(self) -> tuple[Floats, Floats]:
        """(dense, expert) parameters of one usual layer on one rank of its tensor and expert group. [elements]"""
        p, lay = self.problem.parameters, self.layouts
        layer = p.moe_layer or p.dense_layer
        whole = layer.linear_sharded * (1 - lay.tensor_parallel / linear_cut(self.problem, lay.tensor_parallel))
        dense = (layer.total - layer.routed_experts - whole) / lay.tensor_parallel
        return np.asarray(dense), layer.routed_experts / (lay.expert_parallel * lay.expert_tensor_parallel)

    def accumulate(self) -> Floats:
        """Gradients added to the accumulated ones, stored weights cast: of one layer and micro-batch. [s]"""
        timing = self.problem.engine.timing
        dense, expert = timing.accumulate_bytes, timing.expert_accumulate_bytes
        expert = dense if expert is None else expert
        if self.problem.scenario.adapter is not None:
            dense = expert = 0.0
        weights, routed = self.layer_parameters
        moved = np.asarray((timing.cast_bytes + dense) * weights + (timing.cast_bytes + expert) * routed)
        moved = moved + adding_bytes(self.problem, self.layouts) * (weights + routed)
        if not np.any(moved):
            return np.zeros(np.shape(self.layouts.tensor_parallel))
        return np.where(moved > 0, self.kernels.elementwise(moved), 0.0)

    def to_the_host(self) -> tuple[Floats, Floats]:
        """Moving what one layer keeps in host memory one way over PCIe: of a (kept, recomputed) layer. [s]"""
        lay = self.layouts
        seen = self.tokens / tokens_at_most(lay)
        kept, stub = (amount * seen / self._host_rate for amount in offloaded_bytes(self.problem, lay))
        return kept, stub

    def host(self, more: float = 0.0, *, moe_layer: bool = False) -> Floats:
        """Time the host needs to launch one pass over one layer; `more` is the share of kernels that are added. [s]"""
        timing, lay = self.problem.engine.timing, self.layouts
        hooks = timing.sharded_module_us * modules(self.problem) * (lay.zero_stage >= 3)
        launched = timing.host_us * (1 + more) + timing.expert_host_us * moe_layer + hooks
        launched = launched + timing.host_tensor_parallel_us * (lay.tensor_parallel > 1)
        return np.asarray(timing.launched_share * launched / US_PER_S)

    def tensor_collectives(self) -> Floats:
        """Of one pass over one layer, either way: two all-gathers and two reduce-scatters, or two all-reduces. [s]

        Each takes longer for each further node of its group, where the engine's file says so.
        """
        lay = self.layouts
        one = np.ones_like(lay.tensor_parallel)
        further = np.ceil(lay.tensor_parallel / self.problem.node.gpus_per_node) - 1
        across = 2 * self.problem.engine.timing.tensor_across_us / US_PER_S * further
        hidden = self.tokens * self.problem.architecture.hidden_size
        whole = hidden * self.problem.precision.activation_bytes
        cut = self.collective(
            "all_gather", lay.tensor_parallel, one, hidden if self.kernels.gathers_fp8 else whole
        ) + self.collective("reduce_scatter", lay.tensor_parallel, one, whole)
        seconds = cut
        if not bool(np.all(lay.sequence_parallel == 1)):
            reduced = self.collective("all_reduce", lay.tensor_parallel, one, whole)
            seconds = np.where(lay.sequence_parallel == 1, cut, reduced)
            across = np.where(lay.sequence_parallel == 1, across, across / 2)
        return (2 * seconds + 2 * across) * (1 - self.problem.engine.overlap.tensor)

    def context_collectives(self, which: Pass) -> tuple[Floats, Floats]:
        """(in sight, behind attention) of one pass over one layer. [s]

        Keys and values of the other ranks round a ring, their gradients too going backward. By all-to-all (Ulysses,
        arXiv:2309.14509) queries, keys and values each trade tokens for heads before attention and its output after
        it, four exchanges that nothing hides; their gradients the same way back.
        """
        a, lay = self.problem.architecture, self.layouts
        cp, each = lay.context_parallel, self.tokens * self.problem.precision.activation_bytes
        key = value = np.maximum(a.num_key_value_heads / lay.tensor_parallel, 1.0) * a.head_dim
        if self.problem.engine.context_by_heads:
            query, out = (width / lay.tensor_parallel for width in (a.query_width, a.attention_out_width))
            key = value = np.maximum(key, cp * a.head_dim)  # a key head for each rank: fewer are copied
            if a.is_mla:
                key, value = query, out
            sent = [self.collective("all_to_all", cp, lay.tensor_parallel, w * each) for w in (query, key, value, out)]
            return np.asarray(sum(sent)), np.zeros(np.shape(cp))
        sent_on = (key + value) * each
        hop = self.kernels.ring_hop(num_gpus=lay.num_gpus, size=cp, stride=lay.tensor_parallel, size_bytes=sent_on)
        hop = hop * (1.0 if which == "forward" else 2.0)
        step = self.attention(which) / cp
        exposed = np.maximum(hop - step * CONTEXT_OVERLAP, (1 - CONTEXT_OVERLAP) * hop)
        return np.where(cp > 1, (cp - 1) * exposed, 0.0), np.where(cp > 1, (cp - 1) * (hop - exposed), 0.0)

    def expert_collectives(self) -> Floats:
        """Of one pass over one layer: tokens to their experts and back, cut experts gathered from their ranks. [s]"""
        a, lay, timing = self.problem.architecture, self.layouts, self.problem.engine.timing
        chosen = a.num_experts_per_tok or 1
        copies, faster = sent_copies(self.problem, lay)
        each = self.tokens / lay.tensor_parallel * a.hidden_size * self.problem.precision.activation_bytes
        etp = lay.expert_tensor_parallel
        seconds = 2 * self.collective("all_to_all", lay.expert_parallel, etp, each * copies) / faster
        one = np.ones_like(etp)
        for op in ("all_gather", "reduce_scatter"):
            seconds = seconds + self.collective(op, etp, one, each * chosen * etp)
        return np.asarray(seconds * (1 - timing.expert_overlap))

    def zero_three(self, free: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
        """(forward, backward) of one layer and micro-batch: gathers and the gradient's scatter that stay in sight. [s]

        `free` are the seconds of both passes that no other collective hides behind. Forward hides one gather, backward
        another and, where it reduces, the scatter; what runs beside kernels slows them by the engine's tax. Which
        passes gather and reduce: planner/problem/whole_gradients.py.
        """
        lay, engine = self.layouts, self.problem.engine
        timing, share = engine.timing, engine.overlap.data
        dense, expert = self.layer_parameters
        ranks = lay.data_parallel * lay.context_parallel
        grid = lay.expert_parallel * lay.expert_tensor_parallel
        apart = data_strides(self.problem, lay)
        copies = np.maximum(sharded_copies(self.problem, lay), 1).astype(np.int64)
        groups = [(dense, ranks, apart[0])]
        if self.problem.architecture.is_moe:
            groups.append((expert, np.maximum(ranks * lay.tensor_parallel // grid, 1), apart[1]))
        gathered, reduced, added = np.asarray(0.0), np.asarray(0.0), np.asarray(0.0)
        weight = self.problem.under_way(timing.gather_bytes)
        for elements, every, stride in groups:
            size = np.maximum(every // copies, 1)
            gathered = gathered + self.collective("all_gather", size, stride, elements * weight)
            gathered = gathered + self._from_host(elements / size)
            if self.problem.trains_all_weights:
                sent = elements * self.reduce_bytes
                reduced = reduced + self.collective("reduce_scatter", size, stride, sent)
                if np.any(copies > 1):
                    reduced = reduced + self.collective("all_reduce", copies, stride * size, sent / size)
                beside, after = self.gradients_out(elements / size)
                reduced, added = reduced + beside, added + after

        def exposed(comm: Floats, window: Floats) -> Floats:
            hidden = np.minimum(share * comm, window)
            return comm - hidden * (1 - timing.sm_tax)

        on = lay.zero_stage >= 3
        first, again = gathering_shares(self.problem, lay)
        often, late = reducing_share(self.problem, lay), reduced_at_the_end(self.problem, lay)
        plain, beside = exposed(again * gathered, free[1]), again * gathered + np.where(late, 0.0, reduced)
        backward = plain + often * (exposed(beside, free[1]) + np.where(late, reduced, 0.0) + added - plain)
        return np.where(on, first * exposed(gathered, free[0]), 0.0), np.where(on, backward, 0.0)

    def _from_host(self, shard: Floats) -> Floats:
        """Copying so many weights in over PCIe before they are gathered, where their shards wait on the host. [s]"""
        problem = self.problem
        held = problem.weight_bytes if problem.trains_all_weights else problem.base_weight_bytes
        return shard * held * problem.weights_on_host / self._host_rate

    def gradients_out(self, shard: Floats) -> tuple[Floats, Floats]:
        """(hidden like the reduction, in sight) of copying so many gradients to the host: of one micro-batch. [s]

        Those that a step reduces first are copied beside the backward pass; a later micro-batch's wait for their copy
        and are added on the host, which reads two fp32 numbers and writes one.

        Source: torch 2.13.0 distributed/fsdp/_fully_shard/_fsdp_collectives.py, foreach_reduce.
        """
        problem, lay = self.problem, self.layouts
        copied = shard * problem.gradient_bytes * problem.gradients_on_host / self._host_rate
        ranks = np.minimum(lay.num_gpus, problem.node.gpus_per_host or problem.node.gpus_per_node)
        summed = 12.0 * shard * ranks * problem.gradients_on_host / (HOST_GB_PER_S * GB)
        later = (lay.num_micro_batches - 1) / np.maximum(lay.num_micro_batches, 1) * ~left_whole(problem, lay)
        return copied * (1 - later), (copied + summed) * later

    @property
    def _host_rate(self) -> float:
        """Of copies between pinned host memory and one GPU. [B/s]"""
        return COPY_SHARE * self.problem.gpu.pcie_gb_per_s * GB

    @property
    def reduce_bytes(self) -> float:
        """Bytes a parameter that data-parallel ranks reduce."""
        each = self.problem.engine.gradient_reduce_bytes
        return self.problem.precision.weight_bytes if each == "precision" else self.problem.under_way(each)
