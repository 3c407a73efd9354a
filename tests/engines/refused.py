"""Random layouts that one rule of ours alone refuses, written as launch files nevertheless."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from drawn import OF_RL, PLAIN, RL, catalog, proof_of_anything

from planner.errors import PlannerError
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search import space as spaces
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome

TRIES = 60
"""Scenarios drawn for each layout that is asked for."""
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


def refused(engine: str, launcher: str, draw: Draw, count: int) -> Iterator[tuple[str, Plan, dict[str, str]]]:
    """(rule, a plan that it alone refuses, its files), rules of the engine's file in turn; what is left out is told."""
    rng, asked = random.Random(engine), Counter[str]()
    unwritten: Counter[str] = Counter()
    most = max(2, count // 4)
    for _ in range(TRIES * count):
        if asked.total() == count:
            break
        found = _one(engine, draw(rng), asked, most, rng)
        if found is None:
            continue
        rule, outcome = found
        try:
            files = registry.files(launcher, outcome, catalog())
        except PlannerError as error:
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
        if rule.name in question.first.engine.rules
        and asked[rule.name] < most
        and len(rows := np.flatnonzero(alone & ~keeps))
    ]
    if not mine:
        return None
    _, _, name, row = min(mine)
    plan = _plan(question, every, row)
    return None if plan is None else (name, Outcome(question, "optimal", plan, proof_of_anything(), ()))


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
