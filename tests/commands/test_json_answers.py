"""Every JSON answer stands in one envelope and keeps to the schema that `planner schema --of` prints."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import pytest
from answer_schemas import violations
from run_cli import run

import planner
from planner.cli import COMMANDS
from planner.report.schemas import SHAPES

SFT = "scenarios/llama8b_sft_a100.yaml"
RL = "scenarios/qwen7b_rl_8gpu.yaml"
BUDGET = "scenarios/budget_llama70b.yaml"
TOO_MUCH = ("--set", "limits.headroom_gib=75")
SEED = ("--set", "search.seed=7")
MESSAGE = "CUDA out of memory. Tried to allocate 58.15 GiB."
CASES: dict[str, tuple[str, ...]] = {
    "solve": ("solve", SFT),
    "solve, columns": ("solve", RL),
    "solve, infeasible": ("solve", SFT, *TOO_MUCH),
    "estimate": ("estimate", RL),
    "estimate-rules": ("estimate", "--rules", "qwen2.5-7b"),
    "whatif": ("whatif", SFT, "--set", "limits.headroom_gib=10,75", "--set", "precision=bf16,fp8"),
    "compare": ("compare", SFT, "--set-b", "limits.headroom_gib=20"),
    "near": ("near", SFT, "--count", "2", *SEED),
    "near, infeasible": ("near", SFT, *TOO_MUCH),
    "pareto": ("pareto", SFT, "--over", "gpus"),
    "rl-lengths": ("rl-lengths", "scenarios/qwen7b_rl.yaml", "--lengths", "4096,8192"),
    "explain": ("explain", SFT, "--why-not", "layout.tensor_parallel=2"),
    "explain, infeasible": ("explain", SFT, *TOO_MUCH),
    "budget": ("budget", BUDGET, "--set", "offers=[{price: lambda-8x-h100, nodes: [8, 16]}]"),
    "catalog-list": ("catalog", "list"),
    "catalog-show": ("catalog", "show", "models", "qwen2.5-7b"),
    "catalog-import-prices": ("catalog", "import-prices", "tests/fixtures/vms/lambda/vms.csv", "--read-on", "2026-11"),
    "calibrate": ("calibrate", "scenarios/qwen7b_dapo_h20.yaml", "--log", "scenarios/qwen7b_dapo_h20.log"),
    "lint": ("lint", "tests/golden/launch_qwen7b_rl_slime.sh", "--set", "cluster.node=hgx-h100-8"),
    "check": ("check", "scenarios/qwen7b_dapo_h20.yaml", "scenarios/qwen7b_dapo_h20.log"),
    "diagnose": ("diagnose", "scenarios/qwen3_4b_retool.yaml", "--message", MESSAGE),
}
ELSEWHERE = {"calibrate-device", "validate-memory", "validate-throughput"}
"""Checked where their data or their imitated device is."""
SEARCHED = {"solve", "estimate", "whatif", "near", "pareto", "explain", "diagnose", "calibrate", "check"}


@pytest.mark.parametrize("case", CASES)
def test_an_answer_keeps_to_its_schema_and_carries_its_receipts(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    arguments = CASES[case]
    done = run(*arguments, "--format", "json")
    assert done.code in (0, 1, 5), done.err
    answer = json.loads(done.out)
    assert violations(case.partition(",")[0], answer) == []
    assert answer["command"] == arguments[0]
    assert (answer["status"] == "infeasible") == (done.code == 1)
    receipts = answer["provenance"]
    assert receipts["planner"] == importlib.metadata.version("planner")
    assert receipts["ortools"] == importlib.metadata.version("ortools")
    assert receipts["python"] == platform.python_version()
    if arguments[0] in SEARCHED and "--rules" not in arguments:
        (asked,) = receipts["inputs"]
        assert asked["file"] == arguments[1]
        assert asked["seed"] == (7 if SEED[1] in arguments else 0)
        assert asked["overrides"] == [text for text in (TOO_MUCH[1], SEED[1]) if text in arguments]
    if arguments[:2] != ("catalog", "list"):
        assert receipts["catalog"]
        assert all(len(sha) == 64 for sha in receipts["catalog"].values())


def test_every_command_with_json_has_a_case() -> None:
    named = {arguments[0] for arguments in CASES.values()}
    other = {"validate", "launch", "schema", "model", "init", "ask", "serve", "sweep", "completion"}
    assert set(COMMANDS) <= named | other, "they print files, a schema, a page, or what solve prints"
    assert {case.partition(",")[0] for case in CASES} | ELSEWHERE == set(SHAPES) - {"scenario", "budget-file"}


def test_a_schema_refuses_what_is_not_its_answer() -> None:
    answer = json.loads(run("catalog", "list", "--format", "json").out)
    assert violations("catalog-show", answer)
    assert violations("catalog-list", {**answer, "schema_version": 1})
    assert violations("catalog-list", {**answer, "surprise": 0})
    assert violations("catalog-list", {key: value for key, value in answer.items() if key != "provenance"})


def test_the_door_gives_documents_of_the_same_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(__file__.rpartition("/tests/")[0])
    scenario = planner.load(SFT)
    answers = {
        "near": planner.near(scenario, count=2),
        "whatif": planner.what_if(scenario, {"limits.headroom_gib": [10, 75]}),
        "compare": planner.compare(scenario, planner.load(scenario, {"limits.headroom_gib": 15})),
        "explain": planner.explain(scenario, neighbours=False),
        "pareto": planner.front(scenario, "gpus"),
    }
    for name, answer in answers.items():
        document = json.loads(json.dumps(planner.to_dict(answer)))
        assert violations(name, document) == [], name
        planner.show(answer, "markdown")


def test_an_unknown_schema_names_those_there_are() -> None:
    done = run("schema", "--of", "slove")
    assert done.code == 2
    assert "validate-memory" in done.err
    assert run("schema", "--of", "scenario").out == run("schema").out
