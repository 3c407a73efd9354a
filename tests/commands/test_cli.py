"""The command line: exit codes, streams, bad input, overrides, files, determinism, weight."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from run_cli import run

from planner import cli
from planner.errors import CheckFailed, InternalError, NoLayoutFits, NoVerdict

ROOT = Path(__file__).resolve().parents[2]
SCENARIO = str(ROOT / "scenarios" / "qwen7b_rl.yaml")
TEXT = Path(SCENARIO).read_text()
SMALL = """
name: small
task: sft
model: qwen2.5-7b
engine: megatron-core
cluster: {node: hgx-h100-8, num_gpus: 8}
batch: {global_batch_size: 16, sequence_length: 2048, micro_batch_size: 1}
layout: {tensor_parallel: 4, pipeline_parallel: 1, data_parallel: 2, context_parallel: 1, recomputed_layers: 0}
"""


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return str(path)


def test_solve_finds_a_plan_on_stdout_and_is_silent_elsewhere(small: str) -> None:
    result = run("solve", small)
    assert result.code == 0
    assert all(re.match(r" *\d+ s  ", line) for line in result.err.splitlines()), (
        "progress of a slow machine, or nothing"
    )
    assert result.out.startswith("small: fits on 8 GPUs")
    assert "Next: planner launch" in result.out


def test_timings_go_to_stderr(small: str) -> None:
    result = run("solve", small, "--timings")
    assert "solver" in result.err
    assert result.out == run("solve", small).out


def test_infeasible_is_an_answer_with_exit_code_1(small: str) -> None:
    result = run("solve", small, "--set", "limits.headroom_gib=60", "--format", "json")
    assert result.code == 1
    answer = json.loads(result.out)
    assert answer["status"] == "infeasible"
    assert answer["plan"] is None
    largest = answer["nearest"]["largest_headroom_gib"]
    assert 0 < largest < 60
    again = run("solve", small, "--set", f"limits.headroom_gib={largest}")
    assert again.code == 0
    page = run("solve", small, "--set", "limits.headroom_gib=60").out
    assert "no layout fits" in page
    assert "optimal" not in page.splitlines()[0]
    following = page.partition("Next: planner ")[2].replace("\\\n", " ").splitlines()[0]
    assert run(*shlex.split(following)).code == 0


def test_infeasible_names_what_is_largest(small: str) -> None:
    text = " ".join(run("solve", small, "--set", "cluster.num_gpus=1", "--set", "layout={}").out.split())
    assert "GiB too much" in text
    assert "It is fullest in stage 0, " in text
    assert "optimizer" in text


def test_no_legal_layout_names_the_rule(small: str) -> None:
    result = run("solve", small, "--set", "layout.tensor_parallel=3")
    assert result.code == 1
    assert "No layout is legal" in result.out


BAD = {
    "unknown key": (TEXT.replace("engine: slime", "engin: slime"), "unknown key `engin`", "did you mean `engine`?"),
    "wrong type": (TEXT.replace("max_gpus: 4", "max_gpus: four"), "cluster.max_gpus: expected a whole number", ":12:3"),
    "unknown node": (TEXT.replace("hgx-h100-8", "hgx-h100"), "unknown node type `hgx-h100`", "`hgx-h100-8`"),
    "unknown model": (TEXT.replace("qwen2.5-7b\n", "qwen2.5-7\n"), "unknown model", "`qwen2.5-7b`"),
    "impossible number": (TEXT.replace("headroom_gib: 20", "headroom_gib: -3"), "must be at least 0, got -3", ":22:3"),
    "not YAML": ("a: [1, 2\nb: {", "is not valid YAML", ":2:"),
    "too large": ("#" * 300_000, "is larger than 256 KiB", "bad.yaml"),
    "nested deep": ("a: " + "[" * 300 + "]" * 300, "is nested deeper than", ":1:"),
    "a tag": ("a: !!python/object:os.system x\n", "is not allowed", ":1:4"),
    "empty": ("", "is empty", "bad.yaml"),
    "not whole": (TEXT.replace("max_gpus: 4", "num_gpus: 12"), "12 GPUs are not whole nodes", "num_gpus: 8"),
    "too many GPUs keys": (
        TEXT.replace("max_gpus: 4", "max_gpus: 4\n  num_gpus: 4"),
        "exactly one of num_gpus and max_gpus",
        "bad.yaml:",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_says_what_and_where_and_exits_2(name: str, tmp_path: Path) -> None:
    text, what, hint = BAD[name]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    result = run("solve", str(path))
    assert (result.code, result.out) == (2, "")
    assert what in result.err
    assert hint in result.err
    assert "where:" in result.err


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines))
    result = run("solve", str(path))
    assert result.code == 2
    assert "bomb.yaml:" in result.err


def test_all_errors_of_a_file_are_shown_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(TEXT.replace("max_gpus: 4", "max_gpus: four").replace("headroom_gib: 20", "headroom_gib: -3"))
    result = run("solve", str(path))
    assert result.err.count("Error: ") == 2


@pytest.mark.parametrize("path", ["missing.yaml", "."])
def test_a_file_that_is_not_there(path: str) -> None:
    result = run("solve", path)
    assert result.code == 2
    assert result.out == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("solve",), "missing argument 'SCENARIO'"),
        (("solve", SCENARIO, "--nonsense"), "no such option"),
        (("solve", SCENARIO, "--format", "xml"), "'xml' is not one of"),
        (("solve", SCENARIO, "--time-limit", "0"), "is not in the range"),
        (("solve", SCENARIO, "--time-limit", "nan"), "no finite number"),
        (("explain", SCENARIO, "--time-limit", "nan"), "no finite number"),
        (("near", SCENARIO, "--within", "nan"), "no finite number"),
        (("estimate", "--rules", "qwen2.5-7b", "--seq", "9" * 4000), "is not in the range"),
        (("schema", "--out", ""), "cannot write a file without a name"),
        (("slove",), "did you mean solve or serve?"),
        (("nonsense",), "one of ask, init, solve"),
        (("estimate",), "a scenario or --rules MODEL"),
        (("solve", SCENARIO, "--set", "cluster"), "expected path=value"),
        (("solve", SCENARIO, "--set", "cluster.nod=x"), "unknown key `nod`"),
        (("solve", SCENARIO, "--set", "layout.tensr=2"), "19 keys are known here, nearest: tensor_parallel"),
        (("ask", "qwen3-8b", "--gpus", "8"), "try:     8xh100"),
        (("ask", "qwen3-8b", "--gpus", "8xh201"), "37 are in the catalog, nearest: h20-96gb, h200-sxm-141gb"),
        (("catalog", "list", "gpu"), "unknown kind of catalog entry `gpu`"),
        (("catalog", "show", "gpus", "a100"), "unknown GPU `a100`"),
    ],
)
def test_a_wrong_command_line_exits_2(arguments: tuple[str, ...], said: str) -> None:
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert said in result.err
    assert "try:" in result.err or "because:" in result.err
    assert "where:" in result.err


def test_set_overrides_the_scenario(small: str) -> None:
    answer = json.loads(run("solve", small, "--set", "batch.sequence_length=4096", "--format", "json").out)
    assert answer["plan"]["layout"]["sequence_length"] == 4096
    assert answer["provenance"]["inputs"][0]["overrides"] == ["batch.sequence_length=4096"]


def test_a_scenario_can_come_from_stdin(monkeypatch: pytest.MonkeyPatch, small: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SMALL.encode())))
    result = run("solve", "-")
    assert result.code == 0
    assert "planner launch - --to megatron" in result.out


def test_out_never_overwrites_without_force(small: str, tmp_path: Path) -> None:
    target = tmp_path / "plan.json"
    arguments = ("solve", small, "--format", "json", "--out", str(target))
    first = run(*arguments)
    assert (first.code, first.out) == (0, "")
    assert f"written: {target}" in first.err
    text = target.read_text()
    assert json.loads(text)["status"] == "optimal"
    target.write_text("mine")
    refused = run(*arguments)
    assert refused.code == 2
    assert "exists already" in refused.err
    assert target.read_text() == "mine"
    assert run(*arguments, "--force").code == 0
    assert target.read_text() == text
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert run("solve", small, "--out", str(tmp_path / "no" / "where.json")).code == 2


def test_out_dash_is_stdout(small: str) -> None:
    assert run("solve", small, "--out", "-").out == run("solve", small).out


def test_estimate_costs_a_pinned_layout_that_does_not_fit(small: str) -> None:
    result = run("estimate", small, "--set", "batch.sequence_length=131072", "--format", "json")
    assert result.code == 0
    answer = json.loads(result.out)
    assert answer["status"] == "estimate"
    assert answer["plan"]["verdict"] == "does not fit"
    assert answer["proof"] is None
    assert "does not fit" in run("estimate", small, "--set", "batch.sequence_length=131072").out.splitlines()[0]


def test_estimate_refuses_an_open_layout() -> None:
    result = run("estimate", SCENARIO)
    assert result.code == 2
    assert "leaves several open" in result.err


def test_estimate_and_solve_agree_on_a_pinned_layout(small: str) -> None:
    solved, estimated = (json.loads(run(name, small, "--format", "json").out) for name in ("solve", "estimate"))
    assert solved["plan"] == estimated["plan"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoLayoutFits("nothing fits"), 1),
        (NoVerdict("too slow"), 3),
        (InternalError("broken"), 4),
        (ZeroDivisionError("oops"), 4),
        (CheckFailed("a difference"), 5),
        (KeyboardInterrupt(), 130),
        (SystemExit(7), 7),
    ],
)
def test_errors_become_exit_codes(error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("planner.commands.schema.emit", fail)
    result = run("schema")
    assert (result.code, result.out) == (code, "")
    if code == 4:
        assert "Please report it" in result.err
        assert "Traceback" not in result.err
        monkeypatch.setenv("PLANNER_TRACEBACK", "1")
        assert "Traceback" in run("schema").err


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f'"{sys.executable}" -m planner schema | head -c 10; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, cli.BROKEN_PIPE)


def test_help_is_light() -> None:
    """Modules are counted, not seconds: the help of a command loads at most half as many again as the group's."""
    code = (
        "import contextlib, io, json, sys\n"
        "before = set(sys.modules)\n"
        "from planner import cli\n"
        "def modules(*arguments):\n"
        "    with contextlib.redirect_stdout(io.StringIO()):\n"
        "        assert cli.main([*arguments, '--help']) == 0\n"
        "    fresh = set(sys.modules) - before\n"
        "    return len([name for name in fresh if not name.startswith('planner.commands.')])\n"
        "counts = {'': modules()}\n"
        "assert not [name for name in sys.modules if name.startswith('planner.commands.')]\n"
        "counts |= {name: modules(name) for name in cli.COMMANDS}\n"
        "heavy = {'numpy', 'pydantic', 'ortools', 'networkx', 'rich', 'ruamel'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(json.dumps(counts))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts[""] > 20
    shared = "loaded one after the other, so the last count is what all share, beside their own modules"
    assert max(counts.values()) <= 1.5 * counts[""], shared
    listed = run("--help").out
    assert all(name in listed for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_loads_and_has_help(name: str) -> None:
    result = run(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: planner {name}")


def test_version() -> None:
    assert run("--version").out.startswith("planner 0.")


def test_no_arguments_print_help() -> None:
    result = run()
    assert "Commands:" in result.out + result.err
    assert result.code in (0, 2)


def test_schema_is_json_schema_with_documentation() -> None:
    schema = json.loads(run("schema").out)
    assert schema["title"] == "Scenario"
    assert schema["properties"]["model"]["description"]
    assert json.loads(run("schema", "--budget").out)["title"] == "Budget"


def test_catalog_lists_and_shows() -> None:
    kinds = json.loads(run("catalog", "list", "--format", "json").out)["entries"]
    assert len(kinds["models"]) == 154
    assert "h100-sxm5-80gb" in run("catalog", "list", "gpus").out
    shown = json.loads(run("catalog", "show", "gpus", "h100-sxm5-80gb", "--format", "json").out)["entry"]
    assert shown["usable_gib"] == 79.1
    page = run("catalog", "show", "models", "qwen2.5-7b").out
    assert "7,615,616,512 parameters" in page
    assert "Sources" in page
    for kind in kinds:
        assert run("catalog", "list", kind).code == 0


def test_catalog_check_passes_and_exits_5_on_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("catalog", "check").code == 0
    (tmp_path / "precisions").mkdir()
    text = (ROOT / "catalogs" / "precisions" / "bf16.yaml").read_text()
    (tmp_path / "precisions" / "other.yaml").write_text(text)
    monkeypatch.setenv("PLANNER_CATALOGS", str(tmp_path))
    result = run("catalog", "check")
    assert result.code == 5
    assert "is not the file name" in result.out


def test_the_format_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_FORMAT", "json")
    assert json.loads(run("catalog", "list").out)["command"] == "catalog"
