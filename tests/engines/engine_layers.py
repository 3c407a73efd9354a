"""Transformer Engine's own Python modules without a GPU: its layers on the meta device, its kernels said to be there.

A layer's matrices, and how tensor ranks cut them, are made by its Python alone; the compiled extension runs them.
"""

from __future__ import annotations

import enum
import importlib
import importlib.metadata
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
from drawn import Anything

COMPILED = "transformer_engine_torch"


@cache
def transformer_engine() -> Any:
    """`transformer_engine.pytorch`, from its unpacked wheel: must be imported before Megatron, which asks for it."""
    assert "megatron.core" not in sys.modules, "Megatron has looked for it already"
    spec = importlib.util.find_spec("transformer_engine")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("no transformer_engine")
    pytest.importorskip("onnxscript")
    folder = Path(next(iter(spec.submodule_search_locations)))
    words = (folder / "pytorch/constants.py").read_text()
    compiled: Any = Anything(COMPILED)
    compiled.DType = enum.IntEnum("DType", list(dict.fromkeys(re.findall(r"int\(tex\.DType\.(\w+)\)", words))))
    compiled.get_cudnn_version, compiled.__all__ = lambda: 91000, ["get_cudnn_version"]
    package: Any = ModuleType("transformer_engine")
    package.__path__, package.__spec__ = [str(folder)], spec
    package.__version__ = importlib.metadata.version("transformer_engine")
    sys.modules |= {COMPILED: compiled, "transformer_engine": package}
    with mock.patch.dict(os.environ, {"NVTE_PROJECT_BUILDING": "1"}):  # it loads no CUDA libraries then
        common = importlib.import_module("transformer_engine.common")
    common.load_framework_extension = lambda _: None
    package.common, package.pytorch = common, importlib.import_module("transformer_engine.pytorch")
    return package.pytorch


@contextmanager
def on_meta_as_on_a_gpu() -> Iterator[None]:
    """Tensors on the meta device, wherever Megatron and Transformer Engine ask for the current GPU."""
    torch = pytest.importorskip("torch")
    from megatron.core.tensor_parallel import layers, random

    def there(made: Any) -> Any:
        def make(*given: Any, pin_memory: bool = False, **named: Any) -> Any:
            return made(*given, **named | {"device": "meta"})

        return make

    with ExitStack() as stack, mock.patch.object(torch.cuda, "Stream"), mock.patch.object(torch.cuda, "Event"):
        put = stack.enter_context
        for name in ("arange", "zeros", "empty", "ones", "rand", "tensor", "full"):
            put(mock.patch.object(torch, name, there(getattr(torch, name))))
        put(mock.patch.object(torch.Tensor, "cuda", lambda self, **_: self))
        put(mock.patch.object(torch.cuda, "is_available", return_value=True))
        put(mock.patch.object(torch.cuda, "current_device", return_value="meta"))
        put(mock.patch.object(random.CudaRNGStatesTracker, "fork", side_effect=lambda *_: nullcontext()))
        put(mock.patch.object(layers, "_grad_accum_fusion_available", True))  # Apex', which containers have
        put(torch.device("meta"))
        yield
