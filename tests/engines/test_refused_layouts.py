"""Rules the other way: a layout that one rule of ours alone refuses is refused by the engine too.

An engine checks in several places: its arguments, its process groups, and in what is built or run later; a rule that
nothing asked here checks is named with the line of the engine that stops, or goes wrong, instead.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from drawn import MODELS, PLANS, Anything, words_of, written
from megatron_model import built, groups
from refused import (
    AIMS_OF_TORCHTITAN,
    AIMS_OF_ULYSSES,
    LEGAL,
    PACKED,
    Draw,
    aimed,
    degrees,
    experts,
    lengths,
    refused,
    rollouts,
)
from test_deepspeed import Ranks
from test_openrlhf import parsed
from test_parsers import OF_THE_USER, megatron
from torchtitan_trainer import dispatched, parts

from planner.search.plan import Plan

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
IN_ATTENTION = "TransformerEngine 2.17.1 pytorch/attention/dot_product_attention/context_parallel.py:3952"
LATER = {
    "megatron-core": {"heads_divide_context": IN_ATTENTION},
    "slime": {"heads_divide_context": IN_ATTENTION},
    "verl-megatron": {
        "experts_divide": "megatron/core/transformer/moe/moe_layer.py:185, as a layer of experts is built"
    },
}
"""Rules that nothing asked here checks: where the engine stops instead."""
REFUSALS = (AssertionError, ValueError, RuntimeError, SystemExit, ZeroDivisionError, TypeError, NotImplementedError)


def ask(
    engine: str,
    launcher: str,
    draw: Draw,
    why: Callable[[Plan, dict[str, str]], str | None],
    later: Mapping[str, str] | None = None,
) -> None:
    """Every layout that one rule alone refuses is refused, or its rule is named in LATER; legal ones are taken."""
    later = LATER.get(engine, {}) if later is None else later
    asked, silent, answers = Counter[str](), Counter[str](), dict[str, str]()
    for rule, plan, files in refused(engine, launcher, draw, PLANS):
        asked[rule] += 1
        word = why(plan, files)
        if rule == LEGAL:
            assert word is None, (word, plan.problem.architecture.id, plan.layout)
        elif word is not None:
            answers.setdefault(rule, word)
        else:
            silent[rule] += 1
            if rule not in later:
                print(f"not refused: {rule}, {plan.problem.architecture.id}, {plan.layout}")
    print(f"{engine}: asked {asked.total()} {dict(asked)}; not refused {dict(silent)}")
    print("".join(f"  {rule}: {word}\n" for rule, word in sorted(answers.items())))
    assert set(asked) - {LEGAL}
    assert set(silent) <= set(later), silent


def said(error: BaseException) -> str:
    """One line of a refusal."""
    return f"{type(error).__name__}: {str(error)[:100]}"


ENDS = ("--decoder-first-pipeline-num-layers", "--decoder-last-pipeline-num-layers", "--pipeline-model-parallel-layout")
"""Flags of uneven stages, each with a value: stages that were asked to be even are asked without them."""


CHUNKS = "--num-virtual-stages-per-pipeline-rank"


def evenly(words: list[str], chunks: int) -> list[str]:
    """The command without what would make its stages uneven; a layout string says chunks too, which are said again."""
    out = [word for at, word in enumerate(words) if word not in ENDS and (at == 0 or words[at - 1] not in ENDS)]
    return out if chunks == 1 or CHUNKS in out else [*out, CHUNKS, str(chunks)]


def answer(plan: Plan, text: str) -> str | None:
    """Why Megatron's arguments, configurations, micro-batches, groups or model refuse a script; none if nothing.

    The GPU is said to be the plan's: what Hopper needs and Blackwell does not would else refuse everything.
    """
    arguments = megatron()
    words, exports = words_of(text)
    world = {"WORLD_SIZE": str(plan.layout["num_gpus"]), "RANK": "0", "LOCAL_RANK": "0", **exports}
    kind = 10 if "Blackwell" in plan.problem.gpu.chip else 9
    gpu = SimpleNamespace(major=kind, minor=0, multi_processor_count=132)
    try:
        with (
            mock.patch.dict(os.environ, world),
            mock.patch.object(sys, "argv", ["x", *evenly(words, plan.layout["virtual_pipeline"]), *OF_THE_USER]),
            mock.patch("torch.cuda.get_device_capability", return_value=(kind, 0)),
            mock.patch("torch.cuda.get_device_properties", return_value=gpu),
        ):
            args = arguments.parse_args()
            args = arguments.validate_args(args) or args
            arguments.core_transformer_config_from_args(args)
            optimizer(args)
            batches(args)
            built(arguments, args, 0, begin=True)
    except REFUSALS as error:
        return said(error)
    return None


def optimizer(args: Any) -> None:
    """Megatron's configuration of the optimizer, as its training makes it; Transformer Engine's Adam stands in."""
    from megatron.core.optimizer import OptimizerConfig

    def adam(master_weight_dtype: Any, exp_avg_dtype: Any, exp_avg_sq_dtype: Any, use_decoupled_grad: Any) -> None: ...

    engine = "transformer_engine.pytorch.optimizers"
    stand_ins = {name: Anything(name) for name in ("transformer_engine", "transformer_engine.pytorch", engine)}
    stand_ins[engine].FusedAdam = adam  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, stand_ins):
        OptimizerConfig(**{f.name: getattr(args, f.name) for f in fields(OptimizerConfig) if hasattr(args, f.name)})


def batches(args: Any) -> None:
    """Megatron's count of micro-batches."""
    from megatron.core.num_microbatches_calculator import ConstantNumMicroBatchesCalculator

    ConstantNumMicroBatchesCalculator(args.global_batch_size, args.micro_batch_size, args.data_parallel_size, False, 0)


