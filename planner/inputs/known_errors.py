"""How wrong the predictions are known to be, by engine: read from the summary of the published runs that were re-run.

The table catalogs/measured/known_errors.json is made by `planner validate summary`; nothing here is typed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.memory_spread import MemorySpread
from planner.inputs.run_kind import RunKind, SeenKinds
from planner.schema.engine import Engine

Table = Mapping[str, Any]
FILE = "measured/known_errors.json"
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
    kind: RunKind | None = None
    """The run that it is asked for."""

    def sentences(self, *, rollout: bool, apart: bool = False, two_pools: bool = False) -> tuple[str, ...]:
        """The known errors as a report prints them, where GPUs generate, only generate, or a pipeline spans pools."""
        out = [_memory_sentence(self.memory)]
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


def known_errors(engine: Engine, catalog: Catalog, kind: RunKind | None = None) -> KnownErrors:
    """What the table says of a run of an engine, or of the engine its file names as `scored_as`.

    Without a `kind` of the run: of all of the engine's published runs.
    """
    try:
        table = json.loads(catalog.data_file(FILE).read_text(encoding="utf-8"))
    except InputError:
        return KnownErrors(None, None)
    names = [engine.id, *([engine.scored_as] if engine.scored_as else [])]
    time = next((_time(name, table["time"][name]) for name in names if name in table["time"]), None)
    rl = RlErrors(**table["rl"]) if table.get("rl", {}).get("rows") else None
    return KnownErrors(_memory(engine, table, kind), time, rl, kind)


def _memory(engine: Engine, table: Table, kind: RunKind | None) -> MemorySpread | None:
    """The engine's own runs where one is like this one; else all engines' runs, as if they had not been seen."""
    row, beyond = table["memory"].get(engine.id), table.get("memory_like_none")
    missing: tuple[str, ...] = () if row is not None else ("this engine",)
    if row is not None and kind is not None and "seen" in row:
        missing = _seen(row["seen"]).missing(kind)
    if row is None and beyond is None:
        return None
    known = beyond if missing else row
    sides = known
    if not missing and kind is not None:
        sides = row.get("kinds", {}).get(kind.cell, row)
    return MemorySpread(
        engine=engine.id,
        rows=int(known["rows"]),
        metric=str(known["metric"]),
        median=float(known["median"]),
        p90=float(known["p90"]),
        centre=float(sides["centre"]),
        below=float(sides["below"]),
        above=float(sides["above"]),
        left_out=known.get("left_out") == "source",
        missing=missing,
        residual_gib=kind.residual_gib if kind is not None else 0.0,
    )


def _seen(row: Table) -> SeenKinds:
    low, high = row["vocabularies"]
    return SeenKinds(row["cells"], frozenset(row["switches"]), int(row["longest_sequence"]), (int(low), int(high)))


def _memory_sentence(m: MemorySpread | None) -> str:
    if m is None:
        return "memory: no published run of this engine has been scored; formulas and constants cite sources"
    if m.missing:
        return (
            f"memory: no published run like this ({', '.join(m.missing)}); over all engines the median error is "
            f"{m.median:.1%}, the 90th percentile {m.p90:.1%} ({m.rows} runs, each engine weighing the same, with those "
            "that were predicted before anyone had seen them: planner validate memory)"
        )
    how = "each scored by numbers fitted without its source" if m.left_out else "in-sample: one source only"
    return (
        f"memory: median error {m.median:.1%}, 90th percentile {m.p90:.1%} on {m.rows} published runs of "
        f"{m.engine} ({m.metric}; {how}: planner validate memory)"
    )


def _time(name: str, row: Table) -> TimeSpread:
    return TimeSpread(name, int(row["rows"]), float(row["median"]), float(row["p90"]))
