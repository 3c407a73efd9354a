"""Memory that a run states in its logs, or that nvidia-smi sampled: amounts by kind, rank and step.

    allocated   tensors, by PyTorch's allocator
    reserved    what the allocator holds, blocks that are free included
    device      the whole card, other processes and CUDA's own memory included
    host        memory of the machine

Forms, with their source: Megatron-LM 0.19 training/utils.py report_memory; slime 0.3 utils/memory_utils.py; verl 0.9
utils/profiler/performance.py and perf/* metrics; NeMo-RL models/policy/workers; torchtitan components/metrics.py;
DeepSpeed 0.19 runtime/utils.py see_memory_usage; nanotron logging; NeMo 2's progress line (bytes);
ms-swift 4.6 megatron/callbacks/print.py, trainers/patcher.py; torchtune training/memory.py; LitGPT's last line;
Megatron-Bridge training/utils/train_utils.py report_memory (GB); prime-rl's line of a step (its pull request 999);
axolotl's memory/* metrics; Trainer's *_mem_gpu_* (transformers 5.23 trainer_utils.py); nvidia-smi --query-gpu (CSV),
dmon -s m, and its table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from planner.errors import InputError, Mistake, Place
from planner.units import GIB

Kind = Literal["allocated", "reserved", "device", "host"]
KINDS: tuple[Kind, ...] = ("allocated", "reserved", "device", "host")
_N = r"([0-9][0-9,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)"
_AS = r"['\"]?\s*[:=]\s*(?:[\w.]+\()?"
MIB_IN_GIB, GB_IN_GIB, BYTE_IN_GIB = 1 / 1024, 1e9 / GIB, 1 / GIB
FORMS: tuple[tuple[Kind, float, re.Pattern[str]], ...] = (
    ("allocated", MIB_IN_GIB, re.compile(r"max allocated: " + _N)),
    ("reserved", MIB_IN_GIB, re.compile(r"max reserved: " + _N)),
    ("allocated", 1.0, re.compile(r"max_(?:memory_)?allocated_(?:gb|GB)" + _AS + _N)),
    ("reserved", 1.0, re.compile(r"max_(?:memory_)?reserved_(?:gb|GB)" + _AS + _N)),
    ("allocated", GB_IN_GIB, re.compile(r"mem-max-allocated-gigabytes: " + _N)),
    ("reserved", GB_IN_GIB, re.compile(r"mem-max-reserved-gigabytes: " + _N)),
    ("allocated", BYTE_IN_GIB, re.compile(r"\bmax_memory_allocated" + _AS + _N)),
    ("reserved", BYTE_IN_GIB, re.compile(r"\bmax_memory_reserved" + _AS + _N)),
    ("allocated", 1.0, re.compile(r"(?<!max_)'allocated_GB'" + _AS + _N)),
    ("reserved", 1.0, re.compile(r"(?<!max_)'reserved_GB'" + _AS + _N)),
    ("device", 1.0, re.compile(r"'used_GB'" + _AS + _N)),
    ("allocated", 1.0, re.compile(r"memory allocated \(GB\): " + _N)),
    ("reserved", 1.0, re.compile(r"memory reserved \(GB\): " + _N)),
    ("device", 1.0, re.compile(r"device memory used/total \(GB\): " + _N)),
    ("host", 1.0, re.compile(r"cpu_memory_used_gb" + _AS + _N)),
    ("allocated", 1.0, re.compile(r"GPU Memory [\w ]+: " + _N + r"\s?GB allocated")),
    ("reserved", 1.0, re.compile(r"GB allocated, " + _N + r"\s?GB reserved")),
    ("reserved", 1.0, re.compile(r"\bmemory:\s*" + _N + r"\s*GiB")),
    ("allocated", 1.0, re.compile(r"\bMax_MA " + _N + r"\s*GB")),
    ("reserved", 1.0, re.compile(r"\bMax_CA " + _N + r"\s*GB")),
    ("host", 1.0, re.compile(r"CPU Virtual Memory:\s*used = " + _N)),
    ("allocated", MIB_IN_GIB, re.compile(r"Peak allocated:? " + _N + r"\s?MiB")),
    ("reserved", MIB_IN_GIB, re.compile(r"Peak reserved:? " + _N + r"\s?MiB")),
    ("allocated", 1.0, re.compile(r"memory/max_(?:mem_)?allocated ?\((?:GiB|gib)\)" + _AS + _N)),
    ("reserved", 1.0, re.compile(r"memory/device_(?:mem_)?reserved ?\((?:GiB|gib)\)" + _AS + _N)),
    ("reserved", 1.0, re.compile(r"\bmemory\(GiB\)" + _AS + "['\"]?" + _N)),
    ("allocated", 1.0, re.compile(r"\bpeak_memory_alloc:" + _N)),
    ("reserved", 1.0, re.compile(r"\bpeak_memory_reserved:" + _N)),
    ("allocated", 1.0, re.compile(r"\bpeak memory alloc: " + _N + " GiB")),
    ("reserved", 1.0, re.compile(r"\bpeak memory reserved: " + _N + " GiB")),
    ("allocated", GB_IN_GIB, re.compile(r"^Memory used: " + _N + " GB")),
    ("reserved", 1.0, re.compile(r"\bPeak Mem\.: " + _N + r"/[0-9.]+ GiB")),
)  # fmt: skip
"""Kind, GiB of one unit, and the words around the number."""
_TRAINER = (
    "before_init_mem_gpu",
    "init_mem_gpu_alloc_delta",
    "train_mem_gpu_alloc_delta",
    "train_mem_gpu_peaked_delta",
)
_RANK = re.compile(r"\[Rank (\d{1,9})\]|\brank[ =:]?(\d{1,9})\b")
_STEP = re.compile(
    r"\biteration(?::|=)?\s+(\d{1,12})\s*/|\bstep['\"]?:\s*(\d{1,12})\b|\(after (\d{1,12}) iterations\)"
    r"|\bperf (\d{1,12}):|\bStep (\d{1,12})(?:/| \|)|'(?:iteration|global_step/max_steps)': '(\d{1,12})/"
)
_GLUED = re.compile(r"(?<=\S)(?=\[Rank \d{1,9}\] \(after )")
"""Between statements of two ranks on one line: each rank prints for itself, and line ends may come later."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CELL = re.compile(r"^\s*([0-9]{1,9}(?:\.[0-9]{0,9})?)\s*(?:MiB)?\s*$")
_TABLE = re.compile(r"\|\s*([0-9]{1,9})MiB\s*/\s*([0-9]{1,9})MiB\s*\|")
_DMON = re.compile(r"^\s*([0-9]{1,9})\s+([0-9]{1,9})\s+[0-9]+(?:\s+[0-9]+)*\s*$")
MOST_GIB = 2.0**24
"""More than this, 16 PiB, is no amount of memory. [GiB]"""


