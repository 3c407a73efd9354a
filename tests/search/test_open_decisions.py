"""Questions about scenarios with open decisions: pools, placements, precisions, and mistakes in them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from run_cli import run

from planner.analysis.budget.budget import solve_budget
from planner.analysis.changes import machine_counts, more_gpus
from planner.analysis.near import front, near_plans
from planner.analysis.neighbours import neighbours, same_decisions
from planner.costs.item_names import ItemName
from planner.costs.rollout import RolloutCosts
from planner.errors import InputError, NoVerdict
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.search.plan import Plan, verdict
from planner.search.search import plan
from planner.search.space import build_space

POOLS = "scenarios/qwen7b_rl_two_pools.yaml"
SMALL = [
    "layout.optimizer_offload=false", "layout.pipeline_parallel=1", "layout.tensor_parallel=[2, 4]",
    "rl.placement=[colocated, asynchronous]", "layout.recompute_modules=[]", "layout.activation_offload=false",
]  # fmt: skip
"""Fewer choices, where each of them is costed many times."""
LEAST = [*SMALL[:2], "layout.tensor_parallel=2", *SMALL[3:], "layout.recomputed_layers=0", "batch.micro_batch_size=1"]
"""Fewer still, where each change is a search: pools and placements stay open."""
SET_SMALL = [word for change in SMALL for word in ("--set", change)]
LLAMA = "scenarios/llama70b_64xh100.yaml"
APART = ("rl.placement=disaggregated", "rl.rollout.node=hgx-a100-8", "cluster.pools[0].num_gpus=8")


@cache
def solved(path: str, *changes: str) -> Plan:
    found = plan(load(path, changes), check_points=0).plan
    assert found is not None
    return found


MISTAKES = {
    "a pool of no even groups": (["cluster.pools[1].num_gpus=12"], "12 GPUs are not whole nodes", "cluster.pools[1]"),
    "a path with a dot for an index": (["cluster.pools.1.num_gpus=8"], "which has no key '1'", "'cluster.pools[1].num"),
    "a key inside a list": (["cluster.pools.node=x"], "which has no key 'node'", "'cluster.pools[0].node=x'"),
    "rollout machines of a shared run": (
        ["rl.placement=colocated", "rl.rollout.node=hgx-a100-8"],
        "says which GPUs only generate, and placement is colocated",
        "placement: disaggregated",
    ),
    "more requests than the engine runs": (
        ["rl.rollout.max_concurrency=[4, 1024]"],
        "runs at most 512 requests at once, not 1024",
        "max_concurrency: 512",
    ),
    "precision any": (["precision=any"], "precision: any leaves too much open", "[bf16, fp8]"),
    "a name like none": (["rl.rollout.precision=zzz"], "unknown precision `zzz`", "planner catalog list precisions"),
    "no GPUs to train": (
        ["rl.placement=asynchronous", "rl.rollout.num_gpus={min: 900}"],
        "no GPUs are left to train beside rl.rollout.num_gpus\n",
        "may generate: 4, 8 GPUs",
    ),
    "headroom beyond a pool": (["cluster.pools[0].usable_gib=9", "cluster.pools[1].usable_gib=9",
                                "limits.headroom_gib=10"], "leaves no memory", "9.00 GiB usable"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_says_what_and_what_to_type(name: str) -> None:
    changes, what, hint = MISTAKES[name]
    done = run("solve", POOLS, *(part for change in changes for part in ("--set", change)))
    assert done.code == 2
    assert what in done.err
    assert hint in done.err
    assert "where:" in done.err


@pytest.mark.parametrize(("train", "generate"), [("h100", "a100"), ("a100", "h100")])
def test_weights_between_two_pools_take_the_slower_adapter_even_where_both_are_small(train: str, generate: str) -> None:
    pools = ", ".join(f"{{node: hgx-{name}-8, num_gpus: 4}}" for name in (train, generate))
    apart = (f"cluster.pools=[{pools}]", "rl.placement=disaggregated", f"rl.rollout.node=hgx-{generate}-8")
    problem = next(
        p for p in question_of(load(POOLS, apart)).problems if p.node.id == f"hgx-{train}-8" and p.rollout_machines
    )
    space = build_space(problem.alone)
    assert space.rollouts is not None
    costs = RolloutCosts(problem.generating, space.rollouts)
    (weights,) = [item.amount for item in costs.switch_time if item.name == ItemName.WEIGHT_SYNC]
    rate = 0.25 * 200 / 8  # a quarter of one 200 Gbit/s adapter of the A100 node [GB/s]
    assert weights == pytest.approx(problem.parameters.total * 2 / (rate * 1e9) + 0.5)


def test_generating_in_16_bit_what_is_trained_in_fp8() -> None:
    wide = solved(POOLS, *APART, "layout.tensor_parallel=2", "rl.rollout.tensor_parallel=2")
    narrow = solved(POOLS, *APART, "layout.tensor_parallel=2", "rl.rollout.tensor_parallel=2", "precision=fp8")
    assert narrow.problem.generating.gpu.id == "a100-sxm4-80gb", "which has no fp8 matrix units, and needs none"
    assert wide.rollout is not None
    assert narrow.rollout is not None
    assert narrow.rollout.seconds == pytest.approx(wide.rollout.seconds)
    pinned = ("cluster.num_gpus=8", "rl.rollout.gpu_memory_utilization=0.6", "limits.headroom_gib=2")
    eight = "scenarios/qwen7b_rl_8gpu.yaml"
    here = [solved(eight, *pinned, f"precision={name}").rollout for name in ("bf16", "fp8")]
    assert here[0] is not None
    assert here[1] is not None
    assert here[0].seconds == here[1].seconds, "weights reach the engine in bf16 unless rl.rollout.precision says fp8"


def test_demanded_headroom_is_that_of_the_gpu_that_binds() -> None:
    found = solved(POOLS, *APART, "cluster.pools[1].usable_gib=20")
    assert found.binding.stage is None
    assert found.usable_gib == 20
    assert found.demanded_gib == pytest.approx(20 * 0.12), "the reserved cliff of 12 %, of 20 GiB and not of 79"
    assert found.demanded_gib < found.headroom_gib < found.problem.headroom_gib
    assert verdict(found) == "likely", "it fits with 94 %, of an engine without published runs"
    sets = [part for change in (*APART, "cluster.pools[1].usable_gib=20") for part in ("--set", change)]
    done = run("explain", POOLS, "-v", "--no-neighbours", *sets)
    assert f"than the {found.demanded_gib:.2f} demanded" in " ".join(done.out.split())
    told = json.loads(run("solve", POOLS, "--format", "json", *sets).out)["plan"]["memory"]
    assert told["headroom_demanded_gib"] == pytest.approx(found.demanded_gib)


def test_the_plan_has_it_already_only_where_every_decision_is_the_same() -> None:
    base = solved(POOLS, *SMALL)
    assert same_decisions(base, solved(POOLS, *SMALL, "rl.placement=asynchronous")), "pinned, it is the same plan"
    assert not same_decisions(base, solved(POOLS, *SMALL, "rl.rollout.tensor_parallel=2"))
    eight = ("cluster.num_gpus=8", "model=llama3.1-8b", "layout.tensor_parallel=2", "layout.pipeline_parallel=1")
    one, other = solved(LLAMA, *eight, "precision=bf16"), solved(LLAMA, *eight, "precision=fp8")
    assert not same_decisions(one, other)
    asked = run("explain", POOLS, *SET_SMALL, "-v", "--no-neighbours", "--why-not", "rl.placement=asynchronous")
    assert "The plan has it already." in asked.out


def test_why_not_takes_any_path_and_refuses_wrong_ones_before_solving() -> None:
    done = run("explain", POOLS, *SET_SMALL, "-v", "--no-neighbours", "--why-not", "cluster.pools[0].num_gpus=4")
    assert done.code == 0
    assert "Why not cluster.pools[0].num_gpus=4?" in done.out
    wrong = run("explain", POOLS, "--why-not", "rl.placment=colocated")
    assert wrong.code == 2
    assert "did you mean `placement`?" in wrong.err


def test_neighbours_train_on_another_pool_and_may_still_generate_on_the_first() -> None:
    outcome = plan(load(POOLS, [*LEAST, "rl.placement=asynchronous"]), check_points=0)
    found = {each.text: each for each in neighbours(outcome, default_catalog())}
    assert outcome.plan is not None
    here = outcome.plan.problem.node.id
    there = next(pool.node for pool in outcome.question.scenario.cluster.pools or () if pool.node != here)
    other = found[f"cluster.node {here} to {there}"].plan
    assert other is not None
    assert other.problem.node.id == there
    assert other.problem.generating.node.id == "hgx-h100-8", "generation takes the faster pool"
    assert "up to 16 GPUs of each pool" in found


def test_more_gpus_of_pools_keep_what_they_have() -> None:
    problem = question_of(load(POOLS, ["cluster.pools[1]={node: hgx-a100-8, max_gpus: 8}"]))
    assert {machine_counts(variant) for variant in problem.problems} == {(4, 8), (1, 2, 4, 8)}
    assert dict(more_gpus(problem, 2)) == {
        "cluster.pools[0].max_gpus": None, "cluster.pools[0].num_gpus": [4, 8, 16],
        "cluster.pools[1].max_gpus": None, "cluster.pools[1].num_gpus": [1, 2, 4, 8, 16],
    }  # fmt: skip


def test_a_front_over_gpus_counts_those_of_all_pools() -> None:
    found = front(load(POOLS, LEAST), default_catalog(), "gpus")
    counts = [point.plan.num_gpus for point in found.points]
    assert counts == sorted(set(counts))
    assert counts[0] < 8
    speed = [point.plan.tokens_per_second for point in found.points]
    assert speed == sorted(speed)
    four = solved(POOLS, *LEAST, "cluster={node: hgx-h100-8, num_gpus: 4}")
    (point,) = [point for point in found.points if point.plan.num_gpus == 4]
    assert point.plan.step_seconds <= four.step_seconds * (1 + 1e-9)


def test_a_log_whose_phases_overlap_is_not_fitted() -> None:
    log = ["--log", "scenarios/qwen7b_dapo_h20.log"]
    done = run("calibrate", "scenarios/qwen7b_dapo_h20.yaml", "--set", "rl.placement=asynchronous", *log)
    assert done.code == 2
    assert "asynchronous step cannot be fitted" in done.err


def test_headroom_is_measured_against_what_the_scenario_calls_usable() -> None:
    with pytest.raises(InputError, match="leaves no memory"):
        question_of(load(LLAMA, ["cluster.usable_gib=30", "limits.headroom_gib=40"]))
    assert question_of(load(LLAMA, ["cluster.usable_gib=180", "limits.headroom_gib=100"])).first.limit_gib == 80


@pytest.mark.parametrize("command", ["near", "pareto"])
def test_no_verdict_in_time_is_never_called_infeasible(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = question_of(load(LLAMA))
    none = replace(plan(load(LLAMA), check_points=0), status="unknown", plan=None)
    monkeypatch.setattr("planner.analysis.near.search", lambda *_, **__: none)
    monkeypatch.setattr("planner.analysis.near.plan", lambda *_, **__: none)
    ask = {
        "near": lambda: near_plans(problem, count=2, within=0.1),
        "pareto": lambda: front(load(LLAMA), default_catalog(), "headroom"),
    }
    with pytest.raises(NoVerdict):
        ask[command]()


def test_what_is_not_proved_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = replace(plan(load(LLAMA), check_points=0), status="feasible")
    monkeypatch.setattr("planner.analysis.near.search", lambda *_, **__: found)
    done = run("near", LLAMA, "--count", "2")
    assert "Not proved within the time limit: 2 of 2." in done.out


def test_an_offer_replaces_pools_and_keeps_the_rank_order(tmp_path: Path) -> None:
    job = {"name": "rl", "scenario": str(Path(POOLS).resolve()), "tokens": 1e9, "deadline_days": 30}
    job["set"] = {"rl.placement": "disaggregated", "rl.rollout": {"node": "hgx-a100-8"}}
    other = {"name": "pretrain", "scenario": str(Path(LLAMA).resolve()), "tokens": 1e9, "deadline_days": 30}
    other["set"] = {"cluster.rank_order": "tp_pp_dp"}
    file = tmp_path / "budget.yaml"
    offers = [{"price": "aws-p5-48xlarge", "nodes": [4]}]
    file.write_text(json.dumps({"name": "b", "jobs": [job, other], "offers": offers}))
    answer = solve_budget(str(file))
    rl, pretrain = (option.plan for option in answer.options)
    assert rl is not None
    assert rl.problem.placement == "disaggregated"
    assert rl.problem.generating.node.id == rl.problem.node.id
    assert pretrain is not None
    assert pretrain.problem.scenario.cluster.rank_order == "tp_pp_dp"
