"""What torch's fused attention kernels for CUDA keep for backward: the stub of the other scripts held against them.

    python validation/autograd/attention.py             prints the table
    python validation/autograd/attention.py --write     also writes validation/autograd/attention.json

Needs torch 2.13.0 alone. The operators stand on the meta device, where they keep what their derivatives name; a CPU
would run another kernel, which keeps other tensors. FlashAttention 2 of the package flash-attn is not asked.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).with_name("attention.json")
DATE = "2026-11-22"
SHAPES = ((32, 32, 4096, 128), (32, 8, 4096, 128), (16, 16, 4096, 192), (12, 12, 1024, 64))
"""(query heads, key heads, tokens, head size)."""
aten = torch.ops.aten
KERNELS: dict[str, tuple[torch.dtype, Callable[..., Any]]] = {
    "flash": (torch.bfloat16, lambda q, k, v: aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)),
    "cudnn": (torch.bfloat16, lambda q, k, v: aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, True)),
    "efficient": (
        torch.float32,
        lambda q, k, v: aten._scaled_dot_product_efficient_attention(q, k, v, None, True, 0.0, True),
    ),
    "efficient, masked": (torch.bfloat16, lambda q, k, v: _masked(q, k, v)),
}


def _masked(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Under a mask that is the same for all heads, as numbers; in memory the output goes tokens first."""
    batch, heads, tokens, _ = query.shape
    bias = query.new_empty(batch, 1, tokens, tokens).expand(batch, heads, tokens, tokens)
    out = aten._scaled_dot_product_efficient_attention(query, key, value, bias, True, 0.0, False)[0]
    assert out.transpose(1, 2).is_contiguous()
    return out


def kept_bytes(kernel: str, heads: int, key_heads: int, tokens: int, head_size: int) -> int:
    """Bytes of distinct storages that one sequence leaves for backward, queries, keys and values among them."""
    dtype, run = KERNELS[kernel]
    query, key, value = (
        torch.empty(1, each, tokens, head_size, dtype=dtype, device="meta", requires_grad=True)
        for each in (heads, key_heads, key_heads)
    )
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = run(query, key, value)
    del out
    return sum(kept.values())


def main() -> None:
    """Count, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    rows = []
    for kernel, (dtype, _) in KERNELS.items():
        for shape in SHAPES:
            if kernel != "flash" and shape[0] != shape[1]:
                continue  # only FlashAttention takes fewer heads of keys
            names = ("heads", "key_heads", "tokens", "head_size")
            row = {"kernel": kernel, "dtype": str(dtype)[6:], **dict(zip(names, shape, strict=True))}
            rows.append(row | {"bytes": kept_bytes(kernel, *shape)})
            print(json.dumps(rows[-1]))
    if parser.parse_args().write:
        lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
        head = json.dumps({"date": DATE, "torch": torch.__version__.split("+")[0]})[:-1]
        RESULTS.write_text(f'{head}, "rows": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
