"""OpenRLHF's own command on every plan, stopped where it would start Ray: `python -m pytest -m engines`."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from types import ModuleType, SimpleNamespace
from unittest import mock

import pytest
from drawn import PLANS, Anything, words_of, written

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
OF_THE_USER = ("--data.prompt_dataset", "d", "--reward.remote_url", "http://localhost")
NEEDS_A_GPU = ("ray", "ray.util", "ray.util.placement_group", "openrlhf.trainer", "openrlhf.trainer.ray",
               "openrlhf.trainer.ray.launcher", "openrlhf.trainer.ray.ppo_actor", "openrlhf.trainer.ray.ppo_critic",
               "openrlhf.utils")  # fmt: skip
"""Modules that stand in for what only runs on GPUs; the parser, its checks and openrlhf.utils.config are its own."""


class Parsed(Exception):
    """The command has come to its first step after parsing."""

    def __init__(self, args: SimpleNamespace) -> None:
        self.told = args


def parsed(words: list[str]) -> SimpleNamespace:
    """Arguments as OpenRLHF hands them to its training."""

    def stop(args: SimpleNamespace) -> None:
        raise Parsed(args)

    spec = importlib.util.find_spec("openrlhf")
    assert spec is not None
    modules: dict[str, ModuleType] = {name: Anything(name) for name in NEEDS_A_GPU}
    folder = next(iter(spec.submodule_search_locations or []))
    modules["openrlhf.utils"].__path__ = [f"{folder}/utils"]
    modules["openrlhf.utils"].get_strategy = stop  # type: ignore[attr-defined]
    modules["ray"].is_initialized = lambda: True  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, modules), mock.patch.object(sys, "argv", ["x", *words, *OF_THE_USER]):
        try:
            runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")
        except Parsed as reached:
            return reached.told
    raise AssertionError("the command ended before its training")


def test_openrlhf_takes_every_plan_and_reads_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("openrlhf") is None:
        pytest.skip("openrlhf is not installed")
    for plan, files in written("openrlhf", "openrlhf", PLANS):
        words, _ = words_of(files["plan.sh"])
        with capsys.disabled():
            args = parsed(words)
        lay, rl = plan.layout, plan.problem.scenario.rl
        assert rl is not None
        gpus = args.actor.num_nodes * args.actor.num_gpus_per_node
        ranks = gpus // args.ds.ring_attn_size // args.ds.tensor_parallel_size
        read = {
            "num_gpus": gpus,
            "tensor_parallel": args.ds.tensor_parallel_size,
            "context_parallel": args.ds.ring_attn_size,
            "data_parallel": ranks,
            "zero_stage": args.ds.zero_stage,
            "global_batch_size": args.train.batch_size,
            "sequence_length": args.data.max_len,
        }
        assert read == {name: lay[name] for name in read}, files["plan.sh"]
        # utils/deepspeed/deepspeed.py:110-116
        wide = args.ds.ring_attn_size * args.ds.tensor_parallel_size
        if not args.train.dynamic_batch_enable:
            pieces = args.train.batch_size * wide // args.train.micro_batch_size // gpus
            assert pieces == lay["num_micro_batches"], files["plan.sh"]
        assert args.rollout.batch_size == plan.wish.rollout_batch_size
        assert args.actor.gradient_checkpointing_enable == any(plan.recomputed)
        assert (args.algo.kl.init_coef > 0) == rl.reference_model
        # cli/train_ppo_ray.py:644-650 and 119-127: the critic's network and the GPUs it shares with the actor.
        named = args.actor.model_name_or_path if rl.algorithm == "ppo" else None
        assert args.critic.model_name_or_path == named, files["plan.sh"]
        if rl.algorithm == "ppo":
            assert args.critic.num_nodes * args.critic.num_gpus_per_node == gpus
            assert (args.critic.optim, args.train.colocate_all) == (args.actor.optim, True)
        engines = args.vllm.num_engines * args.vllm.tensor_parallel_size
        assert plan.rollout is not None
        assert engines == plan.rollout.num_gpus
        if args.train.colocate_all and not args.train.async_enable:
            assert engines == gpus
