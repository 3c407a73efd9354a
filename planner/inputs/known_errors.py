"""How wrong the predictions are known to be, by engine: read from the summary of the published runs that were re-run.

The table catalogs/measured/known_errors.json is made by `planner validate summary`; nothing here is typed by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.json_document import read_json_record
from planner.schema.engine import Engine
from planner.schema.tables import ErrorTable
from planner.units import percent

FILE = "measured/known_errors.json"
Z90 = 1.6448536269514722
"""95th percentile of the standard normal: a two-sided interval of 90 %."""


@dataclass(frozen=True)
class MemorySpread:
    """Spread of measured over predicted memory: a normal of the logarithm with two sides."""

    engine: str
    rows: int
    metric: str
    median: float
    """Median absolute error, a share."""
    p90: float
    """90th percentile of the absolute error, a share."""
    centre: float
    """Median of ln(measured / predicted)."""
    below: float
    above: float
    """Standard deviations of the two sides, allocator reserve included."""

    def interval_gib(self, predicted_gib: float) -> tuple[float, float]:
        """Bounds between which the card lies with 90 %. [GiB]"""
        low = math.exp(self.centre - Z90 * self.below)
        return predicted_gib * low, predicted_gib * math.exp(self.centre + Z90 * self.above)

    def fit_probability(self, predicted_gib: float, usable_gib: float) -> float:
        """Chance that the real peak stays within usable memory."""
        distance = math.log(usable_gib / predicted_gib) - self.centre
        side = self.above if distance > 0 else self.below
        return 0.5 * (1 + math.erf(distance / (max(side, 1e-6) * math.sqrt(2))))


@dataclass(frozen=True)
class TimeSpread:
    """Errors of tokens a second on published runs."""

    engine: str
    rows: int
    median: float
    p90: float


@dataclass(frozen=True)
class RlErrors:
    """Errors of whole RL steps with printed lengths, not calibrated, each framework left out in turn."""

    rows: int
    median: float
    """Of the step, a share."""
    low: float
    """5th percentile of measured over predicted."""
    high: float
    """95th percentile of measured over predicted."""
    pairs: int
    ratio_median: float
    """Of the ratio of a colocated step to an asynchronous one, a share."""


@dataclass(frozen=True)
class KnownErrors:
    """What is known of an engine's predictions; None where no published run was scored."""

    memory: MemorySpread | None
    time: TimeSpread | None
    rl: RlErrors | None = None

    def in_short(self, *, rollout: bool) -> str:
        """The same in one line: median errors, and on how many published runs."""
        said = []
        if self.memory is not None:
            said.append(f"memory {percent(self.memory.median)} ({self.memory.rows} runs of {self.memory.engine})")
        if self.time is not None:
            said.append(f"step time {percent(self.time.median)} ({self.time.rows})")
        if rollout and self.rl is not None:
            said.append(f"RL step {percent(self.rl.median, 0)} ({self.rl.rows})")
        if not said:
            return "no published run of this engine was scored: first principles only"
        unknown = [name for name, known in (("memory", self.memory), ("step time", self.time)) if known is None]
        missing = f"; {' and '.join(unknown)} not scored" if unknown else ""
        return f"median error on published runs: {', '.join(said)}{missing}"

    def sentences(self, *, rollout: bool, apart: bool = False, two_pools: bool = False) -> tuple[str, ...]:
        """The known errors as a report prints them, where GPUs generate, only generate, or a pipeline spans pools."""
        out = []
        if self.memory is None:
            out.append("memory: no published run of this engine has been scored; formulas and constants cite sources")
        else:
            m = self.memory
            out.append(
                f"memory: median error {m.median:.1%}, 90th percentile {m.p90:.1%} on {m.rows} published runs of "
                f"{m.engine} ({m.metric}; the model was developed on them: planner validate memory)"
            )
        if self.time is None:
            out.append("step time: no published run of this engine has been scored; a first-principles estimate")
        else:
            t = self.time
            out.append(
                f"step time: median error {t.median:.1%}, 90th percentile {t.p90:.1%} on {t.rows} published runs of "
                f"{t.engine} (the model was developed on them: planner validate throughput)"
            )
        if rollout and self.rl is not None:
            rl = self.rl
            out.append(
                f"whole RL steps: median error {rl.median:.0%} on {rl.rows} published steps with printed lengths, each "
                "framework left out of the fit in turn; planner calibrate fits the phases to a log of yours"
            )
            if apart:
                out.append(
                    f"shared against separate GPUs: median error of the gain {rl.ratio_median:.0%} on {rl.pairs} "
                    "published pairs, most of them understated"
                )
        elif rollout:
            out.append("rollout, weight sync and what sleeping engines leave: constants with sources, not scored")
        if two_pools:
            out.append("pipelines over two kinds of GPUs: no published run has been scored")
        return tuple(out)


def known_errors(engine: Engine, catalog: Catalog) -> KnownErrors:
    """What the table says of an engine, or of the engine its file names as `scored_as`."""
    try:
        path = catalog.data_file(FILE)
    except InputError:
        return KnownErrors(None, None)
    table = read_json_record(path, ErrorTable)
    names = [engine.id, *([engine.scored_as] if engine.scored_as else [])]
    memory = next((MemorySpread(name, **dict(table.memory[name])) for name in names if name in table.memory), None)
    time = next((TimeSpread(name, **dict(table.time[name])) for name in names if name in table.time), None)
    return KnownErrors(memory, time, RlErrors(**dict(table.rl)) if table.rl is not None and table.rl.rows else None)
