"""How wrong the predictions are known to be, by engine: read from the summary of the published runs that were re-run.

The table catalogs/measured/known_errors.json is made by `planner validate summary`; nothing here is typed by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.json_document import read_json_record
from planner.inputs.memory_spread import TOY_GIB, MemorySpread, Sides
from planner.inputs.run_kind import RunKind, SeenKinds
from planner.schema.engine import Engine
from planner.schema.tables import ErrorTable, SeenRow
from planner.units import percent

FILE = "measured/known_errors.json"


@dataclass(frozen=True)
class TimeSpread:
    """Errors of tokens a second on published runs, left out of what was fitted where that can be."""

    engine: str
    """Whose runs they are of; the run's own engine where there are none."""
    rows: int
    median: float
    p90: float
    low: float | None = None
    """5th percentile of measured over predicted seconds."""
    high: float | None = None
    """95th percentile."""
    missing: bool = False
    """No run of this engine was scored: the spread is that of all engines' runs, each engine weighing the same."""
    sources: int = 1
    in_sample_rows: int = 0
    """Runs that rest on a constant which only runs of their own source set."""
    median_in_sample: float | None = None

    @property
    def seen(self) -> str:
        """The same in a word or two."""
        if not self.in_sample_rows:
            return "source left out"
        return "in-sample" if self.in_sample_rows == self.rows else f"{self.in_sample_rows} in-sample"

    @property
    def fitted_how(self) -> str:
        """Which of the runs the fitted constants had seen."""
        if self.in_sample_rows == self.rows:
            return "all on constants that runs of the same source set: in-sample"
        if self.in_sample_rows:
            return f"constants fitted without the run's source, but for {self.in_sample_rows} in-sample"
        return "constants fitted without the run's source"


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
    """Of the ratio of a colocated step to an asynchronous one on as many GPUs, a share."""
    ranked: int = 0
    """Pairs of which the faster one was named."""

    @property
    def gains(self) -> str:
        """What is known of the gain of separate GPUs, as a clause."""
        return (
            f"what separate GPUs gain is off by {self.ratio_median:.0%} in the median of {self.pairs} published pairs, "
            f"the faster one named in {self.ranked}"
        )


@dataclass(frozen=True)
class StepSpread:
    """How far measured steps lie from predicted ones."""

    rows: int
    median: float
    """Median absolute error, a share."""
    low: float
    """5th percentile of measured over predicted."""
    high: float
    """95th percentile of measured over predicted."""
    whose: str


@dataclass(frozen=True)
class KnownErrors:
    """What is known of an engine's predictions; None where no published run was scored."""

    memory: MemorySpread | None
    time: TimeSpread | None
    rl: RlErrors | None = None
    kind: RunKind | None = None
    """The run that it is asked for."""

    def step(self, *, rl: bool) -> StepSpread | None:
        """The spread of whole steps; None where no published one was scored."""
        if rl:
            known = self.rl
            whose = f"spread of {known.rows} published RL steps" if known is not None else ""
            return None if known is None else StepSpread(known.rows, known.median, known.low, known.high, whose)
        time = self.time
        if time is None or time.low is None or time.high is None:
            return None
        whose = f"spread of {time.rows} published runs of {time.engine}, in-sample"
        if time.missing:
            whose = f"no published run of {time.engine} was timed: spread of {time.rows} runs of all engines"
        return StepSpread(time.rows, time.median, time.low, time.high, whose)

    @property
    def _none_linear(self) -> str:
        beside = "" if self.kind is None else self.kind.beside_attention
        return f", none with {beside}" if beside else ""

    def in_short(self, *, rollout: bool) -> str:
        """The same in one line: median errors, and on how many published runs."""
        said = []
        if self.memory is not None:
            said.append(f"memory {percent(self.memory.median)} ({self.memory.beside})")
        if self.time is not None and not (rollout and self.rl is not None):
            rows = f"all engines; none of {self.time.engine}" if self.time.missing else self.time.rows
            said.append(f"step time {percent(self.time.median)} ({rows})")
        if rollout and self.rl is not None:
            said.append(f"RL step {percent(self.rl.median, 0)} ({self.rl.rows}{self._none_linear})")
        if not said:
            return "no published run of this engine was scored: first principles only"
        unknown = [name for name, known in (("memory", self.memory), ("step time", self.time)) if known is None]
        missing = f"; {' and '.join(unknown)} not scored" if unknown else ""
        return f"median error on published runs: {', '.join(said)}{missing}"

    def sentences(self, *, rollout: bool, apart: bool = False, two_pools: bool = False) -> tuple[str, ...]:
        """The known errors as a report prints them, where GPUs generate, only generate, or a pipeline spans pools."""
        out = [_memory_sentence(self.memory)]
        if self.time is None:
            out.append("step time: no published run of this engine has been scored; a first-principles estimate")
        elif self.time.missing:
            t = self.time
            out.append(
                f"step time: no published run of engine {t.engine} has been scored; over all engines the median error "
                f"is {t.median:.1%}, the 90th percentile {t.p90:.1%} ({t.rows} runs, each engine weighing the same, "
                "in-sample)"
            )
        else:
            t = self.time
            out.append(
                f"step time: median error {t.median:.1%}, 90th percentile {t.p90:.1%} on {t.rows} published runs of "
                f"{t.engine} ({t.fitted_how}; mechanisms were chosen with all in view: planner validate throughput)"
            )
        if rollout and self.rl is not None:
            rl = self.rl
            out.append(
                f"whole RL steps: median error {rl.median:.0%} on {rl.rows} published steps with printed lengths"
                f"{self._none_linear}, each framework left out of the fit in turn; planner calibrate fits the phases "
                "to a log of yours"
            )
            if apart:
                out.append(rl.gains)
        elif rollout:
            out.append("rollout, weight sync and what sleeping engines leave: constants with sources, not scored")
        if two_pools:
            out.append("pipelines over two kinds of GPUs: no published run has been scored")
        return tuple(out)


