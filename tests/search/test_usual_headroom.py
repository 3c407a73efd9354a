"""Headroom that nobody demanded is a preference: where nothing keeps it, the answer says so and is an answer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from run_cli import run

from planner.analysis.budget.options import JobOption
from planner.analysis.near import near_plans
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.search.dies_in import dies_in
from planner.search.plan import verdict
from planner.search.search import Outcome, search

EDGE = "scenarios/qwen7b_rl_8gpu.yaml"
"""A run that its author reports to have run, at the edge."""


def answer(*changes: str) -> Outcome:
    return search(question_of(load(EDGE, changes)), check_points=0)


def test_the_run_that_ran_is_no_proof_of_nothing() -> None:
    done = run("solve", EDGE, "--no-compare")
    assert done.code == 0
    words = " ".join(done.out.split())
    assert "less than the 9.5 usual for engine slime (assumed), fits with" in words
    assert "no layout fits" not in words


def test_what_the_user_demands_is_a_limit() -> None:
    done = run("solve", EDGE, "--no-compare", "--set", "limits.headroom_gib=9.5")
    assert done.code == 1
    assert "no layout fits" in done.out
    assert answer("limits.reserved_cliff=true").status == "infeasible"
    assert answer("limits.headroom_gib=1").status == "optimal"


def test_the_plan_keeps_what_can_be_kept() -> None:
    """The most that even stages leave free, to 0.1 GiB; asking for 0.2 GiB more than the plan has is infeasible."""
    outcome = answer()
    assert outcome.plan is not None
    assert outcome.usual_headroom_gib == pytest.approx(9.49, abs=0.01)
    assert 0 < outcome.question.first.headroom_gib <= outcome.plan.headroom_gib < outcome.usual_headroom_gib
    more = outcome.plan.headroom_gib + 0.2
    assert answer(f"limits.headroom_gib={more}", "limits.reserved_cliff=false").status == "infeasible"


def test_where_the_usual_headroom_is_kept_nothing_changes() -> None:
    question = question_of(load("scenarios/llama70b_64xh100.yaml"))
    assert question.prefers_headroom
    outcome = search(question, check_points=0)
    assert outcome.usual_headroom_gib is None
    assert outcome.question is question
    assert outcome.plan is not None
    assert outcome.plan.headroom_gib >= question.first.headroom_gib


FSDP1 = ["engine=fsdp1", "engine_options=[sync_each_batch]", "batch.micro_batch_size=1", "layout.recomputed_layers=0"]
"""Its allocator is estimated to hold 28 % beside what is in use."""


def on_fsdp1(tokens: int, *changes: str) -> Outcome:
    changed = [*FSDP1, f"batch.sequence_length={tokens}", *changes]
    return search(question_of(load("scenarios/llama8b_sft_a100.yaml", changed)))


def test_a_reserve_alone_is_no_proof() -> None:
    """Live memory decides; its sums are made by hand from the ledger's items."""
    outcome = on_fsdp1(8192)
    plan = outcome.plan
    assert plan is not None
    (reserve,) = (item for item in plan.binding.items if item.name == "allocator reserve")
    outside = sum(i.amount for i in plan.binding.items if i.name in ("CUDA context", "NCCL buffers"))
    live = plan.peak_gib - reserve.amount
    assert live < plan.usable_gib < outside + 1.28 * (live - outside)
    assert plan.given_back_gib == pytest.approx(outside + 1.28 * (live - outside) - plan.usable_gib, abs=1e-6)
    assert plan.live_room_gib == pytest.approx(plan.usable_gib - live)
    assert (verdict(plan), outcome.status, plan.headroom_gib) == ("critical", "optimal", pytest.approx(0, abs=1e-6))
    assert plan.start_probability > plan.fit_probability
    assert "critical, starts only if the allocator gives back" in str(outcome)
    assert dies_in(plan) is None


def test_live_memory_that_is_too_much_is_a_proof() -> None:
    outcome = on_fsdp1(12288)
    assert (outcome.status, outcome.plan) == ("infeasible", None)
    assert "live tensors" in outcome.proof.removed[-1].text
    assert "reserve" in outcome.proof.removed[-1].text


