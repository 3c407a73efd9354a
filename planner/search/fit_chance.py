"""Interval of a plan's peak and chance that it fits, over the phases of its step.

Both are of what the allocator would hold on a card with room for it: published figures are.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.inputs.memory_spread import MemorySpread
from planner.search.plan_ledgers import PhaseMemory


def interval_of(spread: MemorySpread | None, phase: PhaseMemory) -> tuple[float, float] | None:
    """Bounds of one stage in one phase with 90 %; None where no run was scored. [GiB]"""
    given = phase.assumed_gib, phase.set_aside_gib
    return None if spread is None else spread.interval_gib(phase.wanted_gib, *given)


def largest_interval(spread: MemorySpread | None, phases: Iterable[PhaseMemory]) -> tuple[float, float] | None:
    """Each end the largest over the phases: the fullest need not be the least certain one. [GiB]"""
    bounds = [each for phase in phases if (each := interval_of(spread, phase)) is not None]
    return (max(low for low, _ in bounds), max(high for _, high in bounds)) if bounds else None


def least_chance(spread: MemorySpread | None, phases: Iterable[tuple[PhaseMemory, float]]) -> float | None:
    """Of (phase, what it must stay under in GiB) the least chance: one engine's errors go together."""
    places = list(phases)
    if spread is None or any(limit <= 0 for _, limit in places):
        return None
    return min(spread.fit_probability(p.wanted_gib, limit, p.assumed_gib, p.set_aside_gib) for p, limit in places)
