"""Rules the other way, asked of programs that hand Megatron their own settings: slime, ms-swift, NeMo-RL."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import random
import sys
import types
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import Anything, words_of
from megatron_model import decoder, first_pass, fused_parts, groups
from refused import aimed, degrees, experts, lengths, rollouts
from test_ms_swift import arguments as ms_swift_arguments
from test_refused_layouts import IN_ATTENTION, REFUSALS, ask, batches, evenly, optimizer, said
from test_slime import OF_THE_USER, slime

from planner.search.plan import Plan

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
PLAIN_NETWORKS = ("qwen2.5-7b", "qwen2.5-14b", "qwen3-8b", "llama3.1-8b", "qwen3-30b-a3b")
"""Without latent attention, which each program's own conversion is told apart."""


def of_rl(rng: random.Random) -> dict[str, Any]:
    """A scenario of an RL engine whose degrees need not divide anything."""
    pins = {**degrees(rng), **rollouts(rng), **(experts(rng) if rng.random() < 0.5 else {})}
    pins["layout.sequence_parallel"] = rng.choice([True, True, False])
    return aimed(rng, pins)


def test_what_a_rule_alone_refuses_slime_refuses_too(tmp_path: Path) -> None:
    """Its arguments over its Megatron's, the configuration, micro-batches, groups and model that it makes of them."""
    own = slime()
    fused_parts()
    import slime.backends.megatron_utils.arguments as checks
    from megatron.training.arguments import core_transformer_config_from_args

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        words, exports = words_of(files["plan.sh"])
        words = evenly(words, plan.layout["virtual_pipeline"])
        rl = plan.problem.scenario.rl
        reference = ["--ref-load", str(tmp_path), "--use-kl-loss"] if rl is not None and rl.reference_model else []
        try:
            with (
                mock.patch.dict(os.environ, {"RANK": "0", "LOCAL_RANK": "0", **exports}),
                mock.patch.object(sys, "argv", ["x", *words, *reference, *OF_THE_USER]),
                mock.patch.object(checks, "AutoConfig"),
                mock.patch.object(checks, "_hf_validate_args"),
            ):
                args = own.parse_args()
                config = core_transformer_config_from_args(args)
            optimizer(args)
            batches(args)
            with groups(args, args.world_size):
                first_pass(decoder(config), config, padded(plan), plan.layout["num_micro_batches"])
        except REFUSALS as error:
            return said(error)
        return None

    ask("slime", "slime", of_rl, why)


