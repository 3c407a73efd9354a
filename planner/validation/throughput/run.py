"""Load published speeds, run them through the planner, collect what was found."""

from __future__ import annotations

from pathlib import Path

from planner.validation.published import data_folder
from planner.validation.refit import By
from planner.validation.rl.phases import run_steps
from planner.validation.rl.placement import run_placements
from planner.validation.rl.steps import run_rl
from planner.validation.throughput.cases import load_speeds
from planner.validation.throughput.express import express, load_sources
from planner.validation.throughput.left_out import left_out_speeds
from planner.validation.throughput.report import ThroughputResult


def run_throughput(
    data: Path | None = None, sources: tuple[str, ...] = (), *, leave_out: By | None = None
) -> ThroughputResult:
    """Score the time model; `sources` names those to keep, all where it is empty. `leave_out` scores it a second time,
    each row by constants fitted without its group.
    """
    folder = data or data_folder()
    machines = load_sources(folder)
    speeds = [s for s in load_speeds(folder) if not sources or s.source in sources or s.run.source in sources]
    scored = [s for s in speeds if s.excluded is None]
    reinforced = not sources or "rl_throughput" in sources
    done, failed = express(scored, machines)
    return ThroughputResult(
        estimates=tuple(done),
        excluded=tuple(s for s in speeds if s.excluded is not None),
        unexpressed=tuple(failed),
        left=left_out_speeds(done, leave_out) if leave_out is not None else None,
        rl=run_rl(folder) if reinforced else None,
        placements=run_placements(folder) if reinforced else None,
        steps=run_steps(folder) if reinforced else None,
    )
