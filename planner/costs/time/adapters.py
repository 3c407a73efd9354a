"""Seconds of what adapters add to one pass over one layer: thin products, sums, norms, and frozen weights unpacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.costs.time.kernels import Pass
from planner.costs.time.layer import PASSES, LayerTime
from planner.costs.time.modules import products
from planner.formulas.parameters import Adapted, adapted_attention, adapted_mlp, adapted_of_attention
from planner.problem.layouts import Floats
from planner.problem.problem import Problem
from planner.problem.state_bytes import FP32_BYTES
from planner.schema.engine import MagnitudeNorm
from planner.schema.scenario import Adapter


@dataclass(frozen=True)
class AdapterKernels:
    """Elementwise kernels beside the products of one adapter."""

    forward: tuple[float, float]
    """Bytes moved (an input, an output) going forward."""
    backward: tuple[float, float]
    launches: tuple[int, int]
    """Kernels of the (forward, backward) pass, products among them."""
    dropout: bool
    """Whether a dropout runs as a kernel of its own."""


KERNELS_OF_A_PASS = 25
"""Kernels of one pass over a plain layer, by which an engine's host time of the pass is divided (assumed)."""
PLAIN = AdapterKernels(forward=(0, 6), backward=(6, 0), launches=(4, 6), dropout=False)
"""Two products, scaling and sum; four products and two sums."""
ADAPTER_KERNELS = {
    "plain": PLAIN,
    "autocast": AdapterKernels(forward=(12, 10), backward=(18, 4), launches=(9, 12), dropout=True),
    "fp32": AdapterKernels(forward=(6, 24), backward=(12, 14), launches=(6, 10), dropout=True),
}
"""Counted in peft 0.21.2 tuners/lora/layer.py, Linear.forward, with 16-bit inputs. Under autocast an input is cast to
fp32 (6 B) and back (6 B), outputs are scaled (4 B) and added (6 B); both matrices and, going back, their gradients are
cast too. Without it an input is cast once, and fp32 outputs are scaled (8 B), added (10 B) and cast back (6 B)."""
DROPOUT_BYTES = 9
"""Of a dropout on an fp32 input, either way: 4 read, 4 written, a one-byte mask."""
KERNELS_OF_MAGNITUDES = {"forward": 8, "backward": 4}
"""DoRA's own: product of the adapter, sum with the base, norm, quotient, four on the outputs; their gradients."""


