"""Layers of which some attend and the others have linear attention: a mean layer of the network stands for each.

The delta rule is not cut along the sequence: context-parallel ranks exchange tokens for heads, or each runs everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.memory.layer_kinds import linear_cut
from planner.costs.time.hybrid import HybridLayerTime
from planner.costs.time.kernels import Pass
from planner.costs.time.layer import LayerTime
from planner.formulas.attention import LAUNCH_SECONDS
from planner.formulas.delta_rule import LAUNCHES, rule_seconds
from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem

CONVOLUTION_BYTES = (4.0, 8.0)
"""Bytes an element of queries, keys and values that the convolution with its activation moves, forward and backward."""
HEAD_BYTES = (14.0, 26.0)
"""The same of what stands between convolution and rule, an element of the repeated queries and keys: norms over heads,
repetition, copies."""
GATE_BYTES = (10.0, 20.0)
"""The same of the norm over a value head and its product with the gate; assumed as fused as norm and activation."""
OUTPUT_GATE_BYTES = (6.0, 12.0)
"""The same of the gate behind attention, as one kernel."""


def layer_time(problem: Problem, layouts: Layouts) -> LayerTime:
    """Times of the network's layers."""
    a = problem.architecture
    return (HybridLayerTime if a.is_hybrid else MixedLayerTime if a.is_linear else LayerTime)(problem, layouts)


@dataclass(frozen=True)
class MixedLayerTime(LayerTime):
    """Times of a network's mean layer."""

    @cached_property
    def _full(self) -> float:
        a = self.problem.architecture
        return a.full_attention_layers / a.num_hidden_layers

    @cached_property
    def _linear_tokens(self) -> Floats:
        """Tokens of one micro-batch that a rank runs through its share of the heads' width."""
        said, lay = self.problem.engine.linear_attention, self.layouts
        whole = said is not None and not said.sequence_cut
        return np.asarray(self.tokens * (lay.context_parallel if whole else 1))

    def _mean(self, full: Floats, linear: Floats) -> Floats:
        return np.asarray(self._full * full + (1 - self._full) * linear)

    def attention_products(self, which: Pass) -> Floats:
        """Projections into and out of attention of either kind. [s]"""
        a, cut = self.problem.architecture, linear_cut(self.problem, self.layouts.tensor_parallel)
        into = 2 * a.linear_key_width + 2 * a.linear_value_width + 2 * (a.linear_num_value_heads or 0)
        t, h, k = self._linear_tokens, np.asarray(a.hidden_size), self.kernels
        linear = k.linear(tokens=t, out=into / cut, into=h, which=which)
        linear = linear + k.linear(tokens=t, out=h, into=a.linear_value_width / cut, which=which)
        return self._mean(super().attention_products(which), linear)

    def attention(self, which: Pass) -> Floats:
        """Scores and their sum, or the delta rule. [s]"""
        a, lay, place = self.problem.architecture, self.layouts, which == "backward"
        said, cut = self.problem.engine.linear_attention, linear_cut(self.problem, lay.tensor_parallel)
        # By heads each context rank has whole sequences of fewer heads; otherwise all of both.
        by_heads = said is None or said.sequence_cut
        linear = rule_seconds(
            tokens=self.tokens * lay.context_parallel,
            sequence_length=self.attention_length,
            heads=(a.linear_num_value_heads or 0) / (cut * (lay.context_parallel if by_heads else 1)),
            key=a.linear_key_head_dim or 0,
            value=a.linear_value_head_dim or 0,
            memory_gb_per_s=self.problem.gpu.memory_bandwidth_gb_per_s,
            backward=place,
        )
        return self._mean(super().attention(which), np.asarray(linear + LAUNCHES[place] * LAUNCH_SECONDS))

    def elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Norms, residuals and activation function, with what stands around either kind of attention. [s]"""
        a, tp, place = self.problem.architecture, self.layouts.tensor_parallel, int(which == "backward")
        kinds, k = self.problem.engine.elementwise, self.kernels
        turned = self._pass(kinds.rotary, which, self.tokens * (a.query_width + a.key_value_width) / tp)
        full = k.elementwise(OUTPUT_GATE_BYTES[place] * self.tokens * a.attention_out_width / tp) * a.attn_output_gate
        each = self._linear_tokens / linear_cut(self.problem, tp)
        mixed, queries = 2 * a.linear_key_width + a.linear_value_width, a.linear_num_value_heads or 0
        linear = k.elementwise(CONVOLUTION_BYTES[place] * each * mixed)
        linear = linear + k.elementwise(HEAD_BYTES[place] * each * queries * (a.linear_key_head_dim or 0))
        linear = linear + k.elementwise(GATE_BYTES[place] * each * a.linear_value_width)
        return super().elementwise(which, moe_layer=moe_layer) + self._mean(full, linear - turned)

    def context_collectives(self, which: Pass) -> tuple[Floats, Floats]:
        """(in sight, behind attention) of one pass over one layer: of linear attention all in sight. [s]"""
        a, lay = self.problem.architecture, self.layouts
        said, cp = self.problem.engine.linear_attention, lay.context_parallel
        each = self.tokens * self.problem.precision.activation_bytes
        seen, hidden = super().context_collectives(which)
        if said is None or said.sequence_cut:
            widths = (2 * a.linear_key_width + 2 * a.linear_value_width, a.linear_value_width)
            sent = [
                self.collective("all_to_all", cp, lay.tensor_parallel, w / lay.tensor_parallel * each) for w in widths
            ]
            linear = np.asarray(sum(sent))
        else:
            whole = each * a.hidden_size * cp
            linear = self.collective("all_gather", cp, lay.tensor_parallel, whole) * (which == "forward")
        return self._mean(seen, linear), self._full * hidden