def padded(plan: Plan) -> int:
    """Tokens of a sequence as slime pads it: to a multiple of what its ranks cut (cp_utils.py:307-312)."""
    lay = plan.layout
    pieces = 2 * lay["context_parallel"] * lay["tensor_parallel"]
    return -(-lay["sequence_length"] // pieces) * pieces


def of_ms_swift(rng: random.Random) -> dict[str, Any]:
    """A scenario of Megatron whose degrees need not divide anything, over plain networks."""
    pins = {**degrees(rng), **lengths(rng), **(experts(rng) if rng.random() < 0.5 else {})}
    pins |= {"layout.sequence_parallel": rng.choice([True, True, False]), "model": rng.choice(PLAIN_NETWORKS)}
    return aimed(rng, pins, "model")


def shape(plan: Plan) -> dict[str, Any]:
    """A checkpoint's configuration of a plain network, by its own names."""
    network = plan.problem.architecture
    names = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    found = {name: getattr(network, name) for name in (*names, "vocab_size", "head_dim")}
    if network.is_moe:
        found |= {name: getattr(network, name) for name in ("num_experts", "num_experts_per_tok")}
        found["moe_intermediate_size"] = network.moe_intermediate_size
    kind = "qwen3_moe" if network.is_moe else "llama"
    return found | {"model_type": kind, "hidden_act": "silu", "rms_norm_eps": 1e-6, "name_or_path": ""}


def bridge() -> Any:
    """mcore-bridge's configuration as ms-swift makes it; its models, which need Transformer Engine, stand in."""
    spec = importlib.util.find_spec("mcore_bridge")
    if spec is None:
        pytest.skip("no mcore_bridge")
    package: Any = types.ModuleType("mcore_bridge")
    package.__path__ = list(spec.submodule_search_locations or [])
    sys.modules.update({"mcore_bridge": package, "mcore_bridge.model": Anything("mcore_bridge.model")})
    config = importlib.import_module("mcore_bridge.config")
    package.ModelConfig, package.hf_to_mcore_config = config.ModelConfig, config.hf_to_mcore_config
    package.get_mcore_model = None
    return importlib.import_module("swift.megatron.model.utils").get_mcore_model_config


def test_what_a_rule_alone_refuses_ms_swift_refuses_too(tmp_path: Path) -> None:
    """Its arguments, mcore-bridge's configuration, and Megatron's groups and model of it."""
    pytest.importorskip("swift.utils")
    make = bridge()
    fused_parts()

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        words = words_of(files["plan.sh"])[0]
        lay = plan.layout
        try:
            args = ms_swift_arguments(words, lay["num_gpus"], tmp_path)
            args.megatron_model_meta = SimpleNamespace(model_type="gpt")
            optimizer(args)
            with groups(args, lay["num_gpus"]):
                config = make(args, SimpleNamespace(**shape(plan)))
                first_pass(decoder(config), config, padded(plan), plan.layout["num_micro_batches"])
        except REFUSALS as error:
            return said(error)
        return None

    ask("megatron-core", "ms-swift", of_ms_swift, why, LATER_OF_MS_SWIFT)


LATER_OF_MS_SWIFT = {
    "sequence_divides_context": "not at all: it pads every sequence (swift/megatron/utils)",
    "sequence_divides_tensor": "not at all: the same",
    "recompute_needs_grouped_experts": "not at all: grouped products are its default, also in dense networks",
    "heads_divide_context": IN_ATTENTION,
}
"""Rules that nothing asked here checks: where ms-swift stops instead."""


def own_functions(file: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Functions of a module by their own text, of one that imports all of NeMo-RL."""
    from megatron.core.transformer.transformer_config import TransformerConfig

    found = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.FunctionDef) and n.name in names]
    for function in found:
        function.returns = None
        for argument in function.args.args:
            argument.annotation = None
    names = {"os": os, "TransformerConfig": TransformerConfig, "router_replay_enabled": lambda *_: False}
    names["set_cuda_graph_modules"] = lambda config, modules: None
    space: dict[str, Any] = names | {"_NEMOTRON_OMNI_EXPANDED_SEQUENCE_CONTRACT": "of another network"}
    exec(compile(ast.Module(list[ast.stmt](found), []), str(file), "exec"), space)
    return space


def shards(policy: dict[str, Any], plan: Plan) -> None:
    """A step's samples over data ranks, and those of a rank into micro-batches, as NeMo-RL cuts them."""
    torch = pytest.importorskip("torch")
    from nemo_rl.distributed.batched_data_dict import BatchedDataDict

    batch = policy["train_global_batch_size"]
    samples = BatchedDataDict({"x": torch.zeros(plan.wish.samples, 1)})
    mine = samples.shard_by_batch_size(plan.layout["data_parallel"], batch_size=batch)[0]
    if not policy["sequence_packing"]["enabled"]:
        step = mine.slice(0, batch // plan.layout["data_parallel"])
        list(step.make_microbatch_iterator(policy["train_micro_batch_size"]))


APPLIED = ("_apply_parallelism_config", "_apply_moe_config", "_apply_performance_config")


def test_what_a_rule_alone_refuses_nemo_rl_refuses_too(tmp_path: Path) -> None:
    """Its own assignments to a Megatron configuration, Megatron's checks of it, its groups, model and batches."""
    root = Path(os.environ.get("PLANNER_NEMO_RL", "none"))
    if not (root / "examples/configs").is_dir():
        pytest.skip("PLANNER_NEMO_RL names no checkout of NeMo-RL")
    pytest.importorskip("megatron.core")
    sys.path[:0] = [str(root / "nemo_rl/utils"), str(root)]
    import config as loader
    from megatron.core.transformer.transformer_config import TransformerConfig
    from omegaconf import OmegaConf

    fused_parts()
    OmegaConf.register_new_resolver("mul", lambda a, b: a * b, replace=True)
    for file in (root / "examples/configs").glob("*.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own = own_functions(root / "nemo_rl/models/megatron/setup.py", APPLIED)

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        (tmp_path / "ours.yaml").write_text(files["nemo_rl.yaml"])
        loaded = loader.load_config(tmp_path / "ours.yaml")
        policy = OmegaConf.to_container(loaded, resolve=True)["policy"]
        network = plan.problem.architecture
        own_cfg = policy["megatron_cfg"]
        own_cfg |= {f"num_layers_in_{end}_pipeline_stage": None for end in ("first", "last")}  # as even as they can be
        given = SimpleNamespace(gated_linear_unit=True, virtual_pipeline_model_parallel_size=None)
        try:
            for name in APPLIED:
                own[name](given, policy)
            known = {f.name for f in fields(TransformerConfig)}
            torch = pytest.importorskip("torch")
            config = TransformerConfig(
                **{name: value for name, value in vars(given).items() if name in known},
                num_layers=network.num_hidden_layers,
                hidden_size=network.hidden_size,
                ffn_hidden_size=network.intermediate_size,
                num_attention_heads=network.num_attention_heads,
                num_query_groups=network.num_key_value_heads,
                kv_channels=network.head_dim,
                num_moe_experts=network.num_experts,
                moe_ffn_hidden_size=network.moe_intermediate_size,
                moe_router_topk=network.num_experts_per_tok or 2,
                add_bias_linear=bool(network.mlp_bias),
                activation_func=torch.nn.functional.silu,
                bf16=True,
                params_dtype=torch.bfloat16,
                pipeline_dtype=torch.bfloat16,
            )
            optimizer(SimpleNamespace(**own_cfg["optimizer"]))
            shards(policy, plan)
            with groups(config, plan.layout["num_gpus"]):
                first_pass(decoder(config), config, padded(plan), plan.layout["num_micro_batches"])
        except REFUSALS as error:
            return said(error)
        return None

    ask("nemo-rl", "nemo-rl", of_rl, why)
