"""How an engine runs the layers of a network that do not attend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.schema.architecture import Architecture
    from planner.schema.engine import Engine
    from planner.schema.engine_parts import LinearAttention


def beside_attention(engine: Engine, architecture: Architecture) -> LinearAttention | None:
    """What its file says of linear attention, or of Mamba-2 where the network has it; None where nobody has looked."""
    return engine.mamba if architecture.is_hybrid else engine.linear_attention
