"""Random layouts that one rule of ours alone refuses, written as launch files nevertheless."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from drawn import OF_RL, PLAIN, RL, SEED, catalog, proof_of_anything

from planner.errors import InputError, PlannerError
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search import space as spaces
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome

TRIES = 60
"""Scenarios drawn for each layout that is asked for."""
MOST_EXPERTS = 1200
"""Experts of one rank of a legal layout, over its layers: each is two modules of Python when it is built."""
BEFORE = {"cap_holds_longest"}
"""Rules that no engine's file names, for they follow from its packing, and that an engine refuses by."""
LEGAL = "no rule"
"""In a rule's place: a layout of the same scenarios that no rule refuses, which the engine must take."""
Draw = Callable[[random.Random], dict[str, Any]]


def degrees(rng: random.Random) -> dict[str, Any]:
    """Degrees, lengths and batches that need not divide anything."""
    return {
        "cluster.node": "gb200-nvl72",
        "cluster.num_gpus": rng.choice([4, 6, 8, 12, 16, 24, 36, 48]),
        "layout.tensor_parallel": rng.choice([1, 1, 2, 3, 4, 6, 8, 12]),
        "layout.pipeline_parallel": rng.choice([1, 1, 2, 3, 4]),
        "layout.context_parallel": rng.choice([1, 1, 2, 3, 5]),
        "layout.virtual_pipeline": rng.choice([1, 1, 2, 3]),
        "layout.layers_per_stage": "even",
        "layout.recomputed_layers": 0,
        "limits.tensor_parallel_inside_domain": False,
        "limits.host_memory": False,
        "batch.micro_batch_size": rng.choice([1, 2, 3]),
    }


def lengths(rng: random.Random) -> dict[str, Any]:
    """Batches and lengths of a training job."""
    return {
        "batch.global_batch_size": rng.choice([8, 48, 96, 100, 144]),
        "batch.sequence_length": rng.choice([1024, 1020, 2048, 4100]),
    }


def rollouts(rng: random.Random) -> dict[str, Any]:
    """Batches and lengths of an RL job, and what its own scenario limits."""
    return {
        "model": rng.choice(OF_RL),
        "rl.rollout_batch_size": rng.choice([16, 20, 48]),
        "rl.n_samples_per_prompt": rng.choice([1, 3, 4, 8]),
        "rl.steps_per_rollout": rng.choice([1, 2]),
        "rl.prompt_length": rng.choice([512, 500]),
        "rl.response_length": rng.choice([1024, 1032, 1531]),
        "rl.rollout.tensor_parallel": 1,
        "rl.placement": "colocated",
        "cluster.max_gpus": None,
        "cluster.usable_gib": 4000,
        "cluster.host_memory_gib": 100000,
        "limits.headroom_gib": None,
    }


def experts(rng: random.Random) -> dict[str, Any]:
    """Degrees of experts, of which a dense network has none."""
    return {
        "layout.expert_parallel": rng.choice([1, 2, 3, 4, 5, 8]),
        "layout.expert_tensor_parallel": rng.choice([1, 1, 2]),
    }


