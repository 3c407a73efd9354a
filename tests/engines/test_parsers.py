"""The engines' own parsers as witnesses: `python -m pytest -m engines`, each where its package is installed.

Nothing of an engine is in this repository. docs/engines.md says which versions were asked, how, and what they answered.
"""

from __future__ import annotations

import os
import sys
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from drawn import PLANS, megatron_degrees, words_of, written
from megatron_model import fused_parts

from planner.inputs.document import parse_document

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]


@cache
def megatron() -> Any:
    """Megatron's arguments module on a machine without GPUs, TransformerEngine 2.17.1 said to be there."""
    torch = pytest.importorskip("torch")
    extensions = pytest.importorskip("typing_extensions")
    if not hasattr(typing, "override"):
        typing.override = extensions.override  # type: ignore[attr-defined, unused-ignore]
    torch.cuda.get_device_capability = lambda *_: (9, 0)
    torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(major=9, minor=0, multi_processor_count=132)
    arguments = pytest.importorskip("megatron.training.arguments")
    fused_parts()
    return arguments


OF_THE_USER = ("--lr", "1e-4", "--train-iters", "10", "--tokenizer-type", "NullTokenizer", "--mock-data")


def test_megatron_accepts_every_plan_and_reads_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = megatron()
    for plan, files in written("megatron-core", "megatron", PLANS):
        text = files["plan.sh"]
        words, exports = words_of(text)
        world = {"WORLD_SIZE": str(plan.layout["num_gpus"]), "RANK": "0", "LOCAL_RANK": "0", **exports}
        with mock.patch.dict(os.environ, world), mock.patch.object(sys, "argv", ["x", *words, *OF_THE_USER]):
            args = arguments.parse_args()
            args = arguments.validate_args(args) or args
            config = arguments.core_transformer_config_from_args(args)
        capsys.readouterr()
        lay = plan.layout
        read = megatron_degrees(args) | {
            "micro_batch_size": args.micro_batch_size,
            "sequence_length": args.seq_length,
        }
        assert read == {name: lay[name] for name in read}, text
        assert config.num_layers == sum(plan.layers)


DEGREES_OF_A_CRITIC = (
    "tensor_model_parallel_size",
    "pipeline_model_parallel_size",
    "context_parallel_size",
    "expert_model_parallel_size",
    "expert_tensor_parallel_size",
    "use_mbridge",
    "dtype",
)
"""Settings of Megatron that verl reads of its critic by itself."""


@pytest.mark.parametrize("engine", ["verl-fsdp1", "verl-fsdp2", "verl-megatron"])
def test_verl_composes_and_validates_every_plan(engine: str) -> None:
    hydra = pytest.importorskip("hydra")
    root = os.environ.get("PLANNER_VERL", "")
    if root:
        sys.path.insert(0, root)
    verl = pytest.importorskip("verl")
    folder = Path(verl.__path__[0]) / "trainer/config"
    validate = pytest.importorskip("verl.utils.config").validate_config
    need_critic = pytest.importorskip("verl.trainer.ppo.utils").need_critic
    for plan, files in written(engine, "verl", PLANS):
        words, _ = words_of(files["plan.sh"])
        with hydra.initialize_config_dir(str(folder), version_base=None):
            composed = hydra.compose("ppo_trainer", overrides=words)
        rl = plan.problem.scenario.rl
        assert rl is not None
        with mock.patch("verl.workers.config.model.HFModelConfig.__post_init__"):  # it opens the critic's checkpoint
            validate(composed, use_reference_policy=rl.reference_model, use_critic=rl.algorithm == "ppo")
        actor, lay, critic = composed.actor_rollout_ref.actor, plan.layout, composed.critic
        assert need_critic(composed) == (rl.algorithm == "ppo"), files["plan.sh"]
        if engine == "verl-megatron":
            own = actor.megatron
            degrees = own.tensor_model_parallel_size, own.pipeline_model_parallel_size, own.context_parallel_size
            wanted = lay["tensor_parallel"], lay["pipeline_parallel"], lay["context_parallel"]
            assert degrees == wanted, files["plan.sh"]
            if rl.algorithm == "ppo":
                assert critic.strategy == "megatron"
                assert all(critic.megatron[name] == own[name] for name in DEGREES_OF_A_CRITIC), files["plan.sh"]
            assert own.dtype == {"bf16": "bfloat16", "fp16": "float16"}[plan.problem.precision.id]
        else:
            assert actor.strategy == {"verl-fsdp1": "fsdp", "verl-fsdp2": "fsdp2"}[engine]
            assert actor.ulysses_sequence_parallel_size == lay["context_parallel"]
            if rl.algorithm == "ppo":
                assert critic.strategy == actor.strategy
                assert critic.ulysses_sequence_parallel_size == lay["context_parallel"]
        assert composed.data.train_batch_size == plan.wish.rollout_batch_size
        assert actor.ppo_mini_batch_size * rl.steps_per_rollout == plan.wish.rollout_batch_size
        assert composed.actor_rollout_ref.rollout.tensor_model_parallel_size == plan.rollout.tensor_parallel


def test_training_arguments_and_accelerate_take_every_plan(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    loader = pytest.importorskip("accelerate.commands.config.config_args")
    parser = transformers.HfArgumentParser(transformers.TrainingArguments)
    for engine in ("fsdp2", "deepspeed", "transformers", "transformers-ddp"):
        for plan, files in written(engine, "accelerate", PLANS):
            for name, text in files.items():
                (tmp_path / name).write_text(text)
            config = loader.load_config_from_file(str(tmp_path / "accelerate.yaml"))
            lay, precision = plan.layout, plan.problem.precision.id
            assert config.num_processes == lay["num_gpus"]
            assert isinstance(config.distributed_type, str)
            keys = dict(parse_document(files["training_arguments.yaml"], "a").data)
            keys.pop("deepspeed", None)
            (arguments,) = parser.parse_dict({**keys, "output_dir": str(tmp_path), "use_cpu": True})
            assert arguments.per_device_train_batch_size == lay["micro_batch_size"]
            assert arguments.gradient_accumulation_steps == lay["num_micro_batches"]
            assert arguments.gradient_checkpointing == any(plan.recomputed)
            cast = precision if engine in ("fsdp2", "deepspeed") or plan.problem.engine.autocast else "no"
            assert (arguments.bf16, arguments.fp16) == (cast == "bf16", cast == "fp16")
            if engine != "deepspeed":
                assert config.mixed_precision == ("no" if precision == "fp32" else cast)
