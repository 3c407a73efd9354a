"""Random legal plans for each engine, drawn without a search: what its own parser is asked with."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock

from planner.errors import InputError, PlannerError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.problem.option_sets import turned_on
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_middle, layer_step, recompute_levels
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome, search
from planner.search.space import build_space
from planner.search.witness.witness import broken

PLANS = int(os.environ.get("PLANNER_ENGINE_PLANS", "50"))
"""Random plans for each engine."""
SEED = os.environ.get("PLANNER_ENGINE_SEED", "")
"""Other plans for each other word."""
MOST_DRAWN = 15
"""Plans drawn for each that is to be written: launchers refuse by name up to nine of ten."""
OF_ONE_QUESTION = 4
"""Plans drawn from one space at most."""
RL = {"slime", "nemo-rl", "openrlhf", "verl-megatron", "verl-fsdp1", "verl-fsdp2"}
MEGATRON = {"megatron-core", "slime", "nemo-rl", "verl-megatron"}
MODELS = (
    "llama3-8b", "llama3.1-70b", "qwen2.5-0.5b", "qwen2.5-14b", "qwen3-8b", "qwen3-30b-a3b", "mixtral-8x7b",
    "glm-4.5-air", "deepseek-v2-lite", "deepseek-v3", "kimi-k2", "moonlight-16b-a3b", "glm-4.7-flash",
    "gpt2-xl", "phi-4",
)  # fmt: skip
LINEAR = ("qwen3-next-80b-a3b", "qwen3.5-9b", "qwen3.5-35b-a3b", "qwen3.5-397b-a17b")
"""Networks with linear attention, which most engines refuse by name."""
OF_RL = ("qwen2.5-7b", "qwen3-8b", "llama3.1-8b", "qwen2.5-14b", "qwen3-30b-a3b", "moonlight-16b-a3b")
PLAIN = {
    "name": "asked",
    "task": "pretrain",
    "model": "llama3-8b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16, "usable_gib": 4000, "host_memory_gib": 100000},
    "batch": {"global_batch_size": 256, "sequence_length": 1024},
}
MODULES = (
    ["core_attn"], ["mlp"], ["layernorm"], ["mla_up_proj", "layernorm"], ["shared_experts"], ["moe_act"], ["moe"],
)  # fmt: skip
ADAPTS = {"axolotl", "llama-factory", "trl"}
"""Launchers whose files say adapters."""
OPTIMIZERS = ("adamw", "adamw", "adamw", "adamw-8bit", "adafactor", "sgd", "lion", "muon")


class Anything(ModuleType):
    """A module in which every name is something: stands in for what only runs on GPUs."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return mock.MagicMock(name=name)


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def proof_of_anything() -> Any:
    return search(question_of(parse_document(json.dumps(PLAIN), "asked.yaml"), catalog()), check_points=0).proof


