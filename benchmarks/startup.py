"""Medians of five: a bare interpreter, `planner --help`, importing the solver, `planner solve` on the first story.

    python benchmarks/startup.py [--repeat 5]

Bars: `--help` at most 10 bare interpreters, `solve` at most 3.5 times importing the solver. Exit 5 where one is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = "scenarios/qwen7b_rl.yaml"
COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "planner --help": [sys.executable, "-m", "planner", "--help"],
    "importing the solver": [sys.executable, "-c", "from ortools.sat.python import cp_model"],
    "planner solve": [sys.executable, "-m", "planner", "solve", SCENARIO],
}
BARS = (("planner --help", "bare interpreter", 10.0), ("planner solve", "importing the solver", 3.5))


def median_seconds(command: list[str], repeat: int) -> float:
    times = []
    for _ in range(repeat + 1):  # the first run warms the file cache
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        times.append(time.monotonic() - started)
        if done.returncode:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
    return statistics.median(times[1:])


def main() -> int:
    """Print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    repeat = parser.parse_args().repeat
    seconds = {name: median_seconds(command, repeat) for name, command in COMMANDS.items()}
    for name, value in seconds.items():
        print(f"{name:22s} {value * 1e3:8.0f} ms")
    missed = 0
    for name, unit, bar in BARS:
        ratio = seconds[name] / seconds[unit]
        missed += ratio > bar
        print(f"{name} / {unit}: {ratio:.1f} (bar {bar:g}){' MISSED' if ratio > bar else ''}")
    return 5 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
