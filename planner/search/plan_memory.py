"""What a plan says of GPU memory: the fullest GPU, what is free there, and with which chance that is so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.inputs.memory_spread import spike_fraction
from planner.search.fit_chance import largest_interval, least_chance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.problem.problem import Problem
    from planner.search.plan_ledgers import MemoryLedgers, PhaseMemory


def first_stages(problem: Problem, layout: Mapping[str, int]) -> int:
    """Stages on the run's own pool: all, unless the later ones lie on another."""
    stages = layout["pipeline_parallel"]
    return stages if problem.later is None else stages * problem.first_gpus // layout["num_gpus"]


class HeldMemory:
    """Memory of a plan with ledgers. The card holds what is live, and of an allocator's reserve what room there is."""

    problem: Problem
    layout: dict[str, int]
    memory: MemoryLedgers

    @property
    def first_stages(self) -> int:
        """Stages on the run's own pool: all, unless the later ones lie on another."""
        return first_stages(self.problem, self.layout)

    def machines(self, phase: PhaseMemory) -> Problem:
        """The problem on the machines on which a phase happens."""
        if phase.stage is None:
            return self.problem.generating
        later = self.problem.later
        return later if later is not None and phase.stage >= self.first_stages else self.problem

    @property
    def binding(self) -> PhaseMemory:
        """The stage and phase that comes nearest to its limit: the fullest one, where all GPUs are alike.

        Of full cards the one whose allocator has to give back most.
        """
        limits = [(phase, self.machines(phase).limit_gib) for phase in self.memory]
        return max(limits, key=lambda each: (each[0].total_gib - each[1], each[0].given_back_gib))[0]

    @property
    def peak_gib(self) -> float:
        """Memory of the stage and phase that comes nearest to its limit. [GiB]"""
        return self.binding.total_gib

    @property
    def usable_gib(self) -> float:
        """Usable memory of the GPU that `binding` is about. [GiB]"""
        return self.machines(self.binding).usable_gib

    @property
    def headroom_gib(self) -> float:
        """Usable memory less the peak, of the GPU that comes nearest to its limit. [GiB]

        Negative where live memory exceeds the card; 0 where it fits and the allocator's reserve does not.
        """
        return self.usable_gib - self.peak_gib

    @property
    def given_back_gib(self) -> float:
        """What the allocator is estimated to hold beyond the card, and must give back before the run goes on. [GiB]"""
        return max(phase.given_back_gib for phase in self.memory)

    @property
    def live_room_gib(self) -> float:
        """Usable memory less live memory, on the GPU where that is least. [GiB]"""
        return min(self.machines(phase).usable_gib - phase.live.total_gib for phase in self.memory)

    def counted_gib(self, phase: PhaseMemory) -> float:
        """What the search's limit counts of a phase: all that the allocator would hold, or what is live. [GiB]"""
        return phase.wanted_gib if self.problem.reserve_counted else phase.live.total_gib

    @property
    def tightest(self) -> PhaseMemory:
        """The stage and phase that leave least of the search's limit."""
        return max(self.memory, key=lambda phase: self.counted_gib(phase) - self.machines(phase).limit_gib)

    @property
    def beyond_demand_gib(self) -> float:
        """By how much the search's limit is kept; negative where it is not. [GiB]"""
        worst = self.tightest
        return self.machines(worst).limit_gib - self.counted_gib(worst)

    @property
    def room_gib(self) -> float:
        """Usable memory less what the search's limit counts: the largest headroom that could be asked for. [GiB]"""
        worst = self.tightest
        return self.machines(worst).usable_gib - self.counted_gib(worst)

    @property
    def demanded_gib(self) -> float:
        """What had to stay free on the GPU that `binding` is about. [GiB]"""
        return self.machines(self.binding).headroom_gib

    @property
    def usual_gib(self) -> float:
        """What is kept free on that GPU where it can be: demanded, or usual for the engine. [GiB]"""
        machines = self.machines(self.binding).machines
        return machines.headroom_gib if machines.usual_headroom_gib is None else machines.usual_headroom_gib

    @property
    def interval_gib(self) -> tuple[float, float] | None:
        """Bounds of the real peak with 90 %, by the spread on published runs of this engine. [GiB]

        Each is the largest over the phases of the GPU that comes nearest to its limit.
        """
        here = self.machines(self.binding)
        return largest_interval(self.problem.known_errors.memory, [p for p in self.memory if self.machines(p) is here])

    @property
    def fit_probability(self) -> float | None:
        """Chance that the run fits with all that its allocator would hold, by the same spread: that the real peak and a
        spike stay within usable memory."""
        return self._chance([(p, (1 - spike_fraction(self.machines(p).engine))) for p in self.memory])

    @property
    def start_probability(self) -> float | None:
        """Chance that its live memory fits, so that it starts, by the same spread."""
        return self._chance([(p.live, (1 - spike_fraction(self.machines(p).engine))) for p in self.memory])

    def _chance(self, shares: list[tuple[PhaseMemory, float]]) -> float | None:
        limits = [(phase, share * self.machines(phase).usable_gib) for phase, share in shares]
        return least_chance(self.problem.known_errors.memory, limits)

    @property
    def keep_probability(self) -> float | None:
        """Chance that the real peak leaves free what the user demanded, by the same spread."""
        limits = [(p, (m := self.machines(p)).usable_gib - m.machines.demanded_headroom_gib) for p in self.memory]
        return least_chance(self.problem.known_errors.memory, limits)

    @property
    def critical(self) -> bool:
        """True where less is free than one spike of the allocator may take."""
        return self.headroom_gib < self.usable_gib * self.problem.engine.critical_headroom_fraction
