"""How large a space is, and how long it takes to cost, bound, model and prove it, on growing clusters.

    python benchmarks/search.py [--repeat 3] [NAME ...]
    python benchmarks/search.py --growth [--repeat 3] [--plot FILE.svg]

Each row is solved `--repeat` times; the median is printed. Nothing is enumerated. `--growth` solves the same models on
64 to 131,072 GPUs and plots the seconds as text, with `--plot` into a file too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import growth_plot

from planner.inputs.document import parse_document
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search

TITLE = "From scenario to proved plan, free stages and recomputation of each stage: seconds over GPUs"
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


def rl_pools(counts: list[int]) -> Case:
    """Trainer and rollout engine on either of two pools, in every placement that the engine has."""
    case = rl(counts[-1])
    kinds = [{"node": node, "num_gpus": counts} for node in ("hgx-h100-8", "hgx-a100-8")]
    changes = {"cluster": {"pools": kinds}, "layout": {"optimizer_offload": "any"}}
    return Case("qwen2.5-7b rl, H100 + A100", 2 * counts[-1], case.scenario | changes | _any_placement(case.scenario))


def _any_placement(scenario: dict[str, Any]) -> dict[str, Any]:
    return {"rl": scenario["rl"] | {"placement": "any"}}


def pretrain_pools() -> Case:
    """A model that may train on 64 H100 or on 128 A100."""
    case = pretrain("llama3.1-70b, H100 + A100", "llama3.1-70b", "hgx-h100-8", 192, 1024, 8192, FREE)
    pools = [{"node": "hgx-h100-8", "num_gpus": 64}, {"node": "hgx-a100-8", "num_gpus": 128}]
    return Case(case.name, case.gpus, case.scenario | {"cluster": {"pools": pools}})


def pipeline_over_pools() -> Case:
    """One pipeline over 64 H100 and 64 A100, or training on one of them: free stages on machines of two speeds."""
    spec = {"layers_per_stage": "free", "later_stages_on": "any"}
    case = pretrain("llama3.1-70b, pipeline over H100 + A100", "llama3.1-70b", "hgx-h100-8", 128, 512, 8192, spec)
    pools = [{"node": node, "num_gpus": 64} for node in ("hgx-h100-8", "hgx-a100-8")]
    return Case(case.name, case.gpus, case.scenario | {"cluster": {"pools": pools}})


def open_decisions(name: str, *more: str) -> Case:
    """llama70b_64xh100 with every decision open that changes the costs themselves."""
    names = ("schedule", "optimizer_offload", "activation_offload", *more)
    case = pretrain(name, "llama3.1-70b", "hgx-h100-8", 64, 512, 8192, dict.fromkeys(names, "any"))
    case.scenario["cluster"]["rank_order"] = "any"
    return Case(name, 64, case.scenario | {"precision": ["bf16", "fp8"]})


def wide_band(name: str, gpus: int, batch: int) -> Case:
    """Many near ties: headroom decides among plans within 19 %."""
    case = pretrain(f"{name}, free, near_tie 0.19", name, "hgx-h100-8", gpus, batch, 8192, FREE)
    return Case(case.name, gpus, case.scenario | {"search": {"near_tie": 0.19}})


def growth() -> list[Case]:
    """The same models on more and more GPUs, with free stages and recomputation of each stage."""
    small = [64, 256, 1024, 4096, 16384, 65536, 131072]
    found = [pretrain("llama3.1-70b", "llama3.1-70b", "hgx-h100-8", n, 2048, 8192, FREE) for n in small]
    large = [1024, 4096, 16384, 65536, 131072]
    return found + [pretrain("llama3.1-405b", "llama3.1-405b", "hgx-h100-8", n, 2048, 8192, FREE) for n in large]


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
    found += [rl(n) for n in (4, 8, 16, 64)]
    found += [pretrain_pools(), pipeline_over_pools(), rl_pools([4, 8]), rl_pools([8, 16, 32, 64])]
    found += [open_decisions("llama3.1-70b, open"), open_decisions("llama3.1-70b, all open", "recompute_modules")]
    return [*found, wide_band("llama3.1-70b", 512, 1024), wide_band("llama3.1-405b", 16384, 2048)]


def magnitude(number: int) -> str:
    """1234567 as 1.2e6, whatever its length."""
    digits = str(number)
    return digits if len(digits) < 7 else f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def once(case: Case) -> tuple[Outcome, float]:
    document = parse_document(json.dumps(case.scenario), case.name)
    started = time.monotonic()
    return search(question_of(document), check_points=0), time.monotonic() - started


def measured(case: Case, repeat: int) -> tuple[Outcome, list[float], float]:
    """(an outcome, median seconds of its parts, of the whole)"""
    runs = [once(case) for _ in range(repeat)]
    spent = [dict(run.timings) for run, _ in runs]
    parts = [statistics.median(s.get(part, 0.0) for s in spent) for part in ("costs", "bounds", "tables", "solver")]
    return runs[0][0], parts, statistics.median(seconds for _, seconds in runs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only cases whose name contains one of these")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="the same models from 64 to 131,072 GPUs")
    parser.add_argument("--plot", type=Path, help="with --growth: write this SVG file")
    arguments = parser.parse_args()
    every = growth() if arguments.growth or arguments.plot else cases()
    chosen = [c for c in every if not arguments.names or any(name in c.name for name in arguments.names)]
    head = ("case", "GPUs", "candidates", "points", "left", "status")
    head += ("costs s", "bounds s", "tables s", "solver s", "total s")
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    once(chosen[0])  # imports and measured curves are read once, outside the table
    series: dict[str, list[tuple[int, float]]] = {}
    for case in chosen:
        outcome, parts, total = measured(case, arguments.repeat)
        proof = outcome.proof
        row = (case.name, case.gpus, proof.candidates, magnitude(proof.points), proof.solver_rows, outcome.status)
        print("| " + " | ".join(map(str, row)) + " | " + " | ".join(f"{s:.3f}" for s in (*parts, total)) + " |")
        sys.stdout.flush()
        for what, seconds in (("in all", total), ("solver", parts[-1])):
            series.setdefault(f"{case.name}, {what}", []).append((case.gpus, max(seconds, 1e-3)))
    if arguments.growth or arguments.plot:
        print(f"\n{growth_plot.text(series)}")
    if arguments.plot is not None:
        arguments.plot.write_text(growth_plot.svg(TITLE, series))


if __name__ == "__main__":
    main()
