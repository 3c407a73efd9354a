from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from run_cli import run

from planner import cli
from planner.analysis.many_plans import many
from planner.analysis.two_plans import compare, differences, read_side, side_of
from planner.errors import InputError, NoLayoutFits
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load

RL = "scenarios/qwen7b_rl.yaml"
PRETRAIN = "scenarios/llama70b_64xh100.yaml"
NARROW = ("--set-a", "layout.tensor_parallel=8", "--set-a", "layout.context_parallel=1")
"""Fewer layouts, of all sides: what is said of them is what is asked here."""


def test_differences_are_signed_and_largest_first() -> None:
    rows = differences([("a", 1.0), ("b", 2.0), ("b", 1.0)], [("b", 1.0), ("c", 5.0), ("a", 1.0)])
    assert [(r.name, r.a, r.b, r.change) for r in rows] == [("c", 0, 5, 5), ("b", 3, 1, -2), ("a", 1, 1, 0)]


def test_differences_add_up_to_those_of_the_totals() -> None:
    catalog = default_catalog()
    a = read_side(RL, (), catalog)
    b = read_side(RL, ("cluster.max_gpus=8",), catalog)
    both = compare(a, b)
    assert math.isclose(sum(row.change for row in both.memory), b.peak_gib - a.peak_gib, abs_tol=1e-9)
    assert math.isclose(sum(row.change for row in both.time), b.step_seconds - a.step_seconds, abs_tol=1e-9)
    sizes = [abs(row.change) for row in both.time]
    assert sizes == sorted(sizes, reverse=True)
    assert ("num_gpus", 4, 8) in both.layout


def test_a_saved_plan_equals_its_scenario(tmp_path: Path) -> None:
    catalog = default_catalog()
    saved = tmp_path / "plan.json"
    assert cli.main(["solve", RL, "--format", "json", "--out", str(saved)]) == 0
    both = compare(read_side(RL, (), catalog), read_side(str(saved)))
    assert all(left == right for _, left, right in both.layout)
    assert all(row.change == 0 for row in (*both.memory, *both.time))
    assert both.b.question is not None
    document = json.loads(saved.read_text())
    document["provenance"]["catalog"]["models/qwen2.5-7b.yaml"] = "of another day"
    saved.write_text(json.dumps(document))
    assert "as they were saved; models/qwen2.5-7b.yaml changed since" in str(read_side(str(saved)).remark)


def test_values_change_the_scenario_of_a_saved_plan(tmp_path: Path) -> None:
    saved = tmp_path / "plan.json"
    scenario, change = "example:llama8b_lora_4090", "limits.headroom_gib=8"
    assert run("solve", scenario, "--no-check", "--format", "json", "--out", str(saved)).code == 0
    again = run("compare", str(saved), "--set-b", change)
    assert again.out == run("compare", scenario, "--set-b", change).out
    assert f"{saved}: the saved plan of {scenario}, not searched again" in again.err
    assert f"{saved}: its scenario {scenario} is solved again with {change}" in again.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ('{"status": "optimal"}', "plan"),
        ('{"status": "infeasible", "plan": null}', "holds no plan"),
        ('{"status": "optimal", "plan": {"layout": {}, "memory": {}, "time": {}}}', "peak_gib"),
    ],
)
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, text: str, message: str) -> None:
    saved = tmp_path / "plan.json"
    saved.write_text(text)
    with pytest.raises(InputError, match=message):
        read_side(str(saved))


def test_a_pinned_layout_that_does_not_fit_is_estimated() -> None:
    pins = (
        "cluster.num_gpus=8",
        "layout.tensor_parallel=8",
        "layout.pipeline_parallel=1",
        "layout.context_parallel=1",
        "layout.virtual_pipeline=1",
        "layout.recomputed_layers=0",
        "batch.micro_batch_size=1",
    )
    catalog = default_catalog()
    side = side_of(load(PRETRAIN, pins), catalog)
    assert side.status == "does not fit"
    assert side.headroom_gib < 0
    with pytest.raises(NoLayoutFits):
        side_of(load(PRETRAIN, pins[:1]), catalog)


