"""Bytes a token that torch's ring attention makes beside its inputs, on one of several context-parallel ranks.

    python validation/autograd/ring_attention.py                        Qwen3-0.6B on eight ranks
    python validation/autograd/ring_attention.py --ranks 8 --heads 32 --groups 8

torch's own functions run on a CPU over a process group that sends nothing; the attention kernel is a stub that makes
what FlashAttention hands back. Needs torch alone. Kernels' own scratch space is not seen.
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed
from torch.distributed.tensor.experimental._context_parallel import _attention as ring
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

TOKENS, HEAD = 512, 128


class Alive(TorchDispatchMode):
    """Bytes of all storages that operations make, and their peak; wrappers of a collective's result hold none."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes = dict[int, int]()
        self.now = self.peak = 0

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out) if "_wrap_tensor" not in str(func) else ():
            if isinstance(tensor, torch.Tensor) and (key := tensor.untyped_storage()._cdata) not in self.sizes:
                self.sizes[key] = tensor.untyped_storage().nbytes()
                self.now += self.sizes[key]
                weakref.finalize(tensor.untyped_storage(), self._free, key)
        self.peak = max(self.peak, self.now)
        return out


def _forward(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> tuple[torch.Tensor, ...]:
    return torch.empty_like(query), query.new_empty(query.shape[:3], dtype=torch.float32)


def _backward(*, query: Any, key: Any, value: Any, **_: Any) -> tuple[torch.Tensor, ...]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def bytes_a_token(run: Callable[[], Any]) -> float:
    """The peak of what a call makes."""
    with Alive() as alive:
        kept = run()
    del kept
    return alive.peak / TOKENS


def main() -> None:
    """Print the peaks of both passes on one rank; in the backward pass the first is as full as any."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("ranks", 8), ("rank", 0), ("heads", 16), ("groups", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    said = parser.parse_args()
    distributed.init_process_group("fake", store=FakeStore(), rank=said.rank, world_size=said.ranks)
    group = distributed.group.WORLD
    query = torch.zeros(1, said.heads, TOKENS, HEAD, dtype=torch.bfloat16)
    key, value = (torch.zeros(1, said.groups, TOKENS, HEAD, dtype=torch.bfloat16) for _ in range(2))
    out, rows = torch.zeros_like(query), torch.zeros(1, said.heads, TOKENS)
    inputs = (query, key, value)
    forward = bytes_a_token(lambda: ring._templated_ring_attention(group, 2, _forward, *inputs, is_causal=True))
    backward = bytes_a_token(
        lambda: ring._templated_ring_attention_backward(
            group, 2, _backward, torch.zeros_like(out), "grad_out", *inputs, out, rows, True
        )
    )
    # The gradient of the output is made here too.
    print(f"forward {forward:.0f}, backward {backward - 2 * said.heads * HEAD:.0f} B a token of one rank")


if __name__ == "__main__":
    main()
