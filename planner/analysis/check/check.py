"""A run held against its plan: what was predicted, what logs, samples and snapshots say, and what explains the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.analysis.calibrate.fit import OUTSIDE, measured_seconds, phase_seconds
from planner.analysis.calibrate.rl_log import Log, parse_log
from planner.analysis.check.grouping import Grouped, grouped
from planner.analysis.check.run_log import KINDS, Amount, Growth, Kind, growth, read_amounts
from planner.costs.item_names import ItemName
from planner.costs.memory.returnable import RETURNABLE
from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_bytes
from planner.inputs.pickled import MAGIC, read_plain
from planner.inputs.snapshot import MAX_SNAPSHOT_BYTES, Snapshot, snapshot_of
from planner.search.plan import PhaseMemory, Plan, host_total_gib
from planner.units import GIB

LONGEST_LINE = 20_000
"""Characters of a line of a log that are looked at."""
HELD = (
    *RETURNABLE,
    ItemName.FREED_BUFFERS_AWAITING_ANOTHER_STREAM,
    ItemName.DIFFERENCE_TO_THE_CALIBRATED_RUN,
)
"""Items that the allocator holds and no tensor lies in."""
SMALL_GIB = 0.25
"""Differences of an item below this are not remarked upon."""


@dataclass(frozen=True)
class Quantity:
    """One quantity of the run beside the plan's."""

    name: str
    unit: str
    measured: float
    predicted: float
    interval: tuple[float, float] | None
    """90 % interval of the prediction; None where no published run of this engine was scored."""
    statements: int
    """Lines, samples or snapshots that state it."""

    @property
    def error(self) -> float:
        """(predicted - measured) / measured."""
        return self.predicted / self.measured - 1

    @property
    def inside(self) -> bool | None:
        """Whether the measured value lies within the interval."""
        return None if self.interval is None else self.interval[0] <= self.measured <= self.interval[1]


@dataclass(frozen=True)
class ItemRow:
    """An item of a ledger, predicted and as a snapshot holds it. [GiB]"""

    name: str
    predicted_gib: float
    measured_gib: float


@dataclass(frozen=True)
class Held:
    """A snapshot against the ledger that is nearest to it."""

    snapshot: Snapshot
    grouped: Grouped
    ledger: PhaseMemory
    rows: tuple[ItemRow, ...]
    """Largest measured first; items outside the allocator are not among them, for no snapshot sees them."""

    @property
    def unexplained_gib(self) -> float:
        """What no item of the ledger explains. [GiB]"""
        return (self.snapshot.peak_bytes - sum(self.grouped.bytes.values())) / GIB


@dataclass(frozen=True)
class Checked:
    """What a run says about its plan."""

    plan: Plan
    files: tuple[str, ...]
    quantities: tuple[Quantity, ...]
    held: tuple[Held, ...]
    growth: Growth | None
    amounts: tuple[Amount, ...]
    room_gib: float | None
    """Usable memory less the fullest the card was, or must have been. [GiB]"""
    room_from: str
    """What that is computed from."""

    @property
    def outside(self) -> tuple[Quantity, ...]:
        """Quantities that lie outside the interval of their prediction."""
        return tuple(each for each in self.quantities if each.inside is False)


def check(plan: Plan, run: Sequence[str], stage: int | None = None) -> Checked:
    """Hold the files of a run against its plan; a folder stands for the files in it.

    `stage`: pipeline stage of the rank that wrote the snapshots; the nearest one where it is not given.
    Raises InputError where a file cannot be read, is refused, or none of them states anything that is known.
    """
    if stage is not None and not 0 <= stage < len(plan.layers):
        raise InputError(Mistake(f"stage {stage} is not one of the plan's {len(plan.layers)}", Place("--stage")))
    snapshots: list[Snapshot] = []
    lines: list[str] = []
    amounts: list[Amount] = []
    files = _files(run)
    for path in files:
        data = read_bytes(path, most_bytes=MAX_SNAPSHOT_BYTES)
        if data.startswith(MAGIC):
            snapshots.append(snapshot_of(read_plain(data, str(path)), str(path)))
        else:
            found = [line[:LONGEST_LINE] for line in data.decode("utf-8", errors="replace").splitlines()]
            amounts += read_amounts(found, str(path))
            lines += found
    log = parse_log(lines)
    held = tuple(_held(snapshot, plan, stage) for snapshot in snapshots)
    quantities = (*_memory(plan, amounts, held), *_times(plan, log))
    if not quantities:
        raise InputError(
            Mistake(
                f"nothing in {', '.join(run)} is known",
                Place(run[0]),
                "looked for memory lines of Megatron, slime, verl, NeMo-RL, torchtitan, DeepSpeed and Trainer, "
                "nvidia-smi's output, step times and PyTorch's memory snapshots",
                "a snapshot: torch.cuda.memory._record_memory_history(), after a step _dump_snapshot('run.pickle')",
            )
        )
    room, said = _room(plan, quantities)
    names = tuple(path.name for path in files)
    return Checked(plan, names, tuple(quantities), held, growth(amounts), tuple(amounts), room, said)


