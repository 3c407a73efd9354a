"""Shape of a calibration: factors that one run's own log puts on the planner's times and memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.schema.base import Frozen, OneLine

Phase = Literal["rollout", "log_probs", "train", "weight_sync", "switch"]
"""What a factor multiplies: generation; forward passes for log-probabilities; forward, backward and optimizer step;
new weights into the rollout engine; putting one side to sleep and waking the other."""


class Factor(Frozen):
    """One factor and the figures behind it."""

    factor: Annotated[float, Field(ge=1e-3, le=1000)]
    measured: Annotated[float, Field(ge=1e-9, le=1e9)]
    """Median over the lines of the log. [s, or GiB for memory]"""
    predicted: Annotated[float, Field(ge=1e-9, le=1e9)]
    """What the planner said without the factor. [s, or GiB for memory]"""
    lines: Annotated[int, Field(ge=1, le=2**31)]
    """Values in the log."""


class Calibration(Frozen):
    """Factors fitted to one run; a scenario names the file in `calibration:`."""

    name: OneLine
    """Scenario the factors were fitted with."""
    phases: dict[Phase, Factor] = Field(default_factory=dict)
    memory: Factor | None = None
    """Multiplies what the trainer's allocator holds."""
    other_seconds: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Part of an RL step that no phase explains: rewards, data, logging. [s]"""
    source: str
    """The log."""
    date: str
    """Of the fit, YYYY-MM-DD."""
    lines: Annotated[int, Field(ge=1, le=2**31)]
    """Values of the phase that the log states most often."""

    def factor(self, phase: Phase) -> float:
        """The factor of a phase; 1 where the log did not state it."""
        known = self.phases.get(phase)
        return 1.0 if known is None else known.factor
