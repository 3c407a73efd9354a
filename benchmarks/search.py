"""How large a space is, and how long it takes to cost, bound, model and prove it, on growing clusters.

    python benchmarks/search.py [--repeat 3] [NAME ...]

Each row is solved `--repeat` times; the median is printed. Nothing is enumerated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

from planner.pipeline import problem_of
from planner.read import parse_document
from planner.search import Outcome, search

FREE = {"layers_per_stage": "free", "recompute": "per_stage"}


@dataclass(frozen=True)
class Case:
    """One scenario at one size."""

    name: str
    gpus: int
    scenario: dict[str, Any]


def pretrain(name: str, model: str, node: str, gpus: int, batch: int, sequence: int, layout: dict[str, Any]) -> Case:
    scenario = {
        "name": name,
        "task": "pretrain",
        "model": model,
        "engine": "megatron-core",
        "cluster": {"node": node, "num_gpus": gpus},
        "batch": {"global_batch_size": batch, "sequence_length": sequence},
        "layout": layout,
    }
    return Case(name, gpus, scenario)


def rl(gpus: int) -> Case:
    scenario = {
        "name": "qwen2.5-7b rl",
        "task": "rl",
        "model": "qwen2.5-7b",
        "engine": "slime",
        "cluster": {"node": "hgx-h100-8", "max_gpus": gpus},
        "rl": {
            "prompt_length": 1024,
            "response_length": {"want": 8192, "allow": [8192, 4096]},
            "response_distribution": {"mean": 2500, "p99": 9000},
            "rollout_batch_size": {"want": 32, "allow": [32, 16]},
            "n_samples_per_prompt": {"want": 8, "allow": [8, 4]},
        },
        "limits": {"headroom_gib": 20},
    }
    return Case("qwen2.5-7b rl, up to", gpus, scenario)


def cases() -> list[Case]:
    """Growing clusters; free stages and recomputation of each stage where the name says so."""
    found = [
        pretrain("gpt3-175b, free", "gpt3-175b", "dgx-a100", n, 1536, 2048, FREE | {"virtual_pipeline": "any"})
        for n in (64, 512, 4096)
    ]
    found += [pretrain("llama3.1-70b", "llama3.1-70b", "hgx-h100-8", n, 1024, 8192, {}) for n in (64, 512)]
    found += [pretrain("llama3.1-70b, free", "llama3.1-70b", "hgx-h100-8", n, 1024, 8192, FREE) for n in (64, 512)]
    found += [
        pretrain("llama3.1-405b, free", "llama3.1-405b", "hgx-h100-8", n, 2048, 8192, FREE)
        for n in (1024, 4096, 16384, 131072)
    ]
    found.append(
        pretrain("deepseek-v3, free", "deepseek-v3", "hgx-h100-8", 2048, 15360, 4096, FREE | {"context_parallel": 1})
    )
    return found + [rl(n) for n in (4, 8, 16, 64)]


def magnitude(number: int) -> str:
    """1234567 as 1.2e6, whatever its length."""
    digits = str(number)
    return digits if len(digits) < 7 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def once(case: Case) -> tuple[Outcome, float]:
    document = parse_document(json.dumps(case.scenario), case.name)
    started = time.monotonic()
    return search(problem_of(document), check_points=0), time.monotonic() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    chosen = [c for c in cases() if not arguments.names or any(name in c.name for name in arguments.names)]
    head = (
        "case",
        "GPUs",
        "candidates",
        "points",
        "left",
        "status",
        "costs s",
        "bounds s",
        "tables s",
        "solver s",
        "total s",
    )
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    once(chosen[0])  # imports and measured curves are read once, outside the table
    for case in chosen:
        runs = [once(case) for _ in range(arguments.repeat)]
        outcome = runs[0][0]
        spent = [dict(run.timings) for run, _ in runs]
        parts = [statistics.median(s.get(part, 0.0) for s in spent) for part in ("costs", "bounds", "tables", "solver")]
        total = statistics.median(seconds for _, seconds in runs)
        proof = outcome.proof
        row = (case.name, case.gpus, proof.candidates, magnitude(proof.points), proof.solver_rows, outcome.status)
        print("| " + " | ".join(map(str, row)) + " | " + " | ".join(f"{s:.3f}" for s in (*parts, total)) + " |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
