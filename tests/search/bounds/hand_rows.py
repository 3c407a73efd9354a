"""Rows of a real scenario whose costs are written by hand, so that a bound can be checked with a pencil."""

from __future__ import annotations

from typing import Any

import numpy as np

from planner.costs.coefficients import Coefficients, RowCosts
from planner.inputs.document import document_of
from planner.problem.layouts import Floats
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.search.grid import Rounded, limit_bytes
from planner.search.space import build_space

LAYERS = 12
"""Of gpt2."""
UNITS = 8.0
"""What a stage may hold, in the unit in which `hand_rows` takes memory."""


def hand_rows(
    *,
    stages: int,
    rows: int = 1,
    time: tuple[Any, Any, Any],
    heavy: float = 1.0,
    light: float = 0.0,
    memory: tuple[Any, Any, Any] = (0.0, 0.0, 0.0),
    recomputation: tuple[Any, Any, Any] = (0.0, 0.0, 0.0),
    **layout: Any,
) -> tuple[Question, Rounded]:
    """So many rows of `stages` stages with the given costs.

    (a layer, a recomputed layer, whatever the layers) by stage: seconds in `time`, eighths of what a stage may hold in
    `memory`, and in `recomputation` the same where a layer is recomputed.
    """
    scenario = {
        "name": "hand",
        "task": "pretrain",
        "model": "gpt2",
        "engine": "megatron-core",
        "precision": "bf16",
        "cluster": {"node": "hgx-h100-8", "num_gpus": stages},
        "batch": {"sequence_length": 512, "global_batch_size": 8 * rows, "micro_batch_size": [1, 2, 4, 8][:rows]},
        "layout": {"tensor_parallel": 1, "pipeline_parallel": stages, "virtual_pipeline": 1, "zero_stage": 1} | layout,
        "optimizer": "adamw",
        "limits": {"headroom_gib": 4},
    }
    question = question_of(document_of(scenario))
    space = build_space(question)
    assert len(space.layouts) == rows, space.removed
    costs = RowCosts(question, space.layouts)
    unit = limit_bytes(question) / UNITS

    def table(values: tuple[Any, Any, Any], scale: float) -> Coefficients:
        wide: list[Floats] = [np.broadcast_to(np.asarray(v, dtype=float), (rows, stages)) * scale for v in values]
        return Coefficients(*wide)

    whole = np.ones(rows)
    costs.__dict__["time"] = {"train": (table(time, 1.0), heavy * whole, light * whole)}
    costs.__dict__["memory"] = {"backward": table(memory, unit), "recomputation": table(recomputation, unit)}
    return question, Rounded(costs, None, 1e-6, 1024.0)
