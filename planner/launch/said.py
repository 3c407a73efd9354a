"""What a plan says, under one set of names for all launchers: the words that flag tables (catalogs/flags) refer to."""

from __future__ import annotations

from collections.abc import Mapping

from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.problem.copies import copies_of
from planner.problem.problem import ASYNCHRONOUS
from planner.search.decisions import layout_document
from planner.search.plan import Plan

Setting = str | int | float | bool | None | list[str] | list[int]
"""A value of one of the words below, as it is before it is text."""
Words = dict[str, Setting]
HYBRID = "hybrid_sharding"
"""The engine option of copies of sharded state, one a node."""
OFFLOADED_PARAMETERS = "parameter_offload"
"""The engine option of shards that wait on the host."""

FROZEN = "frozen"
"""Word of all frozen parts of a vision tower together."""
FROZEN_PARTS = {"frozen_tower": "vision_tower", "frozen_projector": "projector"}
"""Words of the parts of a vision tower, each with the part's name in a scenario."""

NEUTRAL: Words = {
    "tensor_parallel": 1,
    "pipeline_parallel": 1,
    "virtual_pipeline": 1,
    "context_parallel": 1,
    "expert_parallel": 1,
    "expert_tensor_parallel": 1,
    "rank_order": "default",
    "optimizer_offload": False,
    "activation_offload": False,
    "recompute_modules": [],
    "recompute_granularity": "none",
    "later_stages_node": None,
    "uneven_stages": None,
    "placement": "colocated",
    "optimizer": "adamw",
    "precision": "bf16",
    "adapter": False,
    "zero_bubble": False,
    "recompute_group": 1,
    "quantised_rollout": None,
    "rollout_max_concurrency": None,
    "split_node": None,
    "trainer_stays": False,
    "rollout_sleeps": True,
    "eager": False,
    "log_prob_samples": None,
    "log_prob_tokens": None,
    "critic_model": None,
    FROZEN: None,
}
"""Decisions that need a word where they are not this; a launcher without one refuses them by name."""
WHERE = {
    "rank_order": ("cluster", "rank_order"),
    "placement": ("rl", "placement"),
    "optimizer": ("optimizer",),
    "precision": ("precision",),
    "adapter": ("adapter",),
    FROZEN: ("frozen",),
    "zero_bubble": ("layout", "schedule"),
    "uneven_stages": ("layout", "layers_per_stage"),
    "critic_model": ("rl", "critic_model"),
    "quantised_rollout": ("rl", "rollout", "precision"),
    "rollout_max_concurrency": ("rl", "rollout", "max_concurrency"),
    "split_node": ("rl", "rollout", "num_gpus"),
    "trainer_stays": ("rl", "trainer_on_gpu"),
    "rollout_sleeps": ("rl", "rollout", "sleeps"),
    "eager": ("rl", "rollout", "cuda_graphs"),
    "log_prob_samples": ("batch", "log_prob_micro_batch_size"),
    "log_prob_tokens": ("batch", "log_prob_max_tokens_per_gpu"),
}
"""Where a scenario states them; the others stand under layout."""
INSTEAD = {"uneven_stages": "even", "zero_bubble": "1f1b", "rollout_sleeps": "true", "eager": "true"}
"""What a scenario says for the usual value, where it is another word."""


