"""slime's own arguments over the Megatron that it pins and patches, on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import argparse
import os
import sys
import types
import typing
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, Anything, megatron_degrees, words_of, written

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
OF_THE_USER = ("--hf-checkpoint", "none", "--prompt-data", "x", "--num-rollout", "10")


class ServerArgs:
    """SGLang's options that a plan writes, and those that slime's checks read; its own parser is not asked."""

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--mem-fraction-static", type=float)
        parser.add_argument("--max-running-requests", type=int)
        for name in ("pp", "dp", "ep"):
            parser.add_argument(f"--{name}-size", type=int, default=1)


class RouterArgs:
    """The router's options, of which a plan writes none."""

    @staticmethod
    def add_cli_args(parser: argparse.ArgumentParser, **_: bool) -> None:
        """None."""


def slime() -> Any:
    """slime's arguments module on a machine without GPUs."""
    torch = pytest.importorskip("torch")
    extensions = pytest.importorskip("typing_extensions")
    pytest.importorskip("slime.utils")
    if not hasattr(typing, "override"):
        typing.override = extensions.override  # type: ignore[attr-defined, unused-ignore]
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    for name in (
        "wandb",
        "sglang",
        "sglang.srt",
        "sglang.srt.server_args",
        "sglang_router",
        "sglang_router.launch_router",
    ):
        sys.modules.setdefault(name, Anything(name))
    sys.modules["sglang.srt.server_args"].ServerArgs = ServerArgs  # type: ignore[attr-defined]
    sys.modules["sglang_router.launch_router"].RouterArgs = RouterArgs  # type: ignore[attr-defined]
    import slime.utils.arguments as arguments
    from megatron.core import utils
    from packaging.version import Version

    utils._te_version = Version("2.17.1")
    return arguments


def test_slime_takes_every_plan(tmp_path: Path) -> None:
    own = slime()
    import slime.backends.megatron_utils.arguments as megatron

    for plan, files in written("slime", "slime", PLANS):
        text = files["plan.sh"]
        words, exports = words_of(text)
        rl = plan.problem.scenario.rl
        assert rl is not None
        reference = ["--ref-load", str(tmp_path), "--use-kl-loss"] if rl.reference_model else []
        with (
            mock.patch.dict(os.environ, {"RANK": "0", "LOCAL_RANK": "0", **exports}),
            mock.patch.object(sys, "argv", ["x", *words, *reference, *OF_THE_USER]),
            mock.patch.object(megatron, "AutoConfig"),
            mock.patch.object(megatron, "_hf_validate_args"),
        ):
            args = own.parse_args()
        lay = plan.layout
        read = megatron_degrees(args) | {"num_gpus": args.world_size}
        assert read == {name: lay[name] for name in read}, text
        assert plan.rollout is not None
        # utils/arguments.py:1847-1850 and 1897: a critic of as many GPUs as the actor's, which sleeps.
        assert args.use_critic == (rl.algorithm == "ppo"), text
        if args.use_critic:
            assert args.colocate
            assert args.offload_train
            assert args.critic_num_nodes * args.critic_num_gpus_per_node == args.world_size
        assert args.rollout_num_gpus == plan.rollout.num_gpus
        assert args.rollout_num_gpus_per_engine == args.sglang_tp_size == plan.rollout.tensor_parallel
        assert (args.max_tokens_per_gpu or 0) == lay["max_tokens"]
        assert args.sglang_mem_fraction_static == pytest.approx(plan.rollout.gpu_memory_utilization)