def draw(rng: random.Random, engine: str) -> dict[str, Any]:
    """Decisions of one random scenario."""
    pins: dict[str, Any] = {"engine": engine, "cluster.num_gpus": rng.choice([8, 16, 32, 64])}
    kept = catalog().find("engines", engine, None)
    pins["model"] = rng.choice(OF_RL if engine in RL else MODELS)
    if kept.linear_attention is not None and kept.linear_attention.supported and rng.random() < 0.15:
        pins["model"] = rng.choice(LINEAR)
    if engine not in RL:
        pins["batch.sequence_length"] = rng.choice([1024, 2048, 4096, 8192, 16384])
    options = list(kept.options)
    if engine == "transformers":
        pins["cluster.num_gpus"] = 1
    if {"autocast", "autocast_16bit_weights"} <= set(options):
        pins["engine_options"] = rng.choice([[], ["autocast"], ["autocast_16bit_weights"]])
    if options and rng.random() < 0.3:
        pins["engine_options"] = [*turned_on(kept, pins.get("engine_options", []), rng.choice(options))]
    if engine in MEGATRON:
        pins["layout.pipeline_parallel"] = rng.choice([1, 2, 3, 4])
        pins["layout.context_parallel"] = rng.choice([1, 1, 2, 4])
        pins["layout.layers_per_stage"] = rng.choice(["even", "free"])
        pins["precision"] = rng.choice(["bf16", "bf16", "fp16"])
        if engine != "nemo-rl":
            pins["layout.virtual_pipeline"] = rng.choice([1, 1, 1, 2])
        again = rng.random()
        if again < 0.15:
            pins["layout.recompute_modules"] = rng.choice(MODULES)
        elif again < 0.3:
            pins |= {"layout.recompute_method": "uniform", "layout.recompute_group": rng.choice([1, 1, 2])}
    elif rng.random() < 0.3:
        pins["precision"] = rng.choice(["fp16", "fp32", "fp8"])
    if rng.random() < 0.3:
        pins["optimizer"] = rng.choice(OPTIMIZERS)
    pins["layout.optimizer_offload"] = rng.random() < 0.2
    if engine == "megatron-core":
        pins["precision"] = rng.choice(["bf16", "fp16", "fp8"])
        pins["layout.activation_offload"] = rng.random() < 0.2
        pins["cluster.rank_order"] = rng.choice(["default", "default", "tp_pp_dp"])
    if engine == "torchtitan":
        pins["layout.virtual_pipeline"] = rng.choice([1, 1, 2])
        pins["layout.recompute_modules"] = rng.choice([[], ["op"]])
        pins["layout.schedule"] = rng.choice(["auto", "auto", "1f1b"])
    if engine in RL:
        pins["rl.placement"] = rng.choice(["colocated", "colocated", "disaggregated", "asynchronous"])
        pins["rl.steps_per_rollout"] = rng.choice([1, 1, 2, 4])
        pins["rl.reference_model"] = rng.random() < 0.7
        learns = kept.generation is not None and kept.generation.critic is not None
        if learns and pins["rl.placement"] == "colocated" and rng.random() < 0.5:
            pins |= {"rl.algorithm": "ppo", "layout.optimizer_offload": False}
    if ADAPTS.intersection(kept.launch) and rng.random() < 0.4:
        pins["adapter"] = draw_adapter(rng, pins.get("precision", "bf16"))
    return pins


def draw_adapter(rng: random.Random, computed: str) -> dict[str, Any]:
    """One random adapter, of formats and kinds that files have keys for and of some that they have not."""
    return {
        "rank": rng.choice([8, 16, 64]),
        "targets": rng.choice([["all-linear"], ["q_proj", "v_proj"], ["q_proj", "o_proj", "down_proj"], ["o_proj"]]),
        "base_precision": rng.choice([computed, computed, "nf4", "nf4-single", "int8", "int4"]),
        "variant": rng.choice(["lora", "lora", "rslora", "dora", "lora-fa"]),
        "dropout": rng.choice([0.0, 0.05]),
        "modules_to_save": rng.choice([[], [], ["embed_tokens"], ["embed_tokens", "lm_head"]]),
    }


def space_of(engine: str, rng: random.Random) -> tuple[Any, Any] | None:
    """(question, space) of one random scenario; none where it has no layout. Raises PlannerError for a wrong one."""
    base = load("scenarios/qwen7b_rl.yaml") if engine in RL else parse_document(json.dumps(PLAIN), "asked.yaml")
    extra = {"cluster.max_gpus": None, "limits.headroom_gib": None, "cluster.usable_gib": 4000} if engine in RL else {}
    question = question_of(override(base, {**extra, **draw(rng, engine)}), catalog())
    space = build_space(question)
    able = len(space.layouts) and (space.rollouts is None or len(space.rollouts))
    return (question, space) if able else None


def spaces(engine: str, rng: random.Random, skipped: Counter[str] | None = None) -> Iterator[tuple[Any, Any]]:
    """The same without end; `skipped` counts those that could not be asked."""
    while True:
        try:
            found = space_of(engine, rng)
        except PlannerError as error:
            if skipped is not None:
                skipped[str(error).splitlines()[0][:90]] += 1
            continue
        if found is not None:
            yield found


def some_of(question: Any, space: Any, rng: random.Random, most: int) -> Iterator[Outcome]:
    """A few legal layouts of one question; as many are drawn whether all are wanted or not."""
    for row in rng.sample(range(len(space.layouts)), min(OF_ONE_QUESTION, len(space.layouts))):
        plan = plan_of(question, space, row, rng)
        if plan is not None and most > 0:
            most -= 1
            yield Outcome(question, "optimal", plan, proof_of_anything(), ())


def random_plans(engine: str, count: int) -> Iterator[Outcome]:
    """Legal layouts drawn without a search, in a fixed order."""
    rng, made = random.Random(engine + SEED), 0
    for question, space in spaces(engine, rng):
        for outcome in some_of(question, space, rng, count - made):
            made += 1
            yield outcome
        if made >= count:
            return


