"""How recomputed layers are said in an engine's own flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from planner.problem.problem import ASYNCHRONOUS
from planner.search.plan import Plan


@dataclass(frozen=True)
class RecomputeFlags:
    """Values of Megatron's --recompute-granularity, --recompute-method and --recompute-num-layers."""

    granularity: str
    method: str | None
    """block: the first N layers of each (virtual) stage; uniform: every layer, in groups of N."""
    num_layers: int | None
    """N of the method; None where nothing is recomputed, or where stages differ and no single flag says it."""


def recompute_flags(plan: Plan) -> RecomputeFlags:
    """The flags that recompute what the plan recomputes."""
    most = max(plan.recomputed)
    if most == 0:
        return RecomputeFlags("none", None, None)
    methods = plan.problem.engine.recompute.methods
    method = plan.problem.scenario.layout.recompute_method or ("block" if "block" in methods else None)
    if method == "uniform" and plan.recomputed == plan.layers:
        return RecomputeFlags("full", method, plan.named.recompute_group)
    if "block" in methods:  # a stage of which nothing is recomputed has no uniform group
        method = "block"
    same = all(r == min(most, n) for r, n in zip(plan.recomputed, plan.layers, strict=True))
    # Megatron counts a block's layers within each virtual stage (chunk).
    return RecomputeFlags("full", method, -(-most // plan.layout["virtual_pipeline"]) if same else None)


def hardware_rows(plan: Plan) -> list[tuple[str, str]]:
    """GPUs and nodes: those that train, and those that only generate."""
    problem, lay = plan.problem, plan.layout
    trains = f"{lay['num_gpus']} x {problem.gpu.name} ({problem.node.id})"
    if problem.later is not None:
        rows = [(problem, problem.first_gpus, 0, plan.first_stages)]
        rows.append((problem.later, lay["num_gpus"] - problem.first_gpus, plan.first_stages, len(plan.layers)))
        return [
            (f"hardware, stages {begin} to {end - 1}", f"{count} x {of.gpu.name} ({of.node.id})")
            for of, count, begin, end in rows
        ]
    if plan.rollout is None or problem.colocated:
        return [("hardware", trains)]
    other = problem.generating
    generates = f"{plan.rollout.num_gpus} x {other.gpu.name} ({other.node.id})"
    words = "at once, training on the samples of the weights before" if problem.placement == ASYNCHRONOUS else "in turn"
    return [
        ("hardware, training", trains),
        ("hardware, rollout", generates),
        ("placement", f"{problem.placement}: trainer and rollout engine have their own GPUs and work {words}"),
    ]


def layout_document(plan: Plan) -> dict[str, Any]:
    """Every decision under the name that the field uses."""
    lay, flags, problem = plan.layout, recompute_flags(plan), plan.problem
    document: dict[str, Any] = {}
    for name, value in vars(plan.named).items():
        if name == "optimizer":
            document["recompute_granularity"] = flags.granularity
            document["recompute_method"] = flags.method
            document["recompute_num_layers"] = flags.num_layers
        document[name] = list(value) if isinstance(value, tuple) else value
    rl = problem.scenario.rl
    if rl is not None and plan.rollout is not None:
        document |= {
            "rollout_batch_size": plan.wish.rollout_batch_size,
            "n_samples_per_prompt": plan.wish.n_samples_per_prompt,
            "steps_per_rollout": rl.steps_per_rollout,
            "prompt_length": rl.prompt_length,
            "response_length": plan.wish.response_length,
            "rollout_tensor_parallel": plan.rollout.tensor_parallel,
            "gpu_memory_utilization": plan.rollout.gpu_memory_utilization,
            "rollout_precision": (problem.rollout_precision or problem.precision).id,
            "rollout_concurrency": plan.rollout.concurrency,
            "rollout_max_concurrency": plan.rollout.max_concurrency,
            "placement": problem.placement,
            "training_gpus": lay["num_gpus"],
            "rollout_gpus": plan.rollout.num_gpus,
            "rollout_node": problem.generating.node.id,
        }
    return document
