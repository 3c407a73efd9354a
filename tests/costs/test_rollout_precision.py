"""What the precision of the rollout engine's weights changes, and what a node's host memory holds beside them."""

from __future__ import annotations

import pytest

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.launch import slime
from planner.problem.resolve import question_of
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import search

SCENARIO = "scenarios/qwen7b_rl_8gpu.yaml"


def plan(*overrides: str) -> Plan:
    return estimate(load(SCENARIO, overrides))


def gib(plan: Plan, phase: str, name: str) -> float:
    return next(
        e.amount for p in plan.memory if p.phase == phase and p.stage in (None, 0) for e in p.items if e.name == name
    )


def seconds(plan: Plan, name: str) -> float:
    return sum(entry.amount for entry in plan.time if entry.name == name)


def test_quantised_weights_leave_room_for_the_pool() -> None:
    wide, narrow = plan(), plan("rl.rollout.precision=fp8")
    p = wide.problem.parameters
    tables = p.embedding + p.lm_head
    scales = 1 + 4 / 128**2
    assert gib(narrow, "rollout", "rollout weights") == pytest.approx(
        ((p.total - tables) * scales + 2 * tables) / 4 / 2**30
    )
    saved = gib(wide, "rollout", "rollout weights") - gib(narrow, "rollout", "rollout weights")
    grown = gib(narrow, "rollout", "key-value pool") - gib(wide, "rollout", "key-value pool")
    assert grown == pytest.approx(saved)
    assert narrow.rollout is not None
    assert wide.rollout is not None
    assert narrow.rollout.seconds < wide.rollout.seconds


def test_weights_travel_and_are_trained_as_before() -> None:
    wide, narrow = plan(), plan("rl.rollout.precision=fp8")
    assert seconds(narrow, "weight sync") == seconds(wide, "weight sync")
    for phase in ("backward", "optimizer"):
        assert gib(narrow, phase, "weights") == gib(wide, phase, "weights")


def test_naming_the_training_precision_changes_nothing() -> None:
    assert plan("rl.rollout.precision=bf16").memory == plan().memory


def test_a_precision_that_the_engine_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="SGLang does not hold weights in nf4"):
        plan("rl.rollout.precision=nf4")
    with pytest.raises(InputError, match="fp9"):
        plan("rl.rollout.precision=fp9")


def test_the_launch_fragment_asks_for_such_a_checkpoint() -> None:
    document = load("scenarios/qwen7b_rl.yaml", ("rl.rollout.precision=fp8",))
    text = slime.fragment(search(question_of(document, default_catalog()), check_points=0), default_catalog())
    assert "--hf-checkpoint" in text


def test_a_cpu_optimizer_keeps_sixteen_bytes_a_parameter_on_the_host() -> None:
    host = {entry.name: entry.amount for entry in plan("layout.optimizer_offload=true").host}
    state, gradients = host["optimizer on the host"], host["gradients for the optimizer on the host"]
    assert state == pytest.approx(3 * gradients)
    assert host["weight copy (actor)"] == pytest.approx(gradients)  # TP4 DP2: two copies of 2 bytes, one shard of 4


def test_only_some_stacks_copy_a_sleeping_trainers_gradients() -> None:
    assert "sleeping trainer's gradients" not in {entry.name for entry in plan().host}
    kept = {
        entry.name
        for entry in plan("engine=openrlhf", "layout={data_parallel: 8, zero_stage: 3, recomputed_layers: all}").host
    }
    assert "sleeping trainer's gradients" in kept


def test_sglang_takes_what_its_logs_show_not_what_it_keeps_free() -> None:
    """A 7B on four GPUs, 128 sequences: logs show 0.9 to 1.9 GiB of graphs, 2 to 3 in all; by itself it keeps 13."""
    held = gib(plan(), "rollout", "rollout activations and CUDA graphs")
    buffers, graphs = 0.5 + 4 / 8, 0.04 * 28
    prefill, logits = 8192 * (4 * 3584 + 3 * 18944 / 4) * 2 / 2**30, 128 * 152064 * 10 / 2**30
    assert held == pytest.approx(buffers + graphs + prefill + logits, rel=0.02)
    assert 0.9 <= graphs <= 1.9
    assert 2 <= held <= 3
