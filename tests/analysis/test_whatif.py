from __future__ import annotations

import json

import pytest

from planner import cli
from planner.analysis.whatif import combinations, parse_values, what_if
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override
from planner.report.whatif import stayed
from planner.schema.scenario import Distribution
from planner.search.search import plan

RL = "scenarios/qwen7b_rl.yaml"
PRETRAIN = "tests/fixtures/scenarios/llama70b_narrow.yaml"


@pytest.mark.parametrize(
    ("argument", "values"),
    [
        ("a.b=1,2", [1, 2]),
        ("a=[1, 2],4", [[1, 2], 4]),
        ("a=null,true,x", [None, True, "x"]),
        ("a={want: 8, allow: [8, 4]},4", [{"want": 8, "allow": [8, 4]}, 4]),
        ("a=2,2,2.0", [2, 2.0]),
    ],
)
def test_values_are_yaml(argument: str, values: list[object]) -> None:
    assert parse_values(argument)[1] == values


@pytest.mark.parametrize("argument", ["a", "a=", "=1", "a=[1"])
def test_a_wrong_set_is_an_input_error(argument: str) -> None:
    with pytest.raises(InputError):
        parse_values(argument)


def test_several_sets_make_every_combination() -> None:
    assert combinations(["a=1,2", "b=x,y"]) == [
        (("a", 1), ("b", "x")),
        (("a", 1), ("b", "y")),
        (("a", 2), ("b", "x")),
        (("a", 2), ("b", "y")),
    ]


def test_more_than_64_combinations_are_refused() -> None:
    values = ",".join(map(str, range(9)))
    with pytest.raises(InputError, match="81 combinations are more than 64"):
        combinations([f"a={values}", f"b={values}"])
    with pytest.raises(InputError, match="given twice"):
        combinations(["a=1", "a=2"])


def test_each_row_is_what_solving_that_scenario_gives() -> None:
    catalog = default_catalog()
    document = load(PRETRAIN)
    rows = what_if(document, ["cluster.num_gpus=8,32,12"], catalog)
    assert [row.status for row in rows] == ["optimal", "infeasible", "optimal", "refused"]
    assert rows[3].refused is not None
    assert "whole nodes" in rows[3].refused
    alone = plan(override(document, {"cluster.num_gpus": 32}), catalog, check_points=0).plan
    assert rows[2].plan is not None
    assert alone is not None
    assert rows[2].plan.layout == alone.layout
    assert rows[2].plan.step_seconds == alone.step_seconds


def test_mistakes_are_told_before_anything_is_solved() -> None:
    with pytest.raises(InputError) as caught:
        what_if(load(PRETRAIN), ["model=llama3.1-8b,llama3.1-8c"])
    assert "did you mean `llama3.1-8b`" in str(caught.value)
    with pytest.raises(InputError) as caught:
        what_if(load(PRETRAIN), ["layout.tensor_parallel=2,x,y"])
    assert len(caught.value.problems) == 2
    with pytest.raises(InputError, match="whole nodes"):
        what_if(load(PRETRAIN), ["cluster.num_gpus=12,20"])


def test_the_command_prints_a_row_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["whatif", RL, "--set", "cluster.max_gpus=1,4,8", "--format", "markdown"]) == 0
    captured = capsys.readouterr()
    answer = captured.out.split("## Which decision")[0]
    rows = [line for line in answer.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 3  # the scenario says 4 itself
    assert rows[2].startswith("| 4 (as it stands) | optimal ")
    assert " 100.0 % " in rows[2]
    assert rows[3].startswith("| 1 | infeasible ")
    assert "infeasible: " in captured.out
    assert "Error" not in captured.err


def test_json_carries_figures_and_provenance(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["whatif", RL, "--set", "rl.response_length=4096", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    row = document["rows"][0]
    assert row["set"] == {"rl.response_length": 4096}
    assert row["plan"]["layout"]["response_length"] == 4096
    assert row["plan"]["same_work_per_sample"] is False
    assert document["base"]["plan"]["relative_throughput"] == 1
    assert document["provenance"]["inputs"][0]["file"] == RL
    assert any(name.startswith("gpus/") for name in document["provenance"]["catalog"])


def test_nothing_that_fits_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["whatif", PRETRAIN, "--set", "cluster.num_gpus=8"]) == 1
    assert "0 of 1 variations" in capsys.readouterr().out


def test_a_scenario_names_its_own_variations(capsys: pytest.CaptureFixture[str]) -> None:
    scenario = "scenarios/whatif_lora_or_full.yaml"
    assert cli.main(["whatif", scenario, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in document["rows"]] == [
        "QLoRA, 4-bit base",
        "full on one RTX 4090",
        "full on one H100",
        "full on eight A100, FSDP2",
    ]
    assert document["rows"][1]["status"] == "infeasible"
    assert [pair["side"] for pair in document["differences"]] == [
        row["name"] for row in document["rows"] if row["plan"] is not None
    ]
    peak = document["base"]["plan"]["peak_gib"]
    for pair in document["differences"]:
        row = next(row for row in document["rows"] if row["name"] == pair["side"])
        change = sum(item["change_gib"] for item in pair["memory"])
        assert change == pytest.approx(row["plan"]["peak_gib"] - peak, abs=1e-6)


def test_printed_terms_add_up_to_the_difference_of_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["whatif", PRETRAIN, "--set", "cluster.num_gpus=32,128", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "Unchanged by all of them: " in out
    assert "sequence_length 8,192" in out
    assert "cluster.num_gpus=32: num_gpus 64 -> 32" in out
    for table, digit in zip(out.split("| item [")[1:], (0.01, 0.001), strict=True):
        lines = [line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| ") and "---" not in line]
        *items, total = [[float(cell.replace(",", "")) for cell in line] for line in lines]
        for place in range(3):
            assert sum(row[place] for row in items) == pytest.approx(total[place], abs=digit * (len(items) + 1) / 2)


def test_nothing_to_vary_names_both_ways(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["whatif", PRETRAIN]) == 2
    assert "no --set is given and the scenario has no what_if:" in capsys.readouterr().err


def test_a_moved_cap_alone_is_a_warning() -> None:
    base = ["layout.tensor_parallel=2", "layout.pipeline_parallel=1", "cluster.max_gpus=8"]
    shares = "rl.response_distribution={mean_share: 0.2, p99_share: 0.7}"
    warned = stayed(what_if(load(RL, base), ["rl.response_length=2048"]))
    assert "only the cap" in warned[0]
    assert stayed(what_if(load(RL, [*base, shares]), ["rl.response_length=2048"])) == []


def test_lengths_as_shares_follow_the_cap() -> None:
    spread = Distribution(mean_share=0.25, p99_share=0.75)
    assert (spread.lengths(8192), spread.lengths(16384)) == ((2048, 6144), (4096, 12288))
    for wrong in ({"mean": 100}, {"mean": 100, "p99_share": 0.5}, {"mean_share": 0.5, "p99_share": 0.4}):
        with pytest.raises(ValueError, match="mean"):
            Distribution(**wrong)
