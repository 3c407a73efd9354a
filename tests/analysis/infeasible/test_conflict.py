"""Where nothing fits: the named limits are a minimal conflict, and every printed repair makes the scenario feasible."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from infeasible_rows import FIXTURES, INFEASIBLE, document_of, false_sentences, status
from run_cli import run

from planner.analysis.infeasible.conflict import explain_conflict
from planner.analysis.infeasible.limits import LAYOUT_PINS, overrides
from planner.analysis.near import front, near_plans
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override
from planner.problem.resolve import question_of
from planner.search.search import plan

TRIED_HERE = [INFEASIBLE[place] for place in (4, 12, 16, 24, 37)]
"""Five fixtures that take about a second each: a rule, a model's shape, a schedule, one GPU, an RL run.
tests/slow/test_every_conflict.py tries all of them, benchmarks/conflicts.py more."""
NAMED_HERE = [INFEASIBLE[place] for place in (2, 4, 7, 10, 13, 16, 19, 22, 25, 34, 37)]
"""Ten of which a person expects a conflict, and one of the others, of which it is asked only that there is one."""
NARROW = ("layout.tensor_parallel=[4, 8]", "layout.context_parallel=1")
"""Fewer layouts, where several searches look at each of them."""


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


def every_sentence_is_so(row: dict[str, Any], catalog: Catalog, tmp_path: Path) -> None:
    document = document_of(row)
    found, wrong, tried = false_sentences(document, catalog, tmp_path)
    assert wrong == []
    assert not found.hopeless
    assert found.repairs
    assert tried >= 2 + len(found.limits) + len(found.repairs)
    assert all(re.search(r"\d+(\.\d+)?( \w|%)", limit.text) for limit in found.limits)
    assert len({repair.changes for repair in found.repairs}) == len(found.repairs)
    for repair in found.repairs:
        cost = repair.plan.tokens_per_second / found.reference_tokens_per_second - 1
        assert found.throughput_cost(repair) == pytest.approx(cost, abs=1e-9)


@pytest.mark.parametrize("row", TRIED_HERE, ids=lambda row: row["name"])
def test_every_sentence_of_a_conflict_is_so_in_the_edited_file(
    row: dict[str, Any], catalog: Catalog, tmp_path: Path
) -> None:
    every_sentence_is_so(row, catalog, tmp_path)


def is_what_a_person_would_name(row: dict[str, Any], catalog: Catalog) -> None:
    document = document_of(row)
    found = explain_conflict(document, catalog, repairs=0)
    assert [limit.name for limit in found.limits] == row.get("conflict", [limit.name for limit in found.limits])
    if "also" in row:
        second = explain_conflict(override(document, overrides(found.limits)), catalog, repairs=0)
        assert [limit.name for limit in second.limits] == row["also"]
        assert not {limit.name for limit in second.limits} & {limit.name for limit in found.limits}


@pytest.mark.parametrize("row", NAMED_HERE, ids=lambda row: row["name"])
def test_conflicts_are_those_that_a_person_would_name(row: dict[str, Any], catalog: Catalog) -> None:
    is_what_a_person_would_name(row, catalog)


@pytest.mark.parametrize("row", FIXTURES["not_predicted"], ids=lambda row: row["name"])
def test_threads_that_the_model_does_not_predict_say_why(row: dict[str, Any], catalog: Catalog) -> None:
    """A run that went out of memory and fits here is a finding: it leaves this list when the model learns of it."""
    assert row["reason"]
    assert status(document_of(row), catalog) == "optimal"


def test_fixtures_cover_every_kind_of_limit(catalog: Catalog) -> None:
    assert len(INFEASIBLE) >= 36
    named = {name for row in INFEASIBLE for name in row.get("conflict", ())}
    assert {
        "limits.headroom_gib",
        "limits.reserved_cliff",
        "limits.host_memory",
        "limits.tensor_parallel_inside_domain",
        "limits.max_sequences_per_micro_batch",
    } <= named
    assert named >= {f"layout.{name}" for name in LAYOUT_PINS}
    assert named >= {
        "optimizer",
        "cluster.num_gpus",
        "adapter.base_precision",
        "batch.micro_batch_size",
        "batch.sequence_length",
    }
    assert named >= {"rl.rollout.tensor_parallel", "rl.rollout.gpu_memory_utilization"}


def test_explain_prints_conflict_and_repairs_and_exits_1() -> None:
    done = run("explain", "scenarios/llama8b_sft_a100.yaml", "--set", "cluster.num_gpus=1", "--format", "json")
    assert done.code == 1
    document = json.loads(done.out)
    assert [limit["name"] for limit in document["conflict"]["limits"]] == ["optimizer", "cluster.num_gpus"]
    assert document["conflict"]["repairs"]


def test_explain_answers_where_the_conflict_is_not_found_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no time for the conflict the rest of the answer stands, and what to type next makes the scenario fit."""
    monkeypatch.setattr("planner.streams.seconds_left", lambda: 0.0)
    arguments = ("scenarios/llama8b_lora_4090.yaml", "--set", "limits.headroom_gib=20")
    done = run("explain", *arguments)
    assert done.code == 1
    assert "The time was up before it was known which limits contradict" in " ".join(done.out.split())
    assert re.search(r"planner solve scenarios/llama8b_lora_4090.yaml .* limits.headroom_gib=[0-9.]+\n", done.out, re.S)
    assert json.loads(run("explain", *arguments, "--format", "json").out)["conflict"] is None


def test_why_not_says_slower_or_infeasible() -> None:
    arguments = ["--why-not", "layout.tensor_parallel=8", "--why-not", "layout.recomputed_layers=[0]"]
    arguments += ["--why-not", "limits.headroom_gib=70", "--no-neighbours"]
    done = run("explain", "scenarios/llama70b_64xh100.yaml", *arguments, *(f"--set={change}" for change in NARROW))
    assert done.code == 0
    assert "slower" in done.out
    assert "The plan has it already." in done.out
    assert "Nothing fits with it." in done.out


def test_near_plans_are_distinct_and_ordered_and_the_first_is_the_answer(catalog: Catalog) -> None:
    problem = question_of(load("scenarios/llama70b_64xh100.yaml", NARROW), catalog)
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
    other = run("pareto", "scenarios/llama8b_sft_a100.yaml", "--over", "dollars", "--price", "aws-p5-48xlarge")
    assert other.code == 2
    assert "that of h100-sxm5-80gb" in other.err