AIMS: tuple[dict[str, Any], ...] = (
    {"model": "qwen2.5-7b", "layout.tensor_parallel": 8},
    {"model": "glm-4.5-air", "cluster.num_gpus": 24, "batch.sequence_length": 6144, "layout.tensor_parallel": 24},
    {"model": "qwen2.5-7b", "cluster.num_gpus": 28, "batch.sequence_length": 7168, "layout.tensor_parallel": 28},
    {"model": "qwen3-30b-a3b", "layout.expert_parallel": 3, "cluster.num_gpus": 12},
    {"model": "mixtral-8x7b", "layout.expert_parallel": 16, "cluster.num_gpus": 16},
    {"model": "gpt-oss-20b", "layout.tensor_parallel": 2, "layout.expert_tensor_parallel": 2},
    {"optimizer": "sgd-momentum", "layout.optimizer_offload": True},
    {"optimizer": "muon", "layout.optimizer_offload": True},
    {"optimizer": "lion", "layout.optimizer_offload": True},
    {"engine_options": ["tp_comm_overlap"], "layout.tensor_parallel": 2, "layout.sequence_parallel": False},
    {"engine_options": ["a2a_context_parallel"], "model": "phi-4", "layout.context_parallel": 4},
    {"engine_options": ["two_optimizer_instances"], "layout.tensor_parallel": 8, "cluster.num_gpus": 8},
    {"engine_options": ["expert_deduplication"], "model": "mixtral-8x7b", "layout.expert_parallel": 1},
    {"engine_options": ["moe_a2a_overlap"], "model": "mixtral-8x7b", "layout.expert_parallel": 1},
    {"engine_options": ["moe_a2a_overlap"], "model": "mixtral-8x7b", "layout.expert_parallel": 2,
     "layout.pipeline_parallel": 2},
    {"engine_options": ["moe_a2a_overlap"], "model": "mixtral-8x7b", "layout.expert_parallel": 2, "precision": "fp32"},
    {"engine_options": ["deferred_embedding_gradient"], "layout.pipeline_parallel": 1},
    {"engine_options": ["deferred_embedding_gradient", "unfused_gradient_accumulation"],
     "layout.pipeline_parallel": 2},
    {"engine_options": ["fp8_parameters"], "precision": "bf16"},
    {"model": "phi-4", "layout.tensor_parallel": 4},
    {"model": "deepseek-v2-lite", "cluster.num_gpus": 12, "batch.sequence_length": 6144, "layout.context_parallel": 3},
    {"model": "mixtral-8x7b", "layout.tensor_parallel": 2, "layout.sequence_parallel": False},
    {"layout.recompute_modules": ["mla_up_proj"]},
    {"layout.recompute_modules": ["moe_act"]},
    {"layout.recompute_modules": ["moe"], "model": "mixtral-8x7b", "layout.expert_parallel": 2,
     "engine_options": ["moe_a2a_overlap"]},
    {"layout.recompute_modules": ["layernorm"], "precision": "fp8"},
)  # fmt: skip
"""What a rule seldom drawn asks for, over which the rest is drawn as always."""
USUAL = {"layout.tensor_parallel": 1, "layout.pipeline_parallel": 1, "layout.context_parallel": 1,
         "layout.virtual_pipeline": 1, "batch.sequence_length": 2048, "batch.micro_batch_size": 1}  # fmt: skip


AIMS_OF_ULYSSES: tuple[dict[str, Any], ...] = (
    {"model": "qwen2.5-7b", "layout.context_parallel": 3, "cluster.num_gpus": 12, "rl.rollout_batch_size": 48,
     "rl.n_samples_per_prompt": 8, "rl.steps_per_rollout": 1},
    {"model": "qwen2.5-7b", "layout.context_parallel": 4, "cluster.num_gpus": 16, "rl.rollout_batch_size": 20,
     "rl.n_samples_per_prompt": 1, "rl.steps_per_rollout": 1},
)  # fmt: skip
"""The same for verl with FSDP2."""
AIMS_OF_TORCHTITAN: tuple[dict[str, Any], ...] = (
    {"model": "qwen3-14b", "layout.pipeline_parallel": 4, "cluster.num_gpus": 8, "batch.global_batch_size": 4,
     "batch.micro_batch_size": 1},
    {"model": "qwen3-14b", "layout.pipeline_parallel": 2, "layout.virtual_pipeline": 2, "cluster.num_gpus": 4,
     "batch.global_batch_size": 10, "batch.micro_batch_size": 1},
    {"model": "qwen3-30b-a3b", "layout.expert_parallel": 3, "cluster.num_gpus": 12, "batch.global_batch_size": 48},
    {"model": "llama3-8b", "layout.tensor_parallel": 16, "cluster.num_gpus": 16, "batch.global_batch_size": 48},
)  # fmt: skip
"""The same for torchtitan."""
PACKED = ("none", "none", 512, 1024, 4096)
"""Caps of packed micro-batches, of engines that refuse those below the longest sample."""


def aimed(
    rng: random.Random, pins: dict[str, Any], *kept: str, aims: tuple[dict[str, Any], ...] = AIMS
) -> dict[str, Any]:
    """In every second draw an aim over it, less what is kept; most of what is aimed at nowhere is as usual then."""
    if rng.random() < 0.5:
        return pins
    usual = {name: value for name, value in USUAL.items() if name in pins and rng.random() < 0.7}
    return {**pins, **usual, **{n: value for n, value in rng.choice(aims).items() if n not in kept}}