def known_errors(engine: Engine, catalog: Catalog, kind: RunKind | None = None) -> KnownErrors:
    """What the table says of a run of an engine, and of the time of the engine its file names as `scored_as`.

    Without a `kind` of the run: of all of the engine's published runs.
    """
    try:
        path = catalog.data_file(FILE)
    except InputError:
        return KnownErrors(None, None)
    stat = path.stat()
    table = _table(path, stat.st_mtime_ns, stat.st_size)
    names = [engine.id, *([engine.scored_as] if engine.scored_as else [])]
    time = next((TimeSpread(name, **dict(table.time[name])) for name in names if name in table.time), None)
    beside = "" if kind is None else kind.beside_attention
    if (time is None or beside) and table.time_like_none is not None:
        name = f"{engine.id} with {beside}" if beside else engine.id
        time = TimeSpread(name, **dict(table.time_like_none), missing=True)
    rl = RlErrors(**dict(table.rl)) if table.rl is not None and table.rl.rows else None
    return KnownErrors(_memory(engine, table, kind), time, rl, kind)


@lru_cache(maxsize=8)
def _table(path: Path, changed_ns: int, size: int) -> ErrorTable:
    """The table in one state of its file: every problem asks for it."""
    return read_json_record(path, ErrorTable)


def _memory(engine: Engine, table: ErrorTable, kind: RunKind | None) -> MemorySpread | None:
    """The engine's own runs where one is like this one, wider where none is; without any, all engines' runs."""
    own = table.memory.get(engine.id)
    small = table.small_gib.get(engine.id)
    missing: tuple[str, ...] = ()
    if own is None:
        missing = (f"engine {engine.id}",) if small is None else (f"{TOY_GIB:g} GiB and more with engine {engine.id}",)
    if own is not None and own.seen is not None and kind is not None:
        missing = _seen(own.seen).missing(kind)
    of_own = own is not None and not (missing and (kind is None or kind.rl))
    known = own if of_own else table.memory_like_none
    if known is None:
        return None
    added = table.memory_new_source if of_own else None
    row = known.kinds.get(kind.cell, known) if kind is not None else known
    sides = Sides(row.centre, row.below, row.above, known.rows).widened(0.0 if added is None else added.sigma)
    unlike = added if missing else None
    return MemorySpread(
        engine=engine.id,
        rows=known.rows,
        metric=known.metric,
        median=known.median if unlike is None else unlike.median,
        p90=known.p90 if unlike is None else unlike.p90,
        centre=sides.centre,
        below=sides.below,
        above=sides.above,
        new_sources=0 if added is None else added.sources,
        in_sample_rows=known.in_sample_rows,
        missing=missing,
        residual_gib=kind.residual_gib if kind is not None else 0.0,
        small_gib=table.small_gib_like_none if small is None else small,
        small_own=small is not None,
    )


def _seen(row: SeenRow) -> SeenKinds:
    return SeenKinds(row.cells, frozenset(row.switches), row.longest_sequence, row.vocabularies)


def _memory_sentence(m: MemorySpread | None) -> str:
    if m is None:
        return "memory: no published run of this engine has been scored; formulas and constants cite sources"
    if m.missing and m.new_sources:
        return (
            f"memory: no published run like this ({', '.join(m.missing)}); runs of sources left out of their engine "
            f"were off by {m.median:.1%} in the median, 90th percentile {m.p90:.1%} ({m.new_sources} sources, each "
            "weighing the same; by what was said before anyone had seen them, where that is kept: planner validate "
            "memory)"
        )
    if m.missing:
        return (
            f"memory: no published run like this ({', '.join(m.missing)}); over all engines the median error is "
            f"{m.median:.1%}, the 90th percentile {m.p90:.1%} ({m.rows} runs, each engine weighing the same, and those "
            "that were predicted before anyone had seen them: planner validate memory)"
        )
    return (
        f"memory: median error {m.median:.1%}, 90th percentile {m.p90:.1%} on {m.rows} published runs of "
        f"{m.engine} ({m.metric}; {m.fitted_how}: planner validate memory)"
    )
