"""The engines' own parsers as witnesses: `python -m pytest -m engines`, each where its package is installed.

Nothing of an engine is in this repository. docs/engines.md says which versions were asked, how, and what they answered.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from planner.errors import PlannerError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search.plan import make_plan
from planner.search.search import Outcome, search
from planner.search.space import build_space

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
PLANS = int(os.environ.get("PLANNER_ENGINE_PLANS", "50"))
"""Random plans for each engine."""
MODELS = (
    "llama3-8b", "llama3.1-70b", "qwen2.5-0.5b", "qwen2.5-14b", "qwen3-8b", "qwen3-30b-a3b", "mixtral-8x7b",
    "glm-4.5-air", "deepseek-v2-lite", "deepseek-v3", "kimi-k2", "moonlight-16b-a3b", "glm-4.7-flash",
    "gpt2-xl", "phi-4",
)  # fmt: skip
PLAIN = {
    "name": "asked",
    "task": "pretrain",
    "model": "llama3-8b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16, "usable_gib": 4000, "host_memory_gib": 100000},
    "batch": {"global_batch_size": 256, "sequence_length": 1024},
}


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def proof_of_anything() -> Any:
    return search(question_of(parse_document(json.dumps(PLAIN), "asked.yaml"), catalog()), check_points=0).proof


def draw(rng: random.Random, engine: str) -> dict[str, Any]:
    """Decisions of one random scenario."""
    pins: dict[str, Any] = {"engine": engine, "cluster.num_gpus": rng.choice([8, 16, 32, 64])}
    if engine not in ("slime", "nemo-rl", "openrlhf", "verl-megatron", "verl-fsdp2"):
        pins["model"] = rng.choice(MODELS)
    if engine in ("megatron-core", "slime", "verl-megatron"):
        pins["layout.pipeline_parallel"] = rng.choice([1, 2, 3, 4])
        pins["layout.context_parallel"] = rng.choice([1, 1, 2, 4])
        pins["layout.virtual_pipeline"] = rng.choice([1, 1, 1, 2])
        pins["layout.layers_per_stage"] = rng.choice(["even", "free"])
        pins["precision"] = rng.choice(["bf16", "fp16"])
    if engine == "megatron-core":
        pins["precision"] = rng.choice(["bf16", "fp16", "fp8"])
        pins["layout.optimizer_offload"] = rng.random() < 0.2
        pins["layout.activation_offload"] = rng.random() < 0.2
        pins["cluster.rank_order"] = rng.choice(["default", "default", "tp_pp_dp"])
        if rng.random() < 0.3:
            pins["engine_options"] = [
                rng.choice(["native_cross_entropy_fusion", "bf16_moments", "a2a_context_parallel"])
            ]
    return pins


def random_plans(engine: str, count: int) -> Iterator[Outcome]:
    """Legal layouts drawn without a search, in a fixed order."""
    rng, made = random.Random(engine), 0
    rl = engine in ("slime", "nemo-rl", "openrlhf", "verl-megatron", "verl-fsdp2")
    while made < count:
        base = load("scenarios/qwen7b_rl.yaml") if rl else parse_document(json.dumps(PLAIN), "asked.yaml")
        extra = {"cluster.max_gpus": None, "limits.headroom_gib": None, "cluster.usable_gib": 4000} if rl else {}
        try:
            question = question_of(override(base, {**extra, **draw(rng, engine)}), catalog())
            space = build_space(question)
        except PlannerError:
            continue
        if not len(space.layouts) or (space.rollouts is not None and not len(space.rollouts)):
            continue
        row = rng.randrange(len(space.layouts))
        lay = space.layouts.row(row)
        stages, chunks = lay["pipeline_parallel"], lay["virtual_pipeline"]
        parts, rest = divmod(question.architecture.num_hidden_layers, chunks)
        split = [parts // stages + (stage < parts % stages) for stage in range(stages)]
        if rest or (len(set(split)) > 1 and question.scenario.layout.layers_per_stage != "free"):
            continue
        layers = tuple(part * chunks for part in split)
        partial = question.first.engine.recompute.partial
        again = rng.choice([0, rng.randrange(1, min(split) + 1) * chunks if partial else max(layers)])
        recomputed = tuple(min(again, n) for n in layers)
        choice = None if space.rollouts is None else rng.randrange(len(space.rollouts))
        plan = make_plan(question, space.layouts, row, layers, recomputed, space.rollouts, choice)
        made += 1
        yield Outcome(question, "optimal", plan, proof_of_anything(), ())


def words_of(text: str) -> tuple[list[str], dict[str, str]]:
    """(PLAN_ARGS, exported variables) as bash itself makes them."""
    ask = 'source /dev/stdin; printf "%s\\0" "${PLAN_ARGS[@]}"; printf "\\1"; env -0'
    ran = subprocess.run(
        ["bash", "-euc", ask], input=text, text=True, check=True, capture_output=True,
        env={"PATH": os.environ["PATH"], "RANK": "0", "NODE_RANK": "0"},
    ).stdout  # fmt: skip
    words, _, variables = ran.partition("\1")
    pairs = (pair.split("=", 1) for pair in variables.split("\0") if "=" in pair)
    return words.split("\0")[:-1], {name: value for name, value in pairs if name.startswith(("CUDA_", "NVTE_"))}


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
    from megatron.core import utils
    from megatron.core.models.common.embeddings import rope_utils
    from packaging.version import Version

    utils._te_version = Version("2.17.1")
    rope_utils.fused_apply_rotary_pos_emb = rope_utils.fused_apply_rotary_pos_emb_thd = object()
    return arguments


OF_THE_USER = ("--lr", "1e-4", "--train-iters", "10", "--tokenizer-type", "NullTokenizer", "--mock-data")


def test_megatron_accepts_every_plan_and_reads_it_back(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = megatron()
    for outcome in random_plans("megatron-core", PLANS):
        plan = outcome.plan
        assert plan is not None
        text = registry.files("megatron", outcome, catalog())["plan.sh"]
        words, exports = words_of(text)
        world = {"WORLD_SIZE": str(plan.layout["num_gpus"]), "RANK": "0", "LOCAL_RANK": "0", **exports}
        with mock.patch.dict(os.environ, world), mock.patch.object(sys, "argv", ["x", *words, *OF_THE_USER]):
            args = arguments.parse_args()
            args = arguments.validate_args(args) or args
            config = arguments.core_transformer_config_from_args(args)
        capsys.readouterr()
        lay = plan.layout
        read = {
            "tensor_parallel": args.tensor_model_parallel_size,
            "pipeline_parallel": args.pipeline_model_parallel_size,
            "context_parallel": args.context_parallel_size,
            "expert_parallel": args.expert_model_parallel_size,
            "data_parallel": args.data_parallel_size,
            "micro_batch_size": args.micro_batch_size,
            "global_batch_size": args.global_batch_size,
            "sequence_length": args.seq_length,
            "sequence_parallel": int(args.sequence_parallel),
        }
        assert read == {name: lay[name] for name in read}, text
        assert config.num_layers == sum(plan.layers)


def test_verl_composes_and_validates_every_plan() -> None:
    hydra = pytest.importorskip("hydra")
    folder = Path(os.environ.get("PLANNER_VERL", "")) / "verl/trainer/config"
    if not folder.is_dir():
        verl = pytest.importorskip("verl")
        folder = Path(verl.__path__[0]) / "trainer/config"
    for engine in ("verl-fsdp2", "verl-megatron"):
        for outcome in random_plans(engine, PLANS):
            try:
                text = registry.files("verl", outcome, catalog())["plan.sh"]
            except PlannerError:
                continue  # a placement or split that verl has no word for, refused by name
            words, _ = words_of(text)
            with hydra.initialize_config_dir(str(folder), version_base=None):
                composed = hydra.compose("ppo_trainer", overrides=words)
            plan = outcome.plan
            assert plan is not None
            actor = composed.actor_rollout_ref.actor
            if engine == "verl-megatron":
                assert actor.megatron.tensor_model_parallel_size == plan.layout["tensor_parallel"]
                assert actor.megatron.pipeline_model_parallel_size == plan.layout["pipeline_parallel"]
                assert actor.megatron.context_parallel_size == plan.layout["context_parallel"]
            else:
                assert actor.ulysses_sequence_parallel_size == plan.layout["context_parallel"]
            assert composed.data.train_batch_size == plan.wish.rollout_batch_size


def test_training_arguments_and_accelerate_take_every_plan(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    loader = pytest.importorskip("accelerate.commands.config.config_args")
    for engine in ("fsdp2", "deepspeed"):
        for number, outcome in enumerate(random_plans(engine, min(PLANS, 20))):
            folder = tmp_path / f"{engine}{number}"
            folder.mkdir()
            for name, text in registry.files("accelerate", outcome, catalog()).items():
                (folder / name).write_text(text)
            config = loader.load_config_from_file(str(folder / "accelerate.yaml"))
            plan = outcome.plan
            assert plan is not None
            assert config.num_processes == plan.layout["num_gpus"]
            keys = dict(parse_document((folder / "training_arguments.yaml").read_text(), "a").data)
            keys.pop("deepspeed", None)
            parser = transformers.HfArgumentParser(transformers.TrainingArguments)
            (arguments,) = parser.parse_dict({**keys, "output_dir": str(folder), "use_cpu": True})
            assert arguments.per_device_train_batch_size == plan.layout["micro_batch_size"]
            assert arguments.gradient_accumulation_steps == plan.layout["num_micro_batches"]
