"""Bytes that one layer's linear attention keeps and makes, by the code of the engines and of their kernels' library.

Megatron-LM's GatedDeltaNet, slime's Qwen3_5GatedDeltaNet behind transformers' norm, and the gated delta rule of
flash-linear-attention run on a CPU: every kernel of Triton is launched as nothing, so that shapes, views, copies and
`save_for_backward` are theirs and only numbers are not. Norms of Transformer Engine are stand-ins that keep what it
keeps.

    PYTHONPATH=MEGATRON:SLIME:FLA python validation/autograd/delta_rule.py     prints delta_rule.json

MEGATRON is Megatron-LM core_v0.19.0, SLIME is slime v0.3.1, FLA is flash-linear-attention @bc3b101d with triton 3.6.0
and einops beside it; torch 2.13.0, transformers 5.23.0.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from counting import Live
from linear_kernels import launch_nothing

TOKENS = 192
"""Three chunks; no size of a network is a multiple of it, so that what has so many rows is told from weights."""
NETWORKS = {
    "qwen3.5-9b": {"hidden": 4096, "keys": 16, "values": 32},
    "qwen3.5-27b": {"hidden": 5120, "keys": 16, "values": 48},
    "qwen3.5-35b-a3b": {"hidden": 2048, "keys": 16, "values": 32},
}
launch_nothing()
# Megatron compiles what stands around the rule: the same cut between forward and backward, without generating code.
torch.compile = partial(torch.compile, backend="aot_eager_decomp_partition")


class KeptNorm(torch.autograd.Function):
    """Keeps its input and one fp32 a row, as Transformer Engine's norms do."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """An empty output of the right shape."""
        ctx.save_for_backward(x, weight, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        """Empty gradients."""
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight)


class Norm(torch.nn.Module):
    """A norm over one value head."""

    def __init__(self, hidden_size: int, **_: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=torch.bfloat16))

    @torch.compiler.disable
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The norm."""
        return KeptNorm.apply(x, self.weight)


class Projection(torch.nn.Module):
    """A projection whose input is kept by whoever made it."""

    def __init__(self, inputs: int, outputs: int, **_: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(outputs, inputs, dtype=torch.bfloat16))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The product, and no bias."""
        return torch.nn.functional.linear(x, self.weight), None


def config(shape: dict[str, int]) -> Any:
    """What Megatron's and slime's modules read of a configuration."""
    megatron = {
        "activation_func": torch.nn.functional.silu, "params_dtype": torch.bfloat16, "fp8": None, "init_method": None,
        "output_layer_init_method": None, "layernorm_epsilon": 1e-6, "recompute_granularity": None,
        "perform_initialization": False, "sequence_parallel": False, "deterministic_mode": False,
    }  # fmt: skip
    return SimpleNamespace(
        **megatron,
        hidden_size=shape["hidden"],
        hidden_act="silu",
        rms_norm_eps=1e-6,
        dtype=torch.bfloat16,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=128,
        linear_value_head_dim=128,
        linear_num_key_heads=shape["keys"],
        linear_num_value_heads=shape["values"],
    )


def kept(module: torch.nn.Module, call: Any, given: torch.Tensor) -> float:
    """Bytes a token of distinct storages that the call saves: no parameters, and not what is given."""
    known = {t.untyped_storage().data_ptr() for t in (*module.parameters(), given)}
    sizes: dict[int, int] = {}
    held = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known and tensor.numel() % TOKENS == 0:
            sizes[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        call(given)
    return sum(sizes.values()) / TOKENS


def of_megatron(shape: dict[str, int]) -> float:
    """What Megatron's module keeps, its input apart, which the norm before it keeps."""
    from megatron.core.ssm.gated_delta_net import common, gdn

    one = SimpleNamespace(size=lambda: 1, rank=lambda: 0)
    common.MegatronModule.__init__ = lambda self, config: torch.nn.Module.__init__(self)
    with mock.patch.object(torch.cuda, "current_device", return_value="cpu"):
        module = gdn.GatedDeltaNet(
            config(shape),
            common.GatedDeltaNetSubmodules(in_proj=Projection, out_norm=Norm, out_proj=Projection),
            layer_number=1,
            pg_collection=SimpleNamespace(cp=one, tp=one),
        )
    given = torch.zeros(TOKENS, 1, shape["hidden"], dtype=torch.bfloat16, requires_grad=True)
    return kept(module, lambda x: module(x, None), given)


def of_slime(shape: dict[str, int]) -> float:
    """What slime's norm and module keep, of gathered tokens."""
    from slime_plugins.models import qwen3_5
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextRMSNorm

    with mock.patch.object(torch.cuda, "current_device", return_value="cpu"):
        module = qwen3_5.Qwen3_5GatedDeltaNet(config(shape), 0).to(torch.bfloat16)
    module.before = Qwen3NextRMSNorm(shape["hidden"]).to(torch.bfloat16)
    given = torch.zeros(1, TOKENS, shape["hidden"], dtype=torch.bfloat16, requires_grad=True)
    return kept(module, lambda x: module(module.before(x)), given)


def of_the_rules_backward_pass(shape: dict[str, int]) -> float:
    """Peak of the rule's backward pass above what is saved, the output's gradient with it."""
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    def heads(size: int | None, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        sizes = (1, TOKENS, shape["values"], *(() if size is None else (size,)))
        return torch.zeros(*sizes, dtype=dtype, requires_grad=True)

    inputs = heads(128), heads(128), heads(128), heads(None, torch.float32), heads(None)
    out, _ = chunk_gated_delta_rule(*inputs)
    saved = {t.untyped_storage()._cdata for t in (*inputs, *(s for s in out.grad_fn.saved_tensors if s is not None))}
    with Live(saved | {out.untyped_storage()._cdata}) as live:
        torch.autograd.grad(out, inputs, torch.zeros_like(out))
    return live.peak / TOKENS


if __name__ == "__main__":
    found = {
        name: {
            "megatron": of_megatron(shape),
            "slime": of_slime(shape),
            "backward": of_the_rules_backward_pass(shape),
        }
        for name, shape in NETWORKS.items()
    }
    json.dump({"tokens": TOKENS, "bytes_a_token": found}, sys.stdout, indent=1)
