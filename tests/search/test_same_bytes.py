"""Same input, same seed, same bytes: twice, with one solver worker and with two, whatever Python's hash seed is and
however wide the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from planner.inputs.document import load
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.report.plan_json import dumps, outcome_document
from planner.search.search import search

OPEN = ("precision=[bf16, fp8]", "cluster.rank_order=any", "layout.schedule=any")
OFFLOAD = ("layout.optimizer_offload=any", "layout.activation_offload=any")
NARROW = "layout.tensor_parallel=[4, 8]"
"""Fewer layouts, where each of them is costed many times."""
FREE = ("layout.layers_per_stage=free", "layout.recompute=per_stage")
WIDE = (
    "layout.tensor_parallel=8", "layout.context_parallel=1", "layout.pipeline_parallel=[4, 8]",
    "batch.micro_batch_size=[1, 2]",
)  # fmt: skip
"""Few enough that the time goes into the solver: two rows of eight stages, each stage with its own layers."""
CASES = {
    "even stages": ("llama70b_64xh100", NARROW),
    "open decisions": ("llama70b_64xh100", *OPEN, NARROW),
    "open offload": ("llama70b_64xh100", *OFFLOAD, "layout.tensor_parallel=8"),
    "open modules": (
        "llama70b_64xh100",
        "layout.schedule=any",
        "layout.recompute_modules=any",
        "layout.tensor_parallel=8",
    ),
    "wide band": ("llama70b_512xh100", "search.near_tie=0.19", *FREE, *WIDE),
    "free stages": ("llama405b_16384xh100", "layout.tensor_parallel=8"),
    "experts": ("mixtral8x7b_64xh100", "layout.tensor_parallel=[1, 2]"),
    "RL": ("qwen7b_rl",),
    "RL on two pools": ("qwen7b_rl_two_pools", "layout.tensor_parallel=2", "layout.optimizer_offload=false"),
}


def answer(question: Question, workers: int) -> str:
    options = question.scenario.search.model_copy(update={"workers": workers})
    problems = (replace(p, scenario=p.scenario.model_copy(update={"search": options})) for p in question.problems)
    outcome = search(replace(question, problems=tuple(problems)), check_points=0)
    assert outcome.status == "optimal"
    return dumps(outcome_document(replace(outcome, question=question)))


@pytest.mark.parametrize("name", CASES)
def test_twice_and_with_two_workers(name: str) -> None:
    scenario, *changes = CASES[name]
    document = load(f"scenarios/{scenario}.yaml", changes)
    assert answer(question_of(document), 1) == answer(question_of(document), 2)


TWO_ANSWERS = """
from planner.cli import main
assert main(["solve", "scenarios/qwen7b_rl.yaml", "--set", "cluster.max_gpus=8", "--format", "json"]) == 0
assert main(["solve", "scenarios/llama8b_sft_a100.yaml"]) == 0
"""


def test_whatever_the_hash_seed_and_the_terminal() -> None:
    """What scripts read and what a person reads, of two processes."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", TWO_ANSWERS]
    first, second = (
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed, "COLUMNS": columns}, capture_output=True, check=True
        ).stdout
        for seed, columns in (("1", "60"), ("2", "200"))
    )
    assert b"fits on" in first
    assert first == second
