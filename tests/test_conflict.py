"""Where nothing fits: the named limits are a minimal conflict, and every printed repair makes the scenario feasible."""

from __future__ import annotations

import itertools
import json

import pytest
from run_cli import run

from planner.catalog import Catalog, default_catalog
from planner.conflict import explain_conflict
from planner.limits import limits_of, overrides
from planner.near import front, near_plans
from planner.pipeline import load, override, plan, problem_of
from planner.read import Document

INFEASIBLE = [
    ("llama70b_64xh100", ["cluster.num_gpus=8"]),
    ("llama70b_64xh100", ["layout.tensor_parallel=1", "layout.pipeline_parallel=1"]),
    ("llama70b_64xh100", ["layout.tensor_parallel=3"]),
    ("llama70b_64xh100", ["limits.headroom_gib=70"]),
    ("llama70b_64xh100", ["batch.micro_batch_size=64", "layout.recomputed_layers=0"]),
    ("llama8b_lora_4090", ["batch.sequence_length=16384"]),
    ("llama8b_lora_4090", ["batch.micro_batch_size=16", "batch.sequence_length=4096"]),
    ("llama8b_sft_a100", ["cluster.num_gpus=1"]),
    ("llama8b_sft_a100", ["batch.micro_batch_size=8", "layout.recomputed_layers=0"]),
    ("qwen7b_rl_8gpu", []),
    (
        "qwen7b_rl_8gpu",
        [
            "rl.rollout.gpu_memory_utilization=0.5",
            "cluster.num_gpus=1",
            "layout.tensor_parallel=1",
            "layout.data_parallel=1",
            "rl.rollout.tensor_parallel=1",
        ],
    ),
    ("mixtral8x7b_64xh100", ["cluster.num_gpus=8", "layout.expert_parallel=1"]),
]


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


def fits(document: Document, catalog: Catalog) -> bool:
    return plan(document, catalog, check_points=0).plan is not None


@pytest.mark.parametrize(("name", "changes"), INFEASIBLE)
def test_conflicts_are_minimal_and_repairs_work(name: str, changes: list[str], catalog: Catalog) -> None:
    document = load(f"scenarios/{name}.yaml", changes)
    assert not fits(document, catalog)
    found = explain_conflict(document, catalog)
    assert found.limits
    assert not found.hopeless
    every = limits_of(problem_of(document, catalog))
    others = [limit for limit in every if limit not in found.limits]
    assert not fits(override(document, overrides(others)), catalog)
    for limit in found.limits:
        assert fits(override(document, overrides([*others, limit])), catalog), limit.name
    for repair in found.repairs:
        assert fits(override(document, dict(repair.changes)), catalog), repair.text


def test_explain_prints_conflict_and_repairs_and_exits_1() -> None:
    done = run("explain", "scenarios/llama70b_64xh100.yaml", "--set", "cluster.num_gpus=8", "--format", "json")
    assert done.code == 1
    document = json.loads(done.out)
    assert [limit["name"] for limit in document["conflict"]["limits"]] == ["optimizer", "cluster.num_gpus"]
    assert document["conflict"]["repairs"]


def test_why_not_says_slower_or_infeasible() -> None:
    arguments = ["--why-not", "layout.tensor_parallel=8", "--why-not", "layout.recomputed_layers=[0]"]
    arguments += ["--why-not", "limits.headroom_gib=70", "--no-neighbours"]
    done = run("explain", "scenarios/llama70b_64xh100.yaml", *arguments)
    assert done.code == 0
    assert "slower" in done.out
    assert "The plan has it already." in done.out
    assert "Nothing fits with it." in done.out


def test_near_plans_are_distinct_and_ordered_and_the_first_is_the_answer(catalog: Catalog) -> None:
    problem = problem_of(load("scenarios/llama70b_64xh100.yaml"), catalog)
    found = [outcome.plan for outcome in near_plans(problem, count=4, within=0.2) if outcome.plan is not None]
    assert len(found) == 4
    assert len({json.dumps(plan.layout, sort_keys=True) for plan in found}) == 4
    best = plan(problem.document, catalog, check_points=0).plan
    assert best is not None
    assert found[0].layout == best.layout
    tie = 1 / (1 - problem.scenario.search.near_tie)
    for before, after in itertools.pairwise(found):
        assert after.step_seconds * tie >= before.step_seconds


@pytest.mark.parametrize("over", ["headroom", "gpus", "sequence_length"])
def test_no_point_of_a_front_is_beaten_in_both(over: str, catalog: Catalog) -> None:
    found = front(load("scenarios/llama8b_sft_a100.yaml"), catalog, over)
    assert found.points
    sign = 1 if found.more_is_better else -1
    for p in found.points:
        for q in found.points:
            better = sign * q.value >= sign * p.value and q.plan.tokens_per_second >= p.plan.tokens_per_second
            same = (q.value, q.plan.tokens_per_second) == (p.value, p.plan.tokens_per_second)
            assert not better or same


def test_a_front_over_dollars_needs_a_price() -> None:
    assert run("pareto", "scenarios/llama8b_sft_a100.yaml", "--over", "dollars").code == 2
