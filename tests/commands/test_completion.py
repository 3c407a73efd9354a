"""Completion as a shell sees it: a real bash reads the script and asks."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from run_cli import run

ROOT = Path(__file__).resolve().parents[2]
BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="no bash on this machine")
def test_a_real_bash_completes_keys_names_and_commands(tmp_path: Path) -> None:
    command = tmp_path / "planner"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m planner "$@"\n')
    command.chmod(0o755)
    asked = {
        "planner solve s.yaml --set cluster.num_g": "cluster.num_gpus=",
        "planner solve s.yaml --set cluster.node=hgx-h100": "hgx-h100-8",
        "planner catalog show gpus l40": "l40s",
        "planner comple": "completion",
        "planner ask qwen2.5-7": "qwen2.5-7b",
        "planner ask qwen2.5-7b --gpus 8xh200": "8xh200-sxm-141gb",
        "planner solve example:qwen7b_d": "qwen7b_dapo_h20",
    }
    lines = ["compopt() { :; }", 'eval "$(planner completion bash)"']
    for line in asked:
        words = line.replace("=", " = ").split()
        quoted = " ".join(f'"{word}"' for word in words)
        lines += [f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; COMP_LINE="{line}"; COMP_POINT={len(line)}']
        lines += ['_planner_completion planner; echo "${COMPREPLY[*]}"']
    assert BASH is not None
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [BASH, "--norc", "-c", "\n".join(lines)], capture_output=True, text=True, env=environment, check=True, cwd=ROOT
    )
    for (line, wanted), got in zip(asked.items(), done.stdout.splitlines(), strict=True):
        assert wanted in got.split(), (line, got, done.stderr)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    done = run("completion", shell)
    assert done.code == 0
    assert "_PLANNER_COMPLETE" in done.out
