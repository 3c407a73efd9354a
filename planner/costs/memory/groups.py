"""Groups of layers that are recomputed together: one input is kept for each, and all layers of one are rebuilt at once.

    inputs of a stage = recomputed / N + chunks (1 - 1 / N),  rebuilt = N layers

The second term is there only where N does not divide the layers of each chunk: the last group of a chunk is smaller
then, and this is the most it adds, so that memory stays affine in the layers.
Source: Chen et al. 2016, arXiv:1604.06174 (N = sqrt(layers)); Megatron-LM core/transformer/transformer_block.py,
_checkpointed_forward with recompute_method uniform.
"""

from __future__ import annotations

import numpy as np

from planner.problem.layouts import Floats, Layouts
from planner.problem.problem import Problem
from planner.problem.stage_choices import is_free


def group_of_layers(problem: Problem, layouts: Layouts) -> tuple[Floats, Floats]:
    """(layers of a group, inputs that a stage keeps beyond its recomputed layers over that). [layers]"""
    spec, split = problem.scenario.layout.recompute_group, problem.scenario.layout.layers_per_stage
    chunks = layouts.virtual_pipeline
    each = problem.architecture.num_hidden_layers / (layouts.pipeline_parallel * chunks)
    longest = np.ceil(max(split) / chunks) if isinstance(split, list) else np.ceil(each)
    if spec == "sqrt":
        size = np.maximum(1.0, np.rint(np.sqrt(each)))
    else:
        assert isinstance(spec, int)
        size = spec + 0.0 * each
    size = size if is_free(problem) and spec != "sqrt" else np.minimum(size, longest)
    stages = split if isinstance(split, list) else [each * chunks]
    whole = np.logical_and.reduce([layers % (size * chunks) == 0 for layers in stages]) & (not is_free(problem))
    return size, np.where(whole | (size == 1), 0.0, chunks * (1.0 - 1.0 / size))
