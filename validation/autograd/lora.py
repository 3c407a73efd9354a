"""Low-rank adapters with the memory behaviour of peft's `lora.Linear`: fp32 adapters beside a frozen 16-bit base."""

from __future__ import annotations

from collections.abc import Sequence

import torch


class AdaptedLinear(torch.nn.Module):
    """A frozen linear layer and its adapter: base(x) + B(A(x cast to the adapter's format)) * scaling.

    Source: huggingface/peft tuners/lora/layer.py, `_cast_input_dtype`; adapters are fp32 by `autocast_adapter_dtype`.
    """

    def __init__(self, base: torch.nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.lora_a = torch.nn.Linear(base.in_features, rank, bias=False, dtype=torch.float32)
        self.lora_b = torch.nn.Linear(rank, base.out_features, bias=False, dtype=torch.float32)
        self.scaling = 2.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The sum in the base's format."""
        result = self.base(x)
        adapted = self.lora_b(self.lora_a(x.to(self.lora_a.weight.dtype))) * self.scaling
        return (result + adapted).to(result.dtype)


def add_adapters(model: torch.nn.Module, targets: Sequence[str], rank: int) -> None:
    """Freeze a network and adapt every linear layer whose name is among the targets."""
    model.requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if name in targets and isinstance(child, torch.nn.Linear):
                setattr(module, name, AdaptedLinear(child, rank))