@dataclass(frozen=True)
class AdapterTime:
    """Times of all rows; layouts have shape [rows, 1]."""

    problem: Problem
    layer: LayerTime
    adapter: Adapter

    def products(self, which: Pass, *, moe_layer: bool) -> Floats:
        """Products with the two adapter matrices A (inputs x r) and B (r x outputs) of every target, and sums. [s]

            forward   x A, (x A) B, one sum over the outputs
            backward  gradients of A, B, x A and x; LoRA-FA has none for A; one sum over the inputs

        Source: Hu et al. 2021, arXiv:2106.09685, section 4.1; the same kernels in peft 0.21.2 tuners/lora/layer.py.
        """
        a, lay, layer = self.problem.architecture, self.layer.layouts, self.layer
        targets, one, tp = self.adapter.targets, np.asarray(1.0), lay.tensor_parallel * 1.0
        seconds = self._attention(which, tp)
        if not moe_layer:
            mlp = adapted_mlp(a, targets, a.intermediate_size)
            return seconds + self._all(mlp, which, tokens=layer.tokens, ranks=tp, copies=one)
        experts, each = layer.routed
        expert = adapted_mlp(a, targets, a.moe_intermediate_size or 1)
        cut = lay.expert_tensor_parallel * 1.0
        seconds = seconds + self._all(expert, which, tokens=np.maximum(each, 1.0), ranks=cut, copies=experts)
        if a.shared_expert_intermediate_size:
            shared = adapted_mlp(a, targets, a.shared_expert_intermediate_size)
            seconds = seconds + self._all(shared, which, tokens=layer.tokens, ranks=tp, copies=one)
        return seconds

    def _attention(self, which: Pass, ranks: Floats) -> Floats:
        """Those of attention, of the mean layer where some have linear attention. [s]"""
        a, one = self.problem.architecture, np.asarray(1.0)
        full, linear = (
            self._all(
                adapted_attention(a, self.adapter.targets, linear=kind),
                which,
                tokens=self.layer.tokens,
                ranks=ranks,
                copies=one,
            )
            for kind in (False, True)
        )
        return np.asarray(full + (linear - full) * a.linear_layers / a.num_hidden_layers)

    def _all(
        self, matrices: Sequence[Adapted], which: Pass, *, tokens: Floats, ranks: Floats, copies: Floats
    ) -> Floats:
        """Seconds of these matrices, `copies` of each behind one launch, every one with so many tokens. [s]"""
        k, seconds = self.layer.kernels, np.zeros(np.shape(tokens))
        for matrix in matrices:
            inputs = np.asarray(matrix.inputs / (ranks if matrix.cut == "inputs" else 1.0))
            outputs = np.asarray(matrix.outputs / (ranks if matrix.cut == "outputs" else 1.0))
            floors, one = self._one(which, tokens, inputs, outputs)
            launches = floors * k.floor_seconds
            seconds = seconds + launches + copies * np.maximum(one - launches, 0.0)
        return np.asarray(seconds)

    def _one(self, which: Pass, tokens: Floats, inputs: Floats, outputs: Floats) -> tuple[int, Floats]:
        """(products, seconds) of one adapter."""
        k, rank = self.layer.kernels, np.asarray(float(self.adapter.rank))
        dora, wide = self.adapter.variant == "dora", self.problem.engine.timing.adapter_kernels == "fp32"
        seconds = self._beside(which, tokens, inputs, outputs)
        if which == "forward":
            seconds = seconds + k.gemm(m=tokens, n=rank, k=inputs, wide=wide)
            seconds = seconds + k.gemm(m=tokens, n=outputs, k=rank, wide=wide)
            if dora:
                seconds = seconds + self._magnitudes(self.problem.engine.magnitude_norm, tokens, inputs, outputs)
            return 2, seconds
        seconds = seconds + k.gemm(m=tokens, n=rank, k=outputs, wide=wide)
        seconds = seconds + k.gemm(m=outputs, n=rank, k=tokens, wide=wide)
        seconds = seconds + k.gemm(m=tokens, n=inputs, k=rank, wide=wide)
        if dora:
            seconds = seconds + k.elementwise(self.problem.engine.elementwise_factor * 10.0 * tokens * outputs)
        if self.adapter.variant == "lora-fa":
            return 3, seconds
        return 4, seconds + k.gemm(m=inputs, n=rank, k=tokens, wide=wide)

    @property
    def _kinds(self) -> AdapterKernels:
        """What stands beside the products; matrices that are as wide as what is computed are cast nowhere."""
        cast = self.problem.precision.activation_bytes < FP32_BYTES
        return ADAPTER_KERNELS[self.problem.engine.timing.adapter_kernels] if cast else PLAIN

    def _beside(self, which: Pass, tokens: Floats, inputs: Floats, outputs: Floats) -> Floats:
        """Elementwise kernels beside one adapter's products. [s]"""
        kinds = self._kinds
        into, out = kinds.forward if which == "forward" else kinds.backward
        into = into + DROPOUT_BYTES * (kinds.dropout and self.adapter.dropout > 0)
        moved = self.problem.engine.elementwise_factor * tokens * (into * inputs + out * outputs)
        return self.layer.kernels.elementwise(moved)

    def _magnitudes(self, norm: MagnitudeNorm | None, tokens: Floats, inputs: Floats, outputs: Floats) -> Floats:
        """DoRA's norm of base plus adapter, its temporaries written and read once, and outputs scaled by it. [s]

        Source: Liu et al. 2024, arXiv:2402.09353, equation 5; peft 0.21.2 tuners/lora/dora.py.
        """
        k, rank = self.layer.kernels, np.asarray(float(self.adapter.rank))
        matrix = norm.matrix_bytes if norm is not None else 4.0
        seconds = k.gemm(m=outputs, n=inputs, k=rank) + k.elementwise(2.0 * matrix * inputs * outputs)
        if norm is not None and norm.input_bytes:
            # The product is made by sending an identity of the inputs through the adapter.
            seconds = seconds + k.gemm(m=inputs, n=rank, k=inputs)
            seconds = seconds + k.elementwise(2.0 * norm.input_bytes * inputs * inputs)
        return np.asarray(seconds + k.elementwise(self.problem.engine.elementwise_factor * 10.0 * tokens * outputs))

    @property
    def unpacks(self) -> bool:
        """Whether products cannot read the frozen base as it is held; those in fp8 read fp8 weights."""
        base = self.problem.base_precision
        return not base.trainable and not base.compute == self.problem.precision.compute == "fp8"

    def unpacking(self) -> Floats:
        """A frozen base in few bits made 16-bit again for the products of one pass over a layer. [s]

        Source: Dettmers et al. 2023, arXiv:2305.14314, equation 5; bitsandbytes does so before every product, in one
        kernel; torchao in a dozen, whose bytes the engine's file counts.
        """
        base, (dense, expert) = self.problem.base_precision, self.layer.layer_parameters
        if not self.unpacks:
            return np.zeros(np.shape(self.layer.layouts.tensor_parallel))
        moved = self.problem.engine.timing.unpack_bytes
        moved = base.weight_bytes + 2.0 if moved is None else moved
        return self.layer.kernels.elementwise(moved * (dense + expert))

    def kernels_of_a_pass(self, which: Pass) -> float:
        """Kernels that one pass over a usual layer launches on top; going back, less the products that make no gradient
        of a frozen weight.
        """
        a, targets = self.problem.architecture, self.adapter.targets
        count = adapted_of_attention(a, targets) + len(adapted_mlp(a, targets, 1)) * (
            1 + (a.is_moe and a.shared_expert_intermediate_size > 0)
        )
        kinds = self._kinds
        each = kinds.launches[PASSES.index(which)] + (kinds.dropout and self.adapter.dropout > 0)
        each += KERNELS_OF_MAGNITUDES[which] if self.adapter.variant == "dora" else 0
        return count * each - (products(self.problem) if which == "backward" else 0)
