"""Goodput of a plan: the stated faults of its scenario, on as many GPUs as the plan uses."""

from __future__ import annotations

from dataclasses import dataclass

from planner.formulas import faults as formulas
from planner.schema.scenario import Faults


@dataclass(frozen=True)
class Goodput:
    """Share of the time that is really trained, and what it is made of."""

    faults: Faults
    num_gpus: int
    failure_minutes: float
    """Mean time between failures of the whole job. [min]"""
    interval_minutes: float
    """Training between two checkpoints. [min]"""
    interval_from: str
    faults_share: float
    """What checkpoints, lost work and restarts leave."""

    @property
    def share(self) -> float:
        """Left of the plan's throughput, the slowest rank counted too."""
        return self.faults_share / self.faults.straggler_factor

    @property
    def sentence(self) -> str:
        """The share in words."""
        slow = self.faults.straggler_factor
        text = (
            f"{self.share * 100:.1f} % of the time is trained, as faults: states: a failure every "
            f"{self.failure_minutes / 60:,.1f} h on {self.num_gpus} GPUs, {self.faults.restart_minutes:g} min to "
            f"restart, a checkpoint of {self.faults.checkpoint_minutes:g} min every {self.interval_minutes:,.1f} min "
            f"({self.interval_from})"
        )
        return text + (f", every step {slow:g} times as long for its slowest rank" if slow != 1 else "")


def goodput(faults: Faults | None, num_gpus: int) -> Goodput | None:
    """Goodput of a job on so many GPUs; None where the scenario states no faults."""
    if faults is None:
        return None
    failure = formulas.mean_minutes_between_failures(
        hours_per_gpu=faults.mean_hours_between_failures_per_gpu, num_gpus=num_gpus
    )
    checkpoint = faults.checkpoint_minutes
    if faults.checkpoint_interval_minutes == "optimal":
        interval = formulas.daly_interval_minutes(checkpoint_minutes=checkpoint, failure_minutes=failure)
        named = "optimal by Daly 2006"
    else:
        interval, named = faults.checkpoint_interval_minutes, "as stated"
    share = formulas.goodput_share(
        checkpoint_minutes=checkpoint,
        interval_minutes=interval,
        restart_minutes=faults.restart_minutes,
        failure_minutes=failure,
    )
    return Goodput(faults, num_gpus, failure, interval, named, share)
