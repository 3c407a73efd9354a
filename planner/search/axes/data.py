"""Data parallelism, ZeRO stages, and how the global batch is cut into micro-batches."""

from __future__ import annotations

import numpy as np

from planner.problem.awake_together import has_critic
from planner.problem.choices import choose, divisors
from planner.problem.copies import sharded_copies
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.reference import sequences_together
from planner.search.axes.rule import Mask, Rule

TOKEN_CAPS = (4096, 8192, 12288, 16384, 20480, 24576, 32768, 49152, 65536)
"""Tokens a GPU up to which micro-batches are packed, tried beside the longest sample: from 4,608 to 32,768 in public
scripts of slime 0.3.1, 16,384 by default in verl."""

ON_HOST = ("adamw", "lion")
"""Optimizers that DeepSpeed has kernels for on the host (deepspeed/ops/adam, ops/lion) and accelerate hands it."""


def micro_batch_candidates(problem: Problem, global_batch_size: int, wish: int) -> list[tuple[int, int]]:
    """(sequences, most tokens a GPU) of micro-batches tried: fixed sizes, or packed ones.

    Fixed: divisors of the global batch up to the limit of the scenario.
    """
    batch, limit = problem.scenario.batch, problem.scenario.limits.max_sequences_per_micro_batch
    packing, asked = problem.engine.packing, batch.max_tokens_per_gpu
    if asked is None:
        asked = "any" if packing is not None and packing.usual and batch.micro_batch_size == "any" else "none"
    if asked == "none" or not problem.is_rl:
        sizes = [size for size in divisors(global_batch_size, limit) if size % sequences_together(problem) == 0]
        return [(size, 0) for size in choose(batch.micro_batch_size, sizes)]
    longest = problem.wishes[wish].sequence_length
    return [(1, tokens) for tokens in choose(asked, sorted({*TOKEN_CAPS, longest}))]


def zero_candidates(problem: Problem) -> list[int]:
    """ZeRO stages tried: those the engine offers."""
    return choose(problem.scenario.layout.zero_stage, sorted(problem.engine.zero_stages))


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.data_parallel == 1) | problem.engine.data_parallel)


def _pairs(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.micro_batch_size % sequences_together(problem) == 0)


def _chosen(problem: Problem, layouts: Layouts) -> Mask:
    values = np.unique(layouts.data_parallel).tolist()
    return np.isin(layouts.data_parallel, choose(problem.scenario.layout.data_parallel, values))


def _zero(problem: Problem, layouts: Layouts) -> Mask:
    return np.isin(layouts.zero_stage, problem.engine.zero_stages)


def _batch(problem: Problem, layouts: Layouts) -> Mask:
    """Packed micro-batches too: slime 0.3.1 hands its batch to Megatron's own calculator (initialize.py:79-86)."""
    shared = layouts.global_batch_size % np.maximum(layouts.data_parallel, 1) == 0
    return np.asarray((layouts.num_micro_batches >= 1) & (shared | (layouts.max_tokens == 0)))


def _longest(problem: Problem, layouts: Layouts) -> Mask:
    packing = problem.engine.packing
    holds = layouts.max_tokens * layouts.context_parallel >= layouts.sequence_length
    return np.asarray(holds | (layouts.max_tokens == 0) | (packing is None or not packing.holds_longest))


def _instances(problem: Problem, layouts: Layouts) -> Mask:
    count = sharded_copies(problem, layouts)
    ranks = layouts.data_parallel * layouts.context_parallel
    cut = layouts.expert_parallel * layouts.expert_tensor_parallel if problem.architecture.is_moe else 1
    experts = ranks * layouts.tensor_parallel // cut if problem.architecture.is_moe else ranks
    return np.asarray((ranks % count == 0) & (experts % count == 0))


def _offloads(problem: Problem) -> bool:
    return bool(problem.scenario.layout.optimizer_offload)


def _is_precision_aware(problem: Problem) -> bool:
    """Offloading, and moments in formats of their own, go through Megatron's precision-aware optimizer."""
    return _offloads(problem) or problem.engine.states.moment_bytes is not None


def _sharded(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.zero_stage >= 1) | (not _is_precision_aware(problem)))


def _adam(problem: Problem, layouts: Layouts) -> Mask:
    is_adam = np.array([optimizer.id == "adamw" for optimizer in problem.optimizers])
    return np.asarray(is_adam[layouts.optimizer] | (not _is_precision_aware(problem)))


def _on_host(problem: Problem, layouts: Layouts) -> Mask:
    has_kernel = np.array([optimizer.id in ON_HOST for optimizer in problem.optimizers])
    return np.asarray(has_kernel[layouts.optimizer] | (not _offloads(problem)))


def _muon(problem: Problem, layouts: Layouts) -> Mask:
    is_muon = np.array([optimizer.id == "muon" for optimizer in problem.optimizers])
    return np.asarray(~is_muon[layouts.optimizer] | (layouts.zero_stage < 3))


