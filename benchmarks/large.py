"""The default scenario of large models: seconds to a proved plan, beside the step that free stages reach; time limits.

    python benchmarks/large.py [NAME ...]
    python benchmarks/large.py --limits 5 20 60 [NAME ...]

A default scenario names model, node, GPUs, batch and length, and nothing else. Seconds are CPU seconds of the whole
command, start of the interpreter included: on a machine with other work they are those of a quiet one. With `--limits`
each is asked under each time limit, everything that may be open is opened, and what the command said is printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCENARIOS = {
    "405b@512": ("llama3.1-405b", 512, 2048, 8192),
    "405b@1024": ("llama3.1-405b", 1024, 2048, 8192),
    "405b@16384": ("llama3.1-405b", 16384, 2048, 8192),
    "qwen3-235b@256": ("qwen3-235b-a22b", 256, 1024, 4096),
    "kimi-k2@1024": ("kimi-k2", 1024, 4096, 4096),
    "glm-4.5@256": ("glm-4.5", 256, 1024, 4096),
    "deepseek-v3@2048": ("deepseek-v3", 2048, 8192, 4096),
    "deepseek-v3@1024": ("deepseek-v3", 1024, 8192, 4096),
    "qwen3-235b@1024": ("qwen3-235b-a22b", 1024, 4096, 4096),
    "kimi-k2@2048": ("kimi-k2", 2048, 8192, 4096),
}
DEFAULTS = tuple(SCENARIOS)[:7]
OPEN = {"virtual_pipeline": "any", "layers_per_stage": "free", "recompute_modules": "any"}
SLACK = 1.2
"""A limit is kept within this factor."""


def scenario(name: str, layout: dict[str, str], **more: object) -> dict[str, object]:
    """One of the scenarios, with this part of its layout."""
    model, gpus, batch, length = SCENARIOS[name]
    work = {"name": name, "task": "pretrain", "model": model, "engine": "megatron-core", "layout": layout}
    work |= {"cluster": {"node": "hgx-h100-8", "num_gpus": gpus}}
    return work | {"batch": {"global_batch_size": batch, "sequence_length": length}} | more


def asked(document: dict[str, object], *options: str) -> tuple[float, int, str]:
    """(seconds, exit code, first line of the answer) of `planner solve`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(json.dumps(document))
        started = time.monotonic()
        command = [sys.executable, "-m", "planner", "solve", str(path), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        return time.monotonic() - started, done.returncode, next(iter(lines), "")


def step_seconds(document: dict[str, object]) -> tuple[float, float, str]:
    """(CPU seconds of the command, seconds of a step, status)"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.yaml"
        path.write_text(json.dumps(document))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [
            sys.executable,
            "-m",
            "planner",
            "solve",
            str(path),
            "--format",
            "json",
            "--set",
            "search.near_tie=0.01",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        answer = json.loads(done.stdout)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return spent, answer["plan"]["time"]["step_seconds"], answer["status"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="scenarios; all of them unless named")
    parser.add_argument("--limits", nargs="+", type=float, default=[], metavar="SECONDS")
    options = parser.parse_args()
    failed = False
    for name in options.names or (tuple(SCENARIOS) if options.limits else DEFAULTS):
        if not options.limits:
            seconds, step, status = step_seconds(scenario(name, {}))
            _, free, _ = step_seconds(scenario(name, {"layers_per_stage": "free"}))
            worse = step > free / 0.99 * (1 + 1e-6)
            failed |= worse or status != "optimal" or seconds > 20
            print(
                f"{name:20} {seconds:6.1f} CPU s  {status}  step {step:.3f} s, free {free:.3f} s{' WORSE' * worse}",
                flush=True,
            )
        for limit in options.limits:
            seconds, code, line = asked(scenario(name, OPEN, precision=["bf16", "fp8"]), "--time-limit", str(limit))
            late = seconds > limit * SLACK
            failed |= late or code not in (0, 3)
            print(f"{name:20} limit {limit:3g} s: {seconds:6.1f} s{' LATE' * late}  exit {code}  {line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
