"""What each option of an engine costs or gains: pinned layouts costed with and without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import document_of
from planner.schema.engine import Engine
from planner.search.estimate import estimate
from planner.search.plan import Plan

PINS = {
    **dict.fromkeys(("tensor_parallel", "pipeline_parallel", "context_parallel", "virtual_pipeline"), 1),
    "recomputed_layers": 0,
    "layers_per_stage": "even",
}


def _run(model: str, num_gpus: int, layout: dict[str, int], **more: Any) -> dict[str, Any]:
    batch = {"global_batch_size": 16, "sequence_length": 8192, "micro_batch_size": 1}
    cluster = {"node": "dgx-h100", "num_gpus": num_gpus}
    return {"model": model, "cluster": cluster, "batch": batch, "layout": {**PINS, **layout}, **more}


LORA = {"adapter": {"rank": 16}, "optimizer": "adamw-no-master"}
QLORA = {"adapter": {"rank": 16, "base_precision": "nf4"}, "optimizer": "adamw-no-master"}
EXPERTS = {"expert_parallel": 8, "expert_tensor_parallel": 1}
RUNS: dict[str, dict[str, Any]] = {
    "8B on 8 GPUs in fp8": _run("llama3.1-8b", 8, {}, precision="fp8"),
    "8B on 8 GPUs": _run("llama3.1-8b", 8, {}),
    "8B on 8 GPUs, TP2 PP2": _run("llama3.1-8b", 8, {"tensor_parallel": 2, "pipeline_parallel": 2}),
    "8B on 8 GPUs, TP2 CP2": _run("llama3.1-8b", 8, {"tensor_parallel": 2, "context_parallel": 2}),
    "30B-A3B on 16 GPUs, EP8": _run("qwen3-30b-a3b", 16, EXPERTS),
    "30B-A3B on 16 GPUs, PP2 EP8": _run("qwen3-30b-a3b", 16, {**EXPERTS, "pipeline_parallel": 2}),
    "8B on one GPU, LoRA": _run("llama3.1-8b", 1, {}, **LORA),
    "8B on 4 GPUs, LoRA, TP2": _run("llama3.1-8b", 4, {"tensor_parallel": 2}, **LORA),
    "8B on 8 GPUs, recomputed": _run("llama3.1-8b", 8, {"recomputed_layers": 32}),
    "8B on one GPU, QLoRA": _run("llama3.1-8b", 1, {}, **QLORA),
}
"""Runs on H100 of 16 sequences of 8,192 tokens a step, one a micro-batch, nothing recomputed, full training in bf16
unless said otherwise. An option is costed on the first one that it changes; in fp8 where its name says so."""
REFERENCE = (
    "H100, 16 sequences of 8,192 tokens, one a micro-batch, nothing recomputed, full training in bf16 unless said"
)
SMALL_GIB, SMALL_SHARE = 0.005, 0.0005
"""Changes below both are none."""


@dataclass(frozen=True)
class OptionEffect:
    """One option turned on, beside the same layout without it."""

    run: str
    """What was costed: a key of RUNS."""
    gib: float
    """Change of the fullest GPU. [GiB]"""
    time: float
    """Change of the step, as a share."""


def option_effects(engine: Engine, catalog: Catalog) -> dict[str, OptionEffect]:
    """Options of an engine by name, each on the first run of RUNS whose memory or time it changes; those that change
    none of them are left out.
    """
    found: dict[str, OptionEffect] = {}
    for run, scenario in RUNS.items():
        left = [name for name in sorted(engine.options) if name not in found]
        eight_bits = scenario.get("precision") == "fp8"
        left = [name for name in left if "fp8" in name] if eight_bits else left
        without = _costed(scenario, engine, [], catalog) if left else None
        for name in left if without is not None else ():
            field = engine.options[name].decides
            asked = scenario if field is None else {**scenario, "layout": {**scenario["layout"], field: True}}
            turned_on = _costed(asked, engine, [name] if field is None else [], catalog)
            if without is not None and turned_on is not None:
                gib = turned_on.peak_gib - without.peak_gib
                time = turned_on.step_seconds / without.step_seconds - 1
                if abs(gib) >= SMALL_GIB or abs(time) >= SMALL_SHARE:
                    found[name] = OptionEffect(run, gib, time)
    return found


def _costed(scenario: dict[str, Any], engine: Engine, options: list[str], catalog: Catalog) -> Plan | None:
    """A run of RUNS on an engine with some of its options; None where the engine refuses it."""
    layout = {**scenario["layout"], "zero_stage": engine.zero_stages[0]}
    asked = {**scenario, "name": "options", "task": "sft", "engine": engine.id, "layout": layout}
    try:
        return estimate(document_of({**asked, "engine_options": options}), catalog)
    except InputError:
        return None
