"""Bytes a parameter of weights, gradients and optimizer state, as an engine keeps them in a precision."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from planner.problem.layouts import Floats
from planner.problem.machines import Machines
from planner.problem.work import Work
from planner.schema.catalog import Gpu, Optimizer, Precision
from planner.schema.engine import Engine

FP32_BYTES = 4.0
MX_BLOCK = 32
"""Weights that share a scale of MXFP8: MXFP8_BLOCK_SCALING_SIZE of TransformerEngine pytorch/constants.py line 175."""


class StateBytes:
    """What a problem says of bytes a parameter: its engine's states in its work's precisions."""

    work: Work
    engine: Engine
    machines: Machines

    @property
    def precision(self) -> Precision:
        """What is trained in."""
        return self.work.precision

    @property
    def base_precision(self) -> Precision:
        """Of the frozen weights below an adapter."""
        return self.work.base_precision

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """The optimizer wished for, then those allowed."""
        return self.work.optimizers

    @property
    def gpu(self) -> Gpu:
        """Of the machines that train."""
        return self.machines.gpu

    @property
    def weights_on_host(self) -> bool:
        """Shards of the weights wait in host memory wherever ZeRO-3 makes any."""
        zero = self.engine.zero_three
        return zero is not None and zero.on_host != "nothing"

    @property
    def gradients_on_host(self) -> bool:
        """The same of gradients, which brings the optimizer along."""
        zero = self.engine.zero_three
        return zero is not None and zero.on_host == "everything"

    @property
    def gradients_leave_at_once(self) -> bool:
        """Each gradient goes to the host as it is made, and none of it stays on the GPU."""
        zero = self.engine.zero_three
        return self.gradients_on_host and zero is not None and not zero.gradients_stay

    @cached_property
    def optimizer_state_bytes(self) -> Floats:
        """Bytes a trainable parameter of optimizer state and master copy, by optimizer index."""
        moments = [self.moment_bytes(o, o.state_bytes) for o in self.optimizers]
        master = [self.master_bytes(o) for o in self.optimizers]
        return np.asarray(np.array(moments) + np.array(master))

    def moment_bytes(self, optimizer: Optimizer, state_bytes: float) -> float:
        """Bytes a parameter of moments for which an optimizer states so many, as this engine formats them."""
        states = self.engine.states
        if optimizer.own_format:
            return state_bytes
        if states.moment_bytes is not None:
            return min(states.moment_bytes, state_bytes)
        return state_bytes * (self.weight_bytes / FP32_BYTES if states.moments_follow_weights else 1.0)

    def master_bytes(self, optimizer: Optimizer) -> float:
        """Bytes a parameter of the optimizer's own fp32 copy of the weights.

        Source: Megatron-LM core/optimizer/distrib_optimizer.py, _build_model_and_main_param_groups: fp32 shards are
        views of the weights, only 16-bit and fp8 ones are cloned.
        """
        states = self.engine.states
        same = states.fp32_weights_are_master and self.weight_bytes == FP32_BYTES
        return optimizer.master_bytes * (states.keeps_master and not same)

    @property
    def fp8_copies(self) -> float:
        """Bytes of an fp8 weight: where fp8 products take one layout only, the input's gradient needs it turned.

        Blocks of 32 with a scale of 1 B each run along rows in one copy and along columns in the other, so that neither
        can be made of the other. Scales of 128 x 128 weights serve both and are not counted.

        Source: TransformerEngine transformer_engine/pytorch/csrc/quantizer.cpp lines 361 to 375 and
        nvte_is_non_tn_fp8_gemm_supported (compute capability 10.x); pytorch/tensor/mxfp8_tensor.py lines 78 to 97 and
        storage/mxfp8_tensor_storage.py, update_usage, at d0067d0da. The turned copy is made as gathered weights arrive
        (pytorch/tensor/utils.py lines 952 to 956 of v2.18, called at core/distributed/param_and_grad_buffer.py line 337
        of Megatron-LM core_v0.19.0) and dropped for FSDP2 alone (pytorch/module/linear.py line 1045).
        """
        states = self.engine.states
        if {"sm_100", "sm_103"} & set(self.gpu.chip.split()):
            return 2 * (1 + 1 / MX_BLOCK) if states.fp8_block_scales else 1
        return 2 if states.fp8_turned else 1

    @property
    def base_weight_bytes(self) -> float:
        """Bytes a frozen weight under adapters, but those of embedding and head."""
        base = self.base_precision
        if self.base_as_weights:
            return self.weight_bytes
        return base.weight_bytes * (self.fp8_copies if base.compute == "fp8" and not base.trainable else 1)

    @property
    def base_as_weights(self) -> bool:
        """Whether the engine stores a frozen base as what trains, whatever is said of its precision."""
        return self.engine.states.frozen_base == "as weights" and self.base_precision.trainable

    @property
    def frozen_parameters(self) -> int:
        """Parameters of a vision tower that stay frozen while the rest trains. [elements]"""
        return self.work.frozen_parameters

    @property
    def frozen_bytes(self) -> float:
        """Bytes a parameter of a vision tower that stays frozen while the rest trains: those of a trained weight, but
        never fp8."""
        in_fp8 = self.engine.states.fp8_weights and self.precision.compute == "fp8"
        return self.precision.weight_bytes if in_fp8 else self.weight_bytes

    @property
    def adapter_weight_bytes(self) -> float:
        """Bytes a parameter of adapters."""
        stored = self.engine.states.weight_bytes
        own = self.precision.weight_bytes if stored == "precision" else stored
        return own if self.engine.states.adapters == "as weights" else FP32_BYTES

    @property
    def adapter_gradient_bytes(self) -> float:
        """Bytes a parameter of the gradients of adapters."""
        return self.gradient_bytes if self.engine.states.adapters == "as weights" else FP32_BYTES

    def adapter_moment_bytes(self, optimizer: Optimizer, state_bytes: float) -> float:
        """Bytes a parameter of adapters' moments for which an optimizer states so many."""
        if self.engine.states.adapters == "as weights":
            return self.moment_bytes(optimizer, state_bytes)
        follow = self.engine.states.moments_follow_weights and self.engine.states.moment_bytes is None
        return state_bytes if follow else self.moment_bytes(optimizer, state_bytes)

    def under_way(self, stated: float) -> float:
        """Bytes a parameter of weights or gradients that are gathered, reduced or packed, for which an engine states
        so many in 16 bits: trained in fp32 nothing is cast, so that it is those of fp32.

        Source: torch 2.13.0 distributed/fsdp/_fully_shard/_fsdp_param.py lines 587 to 598 and 901 (no cast without a
        param_dtype), torch/csrc/distributed/c10d/reducer.cpp, initialize_buckets (buckets in the gradients' dtype);
        Megatron-LM core/tensor_parallel/layers.py, get_dummy_wgrad with the input's dtype.
        """
        return max(stated, FP32_BYTES) if stated and self.precision.activation_bytes > 2 else stated

    @property
    def weight_bytes(self) -> float:
        """Bytes a trainable parameter of the stored weights."""
        stored = self.engine.states.weight_bytes
        if self.engine.states.fp8_weights and self.precision.compute == "fp8":
            return float(self.fp8_copies)
        return self.precision.weight_bytes if stored == "precision" else stored

    @property
    def step_gradient_bytes(self) -> float:
        """Bytes a trainable parameter of the copy of its gradient that the step makes.

        Source: Megatron-LM core_v0.19.0 core/optimizer/distrib_optimizer.py lines 2774 to 2782, optimizer.py line 1097
        (`.float()`, which copies nothing in fp32; dropped by the next step's zero_grad), optimizer_config.py line 404.
        """
        states = self.engine.states
        reads = states.step_takes_16bit_gradients and not (states.fp8_block_scales and self.precision.compute == "fp8")
        return 0.0 if reads or self.gradient_bytes >= states.step_gradient_bytes else states.step_gradient_bytes

    @property
    def gradient_bytes(self) -> float:
        """Bytes a trainable parameter of the gradient."""
        stored = self.engine.states.gradient_bytes
        return self.precision.weight_bytes if stored == "precision" else stored
