"""NeMo-RL's own loader of configurations on every plan: `python -m pytest -m engines`."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from drawn import PLANS, written
from nemo_rl_setup import megatron_settings, package, samples, set_up

from planner.search.plan import Plan

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


def test_nemo_rl_loads_every_plan_over_its_own_configuration(tmp_path: Path) -> None:
    """examples/run_grpo.py loads with load_config; every key of ours must be one that its own files have."""
    root = Path(os.environ.get("PLANNER_NEMO_RL", "none"))
    examples = root / "examples/configs"
    if not examples.is_dir():
        pytest.skip("PLANNER_NEMO_RL names no checkout of NeMo-RL")
    pytest.importorskip("omegaconf")
    pytest.importorskip("hydra")
    sys.path.insert(0, str(root / "nemo_rl/utils"))
    import config as loader
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("mul", lambda a, b: a * b, replace=True)
    for file in examples.glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    bases = {each: plain(loader.load_config(tmp_path / f"{each}_math_1B_megatron.yaml")) for each in ("grpo", "ppo")}
    seen = Counter[str]()
    for plan, files in written("nemo-rl", "nemo-rl", PLANS):
        path = tmp_path / "ours.yaml"
        path.write_text(files["nemo_rl.yaml"])
        loaded = loader.load_config(path)
        whole = OmegaConf.to_container(loaded, resolve=True)
        assert isinstance(whole, dict)
        rl = plan.problem.scenario.rl
        assert rl is not None
        seen[rl.algorithm] += 1
        base = bases[rl.algorithm]
        assert set(plain(loaded)) - set(base) <= KNOWN[rl.algorithm], set(plain(loaded)) - set(base)
        read, lay, policy = plain(loaded), plan.layout, "policy."
        if rl.algorithm == "ppo":
            both = [{name.removeprefix(each): value for name, value in read.items() if name.startswith(each)}
                    for each in (policy, "value.")]  # fmt: skip
            alike = [name for name in both[1] if name.endswith(DECIDES) and "dtensor" not in name and name in both[0]]
            assert {name: both[1][name] for name in alike} == {name: both[0][name] for name in alike}
            assert len(alike) >= 10
            assert read["ppo.ppo_epochs"] == 1
            assert read["ppo.skip_reference_policy_logprobs_calculation"] == (not rl.reference_model)
            # algorithms/ppo.py:380-386
            assert read["value.sequence_packing.enabled"] or read["value.megatron_cfg.context_parallel_size"] == 1
        own = policy + "megatron_cfg."
        degrees = [read[own + f"{name}_model_parallel_size"] for name in ("tensor", "pipeline", "expert")]
        assert degrees == [lay[f"{name}_parallel"] for name in ("tensor", "pipeline", "expert")]
        assert read[own + "context_parallel_size"] == lay["context_parallel"]
        assert read[own + "sequence_parallel"] == bool(lay["sequence_parallel"])
        assert read[policy + "train_global_batch_size"] == lay["global_batch_size"]
        assert read[policy + "max_total_sequence_length"] == lay["sequence_length"]
        assert read[f"{rl.algorithm}.num_prompts_per_step"] == plan.wish.rollout_batch_size
        assert (read["loss_fn.reference_policy_kl_penalty"] > 0) == rl.reference_model
        again = read[own + "activation_checkpointing"]
        assert again == (any(plan.recomputed) or bool(plan.problem.scenario.layout.recompute_modules))
        if lay["max_tokens"]:
            whole_pack = lay["max_tokens"] * lay["context_parallel"]
            assert read[policy + "sequence_packing.train_mb_tokens"] == whole_pack
            scored = read[policy + "sequence_packing.logprob_mb_tokens"]
            assert scored == whole_pack * plan.problem.engine.packing.log_prob_times
        else:
            assert read[policy + "train_micro_batch_size"] == lay["micro_batch_size"]
            assert not read[policy + "sequence_packing.enabled"]
        if rl.placement == "asynchronous":  # algorithms/grpo.py:4121-4130
            assert read["policy.generation.vllm_cfg.async_engine"]
            assert read["loss_fn.use_importance_sampling_correction"]
        gpus = read["cluster.num_nodes"] * read["cluster.gpus_per_node"]
        if read["policy.generation.colocated.enabled"]:
            assert gpus == lay["num_gpus"]
        else:
            beside = "policy.generation.colocated.resources."
            nodes, each = read[beside + "num_nodes"], read[beside + "gpus_per_node"]
            assert plan.rollout is not None
            assert nodes * each == plan.rollout.num_gpus
            assert gpus - nodes * each == lay["num_gpus"], files["nemo_rl.yaml"]
    print(f"by algorithm: {dict(seen)}")


DECIDES = (
    *("_parallel_size", "sequence_parallel", "activation_checkpointing", "recompute_granularity", "recompute_modules"),
    *("precision", "train_micro_batch_size", "train_global_batch_size", "_mb_tokens", "packing.enabled", "_length"),
    *("model_name", "make_sequence_length_divisible_by", "pipeline_stage", "cpu_offload", "grad_reduce_in_fp32"),
)
"""Ends of keys of the value model that must be the policy's once NeMo-RL has resolved both."""