def refused(engine: str, launcher: str, draw: Draw, count: int) -> Iterator[tuple[str, Plan, dict[str, str]]]:
    """(rule, a plan that it alone refuses, its files), rules of the engine's file in turn; what is left out is told.

    Legal layouts of the same scenarios are among them, under LEGAL.
    """
    rng, asked = random.Random(engine + SEED), Counter[str]()
    unwritten: Counter[str] = Counter()
    most = max(2, count // 8)
    for _ in range(TRIES * count):
        if asked.total() == count:
            break
        found = _one(engine, draw(rng), asked, most, rng)
        if found is None:
            continue
        rule, outcome = found
        try:
            files = registry.files(launcher, outcome, catalog())
        except InputError as error:
            unwritten[f"{rule}: {str(error).splitlines()[0][:60]}"] += 1
            continue
        asked[rule] += 1
        assert outcome.plan is not None
        yield rule, outcome.plan, files
    never = set(catalog().find("engines", engine, None).rules) - set(asked)
    print(f"{engine} as {launcher}: asked {dict(asked)}; not written {dict(unwritten)}; never drawn {sorted(never)}")


def _one(
    engine: str, pins: dict[str, Any], asked: Counter[str], most: int, rng: random.Random
) -> tuple[str, Outcome] | None:
    """A layout that one rule alone refuses, of the rule asked least; none where the scenario has no such layout."""
    base = load("scenarios/qwen7b_rl.yaml") if engine in RL else parse_document(json.dumps(PLAIN), "asked.yaml")
    try:
        question = question_of(override(base, {"engine": engine, **pins}), catalog())
        rules = spaces.rules_of(question.first)
        with mock.patch.object(spaces, "rules_of", return_value=rules[:1]):
            every = spaces.build_space(question)
        with np.errstate(all="ignore"):
            kept = [np.broadcast_to(r.keeps(question.first, every.layouts), len(every.layouts)) for r in rules]
    except (PlannerError, ZeroDivisionError):
        return None
    alone = np.asarray(kept).sum(axis=0) == len(rules) - 1
    mine = [
        (asked[rule.name], rng.random(), rule.name, rng.choice(rows.tolist()))
        for rule, keeps in zip(rules, kept, strict=True)
        if rule.name in BEFORE.union(question.first.engine.rules)
        and asked[rule.name] < most
        and len(rows := np.flatnonzero(alone & ~keeps))
    ]
    legal = np.flatnonzero(np.asarray(kept).all(axis=0) & small(question, every))
    if len(legal) and asked[LEGAL] < most:
        mine.append((asked[LEGAL], rng.random(), LEGAL, rng.choice(legal.tolist())))
    if not mine:
        return None
    _, _, name, row = min(mine)
    plan = _plan(question, every, row)
    return None if plan is None else (name, Outcome(question, "optimal", plan, proof_of_anything(), ()))


def small(question: Any, space: Any) -> Any:
    """Layouts whose ranks hold few enough experts to be built."""
    network, lay = question.architecture, space.layouts
    each = (network.num_experts or 0) // lay.expert_parallel * (network.num_hidden_layers // lay.pipeline_parallel)
    return each <= MOST_EXPERTS


def _plan(question: Any, space: Any, row: int) -> Plan | None:
    """The row as a plan, its stages as even as they can be; none where it falls on no machines or has no rollout."""
    lay, choice = space.layouts.row(row), None
    whole, rest = divmod(question.architecture.num_hidden_layers, lay["pipeline_parallel"])
    layers = tuple(whole + (stage < rest) for stage in range(lay["pipeline_parallel"]))
    if space.rollouts is not None:
        beside = space.rollouts
        able = np.flatnonzero((beside.training_gpus == lay["num_gpus"]) & (beside.wish == lay["wish"]))
        if not len(able):
            return None
        choice = int(able[0])
    try:
        return make_plan(question, space.layouts, row, layers, (0,) * len(layers), space.rollouts, choice)
    except (ValueError, PlannerError, ZeroDivisionError):
        return None