def of_megatron(rng: random.Random) -> dict[str, Any]:
    """A scenario of Megatron whose degrees need not divide anything."""
    pins = {**degrees(rng), **lengths(rng), "model": rng.choice(MODELS)}
    pins["layout.sequence_parallel"] = rng.choice([True, True, False])
    if rng.random() < 0.4:
        modules = rng.sample(["mla_up_proj", "moe_act", "layernorm", "mlp", "core_attn"], 1)
        pins |= {"layout.recompute_modules": modules, "precision": rng.choice(["bf16", "fp8"])}
    return aimed(rng, pins | (experts(rng) if rng.random() < 0.4 else {}))


def test_what_a_rule_alone_refuses_megatron_refuses_too() -> None:
    megatron()

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        return answer(plan, files["plan.sh"])

    ask("megatron-core", "megatron", of_megatron, why)


def test_what_no_rule_refuses_is_not_refused() -> None:
    """The control of the test above: the same questions let legal plans pass."""
    for plan, files in written("megatron-core", "megatron", max(PLANS // 5, 1)):
        even = len(set(plan.layers)) == 1
        if plan.problem.scenario.cluster.rank_order == "default" and not any(plan.recomputed) and even:
            assert answer(plan, files["plan.sh"]) is None, files["plan.sh"]


TITANS = ("llama3-8b", "qwen3-0.6b", "qwen3-14b", "qwen3-30b-a3b", "deepseek-v2-lite")


def of_torchtitan(rng: random.Random) -> dict[str, Any]:
    """A scenario of torchtitan, over networks that it has functions for."""
    pins = {**degrees(rng), **lengths(rng), **(experts(rng) if rng.random() < 0.5 else {}), "model": rng.choice(TITANS)}
    pins = aimed(rng, pins, aims=AIMS_OF_TORCHTITAN)
    if pins["layout.pipeline_parallel"] == 1:  # torchtitan has no word for chunks of no pipeline
        pins["layout.virtual_pipeline"] = 1
    return pins


def torchtitan(plan: Plan, files: dict[str, str]) -> str | None:
    """Why torchtitan's parser, meshes, trainer, schedules or dispatch of tokens refuse a script; none if nothing."""
    try:
        network = plan.problem.architecture
        parts(words_of(files["plan.sh"])[0], network.id, plan.layout["num_gpus"])
        if plan.layout["expert_parallel"] > 1:
            dispatched(network.num_experts or 0, plan.layout["expert_parallel"])
    except REFUSALS as error:
        return said(error)
    return None


def test_what_a_rule_alone_refuses_torchtitan_refuses_too(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchtitan")
    with capsys.disabled():
        ask("torchtitan", "torchtitan", of_torchtitan, torchtitan)


def deepspeed(keys: dict[str, Any], ranks: int) -> str | None:
    """Why DeepSpeed's configuration refuses batches; it is left to find the micro-batches itself."""
    config = pytest.importorskip("deepspeed.runtime.config")
    keys.pop("gradient_accumulation_steps", None)
    try:
        with mock.patch("deepspeed.runtime.config.dist.get_rank", return_value=0):
            config.DeepSpeedConfig(keys, mpu=Ranks(ranks))
    except REFUSALS as error:
        return said(error)
    return None


def test_what_a_rule_alone_refuses_deepspeed_refuses_too() -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        lay, keys = plan.layout, json.loads(files["ds_config.json"])
        keys["train_batch_size"] = lay["global_batch_size"]  # its file says micro-batches, of which there is no number
        return deepspeed(keys, lay["data_parallel"] * lay["context_parallel"])

    ask("deepspeed", "deepspeed", lambda rng: {**degrees(rng), **lengths(rng)}, why)


def test_what_a_rule_alone_refuses_openrlhf_refuses_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Its command, then DeepSpeed with the two sizes that it hands on (utils/deepspeed/deepspeed.py:455-456)."""
    pytest.importorskip("openrlhf")

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        try:
            args = parsed(words_of(files["plan.sh"])[0])
        except REFUSALS as error:
            return said(error)
        sizes = {
            "train_batch_size": args.train.batch_size,
            "train_micro_batch_size_per_gpu": args.train.micro_batch_size,
        }
        return deepspeed({**sizes, "optimizer": {"type": "Adam"}}, plan.layout["data_parallel"])

    with capsys.disabled():
        ask("openrlhf", "openrlhf", lambda rng: {**degrees(rng), **rollouts(rng)}, why)


def verl_said(words: list[str]) -> Any:
    """verl's own configuration of a script."""
    hydra = pytest.importorskip("hydra")
    folder = os.path.join(next(iter(pytest.importorskip("verl").__path__)), "trainer/config")
    with hydra.initialize_config_dir(folder, version_base=None):
        return hydra.compose("ppo_trainer", overrides=words)


def cut(actor: Any, lay: dict[str, int]) -> None:
    """The samples of a step over data ranks, and those of a rank into micro-batches, as verl's engines cut them."""
    torch = pytest.importorskip("torch")
    from verl.utils import tensordict_utils
    from verl.workers.engine.utils import prepare_micro_batches

    shape = lay["global_batch_size"], lay["sequence_length"] if actor.use_dynamic_bsz else 1
    whole = {name: torch.ones(shape, dtype=torch.int8) for name in ("input_ids", "attention_mask")}
    mine = tensordict_utils.chunk_tensordict(tensordict_utils.get_tensordict(whole), lay["data_parallel"])[0]
    said = (
        {"max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu, "sp_size": lay["context_parallel"]}
        if actor.use_dynamic_bsz
        else {"micro_batch_size_per_gpu": actor.ppo_micro_batch_size_per_gpu}
    )
    prepare_micro_batches(tensordict_utils.assign_non_tensor(mine, use_dynamic_bsz=actor.use_dynamic_bsz, **said))


@pytest.mark.parametrize("engine", ["verl-fsdp1", "verl-fsdp2"])
def test_what_a_rule_alone_refuses_verl_with_fsdp_refuses_too(engine: str) -> None:
    """Its checks, the patch that it lays over a network for Ulysses, and its cut of a rank's samples."""
    validate = pytest.importorskip("verl.utils.config").validate_config

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        from verl.models.transformers.monkey_patch import apply_monkey_patch

        network, composed = plan.problem.architecture, verl_said(words_of(files["plan.sh"])[0])
        heads = {"num_attention_heads": network.num_attention_heads, "num_key_value_heads": network.num_key_value_heads}
        model = mock.MagicMock(config=SimpleNamespace(**heads, model_type="qwen2"), __module__=__name__)
        try:
            validate(composed, use_reference_policy=True, use_critic=False)
            size = composed.actor_rollout_ref.actor.ulysses_sequence_parallel_size
            if size > 1:
                apply_monkey_patch(model, ulysses_sp_size=size)
            cut(composed.actor_rollout_ref.actor, plan.layout)
        except REFUSALS as error:
            return said(error)
        return None

    def draw(rng: random.Random) -> dict[str, Any]:
        return aimed(rng, packed(rng, degrees(rng) | rollouts(rng)), aims=AIMS_OF_ULYSSES)

    ask(engine, "verl", draw, why)


def packed(rng: random.Random, pins: dict[str, Any]) -> dict[str, Any]:
    """The same in packed micro-batches now and then, which have no number of samples."""
    cap = rng.choice(PACKED)
    rest = {name: value for name, value in pins.items() if cap == "none" or name != "batch.micro_batch_size"}
    return rest | {"batch.max_tokens_per_gpu": cap}


def mcore(plan: Plan, own: Any) -> None:
    """verl's own TransformerConfig of a network over its groups, and Megatron's count of a stage's layers."""
    from megatron.core.transformer.transformer_block import get_num_layers_to_build
    from verl.models.mcore import config_converter as converter

    network = plan.problem.architecture
    shape = {name: getattr(network, name) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")}
    shape |= {name: getattr(network, name) for name in ("num_key_value_heads", "head_dim", "num_experts_per_tok")}
    shape |= {"intermediate_size": network.intermediate_size, "moe_intermediate_size": network.moe_intermediate_size}
    shape |= {"num_experts": network.num_experts, "rms_norm_eps": 1e-6, "attention_dropout": 0.0, "rope_theta": 1e6}
    kind = "Qwen3MoeForCausalLM" if network.is_moe else "Qwen2ForCausalLM"
    config = SimpleNamespace(**shape, architectures=[kind], router_aux_loss_coef=0.0, max_position_embeddings=8192)
    made = converter.hf_to_mcore_config_qwen3moe if network.is_moe else converter.hf_to_mcore_config_dense
    with groups(own, plan.layout["num_gpus"]):
        chunks = own.virtual_pipeline_model_parallel_size
        get_num_layers_to_build(made(config, pytest.importorskip("torch").bfloat16), 0 if chunks else None, 0)


def of_verl(rng: random.Random) -> dict[str, Any]:
    """A scenario of verl's Megatron, without latent attention, which its conversion is told apart."""
    pins = packed(rng, {**degrees(rng), **rollouts(rng), **(experts(rng) if rng.random() < 0.5 else {})})
    return pins | {"model": rng.choice(["qwen2.5-7b", "qwen2.5-14b", "qwen3-30b-a3b"])}


def test_what_a_rule_alone_refuses_verl_with_megatron_refuses_too() -> None:
    """Its checks, its process groups and configuration of Megatron, and its cut of a rank's samples."""
    validate = pytest.importorskip("verl.utils.config").validate_config
    megatron()
    package = "verl.models.mcore"
    stand_ins = {f"{package}.{name}": Anything(name) for name in ("model_forward", "model_forward_fused", "patch")}

    def why(plan: Plan, files: dict[str, str]) -> str | None:
        composed = verl_said([word for word in words_of(files["plan.sh"])[0] if "pipeline_stage" not in word])
        actor = composed.actor_rollout_ref.actor
        try:
            validate(composed, use_reference_policy=True, use_critic=False)
            with mock.patch.dict(sys.modules, stand_ins):
                mcore(plan, actor.megatron)
            cut(actor, plan.layout)
        except REFUSALS as error:
            return said(error)
        return None

    ask("verl-megatron", "verl", of_verl, why)
