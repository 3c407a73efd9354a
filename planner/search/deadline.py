"""One deadline for all of a search: listing, bounding, costing and solving, and every question it asks again."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from planner import clock


@dataclass(frozen=True)
class Deadline:
    """When a search must answer."""

    started: float
    """By the clock below. [s]"""
    limit_s: float
    now: Callable[[], float] = clock.now

    @staticmethod
    def of(limit_s: float, now: Callable[[], float] = clock.now) -> Deadline:
        """One that starts here."""
        return Deadline(now(), limit_s, now)

    @property
    def left_s(self) -> float:
        """Seconds that are left; negative where it has passed."""
        return self.started + self.limit_s - self.now()

    def past(self, share: float = 1.0) -> bool:
        """Has this share of the time gone by."""
        return self.now() > self.started + share * self.limit_s


NO_DEADLINE = Deadline(0.0, math.inf)
