"""Which kinds of layers a pipeline stage holds, where a network has several: attention of one kind or another, or
layers of one block alone."""

from __future__ import annotations

import numpy as np

from planner.formulas.stages import stage_chunks
from planner.problem.layouts import Floats, Ints, Layouts
from planner.problem.problem import Problem
from planner.problem.stage_choices import listed_layers
from planner.schema.architecture import LayerKind
from planner.schema.beside_attention import beside_attention


def kind_share(problem: Problem, layouts: Layouts, stage: Ints, kind: LayerKind) -> Floats:
    """Share of a stage's layers that are of a kind.

    Stages of networks with several kinds are even or listed, so that their layers are known. A chunk's layers follow
    one another, and the chunks of one stage stand pipeline_parallel chunks apart.

    Source: Megatron-LM @d98e8a64d megatron/core/transformer/transformer_layer.py, get_transformer_layer_offset.
    """
    a = problem.architecture
    shape = np.broadcast_shapes(np.shape(layouts.pipeline_parallel), np.shape(stage))
    if a.kinds == (kind,):
        return np.ones(shape)
    of_kind = [a.kind_of(place) == kind for place in range(a.num_hidden_layers)]
    before = np.concatenate([[0], np.cumsum(of_kind)])
    split = listed_layers(problem)
    if split is not None:
        return _listed(split, layouts, np.broadcast_to(stage, shape), before)
    stages, chunks = layouts.pipeline_parallel, layouts.virtual_pipeline
    each = a.num_hidden_layers // (stages * chunks)
    found = np.zeros(shape)
    for chunk in range(int(np.max(chunks, initial=1))):
        start = np.minimum((chunk * stages + stage) * each, a.num_hidden_layers - each)
        found = found + np.where(chunk < chunks, before[start + each] - before[start], 0)
    return np.asarray(found / np.maximum(each * chunks, 1))


def first_kind(problem: Problem, layouts: Layouts, stage: Ints) -> Ints:
    """Place among the network's kinds of the first layer of a stage."""
    a, split = problem.architecture, listed_layers(problem)
    shape = np.broadcast_shapes(np.shape(layouts.pipeline_parallel), np.shape(stage))
    kinds = np.array([a.kinds.index(a.kind_of(place)) for place in range(a.num_hidden_layers)])
    if split is not None:
        start = np.concatenate([[0], np.cumsum(split)])[np.minimum(np.broadcast_to(stage, shape), len(split) - 1)]
    else:
        start = np.asarray(stage * (a.num_hidden_layers // (layouts.pipeline_parallel * layouts.virtual_pipeline)))
    return np.asarray(kinds[np.broadcast_to(np.minimum(start, a.num_hidden_layers - 1), shape)])


def _listed(split: list[int], layouts: Layouts, stage: Ints, before: Ints) -> Floats:
    """The same of stages with these numbers of layers, for each number of chunks; `before` counts layers of the kind
    ahead of each layer."""
    chunks = np.broadcast_to(layouts.virtual_pipeline, np.shape(stage))
    out = np.ones(np.shape(stage))
    for count in np.unique(chunks).tolist():
        parts, start = stage_chunks(split, count), 0
        found = [0] * len(split)
        for chunk in range(count):
            for place, layers in enumerate(parts):
                found[place] += int(before[start + layers[chunk]] - before[start])
                start += layers[chunk]
        shares = np.array([f / max(layers, 1) for f, layers in zip(found, split, strict=True)])
        out = np.where(chunks == count, shares[np.minimum(stage, len(split) - 1)], out)
    return np.asarray(out)


def linear_cut(problem: Problem, tensor_parallel: Ints) -> Ints:
    """Ranks over which the heads of linear attention or Mamba-2 are cut: those of tensor parallelism, or one."""
    said = beside_attention(problem.engine, problem.architecture)
    return tensor_parallel if said is None or said.heads_cut else np.ones_like(tensor_parallel)