def test_the_command_prints_both_sides(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", RL, "--set-b", "limits.headroom_gib=30", "-vv"]) == 0
    out = capsys.readouterr().out
    for part in (
        "B against A:",
        "recomputed_layers_per_stage",
        "item [GiB]",
        "item [s]",
        "total",
        "Next: planner solve",
    ):
        assert part in out
    assert "The same on all sides" in out


def test_two_sides_with_one_plan_are_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    pinned = str(Path(RL).with_name("qwen7b_rl_8gpu.yaml"))
    assert cli.main(["compare", pinned, "--set-b", "limits.headroom_gib=12"]) == 0
    assert capsys.readouterr().out.startswith("B is the same plan as A; B does not fit")


def test_the_command_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", RL, RL, "--set-b", "limits.headroom_gib=30", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    a, b = (side["figures"] for side in document["sides"])
    (pair,) = document["differences"]
    change = sum(row["change_gib"] for row in pair["memory"])
    assert change == pytest.approx(b["peak_gib"] - a["peak_gib"], abs=1e-6)
    assert [entry["overrides"] for entry in document["provenance"]["inputs"]] == [[], ["limits.headroom_gib=30"]]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "")) for cell in cells if re.fullmatch(r" *[+-]?[0-9][0-9,.]* *", cell)]


@pytest.mark.parametrize("arguments", [("--set-b", "cluster.max_gpus=8"), ("--also", "limits.headroom_gib=30")])
def test_printed_differences_add_up_to_that_of_the_totals(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """What a reader adds up by hand, to the rounding of each printed row."""
    assert cli.main(["compare", RL, *arguments, "--format", "markdown"]) == 0
    tables = capsys.readouterr().out.split("| item [")[1:]
    assert len(tables) == 2
    for table, digit in zip(tables, (0.01, 0.001), strict=True):
        rows = [numbers(line.split("|")[2:-1]) for line in table.splitlines() if line.startswith("| ")]
        *items, (a, b, change) = [row for row in rows if len(row) == 3]
        assert len(items) > 3
        for place, total in enumerate((a, b, change)):
            assert sum(row[place] for row in items) == pytest.approx(total, abs=digit * (len(items) + 1) / 2)
        assert b - a == pytest.approx(change, abs=1.5 * digit)
        sizes = [abs(row[2]) for row in items]
        assert sizes == sorted(sizes, reverse=True)


def test_several_sides_and_one_without_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    sides = ("--also", "cluster.num_gpus=8", "--also", "cluster.num_gpus=32", "--also", "cluster.num_gpus=128", *NARROW)
    assert cli.main(["compare", PRETRAIN, *sides, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [side["status"] for side in document["sides"]] == ["optimal", "infeasible", "optimal", "optimal"]
    assert "no layout fits" in document["sides"][1]["because"]
    assert [pair["side"] for pair in document["differences"]] == ["C", "D"]
    for pair in document["differences"]:
        place = "ABCD".index(pair["side"])
        change = document["sides"][place]["figures"]["peak_gib"] - document["sides"][0]["figures"]["peak_gib"]
        assert sum(row["change_gib"] for row in pair["memory"]) == pytest.approx(change, abs=1e-6)
    assert any("because the number of GPUs went from 64 to 32" in text for text in document["sentences"])


def test_a_cause_is_what_the_decision_does_alone() -> None:
    catalog = default_catalog()
    pins = ("layout.tensor_parallel=4", "layout.pipeline_parallel=4", "layout.virtual_pipeline=1")
    pins = (*pins, "layout.context_parallel=2", "batch.micro_batch_size=1")
    kept = read_side(PRETRAIN, (*pins, "layout.recomputed_layers=0"), catalog)
    recomputed = read_side(PRETRAIN, (*pins, "layout.recomputed_layers=all"), catalog)
    found = many([kept, recomputed], catalog)
    memory, _ = found.causes[0]
    assert memory is not None
    assert memory.text == "the number of recomputed layers a stage went from 0 to 20"
    assert memory.alone == pytest.approx(found.pairs[0].memory[0].change)


def test_all_sides_without_a_plan_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["compare", PRETRAIN, "--set-a", "cluster.num_gpus=4", "--also", "cluster.num_gpus=8", *NARROW]) == 1
    )
    assert "none of 2 sides has a plan" in capsys.readouterr().out


def test_the_only_plan_is_called_critical_where_it_waits_for_its_allocator(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["compare", PRETRAIN, "--set-a", "cluster.num_gpus=8", "--also", "cluster.num_gpus=16", *NARROW]) == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "tokens/s; B: critical, to start only if the allocator gives memory back" in said


def test_one_scenario_without_overrides_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", RL]) == 2
    assert "nothing to compare with" in capsys.readouterr().err
