"""Every command is documented, and what the documents show runs as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from laid_out import keep
from run_cli import run

from planner.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = re.split(r"(?m)^## ", (ROOT / "docs" / "commands.md").read_text())[1:]
SHOWN = [
    pytest.param(shlex.split(line.removeprefix("$ planner ")), id=line.removeprefix("$ planner ")[:70])
    for section in SECTIONS
    for block in re.findall(r"```console\n(.*?)```", section, flags=re.S)
    for line in block.splitlines()
    if line.startswith("$ planner ") and "validate" not in line
]


def test_every_command_has_a_section_with_an_example() -> None:
    named = {section.split()[0]: section for section in SECTIONS}
    assert set(named) == set(COMMANDS)
    for name, section in named.items():
        assert f"$ planner {name}" in section, name


def test_the_readme_shows_every_command_and_the_two_lines() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in COMMANDS:
        assert f"planner {name}" in readme, name
    lines = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("planner solve scenarios/qwen7b_rl.yaml")


def test_links_between_documents_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("arguments", SHOWN)
def test_examples_run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    keep(monkeypatch)
    done = run(*arguments)
    assert done.code in ((0, 5) if arguments[0] == "check" else (0, 1)), done.err
    assert done.out.strip()
