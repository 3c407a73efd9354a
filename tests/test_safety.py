"""What SECURITY.md promises: nothing of a file is run, no connection is opened, dependencies and licences are known."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import socket
from pathlib import Path

import pytest
from run_cli import run
from sources import nodes

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "planner").rglob("*.py"))
SERIALISERS = {"pickle", "cPickle", "dill", "marshal", "shelve", "joblib", "cloudpickle"}
NETWORK = {
    "socket",
    "ssl",
    "urllib",
    "http",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "aiohttp",
    "xmlrpc",
    "telnetlib",
}
SERVES = {"web"}
"""Rooms that answer on loopback; they may listen, not fetch."""
SPREADS = {"backends.py"}
"""Gives work to other processes of one's own with joblib; nothing that a person hands in is read that way."""
STARTS = {"torch_device.py", "nursery.py"}
"""Asks nvidia-smi for the clocks of this machine's own GPU, and begins the process that the page's workers are copies
of: fixed lists of words."""
FORKS = {"nursery.py"}
"""Copies of a process that has imported everything; no other program is run."""
RUNS = {"eval", "exec", "compile", "__import__"}
LICENCES = ROOT / ".ci" / "licences.txt"


def imported(path: Path) -> set[str]:
    """First names of the modules that a file imports, anywhere in it."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def test_nothing_is_unpickled_run_or_handed_to_a_shell() -> None:
    for path in FILES:
        starts = set() if path.name in STARTS else {"subprocess"}
        spread = {"joblib"} if path.name in SPREADS else set()
        assert not imported(path) & ((SERIALISERS | starts | {"pty", "ctypes"}) - spread), path
        for node in nodes(path):
            if not isinstance(node, ast.Call):
                continue
            called = node.func
            assert not [word for word in node.keywords if word.arg == "shell"], f"{path}:{node.lineno}"
            if isinstance(called, ast.Name):
                assert called.id not in RUNS, f"{path}:{node.lineno}"
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "os":
                forks = path.name in FORKS and called.attr == "fork"
                runs = re.match("system|popen|exec|spawn|posix_spawn|fork", called.attr)
                assert forks or not runs, f"{path}:{node.lineno}"


def test_no_module_can_fetch() -> None:
    for path in FILES:
        allowed = {"http", "socket", "urllib"} if path.relative_to(ROOT / "planner").parts[0] in SERVES else set()
        assert not imported(path) & (NETWORK - allowed), path


@pytest.mark.parametrize(
    "arguments",
    [
        ("solve", "scenarios/llama8b_sft_a100.yaml"),
        ("estimate", "scenarios/qwen7b_rl_8gpu.yaml"),
        ("estimate", "--rules", "Qwen/Qwen2.5-7B"),
        ("lint", "tests/golden/launch_qwen7b_rl_slime.sh", "--set", "cluster.node=hgx-h100-8"),
        ("diagnose", "scenarios/qwen3_4b_retool.yaml", "--message", "Tried to allocate 58.15 GiB."),
        ("catalog", "check"),
    ],
)
def test_commands_open_no_connection(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    done = run(*arguments)
    assert done.code in (0, 1, 5), done.err


def runtime(name: str = "planner", extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of everything that an installation brings with it."""
    found: set[str] = set()
    for text in importlib.metadata.requires(name) or []:
        wanted = re.match(r"[\w.-]+", text)
        if wanted is None or "extra ==" in text:
            continue
        other = re.sub(r"[-_.]+", "-", wanted.group()).lower()
        try:
            importlib.metadata.distribution(other)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another Python or another system
        if other not in found:
            found |= {other} | runtime(other)
    return found


def test_every_dependency_stands_in_the_licence_list() -> None:
    """Allowed are licences that let a program be used, changed and shipped with its notice."""
    listed = dict(line.split(maxsplit=1) for line in LICENCES.read_text().splitlines() if not line.startswith("#"))
    assert runtime() <= set(listed), "add it, with its licence, if that is one of these"
    assert set(listed.values()) <= {"MIT", "BSD-3-Clause", "Apache-2.0", "PSF-2.0", "BSD-2-Clause"}


def test_the_security_page_names_what_there_is() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tests|benchmarks|\.ci)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path
