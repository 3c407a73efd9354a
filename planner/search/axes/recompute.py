"""Which layers and modules run their forward pass again."""

from __future__ import annotations

import numpy as np

from planner.problem.choices import choose
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.stage_choices import is_free
from planner.search.axes.rule import Mask, Rule

IN_FP8 = {"layernorm", "moe_act"}


def _offered(problem: Problem, layouts: Layouts) -> Mask:
    asked, offered = problem.scenario.layout.recomputed_layers, problem.engine.recompute
    full = "full" in offered.granularities
    if asked in ("any", "all"):
        return np.full(len(layouts), full or asked == "any")
    split, layers = problem.scenario.layout.layers_per_stage, problem.architecture.num_hidden_layers
    if isinstance(split, list):
        most = np.full(len(layouts), max(split))
    else:
        stages = layouts.pipeline_parallel
        most = layers - stages + 1 if is_free(problem) else layers // stages
    wanted = choose(asked, [0, *range(1, layers + 1)])
    if 0 in wanted or not full:
        return np.full(len(layouts), 0 in wanted)
    if not is_free(problem) and (not offered.partial or problem.scenario.layout.recompute_method == "uniform"):
        return np.isin(most, wanted)
    return np.asarray(min(wanted, default=layers + 1) <= most)


def _latents(problem: Problem, layouts: Layouts) -> Mask:
    asked = "mla_up_proj" in problem.scenario.layout.recompute_modules
    return np.full(len(layouts), problem.architecture.is_mla or not asked)


def _grouped(problem: Problem, layouts: Layouts) -> Mask:
    asked = "moe_act" in problem.scenario.layout.recompute_modules
    grouped = problem.architecture.is_moe and "sequential_experts" not in problem.scenario.engine_options
    return np.full(len(layouts), grouped or not asked)


def _experts_alone(problem: Problem, layouts: Layouts) -> Mask:
    """Asked where an option is on that works inside the expert layer, which one checkpoint would hold."""
    return np.full(len(layouts), "moe" not in problem.scenario.layout.recompute_modules)


def _delayed(problem: Problem, layouts: Layouts) -> Mask:
    delayed = problem.precision.compute == "fp8" and "block_scaled_fp8" not in problem.scenario.engine_options
    return np.full(len(layouts), not (delayed and IN_FP8 & set(problem.scenario.layout.recompute_modules)))


RULES = (
    Rule(
        "recomputed_layers_exist",
        "recomputed_layers is at most the layers of a stage (none or all where engine or method takes no part of it); "
        "beside recompute_modules, or an option that excludes it, 0",
        _offered,
        "Megatron-LM core/transformer/transformer_config.py: selective needs recompute_num_layers None, and nothing "
        "checks it against the layers; torchtitan activation-checkpoint:{selective,full,none}",
        by_engine=True,
    ),
)
ENGINE_RULES = (
    Rule(
        "recompute_needs_latents",
        "recompute_modules mla_up_proj needs multi-head latent attention",
        _latents,
        "Megatron-LM core/transformer/transformer_config.py, recompute_modules",
    ),
    Rule(
        "recompute_needs_grouped_experts",
        "recompute_modules moe_act needs experts in grouped products",
        _grouped,
        "Megatron-LM core/transformer/transformer_config.py, recompute_modules",
    ),
    Rule(
        "recompute_of_experts_alone",
        "recompute_modules moe excludes what divides or moves the expert layer's inside: moe_a2a_overlap, "
        "scoped_cuda_graphs, activation_offload",
        _experts_alone,
        "Megatron-LM @d98e8a64 core/transformer/transformer_config.py lines 2165, 2862 and 3031",
    ),
    Rule(
        "recompute_needs_block_scales",
        "recompute_modules layernorm and moe_act need block scales in fp8, not delayed scaling (the default recipe)",
        _delayed,
        "Megatron-LM core/transformer/transformer_config.py, recompute_modules; --fp8-recipe",
    ),
)
