"""Shapes of the measured and recorded tables of a catalog folder: what a program wrote once, and a person may replace.

Ranges say what is physically possible with room to spare, so that a damaged table is refused where it stands.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from planner.schema.base import Frozen

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]
Share = Annotated[float, Field(ge=0, le=1000)]
Extent = Annotated[int, Field(ge=1, le=2**24)]
Nanoseconds = Annotated[float, Field(gt=0, le=1e12)]
"""Up to a quarter of an hour."""
FASTER_THAN_PEAK = 1.5
"""A product may beat the vendor's dense peak by a boost clock, not by more."""
TRANSFORMERS = "hf_trainer_523.yaml"
"""Flag table of Transformers' own settings, which its users' launchers share."""
STARTS_TRANSFORMERS = "accelerate"
"""Launcher of every engine that trains Transformers' own networks."""
LARGE = {"m": 4096, "n": 2048, "k": 2048}
"""Extents from which a grid's large products count."""


def _ascending(values: list[Any], what: str) -> None:
    if any(second <= first for first, second in pairwise(values)):
        raise ValueError(f"{what} must ascend")


class GemmTable(Frozen):
    """`measured/gemm_<device>.json`: time of bf16 products `[m, k] x [k, n]` on one device."""

    device: str
    source: str
    date: str
    unit: str = ""
    bf16_dense_tflops: Annotated[float, Field(gt=0, le=1e6)]
    """Vendor peak. [TFLOP/s]"""
    memory_bandwidth_gb_per_s: Annotated[float, Field(gt=0, le=1e7)]
    """Vendor figure. [GB/s]"""
    m: Annotated[list[Extent], Field(min_length=2, max_length=64)]
    n: Annotated[list[Extent], Field(min_length=2, max_length=64)]
    k: Annotated[list[Extent], Field(min_length=2, max_length=64)]
    latency_ns: list[list[Nanoseconds | None]]
    """One row per (m, n), n fastest, one column per k; null where nothing was measured. [ns]"""

    @model_validator(mode="after")
    def _whole(self) -> GemmTable:
        for axis in "mnk":
            extents = getattr(self, axis)
            _ascending(extents, axis)
            if extents[-1] < LARGE[axis]:
                raise ValueError(f"{axis} must reach {LARGE[axis]}, where large products begin")
        rows = len(self.m) * len(self.n)
        if len(self.latency_ns) != rows or any(len(row) != len(self.k) for row in self.latency_ns):
            raise ValueError(f"latency_ns must hold {rows} rows (m x n) of {len(self.k)} values (k)")
        for index, row in enumerate(self.latency_ns):
            place, m, n = index % len(self.n), self.m[index // len(self.n)], self.n[index % len(self.n)]
            for column, (k, value) in enumerate(zip(self.k, row, strict=True)):
                if value is None and not (place and column):
                    raise ValueError(f"latency_ns[{index}][{column}] is null: only n and k above the first may be")
                if value is not None and 2e-3 * m * n * k / value > FASTER_THAN_PEAK * self.bf16_dense_tflops:
                    rate = f"{2e-3 * m * n * k / value:,.0f} TFLOP/s on a device of {self.bf16_dense_tflops:g}"
                    raise ValueError(f"latency_ns[{index}][{column}] is {value:g} ns: {rate}")
        return self


class CurveRow(Frozen):
    """One collective over so many GPUs of one node."""

    device: str
    op: Operation
    num_gpus: Annotated[int, Field(ge=2, le=4096)]
    time_ns: Annotated[list[Nanoseconds], Field(min_length=2)]
    """One value a message size. [ns]"""


class CurveTable(Frozen):
    """`measured/nccl.json`: collectives inside one node, by message size."""

    source: str
    date: str
    unit: str = ""
    bytes: Annotated[list[Annotated[int, Field(ge=1, le=2**50)]], Field(min_length=2)]
    curves: list[CurveRow]

    @model_validator(mode="after")
    def _whole(self) -> CurveTable:
        _ascending(self.bytes, "bytes")
        for index, curve in enumerate(self.curves):
            if len(curve.time_ns) != len(self.bytes):
                raise ValueError(f"curves[{index}].time_ns must hold {len(self.bytes)} values, one a message size")
        return self


class SpreadRow(Frozen):
    """A normal of ln(measured / predicted) with two sides."""

    centre: Annotated[float, Field(ge=-5, le=5)]
    below: Annotated[float, Field(ge=0, le=5)]
    above: Annotated[float, Field(ge=0, le=5)]


class SeenRow(Frozen):
    """What an engine's published runs have among them."""

    cells: dict[str, Annotated[int, Field(ge=1)]]
    """Runs by kind."""
    switches: list[str]
    """Options and modules recomputed alone that were on in some run."""
    longest_sequence: Annotated[int, Field(ge=1)]
    """[tokens]"""
    vocabularies: tuple[int, int]
    """Smallest and largest."""


class MemoryErrorRow(SpreadRow):
    """Known errors of one engine's memory, left out of what was fitted where that can be."""

    rows: Annotated[int, Field(ge=1)]
    metric: str
    median: Share
    p90: Share
    sources: Annotated[int, Field(ge=1)] = 1
    in_sample_rows: Annotated[int, Field(ge=0)] = 0
    """Runs that rest on a number fitted on their own source alone."""
    median_in_sample: Share | None = None
    """The same error with all numbers as shipped."""
    kinds: dict[str, SpreadRow] = Field(default_factory=dict)
    """Spreads of the kinds of run that are among them."""
    seen: SeenRow | None = None


class NewSourceRow(Frozen):
    """What a new source adds to an engine's own spread."""

    sigma: Annotated[float, Field(ge=0, le=5)]
    """Standard deviation of ln(measured / predicted), either way."""
    median: Share
    """Median error of runs whose source was left out."""
    p90: Share
    rows: Annotated[int, Field(ge=0)]
    sources: Annotated[int, Field(ge=0)]
    """Pairs of engine and source, each weighing the same."""


class TimeErrorRow(Frozen):
    """Known errors of one engine's steps, left out of what was fitted where that can be."""

    rows: Annotated[int, Field(ge=1)]
    median: Share
    p90: Share
    low: Share | None = None
    """5th percentile of measured over predicted seconds."""
    high: Share | None = None
    """95th percentile."""
    sources: Annotated[int, Field(ge=1)] = 1
    in_sample_rows: Annotated[int, Field(ge=0)] = 0
    """Runs that rest on a constant which only runs of their own source set."""
    median_in_sample: Share | None = None
    """The same error with all constants as shipped."""


class RlErrorRow(Frozen):
    """Known errors of whole RL steps."""

    rows: Annotated[int, Field(ge=0)]
    median: Share = 0.0
    low: Share = 0.0
    high: Share = 0.0
    pairs: Annotated[int, Field(ge=0)] = 0
    ratio_median: Share = 0.0
    ranked: Annotated[int, Field(ge=0)] = 0


class ErrorTable(Frozen):
    """`measured/known_errors.json`: what `planner validate summary` writes."""

    source: str
    memory: dict[str, MemoryErrorRow]
    memory_like_none: MemoryErrorRow | None = None
    """Of a run of an engine without published ones, or in RL: all engines' runs, each engine weighing the same."""
    memory_new_source: NewSourceRow | None = None
    """What lies beside an engine's own spread."""
    small_gib: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """What a run under 5 GiB is off by with 90 %, by engine that has such runs."""
    small_gib_like_none: Annotated[float, Field(ge=0)] = 0.0
    """The same of all engines' runs under 5 GiB."""
    rl: RlErrorRow | None = None
    time: dict[str, TimeErrorRow]
    time_like_none: TimeErrorRow | None = None
    """Of an engine without published steps: all engines' runs, each engine weighing the same."""


class OptionWords(BaseModel):
    """How an engine option of a scenario is told to an engine: by settings, or why by none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    settings: dict[str, bool | int | float | str | list[str]] = Field(default_factory=dict)
    """Keys and values; none where nothing has to be told."""
    unsaid: str | None = None
    """Why no setting says it."""


class OtherOptimizer(BaseModel):
    """An optimizer that an engine knows under a name of its own: one of the catalog, or none, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counted_as: str | None = None
    """Id in the catalog whose bytes and passes it has."""
    because: str = ""
    """Where none has them: what it keeps instead."""


class Habits(BaseModel):
    """What a launcher does where its files are silent, or beside what they say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    computes_in_16_bits: bool = False
    """In bf16, unless a switch says otherwise."""
    loads_whole: bool = False
    """Weights in fp32, unless a setting says otherwise."""
    bits_of: dict[str, int] = Field(default_factory=dict)
    """Bits of a quantised base by the method of adapters under which alone it is one."""
    unprepared_over: tuple[str, ...] = ()
    """Engines over whose third stage the preparation of a base for few bits is left out."""
    casts_frozen_over: tuple[str, ...] = ()
    """Engines that cast a frozen base as well."""
    unpadded_unless_off: tuple[str, ...] = ()
    """Switches of which one must be off for samples to be padded to the longest; padded where it lists none."""

    def beside(self, other: Habits) -> Habits:
        """These and those of another table that its files are read by."""
        return Habits(
            computes_in_16_bits=self.computes_in_16_bits or other.computes_in_16_bits,
            loads_whole=self.loads_whole or other.loads_whole,
            bits_of=self.bits_of or other.bits_of,
            unprepared_over=self.unprepared_over or other.unprepared_over,
            casts_frozen_over=self.casts_frozen_over or other.casts_frozen_over,
            unpadded_unless_off=self.unpadded_unless_off or other.unpadded_unless_off,
        )


class FlagTable(BaseModel):
    """`flags/<engine>`: options and keys of an engine, as its own parser has them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    engine: str
    """Name and version."""
    flags: dict[str, dict[str, Any]] = Field(default_factory=dict)
    parts: dict[str, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    options: dict[str, OptionWords] = Field(default_factory=dict)
    """By the names of engine options in catalogs/engines."""
    optimizers: dict[str, OtherOptimizer] = Field(default_factory=dict)
    """By the engine's own names, those that no key writes."""
    habits: Habits = Habits()
    """Of the launcher."""
    recipe: bool = False
    """What a run keeps unless told is a recipe's that the user names, not the defaults here: everything is written."""
    names: str = ""
    """Further names, separated by spaces."""
    networks: tuple[str, ...] = ()
    """Kinds of networks (`model_type` of a config.json) that it builds; any where it lists none."""
    named_kernels: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Networks (`model_type`) without torch's sdpa: kernels of attention that train them, by generation of chip."""
    named_machines: dict[str, str] = Field(default_factory=dict)
    """GPUs by what the name of one of its own files says (a regular expression)."""
    names_kernels: bool = False
    """It names a kernel itself where a file is silent."""