def _files(run: Sequence[str]) -> list[Path]:
    out: list[Path] = []
    for name in run:
        path = Path(name)
        if path.is_dir():
            out += sorted(each for each in path.iterdir() if each.is_file())
        else:
            out.append(path)
    return out


def stage_of(rank: int, plan: Plan) -> int:
    """Pipeline stage of a rank, in the order that the scenario's cluster names."""
    stages = len(plan.layers)
    if plan.named.rank_order == "tp_pp_dp":
        inner = plan.layout["tensor_parallel"] * plan.layout["context_parallel"]
        return rank // inner % stages
    return min(stages - 1, rank * stages // plan.layout["num_gpus"])


def _predicted_gib(plan: Plan, kind: Kind, stages: set[int]) -> float:
    """The largest total of a kind over phases of these stages. [GiB]"""
    if kind == "host":
        return host_total_gib(plan)[0]
    if kind == "device":
        return max(phase.total_gib for phase in plan.memory)
    left_out = OUTSIDE if kind == "reserved" else (*OUTSIDE, ItemName.SYNC_BUCKETS, *HELD)
    return max(
        sum(item.amount for item in phase.items if item.name not in left_out)
        for phase in plan.memory
        if phase.stage in stages
    )


def _memory(plan: Plan, amounts: Sequence[Amount], held: Sequence[Held]) -> Iterator[Quantity]:
    spread = plan.problem.known_errors.memory
    for kind in KINDS:
        found = [each for each in amounts if each.kind == kind]
        values = [each.gib for each in found]
        stages = set(range(len(plan.layers)))
        ranks = {each.rank for each in found}
        if found and None not in ranks and kind in ("allocated", "reserved"):
            stages = {stage_of(rank, plan) for rank in ranks if rank is not None}
        if held and not found and kind in ("allocated", "reserved"):
            values = [(h.snapshot.peak_bytes if kind == "allocated" else h.snapshot.reserved_bytes) / GIB for h in held]
            stages = {h.ledger.stage for h in held if h.ledger.stage is not None}
        if not values:
            continue
        predicted = _predicted_gib(plan, kind, stages)
        interval = spread.interval_gib(predicted) if spread is not None and kind != "host" else None
        yield Quantity(f"{kind} memory", "GiB", max(values), predicted, interval, len(values))


def _times(plan: Plan, log: Log) -> Iterator[Quantity]:
    predicted, spread = phase_seconds(plan), plan.problem.known_errors.step(rl=plan.problem.is_rl)
    measured = measured_seconds(log, plan)
    for name, seconds in predicted.items():
        reading = measured.get(name)
        if reading is None:
            continue
        interval = None
        if spread is not None and (name == "step" or not plan.problem.is_rl):
            interval = seconds * spread.low, seconds * spread.high
        yield Quantity(f"{name} time", "s", reading.value, seconds, interval, reading.lines)


def _held(snapshot: Snapshot, plan: Plan, stage: int | None) -> Held:
    """The snapshot grouped on each stage in question, and the ledger with the smallest sum of differences."""
    found: list[tuple[float, int, Held]] = []
    by_stage: dict[int, Grouped] = {}
    for number, ledger in enumerate(plan.memory):
        if ledger.stage is None or (stage is not None and ledger.stage != stage):
            continue
        if ledger.stage not in by_stage:
            by_stage[ledger.stage] = grouped(snapshot, plan, ledger.stage)
        groups = by_stage[ledger.stage]
        predicted = {e.name: e.amount for e in ledger.items if e.name not in (*OUTSIDE, *HELD)}
        measured: Mapping[str, float] = {name: size / GIB for name, size in groups.bytes.items()}
        names = sorted({*predicted, *measured}, key=lambda n: (-measured.get(n, 0.0), -predicted.get(n, 0.0), n))
        rows = tuple(ItemRow(name, predicted.get(name, 0.0), measured.get(name, 0.0)) for name in names)
        away = sum(abs(row.predicted_gib - row.measured_gib) for row in rows)
        found.append((away, number, Held(snapshot, groups, ledger, rows)))
    return min(found, key=lambda each: each[:2])[2]


def _room(plan: Plan, quantities: Sequence[Quantity]) -> tuple[float | None, str]:
    """What is left of the card, from the most direct quantity; what that does not see is taken as predicted."""
    by_name = {each.name: each for each in quantities}
    worst = plan.binding
    outside = sum(item.amount for item in worst.items if item.name in OUTSIDE)
    reserve = sum(item.amount for item in worst.items if item.name in HELD)
    for name, more, said in (
        ("device memory", 0.0, "the fullest the card was"),
        ("reserved memory", outside, f"{outside:.1f} GiB outside the allocator as predicted"),
        ("allocated memory", outside + reserve, f"{outside + reserve:.1f} GiB of reserve and outside as predicted"),
    ):
        if name in by_name:
            return plan.usable_gib - by_name[name].measured - more, said
    return None, ""
