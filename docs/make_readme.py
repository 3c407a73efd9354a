"""Runs what README.md shows, puts the answers below it, and draws docs/answer.svg: one answer as a terminal shows it.

python docs/make_readme.py
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from planner.cli import main as planner
from planner.report import table
from planner.report.blocks import WIDTH

ROOT = Path(__file__).resolve().parent.parent
SHOWN = re.compile(r"```console\n\$ planner ([^\n]*)\n.*?```", flags=re.S)
PICTURE = ("solve", "example:qwen7b_rl")


def answer(arguments: str) -> str:
    """What a command prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        planner(shlex.split(arguments))
    return out.getvalue().rstrip("\n")


def readme(text: str) -> str:
    """The page with every answer made again."""
    return SHOWN.sub(lambda match: f"```console\n$ planner {match[1]}\n{answer(match[1])}\n```", text)


def picture() -> str:
    """One answer as SVG, drawn by rich, in the colours of a terminal."""
    coloured, table.coloured = table.coloured, lambda: True
    try:
        text = answer(shlex.join(PICTURE))
    finally:
        table.coloured = coloured
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, color_system="standard")
    console.print(Text(f"$ planner {shlex.join(PICTURE)}", style="bold"))
    console.print(Text.from_ansi(text), soft_wrap=True)
    return console.export_svg(title="planner", unique_id="planner")


def main() -> None:
    """Write both."""
    page = ROOT / "README.md"
    page.write_text(readme(page.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "answer.svg").write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
