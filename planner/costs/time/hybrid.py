"""Layers of one block alone (Mamba-2, attention, an MLP or experts): a mean layer of the network stands for each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.memory.layer_kinds import linear_cut
from planner.costs.time.kernels import Pass
from planner.costs.time.layer import LayerTime
from planner.formulas.attention import LAUNCH_SECONDS
from planner.formulas.state_scan import LAUNCHES, scan_bytes, scan_seconds
from planner.problem.layouts import Floats
from planner.schema.architecture import LayerKind

CONVOLUTION_BYTES = (4.0, 12.0)
"""Bytes an element that the convolution with its activation moves, forward and backward, where it runs once more."""
GATED_NORM_BYTES = (6.0, 14.0)
"""Bytes an element of the norm behind the scan with its gate, one kernel either way."""


@dataclass(frozen=True)
class HybridLayerTime(LayerTime):
    """Times of a network's mean layer; one norm and one residual each."""

    @cached_property
    def _share(self) -> dict[LayerKind, float]:
        a = self.problem.architecture
        return {kind: a.layers_of(kind) / a.num_hidden_layers for kind in ("attention", "mamba", "mlp")}

    def attention_products(self, which: Pass) -> Floats:
        """Projections into and out of attention and Mamba-2. [s]"""
        a, k, h = self.problem.architecture, self.kernels, np.asarray(self.problem.architecture.hidden_size)
        cut = linear_cut(self.problem, self.layouts.tensor_parallel)
        mamba = k.linear(tokens=self.tokens, out=a.mamba_projected / cut, into=h, which=which)
        mamba = mamba + k.linear(tokens=self.tokens, out=h, into=a.mamba_width / cut, which=which)
        return self._share["attention"] * super().attention_products(which) + self._share["mamba"] * mamba

    def attention(self, which: Pass) -> Floats:
        """Scores and their sum, or the scan. [s]"""
        a, lay, place = self.problem.architecture, self.layouts, which == "backward"
        state, chunk = a.mamba_width * (a.ssm_state_size or 0), float(a.mamba_chunk_size or 1)
        moved = scan_bytes(
            width=a.mamba_width,
            shared=a.mamba_mixed - a.mamba_width,
            state=state / chunk,
            square=(a.mamba_n_groups or 0) * chunk,
            backward=place,
        )
        scan = scan_seconds(
            tokens=self.tokens * lay.context_parallel,
            sequence_length=self.attention_length,
            chunk=chunk,
            bytes_a_token=moved / (linear_cut(self.problem, lay.tensor_parallel) * lay.context_parallel),
            memory_gb_per_s=self.problem.gpu.memory_bandwidth_gb_per_s,
            backward=place,
        )
        attended = self._share["attention"] * super().attention(which)
        return np.asarray(attended + self._share["mamba"] * (scan + LAUNCHES[place] * LAUNCH_SECONDS))

    def mlp_products(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Dense MLP, or routed and shared experts. [s]"""
        return self._share["mlp"] * super().mlp_products(which, moe_layer=moe_layer)

    def mlp_elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """The activation function of a dense MLP, or of experts with the permutations around them. [s]"""
        return self._share["mlp"] * super().mlp_elementwise(which, moe_layer=moe_layer)

    def norms(self, which: Pass) -> Floats:
        """The one norm of a layer. [s]"""
        return super().norms(which) / 2

    def elementwise(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Norm, residual and activation function, with what stands around the scan. [s]"""
        a, k, place = self.problem.architecture, self.kernels, int(which == "backward")
        kinds, tokens = self.problem.engine.elementwise, self.sequence_tokens * a.hidden_size
        each = self.tokens / linear_cut(self.problem, self.layouts.tensor_parallel)
        around = k.elementwise(CONVOLUTION_BYTES[place] * each * a.mamba_mixed)
        around = around + k.elementwise(GATED_NORM_BYTES[place] * each * a.mamba_width)
        added = self.norms(which) + self._pass(kinds.residual, which, tokens)
        return np.asarray(added + self._share["mamba"] * around + self.mlp_elementwise(which, moe_layer=moe_layer))

    def tensor_collectives(self) -> Floats:
        """One gather and one reduction of a layer, either way. [s]"""
        return super().tensor_collectives() / 2

    def context_collectives(self, which: Pass) -> tuple[Floats, Floats]:
        """(in sight, behind attention) of one pass over one layer: of Mamba-2 tokens for heads, all in sight. [s]"""
        a, lay = self.problem.architecture, self.layouts
        each = self.tokens * self.problem.precision.activation_bytes / lay.tensor_parallel
        seen, hidden = super().context_collectives(which)
        sent = [
            self.collective("all_to_all", lay.context_parallel, lay.tensor_parallel, width * each)
            for width in (a.mamba_projected, a.mamba_width)
        ]
        attention, mamba = self._share["attention"], self._share["mamba"]
        return np.asarray(attention * seen + mamba * sum(sent)), attention * hidden

    def expert_collectives(self) -> Floats:
        """Of one pass over one layer: tokens to their experts and back. [s]"""
        return np.asarray(self._share["mlp"] * super().expert_collectives())

    def host(self, more: float = 0.0, *, moe_layer: bool = False) -> Floats:
        """Time the host needs to launch one pass over one layer, which has one block of the usual two. [s]"""
        alone, both = super().host(more), super().host(more, moe_layer=moe_layer)
        return np.asarray(alone / 2 + self._share["mlp"] * (both - alone))
