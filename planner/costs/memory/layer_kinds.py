"""Which kinds of layers a pipeline stage holds, where some layers attend and the others have linear attention."""

from __future__ import annotations

import numpy as np

from planner.formulas.stages import stage_chunks
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.problem.stage_choices import listed_layers


def full_attention_share(problem: Problem, layouts: Layouts, stage: Ints) -> Floats:
    """Share of a stage's layers that attend in full: 1 where all layers do.

    Stages of networks with linear attention are even or listed, so that their layers are known. A chunk's layers follow
    one another, and the chunks of one stage stand pipeline_parallel chunks apart.

    Source: Megatron-LM @d98e8a64d megatron/core/transformer/transformer_layer.py, get_transformer_layer_offset.
    """
    interval = problem.architecture.full_attention_interval
    shape = np.broadcast_shapes(np.shape(layouts.pipeline_parallel), np.shape(stage))
    if interval is None:
        return np.ones(shape)
    split = listed_layers(problem)
    if split is not None:
        return _listed(split, layouts, np.broadcast_to(stage, shape), interval)
    stages, chunks = layouts.pipeline_parallel, layouts.virtual_pipeline
    each = problem.architecture.num_hidden_layers // (stages * chunks)
    full = np.zeros(shape)
    for chunk in range(int(np.max(chunks, initial=1))):
        before = (chunk * stages + stage) * each
        full = full + np.where(chunk < chunks, (before + each) // interval - before // interval, 0)
    return np.asarray(full / np.maximum(each * chunks, 1))


def _listed(split: list[int], layouts: Layouts, stage: Ints, interval: int) -> Floats:
    """The same of stages with these numbers of layers, for each number of chunks."""
    chunks = np.broadcast_to(layouts.virtual_pipeline, np.shape(stage))
    out = np.ones(np.shape(stage))
    for count in np.unique(chunks).tolist():
        parts, start = stage_chunks(split, count), 0
        full = [0] * len(split)
        for chunk in range(count):
            for place, layers in enumerate(parts):
                full[place] += (start + layers[chunk]) // interval - start // interval
                start += layers[chunk]
        shares = np.array([f / max(layers, 1) for f, layers in zip(full, split, strict=True)])
        out = np.where(chunks == count, shares[np.minimum(stage, len(split) - 1)], out)
    return np.asarray(out)


def linear_cut(problem: Problem, tensor_parallel: Ints) -> Ints:
    """Ranks over which the heads of linear attention are cut: those of tensor parallelism, or one."""
    said = problem.engine.linear_attention
    return tensor_parallel if said is None or said.heads_cut else np.ones_like(tensor_parallel)
