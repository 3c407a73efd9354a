"""What defaults hold at one value stands beside the proof, may be opened, and is the first thing tried otherwise."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from planner.analysis.infeasible.repairs import playbook
from planner.analysis.neighbours import lifted
from planner.inputs.catalog import default_catalog
from planner.inputs.document import document_of, override
from planner.problem.defaults import held, held_text
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.schema.scenario import Batch, ClusterSpec, LayoutSpec, Limits, Rl, Rollout
from planner.search.search import search

DENSE = {
    "name": "dense",
    "task": "pretrain",
    "model": "llama3.1-8b",
    "engine": "megatron-core",
    "cluster": {"node": "dgx-h100", "num_gpus": 16},
    "batch": {"global_batch_size": 128, "sequence_length": 8192},
}
MIXED = {**DENSE, "cluster": {"pools": [{"node": "dgx-h100", "num_gpus": 8}, {"node": "dgx-a100", "num_gpus": 8}]}}
RL: dict[str, Any] = {
    **DENSE,
    "task": "rl",
    "engine": "nemo-rl",
    "batch": {},
    "rl": {
        "prompt_length": 256,
        "response_length": 4096,
        "response_distribution": {"mean_share": 0.3, "p99_share": 0.9},
        "rollout_batch_size": 32,
        "n_samples_per_prompt": 8,
    },
}
SEPARATE = {**RL, "rl": {**RL["rl"], "placement": "any"}}
WORK = {
    "batch": {"global_batch_size", "sequence_length", "mean_sequence_length", "image_tokens"}
    | {"log_prob_micro_batch_size", "log_prob_max_tokens_per_gpu"},
    "limits": {"headroom_gib", "reserved_cliff", "host_memory"},
    "rollout": {"precision", "speculative_tokens", "speculative_accepted", "node", "sleeps", "cuda_graphs"},
    "rl": {"algorithm", "steps_per_rollout", "reference_model", "old_log_probs", "answer_ms", "steps_off_policy"}
    | {"critic_model", "partial_rollouts", "rollout", "trainer_on_gpu"},
    "cluster": {"node", "gpu", "pools", "num_gpus", "max_gpus", "usable_gib", "host_memory_gib", "topology"}
    | {"nccl_tests"},
    "layout": {"recompute_method"},
}
"""Fields that say what is trained, on what, and what is known of it; how the RL stack's own switches stand; preferences
that give way; all pools; and a method of recomputation that is the wider one."""


def question(scenario: Mapping[str, object], **changes: object) -> Question:
    asked = override(document_of(scenario), {name.replace("__", "."): value for name, value in changes.items()})
    return question_of(asked, default_catalog())


@functools.cache
def every() -> set[str]:
    asked = (question(DENSE), question(MIXED), question(SEPARATE), question(RL))
    asked += (question(DENSE, engine="torchtitan"), question(DENSE, engine="nanotron"))
    return {one.path for each in asked for one in held(each)}


@pytest.mark.parametrize(
    ("block", "shape"),
    [("layout", LayoutSpec), ("limits", Limits), ("batch", Batch), ("cluster", ClusterSpec), ("rl", Rl)],
)
def test_every_field_of_a_scenario_is_open_by_default_or_named_or_no_choice_of_the_planner(
    block: str, shape: type[BaseModel]
) -> None:
    named, fields = every(), {name: (block, field) for name, field in shape.model_fields.items()}
    if shape is Rl:
        fields |= {f"rollout.{name}": ("rollout", field) for name, field in Rollout.model_fields.items()}
    for name, (kind, field) in fields.items():
        is_open = field.is_required() or field.default in ("any", "auto")
        assert is_open or name.split(".")[-1] in WORK[kind] or f"{block}.{name}" in named, name


@pytest.mark.parametrize("scenario", [DENSE, MIXED, SEPARATE], ids=["dense", "mixed", "separate"])
def test_each_one_can_be_opened_and_is_then_not_held(scenario: Mapping[str, object]) -> None:
    found = held(question(scenario))
    assert found
    for one in found:
        opened = question_of(override(document_of(scenario), {one.path: one.opened}), default_catalog())
        assert one.path not in {other.path for other in held(opened)}


def test_what_the_scenario_writes_is_its_own_limit() -> None:
    paths = {one.path for one in held(question(DENSE, layout__virtual_pipeline=1))}
    assert "layout.virtual_pipeline" not in paths
    assert "layout.recompute_group" in paths


def test_they_stand_beside_the_proof_and_are_tried_first() -> None:
    asked = question(DENSE, layout__tensor_parallel=2, layout__pipeline_parallel=4)
    outcome = search(asked, check_points=0)
    assert outcome.status == "optimal"
    assert (held_text(outcome.proof.held) or "").startswith("virtual_pipeline 1, ")
    first, *_ = lifted(outcome, default_catalog())
    assert first.text == "virtual_pipeline 1 to any"
    assert outcome.plan is not None
    gain = first.throughput_change(outcome.plan)
    assert gain is not None
    assert gain >= -asked.scenario.search.near_tie


def test_a_default_that_costs_memory_is_the_first_repair() -> None:
    first = next(iter(playbook(question(DENSE))))
    assert ("layout.recompute_group", "any") in {change for attempt in first.attempts for change in attempt.changes}