def legal_plan(engine: str, rng: random.Random) -> Outcome | None:
    """One legal layout of one random scenario; none where the draw is no scenario, or has no layout."""
    try:
        found = space_of(engine, rng)
    except PlannerError:
        return None
    plan = plan_of(*found, rng.randrange(len(found[1].layouts)), rng) if found is not None else None
    return (
        Outcome(found[0], "optimal", plan, proof_of_anything(), ()) if found is not None and plan is not None else None
    )


def stage_layers(question: Any, stages: int, chunks: int, rng: random.Random) -> tuple[int, ...] | None:
    """Layers of random stages as the scenario and the engine allow; none where they do not divide."""
    problem, total = question.first, question.architecture.num_hidden_layers
    if question.scenario.layout.layers_per_stage != "free":
        return (total // stages,) * stages if total % (stages * chunks) == 0 else None
    step = layer_step(problem, chunks)
    steps, rest = divmod(total, step)
    if rest or steps < stages * (chunks if step == 1 else 1):
        return None
    split = [steps // stages + (stage < steps % stages) for stage in range(stages)]
    for _ in range(rng.choice([0, 0, 1, 2])):
        more, less = rng.randrange(stages), rng.randrange(stages)
        if split[less] * step > chunks:
            split[more] += 1
            split[less] -= 1
    if even_middle(problem) and len(set(split[1:-1])) > 1:
        return None
    return tuple(each * step for each in split)


def plan_of(question: Any, space: Any, row: int, rng: random.Random) -> Plan | None:
    """One layout with random stages and recomputed layers; none where the engine would not take it."""
    lay = space.layouts.row(row)
    problem, chunks = question.problems[lay["variant"]], lay["virtual_pipeline"]
    layers = stage_layers(question, lay["pipeline_parallel"], chunks, rng)
    if layers is None:
        return None
    levels = recompute_levels(problem, min(layers), chunks)
    again = rng.choice([0, rng.choice(levels)]) if 0 in levels else levels[-1]
    whole = again and (not problem.engine.recompute.partial or again == min(layers))
    recomputed = layers if whole else tuple(min(again, n) for n in layers)
    if broken(problem, lay, layers, recomputed):
        return None
    choice = None
    if space.rollouts is not None:
        beside = space.rollouts
        same = (beside.training_gpus == lay["num_gpus"]) & (beside.wish == lay["wish"])
        able = [int(index) for index in (same & (beside.variant == lay["variant"])).nonzero()[0]]
        if not able:
            return None
        choice = rng.choice(able)
    return make_plan(question, space.layouts, row, layers, recomputed, space.rollouts, choice)


def plans_of_pairs(engine: str, count: int) -> Iterator[Outcome]:
    """The same of training on pairs: a random scenario is asked once more, as task dpo."""
    rng, made = random.Random(engine + SEED), 0
    for drawn, _ in spaces(engine, rng):
        pairs = {"task": "dpo", "dpo.reference": rng.choice(["model", "precomputed"]), "batch.micro_batch_size": "any"}
        try:
            question = question_of(override(drawn.document, pairs), catalog())
        except PlannerError:
            continue  # an option that is another loss
        space = build_space(question)
        for outcome in some_of(question, space, rng, count - made):
            made += 1
            yield outcome
        if made >= count:
            return


def written(
    engine: str, launcher: str, count: int, plans: Callable[[str, int], Iterator[Outcome]] = random_plans
) -> Iterator[tuple[Plan, dict[str, str]]]:
    """(plan, its files) of random plans; what the launcher refuses by name is counted and told at the end."""
    refused: Counter[str] = Counter()
    made = 0
    for outcome in plans(engine, count * MOST_DRAWN):
        try:
            files = registry.files(launcher, outcome, catalog())
        except InputError as error:
            refused[str(error).splitlines()[0][:120]] += 1
            continue
        assert outcome.plan is not None
        made += 1
        yield outcome.plan, files
        if made == count:
            break
    print(f"{engine} as {launcher}: {made} plans written, refused by name: {sum(refused.values())} {dict(refused)}")
    assert made


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


def megatron_degrees(args: Any) -> dict[str, int]:
    """Degrees and batches of Megatron's own arguments, under a plan's names; those of engines that add to them too."""
    return {
        "tensor_parallel": args.tensor_model_parallel_size,
        "pipeline_parallel": args.pipeline_model_parallel_size,
        "context_parallel": args.context_parallel_size,
        "expert_parallel": args.expert_model_parallel_size,
        "data_parallel": args.data_parallel_size,
        "global_batch_size": args.global_batch_size,
        "sequence_parallel": int(args.sequence_parallel),
    }
