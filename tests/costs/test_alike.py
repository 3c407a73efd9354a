"""Variants that a part of the costs cannot tell apart: what is worked out once for them is what each has alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from planner.costs import coefficients
from planner.costs.coefficients import RolloutTable, RowCosts
from planner.inputs.document import load
from planner.problem.alike import alike, as_generated, as_held, as_ruled, as_trained
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.search.space import build_space

POOLS = "scenarios/qwen7b_rl_two_pools.yaml"
NARROW = (
    "layout.tensor_parallel=2", "layout.pipeline_parallel=[1, 2]", "batch.max_tokens_per_gpu=none",
    "batch.micro_batch_size=1",
)  # fmt: skip
AWAKE = ("rl.rollout.sleeps=false", "layout.optimizer_offload=false", "rl.rollout.gpu_memory_utilization=0.4")
QUESTIONS = {
    "two pools": (POOLS, *NARROW),
    "awake on shared GPUs": (POOLS, *NARROW, *AWAKE, "rl.rollout.tensor_parallel=[1, 4]"),
    "samples of several steps": (POOLS, *NARROW, "engine=nemo-rl", "rl.steps_off_policy=2"),
}


def asked(name: str) -> Question:
    path, *changes = QUESTIONS[name]
    return question_of(load(path, changes))


def bits(question: Question) -> dict[str, bytes]:
    """Every coefficient of every layout and rollout choice."""
    space = build_space(question)
    costs = RowCosts(question, space.layouts)
    found = {name: (c.layer, c.recomputed, c.end) for name, c in costs.memory.items()}
    found |= {name: (c.layer, c.recomputed, c.end, *weights) for name, (c, *weights) in costs.time.items()}
    assert space.rollouts is not None
    table = RolloutTable(question, space.rollouts)
    found["rollouts"] = (table.seconds, table.least_seconds, table.peak_bytes)
    return {name: b"".join(np.ascontiguousarray(part).tobytes() for part in parts) for name, parts in found.items()}


@pytest.mark.parametrize("name", QUESTIONS)
def test_together_bit_for_bit_as_each_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    question = asked(name)
    assert len(alike(question.problems, as_trained)) < len(question.problems)
    together = bits(question)
    monkeypatch.setattr(coefficients, "alike", lambda problems, seen: [(p, [i]) for i, p in enumerate(problems)])
    assert together == bits(question)


@pytest.mark.parametrize("name", QUESTIONS)
def test_legal_layouts_are_those_of_each_variant_alone(name: str) -> None:
    question = asked(name)
    whole = build_space(question).layouts
    for index, problem in enumerate(question.problems):
        rows = whole.take(whole.variant == index)
        for column, values in build_space(problem.alone).layouts.columns():
            assert column == "variant" or values.tolist() == getattr(rows, column).tolist()


def test_what_generates_is_one_to_the_trainer() -> None:
    # 20 variants: two pools, with or without the optimizer on the host, in five ways beside their rollouts.
    problems = asked("two pools").problems
    groups = [len(alike(problems, seen)) for seen in (as_trained, as_held, as_generated, as_ruled)]
    assert len(problems) == 20
    assert groups == [4, 8, 4, 12]


def test_machines_of_ones_own_files_are_alike_where_the_files_are() -> None:
    def with_files(problem: Problem, sha256: str) -> Problem:
        own = problem.machines.own
        assert own is not None
        own = replace(own, links=(), files=(("topology.txt", sha256),))
        return replace(problem, machines=replace(problem.machines, own=own))

    problems = asked("two pools").problems[2:6:2]
    assert len(alike(problems, as_trained)) == 1
    assert len(alike([with_files(problem, "same") for problem in problems], as_trained)) == 1
    assert len(alike([with_files(problem, str(n)) for n, problem in enumerate(problems)], as_trained)) == 2
