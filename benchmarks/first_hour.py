"""The first hour: a fresh virtual environment with the wheel only, an empty folder, and four questions.

    python benchmarks/first_hour.py [--wheel FILE]

Each question is asked in at most two commands, without a checkout and without a document, and must be answered on one
screen within 15 s on 2 cores. `planner ask` may take at most 4 times what importing the solver takes. Exit 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_SECONDS = 15.0
MOST_TIMES_IMPORT = 4.0
LINES, COLUMNS = 24, 80
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 40,
    "intermediate_size": 13824,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
"""Shapes of a 13B network, as its config.json states them."""
STORIES: dict[str, tuple[tuple[str, ...], ...]] = {
    "RL engineer: memory and layout of Qwen2.5-7B GRPO on 4 H100 with 16k responses": (
        ("ask", "qwen2.5-7b", "--gpus", "4xh100", "--task", "rl", "--response", "16k"),
    ),
    "hobbyist: QLoRA of an 8B on a 4090": (("ask", "llama3.1-8b", "--gpus", "4090", "--task", "qlora"),),
    "pretraining engineer: a 13B from its config.json on 128 H100": (
        ("ask", "config.json", "--gpus", "128xh100", "--task", "pretrain"),
    ),
    "lead: what 32k context would cost": (
        ("ask", "llama3.1-8b", "--gpus", "8xh100", "--sequence", "8k", "--save", "run.yaml"),
        ("whatif", "run.yaml", "--set", "batch.sequence_length=8192,32768"),
    ),
    "the same in one command": (("ask", "llama3.1-8b", "--gpus", "8xh100", "--sequence", "8k,32k"),),
    "a shipped scenario": (("solve", "example:qwen7b_rl"),),
}


def main() -> int:
    """Run the stories and print one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        python = installed(folder, arguments.wheel)
        home = folder / "empty"
        home.mkdir()
        (home / "config.json").write_text(json.dumps(CONFIG))
        wrong = [text for name, commands in STORIES.items() for text in story(name, commands, python, home)]
        wrong += weight(python, home)
    print("\n".join(wrong) or "every bar is reached")
    return 1 if wrong else 0


def installed(folder: Path, wheel: Path | None) -> Path:
    """The interpreter of a fresh environment that holds the wheel and what it needs."""
    builder = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    if wheel is None:
        subprocess.run(builder, check=True)
        (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", str(wheel)], check=True)
    return python


def story(name: str, commands: tuple[tuple[str, ...], ...], python: Path, home: Path) -> list[str]:
    """Ask one question; what is wrong with the answer."""
    seconds, wrong = 0.0, []
    for command in commands:
        begun = time.perf_counter()
        done = subprocess.run(
            [str(python.parent / "planner"), *command], cwd=home, capture_output=True, text=True, check=False
        )
        seconds += time.perf_counter() - begun
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            wrong.append(f"{name}: exit {done.returncode}: {done.stderr.strip()[:300]}")
        if len(lines) > LINES or max(map(len, lines), default=0) > COLUMNS:
            wrong.append(f"{name}: {len(lines)} lines, {max(map(len, lines), default=0)} columns: {' '.join(command)}")
    if len(commands) > 2 or seconds > MOST_SECONDS:
        wrong.append(f"{name}: {len(commands)} commands, {seconds:.1f} s")
    print(f"{seconds:6.2f} s  {len(commands)} commands  {name}")
    return wrong


def weight(python: Path, home: Path) -> list[str]:
    """How many times importing the solver the first answer takes: the best of three of each, one after the other."""
    planner = [str(python.parent / "planner"), *STORIES["hobbyist: QLoRA of an 8B on a 4090"][0]]
    solver = [str(python), "-c", "from ortools.sat.python import cp_model"]
    times = {"ask": planner, "import": solver}
    best = {name: min(clock(command, home) for _ in range(3)) for name, command in times.items()}
    ratio = best["ask"] / best["import"]
    print(f"{best['ask']:6.2f} s  planner ask, {ratio:.1f} times the {best['import']:.2f} s of importing the solver")
    return [f"planner ask takes {ratio:.1f} times importing the solver"] if ratio > MOST_TIMES_IMPORT else []


def clock(command: list[str], home: Path) -> float:
    """User and system seconds of a command, so that other work on the machine does not count. [s]"""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command], cwd=home, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
