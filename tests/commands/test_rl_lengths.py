"""`planner rl-lengths`: one scenario for several largest responses, its lengths scaled with them."""

from __future__ import annotations

import json
from pathlib import Path

from run_cli import run

from planner.analysis.rl_lengths import scaled
from planner.schema.scenario import Distribution

ROOT = Path(__file__).resolve().parents[2]
STORY = str(ROOT / "scenarios" / "qwen7b_rl.yaml")
EIGHT = ("--set", "cluster.max_gpus=8")


def test_longer_responses_take_longer_and_need_larger_micro_batches() -> None:
    result = run("rl-lengths", STORY, *EIGHT, "--lengths", "4096,16384", "--format", "json")
    assert result.code == 0, result.err
    rows = json.loads(result.out)["rows"]
    assert [row["response_length"] for row in rows] == [4096, 16384]
    assert [row["status"] for row in rows] == ["optimal", "optimal"]
    assert rows[0]["response_distribution"] == {"mean": 1250, "p99": 4500}
    short, long = (row["plan"] for row in rows)
    assert long["rollout_seconds"] > 3 * short["rollout_seconds"]
    assert long["step_seconds"] > 3 * short["step_seconds"]
    assert long["layout"]["sequence_length"] == 1024 + 16384


def test_the_table_has_a_column_for_each_length() -> None:
    result = run("rl-lengths", STORY, *EIGHT, "--lengths", "2048", "-v")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].endswith("1 of 1 largest responses fit")
    assert "2,048" in lines[1]
    for name in ("memory fraction", "pool over mean demand", "longest sample, tokens", "step s", "host GiB of a node"):
        assert any(line.strip().startswith(name) for line in lines), name


def test_what_is_no_list_of_lengths_is_said() -> None:
    for given, said in (("8q", "expected tokens"), ("8k,8192", "different lengths"), ("0", "expected tokens")):
        result = run("rl-lengths", STORY, "--lengths", given)
        assert result.code == 2
        assert said in result.err


def test_a_scenario_without_rl_is_refused() -> None:
    result = run("rl-lengths", str(ROOT / "scenarios" / "llama70b_64xh100.yaml"))
    assert result.code == 2
    assert "task: rl" in result.err


def test_a_distribution_is_scaled_whole() -> None:
    assert scaled(Distribution(mean=2500, p99=9000), before=8192, after=32768) == (10000, 36000)
