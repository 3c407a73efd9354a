"""Low-rank adapters with the memory behaviour of peft's `lora.Linear`: fp32 adapters beside a frozen 16-bit base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers.pytorch_utils import Conv1D


@dataclass(frozen=True)
class Kind:
    """Which adapters."""

    rank: int
    variant: str = "lora"
    dropout: float = 0.0
    in_base_format: bool = False
    """Adapters in the base's format (peft's autocast_adapter_dtype off) instead of fp32."""


class AdaptedLinear(torch.nn.Module):
    """A frozen linear layer and its adapter: base(x) + B(A(x cast to the adapter's format)) * scaling.

    Source: huggingface/peft tuners/lora/layer.py, `_cast_input_dtype`; adapters are fp32 by `autocast_adapter_dtype`.
    """

    def __init__(self, base: torch.nn.Linear | Conv1D, kind: Kind) -> None:
        super().__init__()
        self.base, self.variant = base, kind.variant
        into, out = base.weight.shape if isinstance(base, Conv1D) else base.weight.shape[::-1]
        dtype = base.weight.dtype if kind.in_base_format else torch.float32
        self.lora_a = torch.nn.Linear(into, kind.rank, bias=False, dtype=dtype)
        self.lora_b = torch.nn.Linear(kind.rank, out, bias=False, dtype=dtype)
        self.scaling, self.dropout = 2.0, kind.dropout
        variant = kind.variant
        if variant == "dora":
            self.magnitude = torch.nn.Parameter(torch.empty(out, dtype=torch.float32))
        if variant == "lora-fa":
            self.lora_a.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum in the base's format."""
        result = self.base(x)
        cast = torch.nn.functional.dropout(x.to(self.lora_a.weight.dtype), self.dropout, self.training)
        adapted = self.lora_b(self.lora_a(cast))
        if self.variant == "dora":
            return (result + self._with_magnitude(result, adapted)).to(result.dtype)
        return (result + adapted * self.scaling).to(result.dtype)

    def _with_magnitude(self, result: torch.Tensor, adapted: torch.Tensor) -> torch.Tensor:
        """What DoRA adds to the base's result. Source: peft 0.21.2 tuners/lora/dora.py, DoraLinearLayer.forward."""
        weight = self.base.weight.to(adapted.dtype) + self.scaling * (self.lora_b.weight @ self.lora_a.weight).detach()
        scale = (self.magnitude / torch.linalg.norm(weight, dim=1).detach()).view(1, -1)
        plain = result if self.base.bias is None else result - self.base.bias
        return (scale - 1) * plain + scale * adapted * self.scaling


def add_adapters(model: torch.nn.Module, targets: Sequence[str], kind: Kind) -> None:
    """Freeze a network and adapt every linear layer whose name is among the targets."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets and isinstance(child, (torch.nn.Linear, Conv1D)):
                setattr(module, name, AdaptedLinear(child, kind))