@dataclass(frozen=True)
class Amount:
    """One statement of a log."""

    kind: Kind
    gib: float
    step: int | None
    """Of the line, or of the last line that names one."""
    rank: int | None
    """Rank, or index of the GPU."""


def read_amounts(lines: Iterable[str], name: str = "log") -> tuple[Amount, ...]:
    """Every amount of memory that a log or a table of samples states, in its order; `name` is the file's.

    Raises InputError for a number that no memory has.
    """
    out: list[Amount] = []
    step: int | None = None
    trainer: dict[str, float] = {}
    samples = _Samples()
    for number, line in enumerate(lines, start=1):
        text, place = _COLOUR.sub("", line), Place(name, number)
        if found := _STEP.search(text):
            step = next(int(group) for group in found.groups() if group)
        for part in _GLUED.split(text):
            named = _RANK.search(part)
            rank = next((int(group) for group in named.groups() if group), None) if named else None
            for kind, unit, form in FORMS:
                if (stated := form.search(part)) and (gib := _gib(stated.group(1), unit, place)) > 0:
                    out.append(Amount(kind, gib, step, rank))
        for word in _TRAINER:
            if stated := re.search(rf"\b{word}['\"]?\s*[:=]\s*" + _N + r"(MB)?", text):
                scale = MIB_IN_GIB if stated.group(2) else BYTE_IN_GIB
                trainer[word] = _gib(stated.group(1), scale, place)
        out += samples.read(text)
    if _TRAINER[-1] in trainer:
        out.append(Amount("allocated", sum(trainer.values()), step, None))
    return tuple(out)


def _gib(number: str, unit: float, place: Place) -> float:
    gib = float(number.replace(",", "")) * unit
    if gib > MOST_GIB:
        said = f"{number[:40]}... of them" if len(number) > 40 else number
        raise InputError(Mistake("the log names no amount of memory", place, said, "amounts up to 16 PiB"))
    return gib


class _Samples:
    """nvidia-smi's own output: CSV with a header, `dmon -s m`, or the table."""

    def __init__(self) -> None:
        self.columns: list[str] = []
        self.dmon = False
        self.in_table = 0

    def read(self, text: str) -> list[Amount]:
        titles = [cell.strip().split(" ")[0] for cell in text.split(",")] if "memory.used" in text else []
        if "memory.used" in titles:
            self.columns = titles
            return []
        if re.match(r"#\s*gpu\s+fb\b", text):
            self.dmon = True
            return []
        if self.columns:
            cells = text.split(",")
            if len(cells) != len(self.columns):
                return []
            row = dict(zip(self.columns, cells, strict=True))
            used, index = _CELL.match(row["memory.used"]), _CELL.match(row.get("index", ""))
            return [_sample(float(used.group(1)), int(float(index.group(1))) if index else None)] if used else []
        if self.dmon and (row_ := _DMON.match(text)):
            return [_sample(float(row_.group(2)), int(row_.group(1)))]
        if "NVIDIA-SMI" in text:
            self.in_table = 0
        if found := _TABLE.search(text):
            self.in_table += 1
            return [_sample(float(found.group(1)), self.in_table - 1)]
        return []


def _sample(mib: float, index: int | None) -> Amount:
    return Amount("device", mib * MIB_IN_GIB, None, index)


@dataclass(frozen=True)
class Growth:
    """Memory that rises from step to step."""

    kind: Kind
    gib_per_step: float
    first_gib: float
    last_gib: float
    steps: int


STEADY_SHARE = 0.02
"""Less than this between the early and the late third of a run is no growth."""
FEWEST_STEPS = 6


def growth(amounts: Iterable[Amount]) -> Growth | None:
    """The steepest rise of a kind over steps, where the last third of a run lies above its first; first steps apart.

    Peaks of the steps are compared, for a step itself rises and falls.
    """
    found: list[Growth] = []
    listed = list(amounts)
    for kind in KINDS:
        peaks: dict[int, float] = {}
        for each in listed:
            if each.kind == kind and each.step is not None:
                peaks[each.step] = max(peaks.get(each.step, 0.0), each.gib)
        steps = sorted(peaks)[1:]
        if len(steps) < FEWEST_STEPS:
            continue
        third = len(steps) // 3
        early, late = (sum(peaks[s] for s in part) / third for part in (steps[:third], steps[-third:]))
        span = (steps[-1] - steps[0]) * (1 - third / len(steps))
        if late > early * (1 + STEADY_SHARE) and span > 0:
            found.append(Growth(kind, (late - early) / span, peaks[steps[0]], peaks[steps[-1]], len(steps)))
    return max(found, key=lambda each: each.gib_per_step, default=None)
