"""Saving and feeding back is the identity on every shipped scenario, for every command.

Slow, so not part of the main suite: python -m pytest tests/slow
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))
from run_cli import run
from test_restored import check

from planner.inputs.examples import examples

NAMES = [name for name in examples() if not name.startswith("budget")]
COMMANDS = {
    "solve": (),
    "launch": ("--to", "LAUNCHER"),
    "near": ("--count", "2"),
    "explain": (),
    "whatif": ("--set", "limits.headroom_gib=2,4"),
    "pareto": ("--over", "headroom"),
    "compare": ("--set-b", "limits.headroom_gib=4"),
    "rl-lengths": ("--lengths", "4096,8192"),
}
"""What each is asked, beside the plan; `estimate` and `check` take the plan as it is, whatever its scenario pins."""


@pytest.mark.parametrize("name", NAMES)
def test_identity(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_answers_alike(name: str, tmp_path: Path) -> None:
    """Exit codes too; what a command cannot do with a scenario it says of its saved plan in the same words."""
    outcome, saved = check(name, tmp_path)
    launchers = outcome.question.first.engine.launch
    for command, options in COMMANDS.items():
        if command == "launch" and not launchers:
            continue
        asked = [launchers[0] if option == "LAUNCHER" else option for option in options]
        both = [run(command, path, *asked) for path in (str(saved), f"example:{name}")]
        assert (both[0].code, both[0].out) == (both[1].code, both[1].out), command
        assert both[0].out or both[0].code == 2, command
    told = json.loads(run("estimate", str(saved), "--format", "json").out)["plan"]
    shown = json.loads(run("solve", f"example:{name}", "--no-check", "--no-compare", "--format", "json").out)["plan"]
    assert [told[part] for part in ("layout", "memory", "time")] == [
        shown[part] for part in ("layout", "memory", "time")
    ]
