"""A saved plan given back: the same plan without a search, the same question to every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from answer_schemas import violations
from run_cli import run

import planner.search.search
from planner.analysis.restored import changed_facts, restored
from planner.inputs.catalog import default_catalog
from planner.inputs.saved import load, question_asked, saved_answer
from planner.report.plan_json import outcome_document
from planner.search.search import Outcome, plan

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
SAMPLE = ("qwen7b_rl", "llama8b_lora_4090", "llama405b_16384xh100")
"""Packed RL with its engine, a wish given up, free stages; all scenarios: tests/slow/test_restored_all.py."""
CATALOG = default_catalog()


def check(name: str, folder: Path, *overrides: str) -> tuple[Outcome, Path]:
    """Solve, save, and read back: every figure and receipt the same. Gives the outcome and the saved file."""
    document = load(f"example:{name}", overrides)
    outcome = plan(document, CATALOG, check_points=0)
    saved = folder / f"{name}.json"
    text = json.dumps(outcome_document(outcome))
    saved.write_text(text)
    answer = saved_answer(str(saved))
    assert answer is not None
    again = restored(answer, CATALOG)
    assert json.dumps(outcome_document(again)) == text
    assert changed_facts(answer, again) == []
    asked = question_asked(answer)
    assert (asked.name, asked.sha256, asked.overrides) == (document.name, document.sha256, overrides)
    assert asked.data == document.data
    return outcome, saved


@pytest.mark.parametrize("name", SAMPLE)
def test_a_saved_plan_is_the_plan(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


def test_a_plan_at_the_edge_keeps_what_it_gave_up(tmp_path: Path) -> None:
    """Headroom that is usual and that no layout keeps is part of the question that was answered."""
    outcome, _ = check("llama8b_lora_4090", tmp_path, "batch.sequence_length=1024", "cluster.usable_gib=20.5")
    assert outcome.usual_headroom_gib is not None
    outcome, _ = check(
        "llama8b_sft_a100", tmp_path, "engine=fsdp1", "engine_options=[sync_each_batch]", "cluster.usable_gib=26"
    )
    assert outcome.plan is not None
    assert outcome.plan.given_back_gib > 0


def test_no_command_searches_for_a_saved_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, saved = check("llama8b_lora_4090", tmp_path)
    launched = run("launch", "example:llama8b_lora_4090", "--to", "axolotl").out
    shown = run("solve", "example:llama8b_lora_4090", "--no-check").out

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(planner.search.search, "search", fail)
    monkeypatch.setattr(planner.search.search, "_solve", fail)
    again = run("launch", str(saved), "--to", "axolotl")
    assert again.out == launched
    assert "the saved plan of example:llama8b_lora_4090, not searched again" in again.err
    told = run("estimate", str(saved)).out
    told, shown = (out[out.index("  model") : out.index("Next:")] for out in (told, shown))
    assert shown.startswith(told.rstrip()), "near ties follow, which one layout does not have"


ASKED = (
    ("near", "--count", "2"),
    ("explain", "--no-neighbours"),
    ("solve", "--no-check"),
    ("whatif", "--set", "limits.headroom_gib=2,4"),
    ("pareto", "--over", "headroom"),
)


def test_a_saved_plan_stands_for_its_question(tmp_path: Path) -> None:
    _, saved = check("llama8b_lora_4090", tmp_path)
    for command in ASKED:
        name, *more = command
        both = [run(name, file, *more, "--format", "json").out for file in (str(saved), "example:llama8b_lora_4090")]
        assert both[0] == both[1], name
    less = run("solve", str(saved), "--set", "batch.sequence_length=512", "--format", "json")
    assert json.loads(less.out)["plan"]["layout"]["sequence_length"] == 512
    assert violations("solve", json.loads(less.out)) == []


def test_what_cannot_be_fed_back_is_said(tmp_path: Path) -> None:
    saved = tmp_path / "near.json"
    saved.write_text(run("catalog", "list", "--format", "json").out)
    result = run("explain", str(saved))
    assert result.code == 2
    assert "holds no question" in result.err
    assert "planner solve SCENARIO --format json" in result.err
    _, plan_file = check("llama8b_lora_4090", tmp_path)
    data = json.loads(plan_file.read_text())
    data["plan"]["layout"]["micro_batch_size"] = 7
    plan_file.write_text(json.dumps(data))
    result = run("launch", str(plan_file), "--to", "axolotl")
    assert result.code == 2
    assert "is not legal any more" in result.err
    del data["provenance"]["inputs"]
    plan_file.write_text(json.dumps(data))
    assert "provenance.inputs is missing" in run("explain", str(plan_file)).err