def said(plan: Plan) -> Words:
    """Every decision of a plan, and the numbers that engines want instead. Counts are whole numbers.

    tokens_per_gpu: the cap up to which samples are packed (dynamic), else fixed_micro_batch_size; prompts_per_step:
    prompts of one optimizer step; training_nodes * gpus_per_node: GPUs that train; generating_nodes: of a rollout
    engine of its own; all_nodes: both; shard_ranks: of one copy of the state; state_copies, ranks_of_a_copy: where
    there may be several (hybrid sharding).
    """
    lay, problem = plan.layout, plan.problem
    out: Words = layout_document(plan)
    each = min(lay["num_gpus"], problem.node.gpus_per_host or problem.node.gpus_per_node)
    even = len(set(plan.layers)) == 1
    hybrid = HYBRID in settled(plan).engine_options
    ranks, copies = lay["data_parallel"] * lay["context_parallel"], copies_of(problem, lay) if hybrid else 1
    out |= {
        "model": problem.architecture.hf_id or problem.architecture.id,
        "training_nodes": lay["num_gpus"] // each,
        "gpus_per_node": each,
        "gradient_accumulation": lay["num_micro_batches"],
        "tokens_per_gpu": lay["max_tokens"] or None,
        "dynamic": bool(lay["max_tokens"]),
        "fixed_micro_batch_size": None if lay["max_tokens"] else lay["micro_batch_size"],
        "shard_ranks": ranks // copies,
        "parameters_offloaded": OFFLOADED_PARAMETERS in settled(plan).engine_options,
        "state_copies": copies if hybrid else None,
        "ranks_of_a_copy": ranks // copies if hybrid else None,
        "reshard": lay["zero_stage"] == 3,
        "all_recomputed": plan.recomputed == plan.layers,
        "adapter": settled(plan).adapter is not None,
        "zero_bubble": out.get("schedule") == "zb-h1",
        "uneven_stages": None if even else " ".join(map(str, plan.layers)),
        "first_stage_layers": None if even else plan.layers[0],
        "last_stage_layers": None if even else plan.layers[-1],
        "stage_layers": plan.layers[0] if even and lay["pipeline_parallel"] > 1 else None,
    }
    if out["recompute_modules"] and out["recompute_granularity"] == "none":
        out["recompute_granularity"] = "selective"
    out |= _frozen(plan)
    rl = settled(plan).rl
    if rl is None or plan.rollout is None:
        return out
    prompts, rest = divmod(plan.wish.rollout_batch_size, rl.steps_per_rollout)
    there = problem.generating.node
    beside = min(plan.rollout.num_gpus, there.gpus_per_host or there.gpus_per_node)
    return out | {
        "task_rl": True,
        "quantised_rollout": None if out["rollout_precision"] == problem.precision.id else out["rollout_precision"],
        "algorithm": rl.algorithm,
        "critic_model": None if (own := problem.work.critic) is None else own.hf_id or own.id,
        "reference": rl.reference_model,
        "asynchronous": problem.placement == ASYNCHRONOUS,
        "colocated": problem.colocated,
        "moves_weights": problem.colocated and not problem.stays("weights"),
        "moves_optimizer": problem.colocated and not problem.stays("optimizer"),
        "trainer_stays": bool(rl.trainer_on_gpu),
        "rollout_sleeps": rl.rollout.sleeps,
        "eager": not rl.rollout.cuda_graphs,
        "log_prob_samples": settled(plan).log_prob_samples,
        "log_prob_tokens": settled(plan).log_prob_tokens,
        "prompts_per_step": None if rest else prompts,
        "generating_gpus": None if problem.colocated else plan.rollout.num_gpus,
        "generating_nodes": None if problem.colocated else plan.rollout.num_gpus // beside,
        "all_nodes": lay["num_gpus"] // each + (0 if problem.colocated else plan.rollout.num_gpus // beside),
        "generating_gpus_per_node": None if problem.colocated else beside,
        "split_node": None
        if problem.colocated or plan.rollout.num_gpus % beside == 0
        else f"{plan.rollout.num_gpus} GPUs on nodes of {beside}",
        "rollout_engines": plan.rollout.num_gpus // plan.rollout.tensor_parallel,
    }


def _frozen(plan: Plan) -> Words:
    """Which parts of a vision tower are frozen, together and one by one; no word of it where the network has none, or
    an adapter trains."""
    if not plan.problem.architecture.vision_parameters or settled(plan).adapter is not None:
        return {}
    parts = [part for part in FROZEN_PARTS.values() if part in settled(plan).frozen]
    each = {word: part in parts for word, part in FROZEN_PARTS.items()}
    return {FROZEN: ", ".join(parts) or None, "frozen_language": False, **each}


def refuse_unsaid(plan: Plan, words: Mapping[str, Setting], spoken: set[str], launcher: str) -> None:
    """Raise InputError for a decision that is not the usual one and that a launcher has no word for."""
    for name, usual in NEUTRAL.items():
        if name in words and name not in spoken and words[name] != usual:
            where = WHERE.get(name, ("layout", name))
            raise refuse(
                plan,
                f"{launcher} has no word for {name} {words[name]}",
                f"its keys (catalogs/flags) say {', '.join(sorted(spoken & set(NEUTRAL))) or 'none of such decisions'}",
                f"{'.'.join(where)}: {INSTEAD.get(name, usual)}"
                if usual or name in INSTEAD
                else f"leave {'.'.join(where)} out",
                *where,
            )
