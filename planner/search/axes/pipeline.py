"""Pipeline parallelism and its interleaved schedule."""

from __future__ import annotations

import numpy as np

from planner.problem.choices import choose, divisors
from planner.problem.layouts import Layouts
from planner.problem.problem import Problem
from planner.problem.stage_choices import is_free
from planner.search.axes.rule import Mask, Rule

MOST_CHUNKS = 16
FEW_CHUNKS = 4
"""More chunks than these are not tried unless the scenario names them: the second where layers do not divide."""


def candidates(problem: Problem, num_gpus: int) -> list[int]:
    """Degrees tried: divisors of the GPU count up to the number of layers."""
    usual = divisors(num_gpus, problem.architecture.num_hidden_layers) if problem.engine.pipeline.supported else [1]
    return choose(problem.scenario.layout.pipeline_parallel, usual)


def virtual_candidates(problem: Problem) -> list[int]:
    """Chunks a stage tried: divisors of the layer count up to 16, and 2 to 4 where chunks may differ."""
    layers = problem.architecture.num_hidden_layers
    usual = divisors(layers, MOST_CHUNKS) if problem.engine.pipeline.virtual else [1]
    if problem.engine.pipeline.virtual and problem.engine.pipeline.uneven_chunks and is_free(problem):
        usual = sorted({*usual, *range(1, min(layers, FEW_CHUNKS) + 1)})
    return choose(problem.scenario.layout.virtual_pipeline, usual)


def _supported(problem: Problem, layouts: Layouts) -> Mask:
    pipeline = problem.engine.pipeline
    plain = (layouts.pipeline_parallel == 1) | pipeline.supported
    return np.asarray(plain & ((layouts.virtual_pipeline == 1) | pipeline.virtual))


def _enough_layers(problem: Problem, layouts: Layouts) -> Mask:
    chunks = layouts.pipeline_parallel * layouts.virtual_pipeline
    listed = isinstance(problem.scenario.layout.layers_per_stage, list)
    alone = 2 * (listed & problem.engine.pipeline.uneven_chunks & (layouts.virtual_pipeline > 1))
    enough = problem.architecture.num_hidden_layers + alone >= chunks
    return np.asarray(enough | (listed & (layouts.virtual_pipeline == 1)))


def _layers(problem: Problem, layouts: Layouts) -> Mask:
    spec, chunks = problem.scenario.layout.layers_per_stage, layouts.virtual_pipeline
    layers, alike = problem.architecture.num_hidden_layers, not problem.engine.pipeline.uneven_chunks
    if isinstance(spec, list):
        fits = (sum(spec) == layers) & (layouts.pipeline_parallel == len(spec))
        for stage, count in enumerate(spec):
            # Embedding and loss may stand alone in the first and the last chunk.
            alone = ((stage == 0) | (stage == len(spec) - 1)) & (chunks > 1)
            fits = fits & ((count % chunks == 0) if alike else (count >= chunks - alone))
        return np.asarray(fits)
    if is_free(problem):
        return np.asarray((layers % chunks == 0) | (not alike))
    return np.asarray(layers % (layouts.pipeline_parallel * chunks) == 0)


def _schedule(problem: Problem, layouts: Layouts) -> Mask:
    p, m = layouts.pipeline_parallel, layouts.num_micro_batches
    group = problem.engine.pipeline.group_size or p
    rest = m % group
    fits = (p > 1) & (p <= group) & (group <= m) & ((rest == 0) | (rest >= p))
    return np.asarray((layouts.virtual_pipeline == 1) | fits)