def test_nemo_rl_starts_every_plan(tmp_path: Path) -> None:
    """Its MasterConfig, all of `setup` and of both parts but Ray, its settings of Megatron, its cut of the samples."""
    root = Path(os.environ.get("PLANNER_NEMO_RL", "none"))
    if not (root / "examples/configs").is_dir():
        pytest.skip("PLANNER_NEMO_RL names no checkout of NeMo-RL")
    own = package(root)
    from nemo_rl.utils.config import load_config, register_omegaconf_resolvers
    from omegaconf import OmegaConf

    register_omegaconf_resolvers()
    for file in (root / "examples/configs").glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for plan, files in written("nemo-rl", "nemo-rl", PLANS):
        assert plan.problem.scenario.rl is not None
        (tmp_path / "ours.yaml").write_text(files["nemo_rl.yaml"])
        keys = OmegaConf.to_container(load_config(tmp_path / "ours.yaml"), resolve=True)
        assert isinstance(keys, dict)
        if plan.problem.scenario.rl.algorithm == "ppo":
            two_networks(own, keys, plan)
            continue
        made, lay, gated = set_up(own, keys), plan.layout, plan.problem.architecture.gated_mlp
        config, policy, generation = made["config"], made["policy"], made["generation"]
        ranks = {name: policy.sharding_annotations.get_axis_size(name) for name in AXES}
        assert ranks == {name: lay[name] for name in AXES}, files["nemo_rl.yaml"]
        assert plan.rollout is not None
        assert generation.tp_size == plan.rollout.tensor_parallel
        assert made["generates_on"].world_size() == plan.rollout.num_gpus == generation.tp_size * generation.dp_size
        megatron_settings(own, config.policy, SimpleNamespace(gated_linear_unit=gated, activation_func=gated))
        cuts(own, plan, policy, config.policy)


def two_networks(own: Any, keys: dict[str, Any], plan: Plan) -> None:
    """PPO's own classes of its configuration, and Megatron's settings of policy and value model alike."""
    config, gated = own.ppo.MasterConfig(**keys), plan.problem.architecture.gated_mlp
    assert config.ppo.ppo_epochs == 1
    made = []
    for part in (config.policy, config.value):
        part["megatron_cfg"]["train_iters"] = 1  # as its setup does, from the steps of a run
        settings = SimpleNamespace(gated_linear_unit=gated, activation_func=gated)
        megatron_settings(own, part, settings)
        made.append(vars(settings))
    assert made[0] == made[1]


AXES = ("pipeline_parallel", "data_parallel", "context_parallel", "tensor_parallel")


def cuts(own: Any, plan: Plan, made: Any, policy: dict[str, Any]) -> None:
    """A step's samples, all as long as they may be, over data ranks and into micro-batches: to train and to score."""
    lay, every = plan.layout, samples(own, plan.wish.samples, plan.layout["sequence_length"])
    for mine in (made._shard_for_train(every, policy["train_global_batch_size"]), made._shard_for_logprob(every)[0]):
        assert len(mine) == lay["data_parallel"]
    (mine, *_) = made._shard_for_train(every, policy["train_global_batch_size"])
    if lay["max_tokens"]:
        return
    step = mine.slice(0, policy["train_global_batch_size"] // lay["data_parallel"])
    assert len(list(step.make_microbatch_iterator(policy["train_micro_batch_size"]))) == lay["num_micro_batches"]


RECOMPUTED = {"recompute_granularity", "recompute_modules"}
KNOWN: dict[str, set[str]] = {
    "grpo": set(),
    "ppo": {f"{part}.megatron_cfg.{name}" for part in ("policy", "value") for name in RECOMPUTED},
}
"""Keys that NeMo-RL's code reads (models/megatron/setup.py:1072-1085) and its own example lacks, by algorithm."""


def plain(config: Any) -> dict[str, Any]:
    """Leaves by dotted names, resolved."""
    from omegaconf import OmegaConf

    out: dict[str, Any] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(inner, f"{name}.{key}" if name else key)
        else:
            out[name] = value

    walk(OmegaConf.to_container(config, resolve=True), "")
    return out
