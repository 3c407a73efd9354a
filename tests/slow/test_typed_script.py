"""A user's script against the door, checked by mypy --strict: it reads the whole package, which takes a minute."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import planner

scenario: planner.Scenario = planner.load("llama70b.yaml", {"cluster.num_gpus": 64})
outcome: planner.Outcome = planner.solve(scenario, time_limit_s=60.0)
plan: planner.Plan | None = outcome.plan
if plan is not None:
    total: float = plan.tokens_per_second + plan.headroom_gib
    names: list[str] = [item.name for phase in plan.memory for item in phase.items]
    frame = plan.time.to_frame()
rows = planner.what_if(scenario, {"limits.headroom_gib": [10, 20]}, progress=print)
fast: list[float] = [row.plan.tokens_per_second for row in rows if row.plan is not None]
best: planner.Outcome = planner.near(scenario)[0]
values: list[float] = [point.value for point in planner.front(scenario, "gpus").points]
change: list[float] = [row.change for row in planner.compare(outcome, {"name": "b"}).memory]
planner.show(planner.explain(scenario, {"layout.tensor_parallel": 8}), style="markdown")
catalog = planner.Catalog(["catalogs"])
try:
    planner.estimate("a.yaml", catalog=catalog)
except planner.InputError as error:
    print([mistake.what for mistake in error.problems], planner.__version__)
"""
WRONG = 'import planner\nx: int = planner.solve("a.yaml").status\nplanner.solve(7)\nplanner.slove("a.yaml")\n'


def check(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(script)
    cache = str(ROOT / ".mypy_cache" / "script")
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", cache, "script.py"]
    paths = {**os.environ, "MYPYPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=paths, capture_output=True, text=True, check=False)


def test_a_script_is_typed_and_a_wrong_one_is_caught(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    done = check(tmp_path, SCRIPT)
    assert done.returncode == 0, done.stdout
    wrong = check(tmp_path, WRONG)
    assert [line.split(":")[1] for line in wrong.stdout.splitlines() if ": error:" in line] == ["2", "3", "4"]
