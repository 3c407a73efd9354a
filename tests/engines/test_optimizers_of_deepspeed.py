"""Optimizers that DeepSpeed and accelerate refuse or exchange: the second witness of two rules, by their own code."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import sys
import textwrap
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import pytest

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


def test_accelerate_makes_cpu_adam_of_every_optimizer_without_a_kernel() -> None:
    """map_pytorch_optim_to_deepspeed, called wherever the optimizer is offloaded (accelerator.py:2374-2383)."""
    torch = pytest.importorskip("torch")
    own = pytest.importorskip("accelerate.utils.deepspeed")
    adafactor = pytest.importorskip("transformers.optimization").Adafactor

    class Made:
        def __init__(self, groups: Any, **said: Any) -> None:
            self.said = said

    folders: dict[str, Any] = {}
    for name in ("deepspeed", "deepspeed.ops", "deepspeed.ops.adam", "deepspeed.ops.adagrad", "deepspeed.ops.lion"):
        folders[name] = ModuleType(name)
    folders["deepspeed.ops.adam"].DeepSpeedCPUAdam = Made
    weights = [torch.nn.Parameter(torch.zeros(4))]
    with (
        mock.patch.dict(sys.modules, folders),
        mock.patch.object(own, "compare_versions", return_value=True),
        mock.patch.object(own, "is_bnb_available", return_value=False),
    ):
        kept = own.map_pytorch_optim_to_deepspeed(torch.optim.AdamW(weights))
        others = [own.map_pytorch_optim_to_deepspeed(made) for made in (torch.optim.SGD(weights), adafactor(weights))]
    assert kept.said["adamw_mode"]
    assert [(type(made), made.said["adamw_mode"]) for made in others] == [(Made, False)] * 2


def test_zero_3_refuses_muon_where_openrlhf_says_reduce_scatter() -> None:
    """The check in the optimizer of ZeRO-3, by its own text, of what OpenRLHF's configuration says for stage 3."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    found = importlib.util.find_spec("openrlhf")
    if found is None or found.origin is None or importlib.util.find_spec("deepspeed") is None:
        pytest.skip("no openrlhf, or no deepspeed")
    file = Path(found.origin).parent / "utils/deepspeed/deepspeed_utils.py"
    names: dict[str, Any] = {}
    tree = ast.parse(file.read_text())
    wanted = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "get_train_ds_config"]
    exec(compile(ast.Module(list[ast.stmt](wanted), []), str(file), "exec"), names)
    stage3 = pytest.importorskip("deepspeed.runtime.zero.stage3")
    source = textwrap.dedent(inspect.getsource(stage3.DeepSpeedZeroOptimizer_Stage3.__init__))
    first = ast.parse(source).body[0]
    checks = [one for one in ast.walk(first) if isinstance(one, ast.If) and "Muon and reduce" in ast.unparse(one)]
    assert len(checks) == 1

    def ask(stage: int, is_muon: bool) -> None:
        config = names["get_train_ds_config"](False, stage=stage)["zero_optimization"]
        own = SimpleNamespace(use_muon=is_muon, reduce_scatter=config.get("reduce_scatter", False))
        exec(compile(ast.Module(list[ast.stmt](checks), []), "stage3.py", "exec"), {"self": own})

    ask(3, is_muon=False)
    with pytest.raises(ValueError, match="Muon and reduce scatter"):
        ask(3, is_muon=True)
