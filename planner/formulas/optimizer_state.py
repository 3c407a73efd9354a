"""State of optimizers that do not keep a fixed number of bytes an element: factored and projected moments."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from planner.formulas.parameters import ALL_LINEAR, adapted_shapes, target_names

if TYPE_CHECKING:
    from planner.schema.catalog import Architecture

Measure = Callable[[int, int], float]
"""Something that one matrix of (inputs, outputs) has."""
MLP = ("gate_proj", "up_proj", "down_proj")


def elements(inputs: int, outputs: int) -> float:
    """Elements of a matrix."""
    return float(inputs * outputs)


def factored(inputs: int, outputs: int) -> float:
    """Statistics of a factored second moment: a row and a column.

    Source: Shazeer and Stern 2018, arXiv:1804.04235, algorithm 4.
    """
    return float(inputs + outputs)


def projected(rank: int, *, moment_bytes: float, projector_bytes: float) -> Measure:
    """Bytes of moments in a projection onto `rank` directions of the shorter side, and of the projector. [bytes]

        moment_bytes r max(m, n) + projector_bytes r min(m, n)      plain moments where r >= min(m, n)

    Source: Zhao et al. 2024, GaLore, arXiv:2403.03507, table 1: m n + m r + 2 n r with the weights, m <= n.
    """

    def measure(inputs: int, outputs: int) -> float:
        short, long = min(inputs, outputs), max(inputs, outputs)
        return (
            moment_bytes * rank * long + projector_bytes * rank * short if rank < short else moment_bytes * short * long
        )

    return measure


def over_layer(architecture: Architecture, measure: Measure, *, moe_layer: bool) -> tuple[float, float]:
    """(dense, expert) sum of a measure over the matrices of one layer; the router is left out, it is small.

    Every expert's matrices count on their own, as Transformers named them until 4.57.
    """
    hidden = architecture.hidden_size
    names = target_names(architecture, [ALL_LINEAR])
    shapes = dict(zip(names, adapted_shapes(architecture, names), strict=True))
    attention = sum(measure(*shape) for name, shape in shapes.items() if name not in MLP)
    mlp = [name for name in names if name in MLP]

    def wide(width: int) -> float:
        return sum(measure(width, hidden) if name == "down_proj" else measure(hidden, width) for name in mlp)

    if not moe_layer:
        return attention + wide(architecture.intermediate_size), 0.0
    shared = architecture.shared_expert_intermediate_size
    expert = wide(architecture.moe_intermediate_size or 0)
    return attention + (wide(shared) if shared else 0.0), expert * (architecture.num_experts or 0)