def _rounds(problem: Problem, layouts: Layouts) -> Mask:
    p, m = layouts.pipeline_parallel, layouts.num_micro_batches
    looped = (layouts.virtual_pipeline > 1) | (problem.scenario.layout.schedule == "zb-h1")
    alone = (layouts.virtual_pipeline > 1) & (p == 1)
    return np.asarray(~looped | (~alone & (m % np.maximum(m // p, 1) == 0)))


def _filled(problem: Problem, layouts: Layouts) -> Mask:
    looped = (layouts.virtual_pipeline > 1) | (problem.scenario.layout.schedule == "zb-h1")
    p = layouts.pipeline_parallel
    return np.asarray(looped | (p == 1) | (layouts.num_micro_batches >= p))


def _warmed_up(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.num_micro_batches >= layouts.pipeline_parallel - 1)


def _untied(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray((layouts.pipeline_parallel == 1) | (not problem.architecture.tie_word_embeddings))


def _pipelined(problem: Problem, layouts: Layouts) -> Mask:
    return np.asarray(layouts.pipeline_parallel > 1)


def _fused(problem: Problem, layouts: Layouts) -> Mask:
    return np.full(len(layouts), "unfused_gradient_accumulation" not in problem.scenario.engine_options)


def _named_schedule(problem: Problem, layouts: Layouts) -> Mask:
    name, v = problem.scenario.layout.schedule, layouts.virtual_pipeline
    if name is None:
        return np.ones(len(layouts), dtype=bool)
    if name == "zb-h1" and "layout.schedule" in dict(problem.settings):
        return np.asarray((v == 1) & (layouts.pipeline_parallel > 1))  # one stage is the usual schedule's row already
    return np.asarray(v > 1 if name == "interleaved" else v == 1)


def _two_directions(problem: Problem, layouts: Layouts) -> Mask:
    p, m = layouts.pipeline_parallel, layouts.num_micro_batches
    return np.asarray((p == 1) | ((p % 2 == 0) & (m % 2 == 0) & (m >= 2 * p)))


def _leading_dense(problem: Problem, layouts: Layouts) -> Mask:
    dense = problem.parameters.num_dense_layers if problem.architecture.is_moe else 0
    spec = problem.scenario.layout.layers_per_stage
    if is_free(problem):
        # Every split the solver may choose keeps to this; here only that one exists.
        return np.asarray(problem.architecture.num_hidden_layers - (layouts.pipeline_parallel - 1) >= dense)
    first = spec[0] if isinstance(spec, list) else problem.architecture.num_hidden_layers // layouts.pipeline_parallel
    return np.asarray(first >= dense) & np.ones(len(layouts), dtype=bool)


def _two_pools(problem: Problem, layouts: Layouts) -> Mask:
    if not problem.first_gpus:
        return np.ones(len(layouts), dtype=bool)
    stages, share = layouts.pipeline_parallel, layouts.pipeline_parallel * problem.first_gpus
    return np.asarray((share % layouts.num_gpus == 0) & (share >= layouts.num_gpus) & (stages > 1))


RULES = (
    Rule(
        "stages_fill_pools",
        "with layout.later_stages_on each pool holds whole stages: pipeline_parallel times its share of GPUs is whole",
        _two_pools,
    ),
    Rule(
        "pipeline_supported",
        "pipeline_parallel and virtual_pipeline above 1 need a pipeline, and interleaving, in the engine",
        _supported,
        "catalogs/engines, pipeline",
        by_engine=True,
    ),
    Rule(
        "schedule_chosen",
        "layout.schedule interleaved has several chunks a stage, 1f1b and zb-h1 have one",
        _named_schedule,
        "arXiv:2104.04473; arXiv:2401.10241",
    ),
    Rule(
        "enough_layers",
        "every stage and chunk has at least one layer, but for last stages listed without any, and chunks of listed "
        "ends in which embedding or loss stand alone",
        _enough_layers,
    ),
    Rule(
        "leading_dense_layers",
        "the first stage holds all leading dense layers (planner counts them nowhere else; engines take other splits)",
        _leading_dense,
        "a simplification of planner's: Megatron-LM core_v0.19.0 builds GLM-4.5 and DeepSeek-V3 otherwise too",
    ),
    Rule(
        "layers_divide_pipeline",
        "layers divide over stages and chunks as layers_per_stage says: evenly, or as the engine can be told",
        _layers,
        "Megatron-LM megatron/training/arguments.py:934-963; core/transformer/pipeline_parallel_layer_layout.py",
    ),
)
ENGINE_RULES = (
    Rule(
        "virtual_pipeline_schedule",
        "interleaving needs pipeline_parallel > 1, and micro-batches in groups of pipeline_parallel, or of a larger "
        "stated size, of which none is left smaller than pipeline_parallel",
        _schedule,
        "Megatron-LM core/pipeline_parallel/schedules.py:1132-1153; megatron/training/arguments.py:966-976",
    ),
    Rule(
        "micro_batches_divide_rounds",
        "interleaved and zero-bubble pipelines need stages on several ranks, and as many micro-batches in each round "
        "of pipeline_parallel",
        _rounds,
        "torch 2.13 distributed/pipelining/schedules.py:2938,3049",
    ),
    Rule(
        "micro_batches_fill_pipeline",
        "1F1B needs at least pipeline_parallel micro-batches",
        _filled,
        "torch 2.13 distributed/pipelining/schedules.py:1020",
    ),
    Rule(
        "micro_batches_fill_warmup",
        "1F1B needs at least pipeline_parallel - 1 micro-batches",
        _warmed_up,
        "nanotron parallel/pipeline_parallel/engine.py, OneForwardOneBackwardPipelineEngine",
    ),
    Rule(
        "two_directions",
        "DualPipe needs an even pipeline_parallel, and an even number of micro-batches, at least twice as many",
        _two_directions,
        "deepseek-ai/DualPipe @bb214e82 dualpipe/dualpipe.py, DualPipe.step",
    ),
    Rule(
        "tied_weights_refuse_pipeline",
        "tied embeddings need pipeline_parallel 1",
        _untied,
        "torchtitan models/common/decoder.py:140-158 (0.3.0)",
    ),
    Rule(
        "deferral_needs_pipeline",
        "deferred_embedding_gradient needs pipeline_parallel above 1",
        _pipelined,
        "Megatron-LM core/model_parallel_config.py, __post_init__",
    ),
    Rule(
        "deferral_needs_fusion",
        "deferred_embedding_gradient excludes unfused_gradient_accumulation",
        _fused,
        "Megatron-LM core/model_parallel_config.py, __post_init__",
    ),
)
