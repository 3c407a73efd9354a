"""How long a job takes, as a distribution: the known error of the predicted speed, and interruptions of spot machines.

Interruptions of a job on n nodes come at random, n times as often as those of one node, also while it restarts. The
time until the work is done is the busy period of a queue with one server: with w hours of work, interruptions at rate l
that cost D each and r = l E[D], its mean is w / (1 - r) and its variance w l E[D^2] / (1 - r)^3
(L. Kleinrock, Queueing Systems I, 1975, section 5.8). What comes on top of w is taken as a multiple of a Poisson number
with the same mean and variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.inputs.known_durations import DurationSpread

STRATA = 200
NEVER_HOURS = 1e9
"""Stands for: never."""


@dataclass(frozen=True)
class Interruptions:
    """What takes machines away, for one job."""

    per_hour: float
    """Of the whole job. [1/h]"""
    restart_hours: float
    checkpoint_hours: float
    """Between two checkpoints; an interruption loses between nothing and all of it, each as likely."""

    @property
    def mean_hours(self) -> float:
        """Cost of one: the restart and half a checkpoint interval."""
        return self.restart_hours + self.checkpoint_hours / 2

    @property
    def mean_square_hours(self) -> float:
        """Mean of the square of that cost. [h^2]"""
        r, c = self.restart_hours, self.checkpoint_hours
        return r * r + r * c + c * c / 3

    @property
    def load(self) -> float:
        """Share of time that interruptions cost; at 1 and above nothing is ever done."""
        return self.per_hour * self.mean_hours


UNINTERRUPTED = Interruptions(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Duration:
    """Time of one job on given machines."""

    work_hours: float
    """At the predicted speed, goodput included, without interruptions."""
    spread: DurationSpread
    interruptions: Interruptions = UNINTERRUPTED

    @property
    def hours(self) -> float:
        """Expected at the predicted speed, interruptions included. [h]"""
        load = self.interruptions.load
        return self.work_hours / (1 - load) if load < 1 else NEVER_HOURS

    def chance_within(self, hours: float) -> float:
        """Chance that it takes no longer."""
        strata = self.spread.strata(STRATA)
        return sum(self._chance(ratio * self.work_hours, hours) for ratio in strata) / STRATA

    def _chance(self, work: float, hours: float) -> float:
        """The same if the work takes exactly so long."""
        if hours < work:
            return 0.0
        stops = self.interruptions
        if stops.load == 0:
            return 1.0
        if stops.load >= 1:
            return 0.0
        extra = work * stops.load / (1 - stops.load)
        variance = work * stops.per_hour * stops.mean_square_hours / (1 - stops.load) ** 3
        step = variance / extra
        return poisson_share(extra / step, math.floor((hours - work) / step + 1e-9))

    def at(self, confidence: float) -> float:
        """Hours that are enough with this chance, and never less than expected. [h]"""
        low = self.hours
        if low >= NEVER_HOURS:
            return NEVER_HOURS
        if self.interruptions.load == 0:
            return max(low, self.spread.ratio(confidence) * self.work_hours)
        high = max(low, self.work_hours)
        while self.chance_within(high) < confidence:
            high *= 1.5
            if high >= NEVER_HOURS:
                return NEVER_HOURS
        while high - low > 1e-3 * high:
            middle = (low + high) / 2
            low, high = (low, middle) if self.chance_within(middle) >= confidence else (middle, high)
        return high


def poisson_share(mean: float, most: int) -> float:
    """Chance that a Poisson number is at most `most`."""
    if most < 0:
        return 0.0
    if mean > 500:
        return 0.5 * (1 + math.erf((most + 0.5 - mean) / math.sqrt(2 * mean)))
    term = total = math.exp(-mean)
    for count in range(1, most + 1):
        term *= mean / count
        total += term
        if term < 1e-16 and count > mean:
            break
    return min(1.0, total)
