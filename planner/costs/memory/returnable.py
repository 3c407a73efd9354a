"""What an allocator holds and can give back: estimated beside live memory, and no reason by itself why a run must fail.

PyTorch's caching allocator frees what it only caches, waits for the events of `record_stream`, and tries again before
it raises an out-of-memory error (c10/cuda/CUDACachingAllocator.cpp @001074d25, `malloc` and `release_cached_blocks`).
So a layout whose live tensors, with what lies outside the allocator, exceed a GPU cannot run there; one that only these
items would fill starts, and is slow. Blocks of which a part is in use cannot be given back: see docs/memory.md.

This is the one place that says which items these are, what a limit counts, and how much of them fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.problem.problem import Problem, Question
from planner.schema.engine import Engine

RETURNABLE = (
    ItemName.ALLOCATOR_RESERVE,
    ItemName.ROOM_KEPT_FOR_GRADIENTS,
    ItemName.BLOCKS_OF_THE_STEP,
    ItemName.CACHED_BLOCKS_OF_OTHER_LENGTHS,
)
"""Items in which no live tensor lies: freed blocks, kept for the next allocation."""
_BYTE_GIB = 2.0**-30


def counted(problem: Problem, items: Iterable[Item]) -> list[Item]:
    """The items of a ledger that the problem's limit counts: all, or those that cannot be given back."""
    return [item for item in items if problem.reserve_counted or item.name not in RETURNABLE]


def of_live_memory(question: Question) -> Question:
    """The question whose limits count nothing that can be given back; the same one where there is nothing of it.

    Nor where the user demands headroom: an allocator gives nothing back before the card is full, so that what it holds
    takes of what is to stay free.
    """
    engines = [problem.engine for problem in question.problems]
    pools = [m for p in question.problems for m in (p.machines, p.rollout_machines, p.later_machines) if m is not None]
    if any(machines.demanded_headroom_gib for machines in pools) or not any(map(_holds_more, engines)):
        return question
    return replace(question, problems=tuple(replace(each, reserve_counted=False) for each in question.problems))


def _holds_more(engine: Engine) -> bool:
    apart = engine.reserve.gradients_apart or bool(engine.reserve.step_blocks)
    return engine.reserve.median > 1 or apart or bool(engine.cached)


def room_for(amounts: Sequence[tuple[str, float]], usable_gib: float) -> list[float]:
    """How much of each named amount the card holds: what can be given back fills at most what the rest leaves. [GiB]"""
    left = max(0.0, usable_gib - _BYTE_GIB - sum(amount for name, amount in amounts if name not in RETURNABLE))
    out = []
    for name, amount in amounts:
        if name in RETURNABLE:
            amount = min(amount, left)
            left -= amount
        out.append(amount)
    return out
