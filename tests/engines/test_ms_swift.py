"""ms-swift's own arguments of `megatron pt` on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import importlib
import sys
import typing
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, Anything, megatron_degrees, words_of, written

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
NEEDS_A_GPU = ("mcore_bridge", "mcore_bridge.model", "swift.megatron.utils", "swift.megatron.init")
"""Modules that stand in; the arguments and their checks are its own."""


@cache
def own() -> Any:
    """Its module of arguments."""
    pytest.importorskip("swift.utils")
    for name in NEEDS_A_GPU:
        sys.modules[name] = Anything(name)
    # transformers' parser (hf_argparser.py:185) takes cp_comm_type, a word or a list, only where the list stands first.
    # typing gives back an equal union that it remembers, of 128, in the order of who asked first: as `megatron pt`
    # imports it, swift/hub/hub.py:63 has. What stands in here would be imported between.
    for name in ("megatron.core", "swift.arguments", "swift.model"):
        importlib.import_module(name)
    for forget in getattr(typing, "_cleanups"):  # noqa: B009
        forget()
    importlib.reload(importlib.import_module("swift.hub.hub"))
    return importlib.import_module("swift.megatron.arguments.megatron_args")


def arguments(words: list[str], gpus: int, folder: Path) -> Any:
    """Arguments as `megatron pt` hands them to its training, of a network whose configuration is not read."""
    module = own()
    pretrain = importlib.import_module("swift.megatron.arguments.pretrain_args").MegatronPretrainArguments
    base = importlib.import_module("swift.arguments.base_args.model_args")
    sixteen = module.torch.bfloat16
    network = mock.MagicMock(model_type="llama", model_dir=str(folder), torch_dtype=sixteen, max_model_len=1 << 30)
    meta = mock.MagicMock(is_multimodal=False, mcore_model_type="gpt", model_type="llama", template="llama3")

    def start(args: Any) -> None:
        args.world_size = gpus

    with (
        mock.patch.object(module, "initialize_megatron", start),
        mock.patch.object(module, "get_model_info_meta", return_value=(network, meta)),
        mock.patch.object(base, "get_model_info_meta", return_value=(network, meta)),
        mock.patch.object(pretrain, "_init_output_dir"),
    ):
        parse = importlib.import_module("swift.utils").parse_args
        made, rest = parse(pretrain, [*words, "--dataset", "x", "--output_dir", str(folder)])
    assert not rest, rest
    return made


def test_ms_swift_takes_every_plan(tmp_path: Path) -> None:
    own()
    for plan, files in written("megatron-core", "ms-swift", PLANS):
        words, _ = words_of(files["plan.sh"])
        lay, precision = plan.layout, plan.problem.precision.id
        args = arguments(words, lay["num_gpus"], tmp_path)
        read = megatron_degrees(args) | {
            "micro_batch_size": args.micro_batch_size,
            "num_micro_batches": args.num_microbatches,
            "virtual_pipeline": args.virtual_pipeline_model_parallel_size or 1,
        }
        assert read == {name: lay[name] for name in read}, files["plan.sh"]
        chunks = lay["virtual_pipeline"]  # transformer_config.py of Megatron, whose layout string is not written
        assert not any(layers % chunks for layers in plan.layers), files["plan.sh"]
        assert args.max_length == lay["sequence_length"]
        assert (bool(args.bf16), bool(args.fp16)) == (precision in ("bf16", "fp8"), precision == "fp16")
        assert (args.fp8 is not None) == (precision == "fp8")
        assert args.optimizer_cpu_offload == plan.named.optimizer_offload
        several = lay["data_parallel"] * lay["context_parallel"] > 1
        assert (args.overlap_grad_reduce, args.overlap_param_gather) == (several, several)
        again = "full" if any(plan.recomputed) else "selective" if plan.named.recompute_modules else None
        assert args.recompute_granularity == again, files["plan.sh"]
        if lay["expert_parallel"] > 1:
            assert args.expert_tensor_parallel_size == lay["expert_tensor_parallel"]
