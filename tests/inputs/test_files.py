"""Files that people name: reading is bounded, writing is whole, and links, devices and pipes stay what they are."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from run_cli import run

from planner.errors import InputError, Mistake, Place, visible
from planner.inputs.catalog import shipped_folder
from planner.inputs.document import read_document
from planner.inputs.files import beginning, read_bytes, refuse_target, write_folder, write_text
from planner.inputs.json_document import json_document
from planner.problem.resolve import question_of


def refusal(path: Path | str, *, force: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        write_text(str(path), "new", force=force)
    return str(caught.value)


def test_a_link_is_written_through_and_mode_bits_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write_text(str(link), "new", force=True)
    assert link.is_symlink()
    assert real.read_text() == "new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "real.json"]
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "later")
    assert "exists already" in refusal(dangling, force=False)
    write_text(str(dangling), "new", force=True)
    assert (tmp_path / "later").read_text() == "new"


def test_what_is_no_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    assert "a device or a pipe" in refusal("/dev/full")
    assert "a device or a pipe" in refusal(pipe)
    assert "it is a folder" in refusal(tmp_path)
    assert "cannot write" in refusal(loop)
    assert "is no folder" in refusal(tmp_path / "none" / "x")
    assert "cannot write" in refusal(tmp_path / ("x" * 300))
    assert "cannot write" in refusal("a\0b")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "pipe"]
    refuse_target(str(tmp_path), force=False, folder=True)


def test_a_folder_gets_all_its_files_or_none(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    write_folder(str(folder), {"a": "1", "in/b": "2"})
    assert (folder / "in" / "b").read_text() == "2"
    (folder / "a").unlink()
    with pytest.raises(InputError, match="exists already"):
        write_folder(str(folder), {"a": "3", "in/b": "4"})
    assert not (folder / "a").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("planner.inputs.files.os.chmod", full)
    assert "No space left on device" in refusal(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_where_no_links_are_the_file_is_still_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("planner.inputs.files.os.link", none)
    write_text(str(tmp_path / "x"), "new")
    assert (tmp_path / "x").read_text() == "new"
    assert "exists already" in refusal(tmp_path / "x", force=False)
    with pytest.raises(InputError) as other:
        write_text(str(tmp_path / "x"), "", option="--save")
    assert other.value.problems[0].where == Place("--save")


def test_reading_is_bounded(tmp_path: Path) -> None:
    assert read_bytes("/dev/null", most_bytes=10) == b""
    for path, words in ((Path("/dev/zero"), "larger than"), (tmp_path, "a folder"), (tmp_path / "no", "no such file")):
        with pytest.raises(InputError) as caught:
            read_bytes(path, Place("run.yaml", 3), most_bytes=2**20)
        assert words in str(caught.value)
        assert "run.yaml:3" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "b": NaN}', "t.json:2:7"),
        ('{"a": 1e999}', "1e999 is not a number"),
        ('{"a": 1,\n\n "b" 2}', "t.json:3:6"),
        ('{"a": ' + "9" * 5000 + "}", "t.json:1"),
        ("[1]", "no JSON object"),
        ('{"a": ' + "[" * 100_000, "nested too deep"),
        ('{"a": {"x": 1},\n "b": {"x": [{"x": 2}],\n  "\\u0078": 3}}', "t.json:3:3"),
    ],
)
def test_json_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        json_document(text.encode(), "t.json")
    assert said in str(caught.value)


def test_json_knows_its_lines() -> None:
    text = '{"a": [1,\n  {"b, c": "]}"}, [], {}],\n "d\\"": {"e": null,\n  "f": -1.5e3}}'
    document = json_document(text.encode(), "t.json")
    paths = {("a", 0): (1, 8), ("a", 1, "b, c"): (2, 12), ("a", 2): (2, 19), ("a", 3): (2, 23), ('d"', "f"): (4, 8)}
    for path, at in paths.items():
        place = document.place(path)
        assert (place.line, place.column) == at, path


def test_a_message_is_one_line_a_part() -> None:
    fake = "x\nError: all is well\u202e\u200b\x1b[2J\u3164"
    text = Mistake(fake, Place(fake, 1, path=fake), fake, fake).render()
    assert len(text.splitlines()) == 4
    assert visible(fake) == r"x\nError: all is well\u202e\u200b\x1b[2J\u3164"
    assert visible("Qwen/Qwen2.5 – 1 µs 模型") == "Qwen/Qwen2.5 – 1 µs 模型"


SECRET = "password: hunter2\nsecret key\n"
NAMED = """name: s
task: sft
model: {model}
engine: megatron-core
cluster: {{node: hgx-h100-8, num_gpus: 8, topology: {topology}}}
batch: {{global_batch_size: 8, sequence_length: 2048}}
calibration: {calibration}
"""


@pytest.mark.parametrize("key", ["model", "topology", "calibration"])
@pytest.mark.parametrize("content", [SECRET, "password: hunter2\n", "hunter2: [\n", "&hunter2 a: *hunter3\n"])
def test_no_message_repeats_a_file_outside_the_scenarios_folder(key: str, content: str, tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(content)
    (tmp_path / "runs").mkdir()
    names = {"model": "qwen2.5-7b", "topology": "null", "calibration": "null", key: "../secret.yaml"}
    path = tmp_path / "runs" / "run.yaml"
    path.write_text(NAMED.format(**names))
    result = run("estimate", str(path))
    assert result.code == 2
    assert "hunter" not in result.err
    assert "password" not in result.err
    assert "secret.yaml:" in result.err


def test_a_pipe_can_be_read_twice(tmp_path: Path) -> None:
    """As bash's <(...) is, by whoever looks what it is and by whoever reads it."""
    text = (shipped_folder().parent / "scenarios" / "qwen7b_rl_8gpu.yaml").read_text()
    reads, writes = os.pipe()
    os.write(writes, text.encode())
    os.close(writes)
    name = f"/dev/fd/{reads}"
    assert beginning(name, 6) == b"# How "
    assert read_bytes(name, most_bytes=10_000).decode() == text
    said = run("estimate", name)
    os.close(reads)
    assert said.code == 0, said.err
    assert said.out.startswith("qwen7b_rl_8gpu: the pinned layout")


