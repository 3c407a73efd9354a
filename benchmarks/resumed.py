"""Lines of JSON that a long benchmark keeps of what it tried: a second run goes on where the first one ended."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Line = dict[str, Any]
"""One thing tried, with the tree that it was tried on."""


def tree() -> str:
    """The commit that is tried, and a mark of what differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
        return done.stdout

    changed = git("diff", "HEAD", "--", "planner", "catalogs", "scenarios", "tests")
    mark = f"+{hashlib.sha256(changed.encode()).hexdigest()[:8]}" if changed else ""
    return git("rev-parse", "HEAD").strip()[:12] + mark


def lines_of(log: Path | None, same: Line) -> list[Line]:
    """Lines of a log in which all of `same` stands; one that an interrupt cut is left out."""
    if log is None or not log.exists():
        return []
    found = []
    for number, text in enumerate(log.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found.append(json.loads(text))
        except ValueError:
            print(f"{log}:{number}: no JSON, left out", file=sys.stderr)
    return [line for line in found if same.items() <= line.items()]


def keep(line: Line, log: Path | None) -> None:
    """Add what was tried to a log, also behind a line that an interrupt cut."""
    if log is None:
        return
    with log.open("a+b") as out:
        if size := out.seek(0, 2):
            out.seek(size - 1)
            out.write(b"" if out.read(1) == b"\n" else b"\n")
        out.write(f"{json.dumps(line)}\n".encode())
