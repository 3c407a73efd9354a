"""What engines say of networks whose layers have linear attention, and what of them is not counted."""

from __future__ import annotations

from planner.errors import Mistake
from planner.inputs.document import Document
from planner.schema.catalog import Architecture
from planner.schema.engine import Engine
from planner.schema.scenario import Scenario


def linear_attention(
    document: Document, scenario: Scenario, architecture: Architecture, engine: Engine
) -> list[Mistake]:
    """Engines that build no layers with linear attention, or of which that is not known."""
    if not architecture.is_linear:
        return []
    said, where = engine.linear_attention, document.place(("model",))
    if said is not None and said.supported:
        return []
    what = f"engine {engine.id} is not known to train {architecture.id}, whose layers have linear attention"
    because = "its catalog file has no linear_attention" if said is None else said.source
    return [Mistake(what, where, because, "an engine whose file has it (planner catalog show engines NAME)")]