def _samples(problem: Problem, layouts: Layouts) -> Mask:
    samples = np.array([wish.samples for wish in problem.wishes])[layouts.wish]
    packed = (layouts.max_tokens > 0) & ("fixed_micro_batches" not in problem.scenario.engine_options)
    return np.asarray((not problem.is_rl) | packed | (samples % np.maximum(layouts.num_gpus, 1) == 0))


def _groups(problem: Problem, layouts: Layouts) -> Mask:
    group = np.array([wish.n_samples_per_prompt for wish in problem.wishes])[layouts.wish]
    return np.asarray((not problem.is_rl) | has_critic(problem) | (group > 1))


RULES = (
    Rule(
        "data_parallel_supported",
        "data_parallel above 1 needs data parallelism in the engine",
        _supported,
        "catalogs/engines, data_parallel",
        by_engine=True,
    ),
    Rule("data_parallel_chosen", "data_parallel is what the scenario asks for", _chosen),
    Rule(
        "zero_stage_offered",
        "zero_stage is one that the engine offers",
        _zero,
        "catalogs/engines, zero_stages",
        by_engine=True,
    ),
    Rule(
        "cap_holds_longest",
        "max_tokens_per_gpu times context_parallel holds the longest sample",
        _longest,
        "verl @1dda039b9 utils/seqlen_balancing.py:378; NeMo-RL data/packing/algorithms.py",
    ),
    Rule(
        "pairs_stay_together",
        "in task dpo micro_batch_size is even: both answers of a pair go through the network together",
        _pairs,
        "trl 1.16.0 trainer/dpo_trainer.py:146-200; LLaMA-Factory 0.9.5 data/collator.py, PairwiseDataCollator",
    ),
    Rule(
        "batch_divides",
        "global_batch_size is a multiple of micro_batch_size * data_parallel",
        _batch,
        "Megatron-LM core/num_microbatches_calculator.py:381-391; DeepSpeed and torchtitan alike",
    ),
)
ENGINE_RULES = (
    Rule(
        "optimizer_instances_divide",
        "copies of the sharded optimizer divide data_parallel * context_parallel, and the ranks that share experts",
        _instances,
        "Megatron-LM core/parallel_state.py:922-925,1447",
    ),
    Rule(
        "precision_aware_needs_sharding",
        "optimizer_offload and 16-bit moments need the distributed optimizer (zero_stage 1)",
        _sharded,
        "Megatron-LM megatron/training/arguments.py:1803-1812; core/optimizer/optimizer_config.py, __post_init__",
    ),
    Rule(
        "precision_aware_needs_adam",
        "optimizer_offload and 16-bit moments need optimizer adamw",
        _adam,
        "Megatron-LM megatron/training/arguments.py:1803-1812; core/optimizer/optimizer_config.py, __post_init__",
    ),
    Rule(
        "host_optimizer_has_kernel",
        "optimizer_offload needs optimizer adamw or lion: another becomes DeepSpeed's CPU Adam, or stops the run",
        _on_host,
        "accelerate 1.15.0 accelerator.py:2374-2383, utils/deepspeed.py:29-98; DeepSpeed 0.19.8 runtime/engine.py:2342",
    ),
    Rule(
        "muon_refuses_zero3",
        "optimizer muon needs zero_stage below 3, whose reduce_scatter OpenRLHF turns on",
        _muon,
        "DeepSpeed 0.19.8 runtime/zero/stage3.py:360; OpenRLHF 0.11.2 utils/deepspeed/deepspeed_utils.py:43-44",
    ),
    Rule(
        "fp8_parameters_need_fp8",
        "fp8_parameters needs a precision that computes in fp8",
        lambda problem, layouts: np.full(len(layouts), problem.precision.compute == "fp8"),
        "Megatron-LM core_v0.19.2 core/transformer/transformer_config.py:1439",
    ),
    Rule(
        "offloaded_parameters_need_zero3",
        "parameter_offload needs zero_stage 3",
        lambda problem, layouts: np.asarray((layouts.zero_stage == 3) | (not problem.weights_on_host)),
        "DeepSpeed 0.19.8 runtime/zero/config.py, offload_param: valid only with stage 3",
    ),
    Rule(
        "samples_divide_gpus",
        "in micro-batches of a fixed number of samples, those of a rollout are a multiple of the GPU count",
        _samples,
        "verl utils/config.py, validate_config: FSDP's smallest batch is n_gpus",
    ),
    Rule(
        "groups_need_samples",
        "without a critic n_samples_per_prompt is above 1: advantages are relative to the group",
        _groups,
        "OpenRLHF 0.11 cli/train_ppo_ray.py: group estimators need n_samples_per_prompt > 1",
    ),
)
