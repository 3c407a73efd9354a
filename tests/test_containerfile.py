"""The Containerfile against what it names: the extra, the command, the port; no image is built here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from planner.cli import COMMANDS
from planner.commands.serve import command

ROOT = Path(__file__).resolve().parents[1]
LINES = [line for line in (ROOT / "Containerfile").read_text().splitlines() if line and not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def said(word: str) -> str:
    return next(line.partition(" ")[2] for line in LINES if line.startswith(f"{word} "))


def test_it_installs_an_extra_that_exists_on_a_python_that_is_supported() -> None:
    extra = re.search(r"'/src\[(\w+)\]'", said("RUN"))
    assert extra is not None
    assert extra[1] in PROJECT["optional-dependencies"]
    assert said("COPY") == ". /src"
    minor = int(said("FROM").partition("python:3.")[2].partition("-")[0])
    low, high = (int(part) for part in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert low <= minor < high


def test_it_starts_a_server_that_others_reach_as_no_root() -> None:
    program, name, *options = json.loads(said("ENTRYPOINT"))
    assert program in PROJECT["scripts"]
    assert name in COMMANDS
    with command.make_context(name, options) as context:
        assert context.params["host"] == "0.0.0.0"
        assert str(context.params["port"]) == said("EXPOSE")
    assert f"useradd --create-home {said('USER')}" in said("RUN")
