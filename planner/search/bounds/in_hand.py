"""A plan met on the way: what is answered where the time is up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InHand:
    """A point that fits."""

    row: int
    """Its place in the layouts that were looked at."""
    layers: tuple[int, ...]
    recomputed: tuple[int, ...]
    seconds: float
    """No less than its step takes."""
    choice: int | None = None
    """Place of the rollout choice beside it, where there is a rollout engine."""
