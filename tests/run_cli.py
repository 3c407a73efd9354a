"""Runs a command line in this process: what a shell would see, without paying for imports each time."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from planner.cli import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


def run(*arguments: str) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    return Result(code, out.getvalue(), err.getvalue())
