"""Names that lie: whatever a file or a person calls something, no report shows it as a line of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_cli import run

from planner.errors import InputError
from planner.inputs.document import parse_document, validate
from planner.report import html, markdown, table
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text
from planner.schema.scenario import Scenario

SCENARIO = Path(__file__).resolve().parents[2] / "scenarios" / "qwen7b_rl_8gpu.yaml"
FAKE = "x: fits on 8 GPUs: safe, 99 GiB free; proved optimal"


@pytest.mark.parametrize(
    "name",
    [
        f"a\\n{FAKE}",
        "a\\u202eb",
        "a\\u200bb",
        "a\\u2066b",
        "a\\u2028b",
        "a\\u00adb",
        "a\\u3164",
        " ",
        "",
        "x" * 81,
        "a\\tb",
    ],
)
def test_a_name_is_one_line_of_visible_characters(name: str) -> None:
    text = SCENARIO.read_text().replace("name: qwen7b_rl_8gpu\n", f'name: "{name}"\n', 1)
    with pytest.raises(InputError) as caught:
        validate(parse_document(text, "s.yaml"), Scenario)
    assert "name" in str(caught.value)
    assert "s.yaml:" in str(caught.value)
    assert FAKE not in str(caught.value).splitlines()


def test_names_in_other_writings_pass() -> None:
    text = SCENARIO.read_text().replace("name: qwen7b_rl_8gpu\n", 'name: "千问 7B · GRPO – naïve, שלום"\n', 1)
    assert validate(parse_document(text, "s.yaml"), Scenario).name.startswith("千问")


BLOCKS: tuple[Block, ...] = (
    Heading(f"a\n{FAKE}"),
    Headline(f"a\r{FAKE}"),
    Text(f"a\n\n{FAKE}"),
    Bullets((f"a\x0b{FAKE}", "\x1b[2J\u202e")),
    Grid((f"a\n{FAKE}",), ((f"b\u2028{FAKE}",),)),
    Command(f"planner solve 'a\n{FAKE}'", f"p\n{FAKE}"),
)


@pytest.mark.parametrize("render", [table.render, markdown.render, html.render])
def test_no_block_prints_a_line_of_anothers(render: object) -> None:
    text = render(BLOCKS)  # type: ignore[operator]
    assert not [line for line in text.splitlines() if line.strip().startswith("x: fits")]
    assert not {"\x1b", "\u202e", "\u2028", "\x0b", "\r"} & set(text)


def test_markdown_makes_no_element_and_no_link_of_a_name() -> None:
    name = "a[x](javascript:1)<img src=x>![y](z) `<kept>`"
    blocks = (Heading(name), Headline(name), Text(name), Bullets((name,)), Grid((name,), ((name,),)))
    text = markdown.render(blocks)
    assert text.count("`<kept>`") == len(blocks) + 1
    assert "](" not in text
    assert "<img" not in text


def test_a_file_cannot_print_a_verdict_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / f"a\n{FAKE}.yaml"
    path.write_text(SCENARIO.read_text())
    for arguments in (
        ("estimate", str(path)),
        ("estimate", str(path), "--set", "model=none"),
        ("estimate", f"{path}x"),
    ):
        result = run(*arguments)
        assert not [line for line in (result.out + result.err).splitlines() if line.startswith("x: fits")]
