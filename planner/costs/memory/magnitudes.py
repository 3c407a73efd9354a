"""DoRA's weight norm, which its magnitudes are divided by."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.formulas.parameters import adapted_shapes
from planner.problem.layouts import Floats
from planner.problem.problem import Problem


def norm_under_magnitudes(problem: Problem, running: Floats) -> list[Item]:
    """The norm of the largest adapted matrix, in the forward pass, beyond what `running` takes later. [bytes]"""
    adapter, norm = problem.scenario.adapter, problem.engine.magnitude_norm
    if adapter is None or adapter.variant != "dora" or norm is None:
        return []
    shapes = adapted_shapes(problem.architecture, adapter.targets)
    largest = max(norm.matrix_bytes * into * out + norm.input_bytes * into**2 for into, out in shapes)
    return [Item(ItemName.NORM_UNDER_MAGNITUDES, np.maximum(0.0, largest - running), norm.source)]