def test_nothing_between_is_taken_where_something_better_exists() -> None:
    """Less headroom is given up first; demanded headroom is over the reserve too."""
    edge = on_fsdp1(6144).plan
    assert edge is not None
    assert edge.given_back_gib == 0 < edge.headroom_gib
    assert on_fsdp1(8192, "limits.headroom_gib=1").status == "infeasible"
    recomputed = on_fsdp1(8192, "layout.recomputed_layers=any")
    assert recomputed.plan is not None
    assert recomputed.usual_headroom_gib is None
    assert recomputed.plan.given_back_gib == 0


def test_tables_of_plans_tell_one_that_waits_for_its_allocator() -> None:
    """Beside a plan with room for its reserve: in what-if, compare, near and front, on screen and as data."""
    sft, pinned = "scenarios/llama8b_sft_a100.yaml", [word for each in FSDP1 for word in ("--set", each)]
    lengths = ("--set", "batch.sequence_length=4096,8192")
    text = " ".join(run("whatif", sft, *(w for each in FSDP1 for w in ("--set", each)), *lengths).out.split())
    assert "0.0 critical" in text
    assert "starts only if the allocator gives back" in text
    rows = json.loads(run("whatif", sft, *pinned, *lengths, "--format", "json").out)["rows"]
    waits = [row["plan"]["given_back_gib"] > 0 for row in rows if row["plan"] is not None]
    assert any(waits)
    assert not all(waits)
    words = "batch.sequence_length=8192"
    both = [word for each in FSDP1 for letter in "ab" for word in (f"--set-{letter}", each)]
    text = " ".join(run("compare", sft, *both, "--set-b", words, "--set-a", "batch.sequence_length=4096").out.split())
    assert "; B: critical, to start only if" in text
    for command in ("near", "pareto"):
        text = " ".join(run(command, sft, *pinned, "--set", words).out.split())
        assert "critical: starts only if the allocator gives back" in text, command


def test_a_budget_promises_no_speed_of_a_plan_that_waits_for_its_allocator() -> None:
    def offered(outcome: Outcome) -> object:
        return JobOption.plan.fget(SimpleNamespace(outcome=outcome))  # type: ignore[attr-defined]

    assert offered(on_fsdp1(8192)) is None
    assert offered(on_fsdp1(4096)) is not None


def test_near_layouts_are_held_to_the_same_headroom() -> None:
    found = near_plans(question_of(load(EDGE)), count=3, within=1.0)
    assert found[0].usual_headroom_gib is not None
    assert all(other.usual_headroom_gib is None for other in found[1:])
    kept = found[0].question.first.headroom_gib
    assert all(each.plan is not None and each.plan.headroom_gib >= kept for each in found)


def test_the_chance_to_keep_what_is_demanded_is_not_the_chance_to_fit() -> None:
    """With hardly more free than demanded it is about even, whatever the chance not to run out."""
    plan = search(question_of(load("scenarios/llama70b_64xh100.yaml")), check_points=0).plan
    assert plan is not None
    # The stages too: another plan within half a per cent of it would be taken for its room.
    demand = [f"limits.headroom_gib={plan.headroom_gib - 0.01}", f"layout.layers_per_stage={list(plan.layers)}"]
    overrides = [word for each in demand for word in ("--set", each)]
    done = run("solve", "scenarios/llama70b_64xh100.yaml", *overrides, "--format", "json")
    memory = json.loads(done.out)["plan"]["memory"]
    kept = search(question_of(load("scenarios/llama70b_64xh100.yaml", demand)), check_points=0).plan
    assert kept is not None
    assert kept.keep_probability == pytest.approx(0.5, abs=0.2)
    assert kept.keep_probability < kept.fit_probability
    text = " ".join(run("solve", "scenarios/llama70b_64xh100.yaml", *overrides, "-vv").out.split())
    assert "GiB demanded stay free with" in text
    assert memory["fit_probability"] > 0.9
    assert memory["keep_probability"] == pytest.approx(kept.keep_probability, abs=1e-3)
