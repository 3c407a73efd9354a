"""How autocast treats operations on a GPU, put in force on the CPU, for torch's CPU build knows no other device.

Linear layers, matrix products and the cache of weights in 16 bits are torch's own on every device. What differs is the
list of operations that run in fp32 whatever comes in: CUDA's is read from the header that torch brings along.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
FP32, FP32_UNLESS_STATED = "AT_FORALL_FP32", "AT_FORALL_FP32_SET_OPT_DTYPE"
LIBRARY = torch.library.Library("aten", "IMPL")


def operations(macro: str) -> list[str]:
    """Names of the operations in one of the header's lists, `pow.Tensor_Scalar` with its overload."""
    body = re.search(rf"#define {macro}\(_\)((?:.*\\\n)*.*\n)", HEADER.read_text(encoding="utf-8"))
    assert body is not None, macro
    found = re.findall(r"_\((\w+)(?:,\s*(\w+))?\)", body.group(1))
    return [f"{name}.{overload}" if overload else name for name, overload in found]


def _overload(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default", None)


def _wide(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64:
        return value.to(torch.float32)
    return value


def _in_fp32(name: str) -> Any:
    op = _overload(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return op(*map(_wide, args), **{k: _wide(v) for k, v in kwargs.items()})

    return call


def _fp32_unless_stated(name: str) -> Any:
    op = _overload(name)

    def call(*args: Any, **kwargs: Any) -> Any:
        names = [a.name for a in op._schema.arguments]
        stated = dict(zip(names, args, strict=False)) | kwargs
        if stated.get("dtype") is None and args[0].is_floating_point() and args[0].dtype != torch.float64:
            stated["dtype"] = torch.float32
        positional = [a.name for a in op._schema.arguments if not a.kwarg_only]
        first = [stated.pop(n) for n in positional if n in stated]
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)):
            return op(*first, **stated)

    return call


def register() -> None:
    """Treat these operations on the CPU as autocast treats them on a GPU."""
    for macro, make in ((FP32, _in_fp32), (FP32_UNLESS_STATED, _fp32_unless_stated)):
        for name in operations(macro):
            if _overload(name) is not None:
                LIBRARY.impl(name, make(name), "AutocastCPU", allow_override=True)
