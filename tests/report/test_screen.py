"""The answer on one screen: 24 lines of 80 characters, no word cut, one line for a layout and another for another."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cli import run

from planner.report.blocks import Bullets, Command, Grid, Heading, Headline, Text, pairs
from planner.report.screen import LINES, Screen, screen_blocks
from planner.report.short import NamedRollout, layout_line
from planner.report.table import WIDTH, height, render
from planner.search.named_layout import NamedLayout

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    ("solve", "qwen7b_rl"),
    ("solve", "llama8b_lora_4090"),
    ("solve", "llama405b_16384xh100"),
    ("estimate", "qwen7b_rl_8gpu"),
    ("near", "llama8b_sft_a100"),
    ("explain", "qwen3_4b_retool", "--no-neighbours", "--why-not", "layout.tensor_parallel=4"),
    ("rl-lengths", "qwen7b_rl_8gpu", "--lengths", "4096,8192"),
    ("diagnose", "qwen3_4b_retool", "--message", "CUDA out of memory. Tried to allocate 58.15 GiB."),
)
"""One of each command; all scenarios under all commands: tests/slow/test_screens.py."""


@pytest.mark.parametrize("arguments", QUICK, ids=lambda arguments: " ".join(arguments[:2]))
def test_the_default_answer_is_one_screen(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command, name, *more = arguments
    result = run(command, f"scenarios/{name}.yaml", *more)
    assert result.code in (0, 1), result.err
    lines = result.out.splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH
    assert any(line.startswith("Next: planner ") for line in lines)
    assert "\x1b" not in result.out


def test_more_is_asked_for_with_v() -> None:
    scenario = str(ROOT / "scenarios" / "llama8b_lora_4090.yaml")
    short, ledgers, whole = (run("solve", scenario, *flags).out for flags in ((), ("-v",), ("-vv",)))
    assert "Time of one step" not in short
    assert "Time of one step" in ledgers
    assert "Proof" not in ledgers
    assert "Proof" in whole
    assert "8.030 B parameters, 32 layers of 4096" in short


def test_the_first_story_says_what_the_comparison_came_to() -> None:
    lines = run("solve", str(ROOT / "scenarios" / "qwen7b_rl.yaml")).out.splitlines()
    assert re.search(
        r'\d+ % of the samples/s of 8 GPUs as in "8 cards, one layer recomputed"', " ".join(" ".join(lines).split())
    )
    assert "Side by side" not in "\n".join(lines)


counts = st.integers(1, 3)
layers = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
LAYOUTS = st.builds(
    NamedLayout,
    num_gpus=st.just(8),
    **{f"{name}_parallel": counts for name in ("tensor", "pipeline", "data", "context", "expert", "expert_tensor")},
    virtual_pipeline=counts,
    micro_batch_size=counts,
    stages_on_node=counts,
    rank_order=st.sampled_from(["default", "tp_pp_dp"]),
    schedule=st.sampled_from(["1f1b", "zb-h1"]),
    max_tokens_per_gpu=st.none() | counts,
    layers_per_stage=layers,
    recomputed_layers_per_stage=layers,
    optimizer=st.sampled_from(["adamw", "sgd"]),
    recompute_modules=st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    precision=st.sampled_from(["bf16", "fp8"]),
    node=st.just("here"),
    later_stages_node=st.none() | st.just("there"),
    zero_stage=st.integers(0, 3),
    engine_options=st.lists(st.sampled_from(["compile", "hybrid_ep"]), unique=True).map(tuple),
    num_micro_batches=st.just(1),
    global_batch_size=st.just(1),
    sequence_length=st.just(1),
    mean_sequence_length=st.just(1),
)
ROLLOUTS = st.none() | st.builds(
    NamedRollout, counts, st.sampled_from([0.5, 0.55]), st.none() | counts, st.none() | counts
)
NODES = st.sampled_from([(), (("cluster.node", "a"),), (("cluster.node", "b"),), (("rl.placement", "asynchronous"),)])


def decided(layout: NamedLayout) -> dict[str, object]:
    """The decisions of a layout, each in one form: a size that a cap replaces says nothing, nor do equal layers."""
    out = dict(vars(layout))
    if layout.max_tokens_per_gpu is not None:
        out["micro_batch_size"] = None
    if len(set(layout.layers_per_stage)) == 1:
        out["layers_per_stage"] = None
    if len(set(layout.recomputed_layers_per_stage)) == 1:
        out["recomputed_layers_per_stage"] = layout.recomputed_layers_per_stage[0]
    if layout.later_stages_node is None:
        out["stages_on_node"] = None
    out["recompute_group"] = max(1, layout.recompute_group)
    return out


@settings(max_examples=120, deadline=None)
@given(st.tuples(LAYOUTS, ROLLOUTS, NODES), st.tuples(LAYOUTS, ROLLOUTS, NODES), st.data())
def test_two_layouts_that_differ_never_print_alike(a: tuple, b: tuple, data: st.DataObject) -> None:  # type: ignore[type-arg]
    if data.draw(st.booleans()):  # differ in one decision only
        name = data.draw(st.sampled_from(sorted(vars(b[0]))))
        b = (NamedLayout(**{**vars(a[0]), name: getattr(b[0], name)}), *a[1:])
    same = (decided(a[0]), *a[1:]) == (decided(b[0]), *b[1:])
    assert (layout_line(*a) == layout_line(*b)) == same


WORDS = st.lists(st.text("abc", min_size=1, max_size=20), max_size=12).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(WORDS, min_size=5, max_size=5), min_size=1, max_size=9), st.integers(40, 130), st.booleans())
def test_no_table_cuts_a_word_or_leaves_the_screen(rows: list[list[str]], width: int, header: bool) -> None:
    grid = Grid(("v", "w", "x", "y", "z") if header else (), tuple(map(tuple, rows)))
    text = render([grid], colour=False, width=width)
    assert max(map(len, text.splitlines()), default=0) <= width
    printed = text.split()
    for word in {word for row in rows for cell in row for word in cell.split()}:
        assert word in printed, word


@settings(max_examples=8, deadline=None)
@given(st.lists(WORDS, max_size=20), st.integers(0, 60), st.lists(WORDS, max_size=12), st.booleans())
def test_a_screen_keeps_its_size_whatever_there_is_to_say(
    notes: list[str], rows: int, lead: list[str], spread: bool
) -> None:
    table = Grid(("n", "text"), tuple((str(n), f"row {n}") for n in range(rows)))
    screen = Screen(
        Headline("short"),
        lead=tuple(lead),
        rows=(("name", "value"),),
        table=table if rows else None,
        spread=spread,
        notes=tuple(notes),
        command=Command("planner solve x", "more"),
    )
    blocks = screen_blocks(screen)
    text = render(blocks, colour=False, width=WIDTH)
    assert len(text.splitlines()) <= LINES
    assert len(text.splitlines()) == height(blocks, WIDTH)
    if rows > LINES:
        assert re.search(r"and \d+ more rows: -v", text)
        assert "row 0" in text
        assert (f"row {rows - 1}" in text) == spread


@pytest.mark.parametrize("count", [3, 7, 12, 40])
def test_rows_that_were_asked_for_come_before_notes_and_the_spare_column(count: int) -> None:
    rows = tuple((f"row {n}", f"layout{n} " * 12) for n in range(count))
    table = Grid(("n", "layout"), rows, left=frozenset({0, 1}), strong=frozenset({count - 1}))
    notes = ("needed", *(f"note {n} " * 20 for n in range(9)))
    screen = Screen(Headline("h"), table=table, needed=1, spare="layouts", notes=notes, command=Command("planner", "x"))
    named = render(screen_blocks(replace(screen, kept="layout of row 1: TP4; the other")), colour=False, width=WIDTH)
    assert len(named.splitlines()) <= LINES
    assert ("layout of row 1: TP4; the other layouts: -v" in " ".join(named.split())) == (count == 12)
    text = render(screen_blocks(screen), colour=False, width=WIDTH)
    assert len(text.splitlines()) <= LINES
    assert "- needed" in text
    assert re.search(rf"row {count - 1}\b", text), "a row that stands out is never cut"
    shown = [n for n in range(count) if re.search(rf"row {n}\b", text)]
    assert ("layout0" in text) == (count < 12)
    assert len(shown) == count if count <= 12 else "and the layouts: -v" in text
    if len(shown) < count:
        assert "note" not in text


def test_every_value_that_was_asked_has_its_row() -> None:
    values = "1,2,4,8,10,12,60"
    scenario = str(ROOT / "scenarios" / "llama8b_lora_4090.yaml")
    lines = run("whatif", scenario, "--set", f"limits.headroom_gib={values}").out.splitlines()
    assert len(lines) <= LINES
    for value in values.split(","):
        assert any(line.split()[:1] == [value] for line in lines), value
    assert any(line.split()[0] == "60" and line.split()[-1] == "refused" for line in lines if line.strip())


def test_a_layout_that_stays_is_said_once() -> None:
    scenario = str(ROOT / "scenarios" / "llama8b_lora_4090.yaml")
    out = run("whatif", scenario, "--set", "limits.headroom_gib=1,2,4").out
    assert out.count("TP1 PP1 DP1") == 2
    ends = {line.split()[0]: line.split()[-3:] for line in out.splitlines() if line.startswith(("  2 ", "  4 "))}
    assert ends == {"2": ["as", "with", "1"], "4": ["as", "it", "stands"]}


def test_a_long_command_goes_on_after_a_backslash() -> None:
    command = "planner solve scenario.yaml " + " ".join(f"--set 'layout.thing_{n}=[1, 2]'" for n in range(6))
    text = render([Command(command, "why")], colour=False, width=WIDTH)
    assert max(map(len, text.splitlines())) <= WIDTH
    typed = text.split("Next: ")[1].rpartition("\n      why")[0]
    assert " ".join(typed.replace("\\\n", " ").split()) == command


def test_colour_only_where_a_terminal_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    blocks = [Headline("good"), Heading("h"), Text("t"), Bullets(("b",)), pairs([("a", "b")])]
    assert "\x1b[" in render(blocks)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in render(blocks)


def test_the_width_of_the_terminal_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Text("word " * 60)
    widest = max(map(len, render([text]).splitlines()))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    wider = max(map(len, render([text], colour=False).splitlines()))
    assert widest <= 80 < wider <= 120


def test_what_was_assumed_stays_while_a_row_can_be_cut() -> None:
    """Above a single plan; the question before it goes first, and above a table rows of the table stay instead."""
    rows = tuple((f"row {place}", "word " * 45) for place in range(7))
    screen = Screen(Headline("plan"), ("What was asked? " * 9, "Assumed: this and that."), rows)
    text = render(screen_blocks(screen), colour=False, width=WIDTH)
    assert text.count("\n") <= LINES
    assert "Assumed: this and that." in text
    assert "What was asked?" not in text
    assert "... (-v)" in text
