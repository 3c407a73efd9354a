"""Random restrictions of questions about real networks, in the corners of the space: none may make the optimum better.

    python benchmarks/corners.py [COUNT] [--seed N]

Two pools, expert tensor parallelism, chunks, listed stages, packing caps, adapters, separate GPUs for rollouts, options
left open. Exit 5 when a law is broken; each breach is printed with the scenario that reproduces it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from restrictions import broken_laws

from planner.inputs.json_document import json_document

Scenario = dict[str, Any]
MOST = 6
"""Restrictions of one question."""


def _base(rng: random.Random, name: str, model: str, engine: str, cluster: Scenario, **more: Any) -> Scenario:
    length, batch = rng.choice([512, 4096, 32768]), rng.choice([8, 32, 64])
    return {
        "name": name,
        "task": "pretrain",
        "model": model,
        "engine": engine,
        "precision": "bf16",
        "cluster": cluster,
        "batch": {
            "global_batch_size": batch,
            "sequence_length": length,
            "micro_batch_size": rng.choice(["any", [1, 2, 4]]),
        },
        "layout": {},
        "limits": {"headroom_gib": 0},
        "search": {"near_tie": 0, "time_limit_s": 60},
        **more,
    }


def _two_pools(rng: random.Random) -> Scenario:
    pools = rng.sample(
        ["hgx-h100-8", "aws-p4d", "hgx-a100-8", "h100-pcie-nvbridge-pairs", "l4-pcie-8", "h100-nvl-pairs"], 2
    )
    cluster = {"pools": [{"node": node, "num_gpus": 8} for node in pools], "rank_order": rng.choice(["any", "default"])}
    model = rng.choice(["phi-4-mini", "qwen2.5-7b", "moonlight-16b-a3b", "llama3-8b"])
    out = _base(rng, "two pools", model, "megatron-core", cluster, optimizer=rng.choice(["adamw", "muon"]))
    out["layout"] = {
        "tensor_parallel": rng.choice(["any", [1, 2]]),
        "pipeline_parallel": rng.choice([2, [2, 4]]),
        "context_parallel": 1,
        "virtual_pipeline": rng.choice([1, "any", [1, 2, 3]]),
        "later_stages_on": rng.choice(["any", pools[1]]),
        "layers_per_stage": rng.choice(["free", "auto"]),
        "recompute": rng.choice(["uniform", "per_stage"]),
        "recompute_method": rng.choice([None, "uniform", "block"]),
        "optimizer_offload": rng.choice([False, "any"]),
    }
    return out


def _experts(rng: random.Random) -> Scenario:
    cluster = {"node": rng.choice(["h100-nvl-pairs", "hgx-h100-8", "mi300x-8"]), "num_gpus": rng.choice([8, 16])}
    out = _base(rng, "experts", rng.choice(["qwen3-30b-a3b", "moonlight-16b-a3b"]), "megatron-core", cluster)
    out["layout"] = {
        "pipeline_parallel": rng.choice([1, 2, [1, 2]]),
        "context_parallel": rng.choice([1, 2]),
        "expert_tensor_parallel": rng.choice(["any", [1, 2], 2]),
        "virtual_pipeline": rng.choice([1, 2, [1, 3]]),
        "recompute_modules": rng.choice([[], ["moe_act", "layernorm"]]),
    }
    out["options_to_try"] = rng.choice([[], ["expert_deduplication", "moe_a2a_overlap"], ["scoped_cuda_graphs"]])
    return out


def _stages(rng: random.Random) -> Scenario:
    cluster = {"node": rng.choice(["hgx-h100-8", "hgx-a100-8"]), "num_gpus": rng.choice([8, 16, [8, 16]])}
    out = _base(rng, "stages", "llama3-8b", "megatron-core", cluster)
    listed = rng.choice([[7, 9, 9, 7], [8, 8, 8, 8], [6, 9, 9, 8], [15, 17], [7, 8, 8, 9]])
    out["layout"] = {
        "layers_per_stage": listed,
        "pipeline_parallel": len(listed),
        "virtual_pipeline": rng.choice(["any", [1, 2, 3, 4]]),
        "recompute": rng.choice(["uniform", "per_stage"]),
        "schedule": rng.choice([None, "any"]),
        "recompute_group": rng.choice([1, "any"]),
    }
    return out


def _adapters(rng: random.Random) -> Scenario:
    cluster = {"node": rng.choice(["rtx-4090-box", "l40s-pcie-8", "hgx-a100-4"]), "max_gpus": rng.choice([4, 16])}
    engine = rng.choice(["fsdp2", "deepspeed", "fsdp1", "megatron-core"])
    out = _base(rng, "adapters", rng.choice(["qwen2.5-7b", "llama3-8b"]), engine, cluster, task="sft")
    if rng.random() < 0.6:
        out["adapter"] = {"rank": 16, "base_precision": rng.choice(["bf16", "nf4"])}
    out["options_to_try"] = rng.choice(["any", []])
    out["layout"] = {"recomputed_layers": "any"}
    return out


def _rollouts(rng: random.Random) -> Scenario:
    cluster: Scenario = {"node": rng.choice(["hgx-h100-8", "hgx-a100-8"]), "num_gpus": rng.choice([8, 16])}
    if rng.random() < 0.4:
        cluster = {"pools": [{"node": node, "num_gpus": 8} for node in ("dgx1-v100", "l4-pcie-8")], "rank_order": "any"}
    engine = rng.choice(["slime", "verl-megatron", "nemo-rl", "verl-fsdp2"])
    out = _base(rng, "rollouts", rng.choice(["phi-4-mini", "qwen2.5-7b"]), engine, cluster, task="rl")
    out["precision"] = "fp16" if "pools" in cluster else "bf16"
    out["batch"] = {"max_tokens_per_gpu": rng.choice(["any", "none", [4096, 8192], 6144])}
    out["rl"] = {
        "prompt_length": 512,
        "response_length": rng.choice([1536, 7680]),
        "response_distribution": {"mean_share": 0.25, "p99_share": 0.9},
        "rollout_batch_size": 32,
        "n_samples_per_prompt": 8,
        "placement": rng.choice(["any", "disaggregated", "asynchronous", ["colocated", "disaggregated"]]),
    }
    return out


KINDS: tuple[Callable[[random.Random], Scenario], ...] = (_two_pools, _experts, _stages, _adapters, _rollouts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    tried, broken, of_kind = 0, 0, Counter[str]()
    for seed in range(asked.seed, asked.seed + asked.count):
        rng = random.Random(seed)
        scenario = KINDS[seed % len(KINDS)](rng)
        text = json.dumps(scenario)
        restrictions, found = broken_laws(json_document(text.encode(), "corner.json"), scenario, text, rng, MOST)
        tried, broken = tried + restrictions, broken + len(found)
        of_kind[scenario["name"]] += restrictions
        for breach in found:
            print(f"# seed {seed}\n{breach}", flush=True)
        print(
            f"seed {seed} {scenario['name']}: {restrictions}, {time.process_time():.0f} CPU s",
            file=sys.stderr,
            flush=True,
        )
    print(f"{asked.count} questions from seed {asked.seed}, {tried} restrictions {dict(of_kind)}, {broken} breaches")
    return 5 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
