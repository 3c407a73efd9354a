"""The end of a backward pass that makes its gradients as it goes: nearly all of them are there, activations are not."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.problem.layouts import Floats

END_OF_BACKWARD = "end_of_backward"
"""Key of the moment."""
TIED = (
    "autograd holds the head's gradient of a tied table until the embedding's is made, and adds both into a third "
    "(torch 2.13.0: embedding_dense_backward and add in validation/autograd/steps.py; a profile of two layers on a CPU)"
)


def first_layer_or_tied_table(stage: StageParameters, running: Floats, source: str) -> tuple[Item, ...]:
    """What lies beside the gradients of all parameters, at the larger of two moments. [bytes]

    `running` is what the stage's first layer keeps and makes, for one micro-batch, and `source` says how it is told.
    Its own gradients come with it, and the embedding's after it. With several micro-batches gradients are there
    already, and new ones are added in place.
    """
    problem = stage.problem
    several = stage.layouts.num_micro_batches > 1
    later = stage.sharded(stage.first_parameters, 2) * problem.gradient_bytes
    first = np.maximum(0.0, running - np.where(several, 0.0, later))
    table = stage.tied_table * problem.gradient_bytes * (stage.layouts.zero_stage < 3)
    tied = table * np.where(several, 3.0, 2.0)
    return (
        Item(ItemName.LAYER_RUNNING_BACKWARD, first, source),
        Item(ItemName.PARTS_OF_A_TIED_TABLES_GRADIENT, np.maximum(0.0, tied - first), TIED),
    )
