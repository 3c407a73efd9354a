"""LoRA against full training at the same random layout: how often it is slower or takes more memory, and by what.

    python benchmarks/adapters.py [COUNT] [--seed N]

One line a layout where it is: times of the step and of the peak, the adapter, and what costs more time. The law that
holds, with its exceptions, is tests/costs/test_laws_at_random.py.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from typing import Any

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import document_of
from planner.search.estimate import estimate
from planner.search.plan import Plan

GPUS = {"transformers": (1,), "torchtune": (1,), "torchtune-fsdp": (2, 8)}
ENGINES = ("deepspeed", "fsdp1", "fsdp2", "megatron-core", "torchtune", "torchtune-fsdp", "transformers")
MODELS = ("llama3.1-8b", "llama3.2-1b", "qwen2.5-1.5b", "qwen2.5-7b")
TARGETS = (["q_proj", "v_proj"], ["all-linear"])


def drawn(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    """(scenario of full training, adapter)."""
    engine, model = rng.choice(ENGINES), rng.choice(MODELS)
    gpus, micro = rng.choice(GPUS.get(engine, (2, 4, 8))), rng.choice((1, 2, 4))
    tensor = rng.choice((1, 2)) if engine == "megatron-core" else 1
    scenario = {
        "name": "drawn",
        "task": "sft",
        "model": model,
        "engine": engine,
        "cluster": {
            "node": rng.choice(("hgx-h100-8", "hgx-a100-8")),
            "num_gpus": gpus,
            "usable_gib": 100_000,
        },
        "batch": {
            "global_batch_size": micro * (gpus // tensor) * rng.choice((1, 4)),
            "sequence_length": rng.choice((512, 1024, 2048, 4096, 8192)),
            "micro_batch_size": micro,
        },
        "layout": {
            "tensor_parallel": tensor,
            "pipeline_parallel": 1,
            "data_parallel": gpus // tensor,
            "context_parallel": 1,
            "recomputed_layers": rng.choice(("all", 0)),
            "zero_stage": rng.choice(default_catalog().find("engines", engine).zero_stages),
        },
    }
    adapter = {"rank": rng.choice((8, 16, 64, 128)), "targets": rng.choice(TARGETS)}
    for name, value, share in (("dropout", 0.05, 0.3), ("base_precision", "nf4", 0.2), ("variant", "dora", 0.15)):
        if rng.random() < share:
            adapter[name] = value
    return scenario, adapter


def pairs(count: int, seed: int) -> Iterator[tuple[Plan, Plan, dict[str, Any]]]:
    """(full training, with the adapter, the adapter) at so many layouts that engines take."""
    rng, found = random.Random(seed), 0
    while found < count:
        scenario, adapter = drawn(rng)
        try:
            full = estimate(document_of(scenario))
            lora = estimate(document_of({**scenario, "adapter": adapter}))
        except InputError:
            continue
        found += 1
        yield full, lora, adapter


def main() -> None:
    """Draw, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=80)
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    slower = larger = 0
    for full, lora, adapter in pairs(asked.count, asked.seed):
        before, after = ({str(item.name): item.amount for item in found.time} for found in (full, lora))
        times, peaks = sum(after.values()) / sum(before.values()), lora.peak_gib / full.peak_gib
        slower, larger = slower + (times > 1), larger + (peaks > 1)
        if times <= 1 and peaks <= 1:
            continue
        more = {name: after[name] - before.get(name, 0.0) for name in after}
        causes = [
            name for name in sorted(more, key=lambda name: -more[name]) if more[name] > 0.02 * sum(after.values())
        ]
        problem, batch = full.problem, full.problem.scenario.batch
        where = f"{problem.engine.id} {problem.architecture.id} {batch.micro_batch_size} x {batch.sequence_length}"
        print(f"{times:.3f} {peaks:.3f} {where} {adapter}: {', '.join(causes)}")
    print(f"{asked.count} layouts: {slower} slower than full training, {larger} with more memory")


if __name__ == "__main__":
    main()
