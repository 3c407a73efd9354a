"""Ledgers: named items with their source. A total is a sum, an explanation a sort, a what-if a difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.problem.layouts import Floats


@dataclass(frozen=True)
class Item:
    """One line of a ledger, for all rows at once."""

    name: str
    amount: Floats
    """Bytes in a memory ledger, seconds in a time ledger."""
    source: str
    """Formula, measurement or catalog entry it comes from."""


def total(items: Sequence[Item]) -> Floats:
    """Sum of a ledger, in the order of its items."""
    amount = np.asarray(0.0)
    for item in items:
        amount = amount + item.amount
    return amount
