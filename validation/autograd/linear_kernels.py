"""Kernels of linear attention and Mamba-2 in the witness: shapes, copies and `save_for_backward` are the packages' own.

Transformers takes the gated delta rule of flash-linear-attention and the convolution of causal-conv1d where they are
installed (5.23.0 integrations/hub_kernels.py, use_kernel_func_from_hub_with_fallback), and its own functions of torch
where they are not. Kernels are launched as nothing, so that numbers alone are not computed.

Needs flash-linear-attention @bc3b101d (0.5.2) with triton 3.6.0 and einops, and the Python files of causal-conv1d
@0d2252d (1.6.1) on PYTHONPATH; its compiled part stands here as functions that do nothing. Mamba-2 needs the Python
files of mamba_ssm 2.3.2.post1 (state-spaces/mamba @a14b1dff) too, of which its own package file is not run.
"""

from __future__ import annotations

import importlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch

RULE, CONVOLUTION = "torch_chunk_gated_delta_rule", "causal_conv1d_fn"
H100_PROCESSORS = 132
"""What kernels of Mamba-2 ask of the GPU: over so many processors they split sums, whatever the tokens."""


def _nothing(*_: Any, **__: Any) -> None:
    """What a launched kernel does here."""


def launch_nothing() -> None:
    """Every kernel of Triton is launched as nothing from now on."""
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.jit import JITFunction

    for launched in (JITFunction, Autotuner, Heuristics):
        launched.__getitem__ = lambda self, grid: _nothing
    Autotuner.best_config = SimpleNamespace(kwargs=defaultdict(lambda: 64))


def prepare() -> None:
    """Before transformers reads its modelling code: packages that it finds, kernels that do nothing."""
    launch_nothing()
    compiled = ModuleType("causal_conv1d_cuda")
    for name in ("causal_conv1d_fwd", "causal_conv1d_bwd", "causal_conv1d_update"):
        setattr(compiled, name, _nothing)
    sys.modules.setdefault("causal_conv1d_cuda", compiled)
    if find_spec("fla") is not None:
        importlib.import_module("fla.ops.gated_delta_rule")
    importlib.import_module("causal_conv1d")
    if (found := find_spec("mamba_ssm")) is not None:
        package = ModuleType("mamba_ssm")
        package.__path__ = list(found.submodule_search_locations or [])
        sys.modules.setdefault("mamba_ssm", package)
        torch.cuda.device = lambda *_: nullcontext()
        torch.cuda.get_device_properties = lambda *_: SimpleNamespace(multi_processor_count=H100_PROCESSORS)
        torch.is_autocast_enabled = lambda *_: (
            torch._C._is_autocast_available("cpu") and torch.is_autocast_cpu_enabled()
        )
        torch.get_autocast_gpu_dtype = lambda: torch.bfloat16
        importlib.import_module("mamba_ssm.ops.triton.ssd_combined")


@contextmanager
def without(model_type: str, *names: str) -> Iterator[None]:
    """Transformers' own functions of torch, as where the packages are not installed."""
    name = model_type.removesuffix("_text")
    code = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    own = {each: getattr(code, each) for each in names}
    for each, function in own.items():
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        own[each] = function
    with mock.patch.multiple(code, **own):
        yield
