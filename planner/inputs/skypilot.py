"""SkyPilot's price catalogs (`catalogs/v8/<cloud>/vms.csv`): rows as records, and why a row is none.

Columns stand in another order for every cloud, so they are read by name. A price is that of the whole instance in an
hour. Memory of GPUs is never read: `TotalGpuMemoryInMiB` is of one GPU on Lambda, `SizeInMiB` is in GB on RunPod.
"""

from __future__ import annotations

import ast
import csv
import difflib
import hashlib
import io
import math
from dataclasses import dataclass

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_bytes

MOST_BYTES = 64 * 1024 * 1024
MOST_USD = 1e5
"""Of an instance in an hour; more is no price."""
MOST_GPUS = 4096
LONGEST_NAME = 120
LONGEST_GPU_INFO = 10_000
COLUMNS = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "SpotPrice", "Region")
"""Every file has them; AvailabilityZone and GpuInfo only some."""
SPELLINGS = {"GPUInfo": "GpuInfo"}
"""The README of those catalogs spells a column as its files do not."""

NO_ACCELERATOR = "no accelerator"
NO_INSTANCE = "the price of accelerators without their host machine, which is another row (Google Cloud)"
NO_PRICE = "neither a price nor a spot price"
NO_REGION = "no region"
NONE = ("", "nan")
"""A cell without a value; nan is how pandas writes one."""
DUPLICATE = "the same row again"


@dataclass(frozen=True)
class VmRow:
    """One instance type in one zone, with its GPUs."""

    line: int
    instance: str
    accelerator: str
    """SkyPilot's name of the GPU, such as `A100-80GB`."""
    gpu_name: str
    """What GpuInfo calls it, such as `A100 PCIe`; empty where it says nothing."""
    gpus: int
    usd: float | None
    """On demand, of the instance. [USD/h]"""
    spot_usd: float | None
    """[USD/h]"""
    region: str


@dataclass(frozen=True)
class SkippedRow:
    """A row that gives no price."""

    line: int
    name: str
    """Its instance or accelerator, where it has one."""
    why: str


@dataclass(frozen=True)
class VmFile:
    """A catalog as it was read."""

    name: str
    sha256: str
    count: int
    """Rows without the header."""
    rows: tuple[VmRow, ...]
    skipped: tuple[SkippedRow, ...]


def read_vms(path: str) -> VmFile:
    """All rows of a catalog. Raises InputError where the file cannot be read or lacks a column."""
    raw = read_bytes(path, most_bytes=MOST_BYTES)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        because = f"byte 0x{raw[error.start]:02x} is not UTF-8"
        raise InputError(Mistake(f"{path} is not UTF-8 text", Place(path, line), because)) from None
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[VmRow] = []
    skipped: list[SkippedRow] = []
    seen: set[tuple[str, ...]] = set()
    count = 0
    try:
        columns = _columns(path, next(reader, []))
        for cells in reader:
            if not cells:
                continue
            count += 1
            read = _row(reader.line_num, columns, cells)
            if isinstance(read, VmRow) and tuple(cells) in seen:
                read = SkippedRow(reader.line_num, read.instance, DUPLICATE)
            if isinstance(read, VmRow):
                seen.add(tuple(cells))
                rows.append(read)
            else:
                skipped.append(read)
    except csv.Error as error:
        raise InputError(Mistake(f"{path} is not CSV", Place(path, reader.line_num), str(error))) from None
    return VmFile(path, hashlib.sha256(raw).hexdigest(), count, tuple(rows), tuple(skipped))


def _columns(path: str, header: list[str]) -> list[str]:
    """Names of the columns. Raises InputError where one that is needed is missing or stands twice."""
    names = [SPELLINGS.get(name.strip(), name.strip()) for name in header]
    wrong = []
    for name in COLUMNS:
        if names.count(name) == 1:
            continue
        close = difflib.get_close_matches(name, names, n=1, cutoff=0.7)
        wrong.append(
            Mistake(
                f"{path} has {'no' if name not in names else 'more than one'} column {name}",
                Place(path, 1),
                "it is no vms.csv of SkyPilot's catalogs, whose columns are read by name",
                f"`{close[0]}` may be meant" if close and name not in names else f"a header with {', '.join(COLUMNS)}",
            )
        )
    if wrong:
        raise InputError(wrong if len(wrong) < len(COLUMNS) else wrong[:1])
    return names


def _row(line: int, columns: list[str], cells: list[str]) -> VmRow | SkippedRow:
    if len(cells) != len(columns):
        return SkippedRow(line, "", f"another number of fields than the header's {len(columns)}")
    row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    instance, accelerator = row["InstanceType"], row["AcceleratorName"]
    name = instance or accelerator

    def no(why: str) -> SkippedRow:
        return SkippedRow(line, name[:LONGEST_NAME], why)

    gpus = _number(row["AcceleratorCount"]) if row["AcceleratorCount"] else 0.0
    if not accelerator or gpus == 0:
        return no(NO_ACCELERATOR)
    if not instance:
        return no(NO_INSTANCE)
    if row["Region"].lower() in NONE:
        return no(NO_REGION)
    if max(len(instance), len(accelerator), len(row["Region"])) > LONGEST_NAME:
        return no(f"a name of more than {LONGEST_NAME} characters")
    if gpus is None or not 0 < gpus <= MOST_GPUS:
        return no("AcceleratorCount is no number of GPUs")
    if not float(gpus).is_integer():
        return no("a share of one GPU")
    prices: list[float | None] = []
    for column in ("Price", "SpotPrice"):
        usd = _number(row[column]) if row[column] else None
        if row[column] and (usd is None or not 0 < usd <= MOST_USD):
            return no(f"{column} is no number of dollars")
        prices.append(usd)
    if prices == [None, None]:
        return no(NO_PRICE)
    return VmRow(
        line, instance, accelerator, _gpu_name(row.get("GpuInfo", "")), int(gpus), prices[0], prices[1], row["Region"]
    )


def _number(text: str) -> float | None:
    """A finite decimal number; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in text else None


def _gpu_name(info: str) -> str:
    """Name of the first GPU in a GpuInfo cell, a Python literal; empty where there is none."""
    if not info or len(info) > LONGEST_GPU_INFO:
        return ""
    try:
        name = ast.literal_eval(info)["Gpus"][0]["Name"]
    except (ValueError, SyntaxError, TypeError, KeyError, IndexError, RecursionError, MemoryError):
        return ""
    return name[:LONGEST_NAME] if isinstance(name, str) else ""
