"""Counting bytes of storages: those alive and their peak, and copies of parameters apart."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class WeightCopies(TorchDispatchMode):
    """Notes storages that are a parameter in another format: autocast keeps them once a step, whatever the tokens."""

    def __init__(self, parameters: set[int]) -> None:
        super().__init__()
        self.parameters, self.copies = parameters, dict[int, Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation; remember the result of casting a parameter."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.parameters:
            self.copies[out.untyped_storage()._cdata] = out
        return out


class Live(TorchDispatchMode):
    """Bytes of all storages alive, and their peak."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.sizes, self.now, self.peak = known, dict[int, int](), 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count what it made."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.index_put.default:
            # The gradient of indexing writes into its zeros; torch leaves the original alone only while a mode watches.
            self._free(args[0].untyped_storage()._cdata)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known or key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.now += self.sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def own_storages(model: torch.nn.Module) -> set[int]:
    """Storages of parameters and buffers."""
    return {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}
