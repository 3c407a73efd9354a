"""What stands in for kernels that the meta device lacks, keeping for backward what they keep."""

from __future__ import annotations

from typing import Any

import cuda_autocast
import torch
from networks import ATTENTION
from transformers import masking_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


class FlashStub(torch.autograd.Function):
    """Keeps query, key, value, output and one fp32 log-sum-exp a row and head, as FlashAttention does."""

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """An empty output of the right shape; [batch, tokens, heads, head size]."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        batch, tokens, heads, _ = query.shape
        ctx.save_for_backward(query, key, value, out, query.new_empty(batch, heads, tokens, dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor, ...]:
        """Empty gradients."""
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class MaskedStub(torch.autograd.Function):
    """Keeps what `FlashStub` keeps, and the mask as numbers, as the memory-efficient kernel does (`attention.py`)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor
    ) -> torch.Tensor:
        """An empty output [batch, heads, tokens, head size]; in memory tokens come first, as the kernel has it."""
        batch, heads, tokens, _ = query.shape
        out = query.new_empty(batch, tokens, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, bias, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Empty gradients."""
        query, key, value, *_rest = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


def _masked(query: Any, key: Any, value: Any, attn_mask: Any = None, **given: Any) -> torch.Tensor:
    """torch's sdpa under a mask: a boolean one becomes numbers in each call."""
    assert attn_mask is not None
    assert not given.get("enable_gqa", False)
    assert key.shape[1] == query.shape[1]
    return MaskedStub.apply(query, key, value, torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype))


class GroupedProduct(torch.autograd.Function):
    """Keeps input, weights and offsets as torch's grouped product does, which takes bf16 only on the meta device."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, weights: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        """An empty output of the right shape; [rows, outputs]."""
        ctx.save_for_backward(rows, weights, offsets)
        return rows.new_empty(rows.shape[0], weights.shape[-1])

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[torch.Tensor | None, ...]:
        """Empty gradients."""
        rows, weights, _ = ctx.saved_tensors
        return torch.empty_like(rows), torch.empty_like(weights), None


def _grouped_product(rows: torch.Tensor, weights: torch.Tensor, *, offs: torch.Tensor) -> torch.Tensor:
    """Autocast leaves it alone on every device (include/ATen/autocast_mode.h)."""
    return GroupedProduct.apply(rows, weights, offs)


def _attention(module: Any, query: Any, key: Any, value: Any, mask: Any, **_: Any) -> tuple[torch.Tensor, None]:
    """As transformers' flash_attention_forward: in autocast's format, values padded to the width of queries.

    FlashAttention knows no fp32; the kernel that takes it has its own width for values.
    """
    if query.device.type != "meta" and torch.is_autocast_enabled(query.device.type):
        query, key, value = (t.to(torch.bfloat16) for t in (query, key, value))
    width = value.shape[-1]
    if width != query.shape[-1] and query.dtype != torch.float32:
        value = torch.nn.functional.pad(value, [0, query.shape[-1] - width])
    out = FlashStub.apply(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return out[..., :width], None


def _cuda_dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """Dropout as CUDA does it: a mask of one byte an element. Off CUDA torch keeps a mask in the input's format."""
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def prepare() -> None:
    """Register the stub; replace the two places that look at values, or that differ between devices."""
    ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attention)
    torch.nn.functional.scaled_dot_product_attention = _masked  # what Transformers' own sdpa calls, where it is asked
    ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, flash_attention_mask)
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    torch.nn.functional.dropout = _cuda_dropout
    torch.nn.functional.grouped_mm = _grouped_product
    cuda_autocast.register()