def test_a_pipe_that_says_something_new_is_read_anew(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for text in (b"one", b"another"):
        reads = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        writes = os.open(pipe, os.O_WRONLY)
        os.write(writes, text)
        os.close(writes)
        assert read_bytes(pipe, most_bytes=100) == text
        os.close(reads)
    assert read_bytes(pipe, most_bytes=100) == b"another"


def test_a_pipe_that_nobody_writes_into_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.inputs.pipes.SILENCE_S", 0)
    monkeypatch.setattr("planner.inputs.pipes.SAID_AFTER_S", 0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command in ("solve", "budget", "near"):
        result = run(command, str(pipe))
        assert result.code == 2
        assert "a pipe that nobody wrote into" in result.err


def test_a_message_repeats_no_word_of_thousands_of_characters() -> None:
    long = "x" * 6000
    text = Mistake(f"no model {long} here", Place(long), f"{'ab ' * 3000}").render()
    assert len(text) < 5000
    assert "...(6,000 characters)..." in text
    assert Mistake("y" * 200, Place("z" * 1000)).render() == f"Error: {'y' * 200}\n  where:   {'z' * 1000}"


def test_a_model_file_stands_beside_the_scenario_or_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = (shipped_folder() / "models" / "qwen2.5-7b.yaml").read_text()
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, layers in ((here, 20), (there, 24)):
        folder.mkdir()
        (folder / "own.yaml").write_text(
            entry.replace("num_hidden_layers: 28", f"num_hidden_layers: {layers}").partition("parameters:")[0]
            + "sources: [{ref: own, date: '2026-11'}]\n"
        )
    (here / "run.yaml").write_text(NAMED.format(model="own.yaml", topology="null", calibration="null"))
    monkeypatch.chdir(there)
    document = read_document(here / "run.yaml")
    assert question_of(document).architecture.num_hidden_layers == 20
    (here / "own.yaml").unlink()
    assert question_of(document).architecture.num_hidden_layers == 24
    (there / "own.yaml").unlink()
    with pytest.raises(InputError, match="beside the scenario, then in the working folder"):
        question_of(document)
