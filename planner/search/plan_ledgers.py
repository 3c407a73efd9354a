"""The ledgers of a plan: named amounts with their sources, which a notebook may take as a table."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.costs.item_names import ItemName
from planner.costs.memory.returnable import RETURNABLE, room_for
from planner.search.shown import data_frame

if TYPE_CHECKING:
    from pandas import DataFrame

SCORED = "log-probabilities"
PHASE_OF = {"train": "training", "score": SCORED, "swap": SCORED, "update": "update"}
"""The phase of a step that a visit belongs to."""

SET_ASIDE = (ItemName.ROLLOUT_WEIGHTS, ItemName.KEY_VALUE_POOL)
"""What a memory fraction holds: the pool takes what the weights leave of it."""


@dataclass(frozen=True)
class Entry:
    """One named amount: GiB in a memory ledger, seconds in a time ledger."""

    name: str
    amount: float
    source: str


@dataclass(frozen=True)
class PhaseMemory:
    """The ledger of one stage in one phase. `stage` is None for the rollout engine, which has no stages."""

    stage: int | None
    phase: str
    items: tuple[Entry, ...]
    assumed_gib: float = 0.0
    """Of the sum, what rests on numbers that the engine's file calls assumed. [GiB]"""
    given_back_gib: float = 0.0
    """What the allocator would hold beside the items and must give back, because the card is full. [GiB]"""

    @property
    def total_gib(self) -> float:
        """Sum of the items. [GiB]"""
        return sum(item.amount for item in self.items)

    @property
    def wanted_gib(self) -> float:
        """The sum on a card with room for all that the allocator would hold. [GiB]"""
        return self.total_gib + self.given_back_gib

    @property
    def live(self) -> PhaseMemory:
        """What cannot be given back alone: live tensors, and what lies outside the allocator."""
        kept = tuple(item for item in self.items if item.name not in RETURNABLE)
        return replace(self, items=kept, given_back_gib=0.0)

    @property
    def set_aside_gib(self) -> float:
        """Of the sum, the share of the card that a rollout engine is told to take, whatever it needs of it. [GiB]"""
        held = {item.name: item.amount for item in self.items if item.name in SET_ASIDE}
        return sum(held.values()) if ItemName.KEY_VALUE_POOL in held else 0.0


def phase_memory(
    stage: int | None, phase: str, items: tuple[Entry, ...], usable_gib: float, assumed_gib: float
) -> PhaseMemory:
    """The ledger on a card of so much usable memory: what can be given back fills at most what the rest leaves."""
    held = room_for([(item.name, item.amount) for item in items], usable_gib)
    kept = tuple(
        item if amount == item.amount else replace(item, amount=amount)
        for item, amount in zip(items, held, strict=True)
        if amount
    )
    given_back = sum(item.amount for item in items) - sum(held)
    return PhaseMemory(stage, phase, kept, assumed_gib, given_back)


class MemoryLedgers(tuple[PhaseMemory, ...]):
    """Memory of every stage in every phase, in order."""

    def to_frame(self) -> DataFrame:
        """One row an item: stage (empty for the rollout engine), phase, item, gib, source.

        Raises InputError where pandas is not installed.
        """
        rows = [(p.stage, p.phase, item.name, item.amount, item.source) for p in self for item in p.items]
        frame = data_frame(("stage", "phase", "item", "gib", "source"), rows)
        return frame.astype({"stage": "Int64"})


class TimeLedger(tuple[Entry, ...]):
    """Seconds of one step by cause; they add up to the step."""

    def to_frame(self) -> DataFrame:
        """One row a cause: item, seconds, source. Raises InputError where pandas is not installed."""
        return data_frame(("item", "seconds", "source"), [(e.name, e.amount, e.source) for e in self])


def summed(entries: list[Entry]) -> list[Entry]:
    """Entries of the same name as one, where the first of them stood."""
    amounts: dict[str, float] = {}
    for entry in entries:
        amounts[entry.name] = amounts.get(entry.name, 0.0) + entry.amount
    first = {entry.name: entry for entry in reversed(entries)}
    return [replace(first[name], amount=amount) for name, amount in amounts.items()]
