"""The text that nccl-tests print (all_reduce_perf and its relatives) as a measured curve."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import NoReturn, get_args

import numpy as np

from planner.errors import InputError, Mistake, Place
from planner.formulas.collectives import Curve, Operation, bus_factor

PROGRAMS: dict[str, Operation] = {
    "all_reduce": "all_reduce",
    "all_gather": "all_gather",
    "reduce_scatter": "reduce_scatter",
    "alltoall": "all_to_all",
    "all_to_all": "all_to_all",
}
FACTOR_TOLERANCE = 0.03
"""busbw is printed with two digits and compared only where it is 10 GB/s or more."""
_RANK = re.compile(r"#\s*Rank\s+\d+\s.*\bon\s+(\S+)\s+device\b")


@dataclass(frozen=True)
class NcclTest:
    """One run of one collective."""

    curve: Curve
    num_nodes: int
    """Hosts that the ranks ran on."""


def parse_nccl_test(text: str, name: str) -> NcclTest:
    """Read one run; raises InputError with file and line for anything else.

    Number of GPUs and nodes come from the `# Rank` lines, the collective from the program's name inside the file or
    from the file's own name, sizes and times from the out-of-place columns.
    """
    lines = text.splitlines()
    hosts = [match.group(1) for line in lines if (match := _RANK.match(line.strip()))]
    if not hosts:
        attempt = "all_reduce_perf -b 1M -e 8G -f 2 -g 8 > all_reduce_8.txt"
        _refuse(f"{name} is no output of nccl-tests", name, 1, "no line says `# Rank ... on <host> device`", attempt)
    num_gpus, num_nodes = len(hosts), len(set(hosts))
    if num_gpus < 2:
        _refuse(f"{name} was run on one GPU", name, 1, "nothing travels", "run it on two or more GPUs (-g)")
    if len(set(Counter(hosts).values())) > 1:
        _refuse(f"{num_gpus} ranks on {num_nodes} hosts", name, 1, "hosts hold unequal numbers of ranks")
    op = _operation(text, name)
    titles: list[str] | None = None
    rows: list[tuple[int, float, float, float, float]] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words[:1] == ["#"] and "busbw" in words and "size" in words:
            if titles is not None:
                _refuse("a second table", name, number, "a file holds one run of one collective", "one file a run")
            titles = words[1:]
        elif titles is not None and words and words[0].isdigit():
            rows.append(_row(words, titles, name, number))
    if titles is None:
        _refuse(f"{name} has no table", name, len(lines), "no line names the columns size, time and busbw")
    rows = [row for row in rows if row[1] > 0 and row[2] > 0]
    if len(rows) < 2:
        _refuse(f"{name} has {len(rows)} sizes", name, len(lines), "a curve needs two", "-b 1M -e 8G -f 2")
    for number, _, _, algorithm, bus in rows:
        ratio, factor = bus / algorithm if algorithm else 0.0, bus_factor(op=op, num_gpus=num_gpus)
        if bus >= 10 and abs(ratio / factor - 1) > FACTOR_TOLERANCE:
            because = f"busbw / algbw is {ratio:.3f}; it would be {factor:.3f} for {op} over {num_gpus} GPUs"
            _refuse(f"{name} is no {op} over {num_gpus} GPUs", name, number, because)
    seconds = {size: time for _, size, time, _, _ in rows}
    sizes = sorted(seconds)
    curve = Curve(
        op=op,
        num_gpus=num_gpus,
        size_bytes=np.array(sizes, dtype=np.float64),
        time_ns=np.array([seconds[size] * 1e3 for size in sizes], dtype=np.float64),
    )
    return NcclTest(curve, num_nodes)


def _operation(text: str, name: str) -> Operation:
    """The collective, from a program's name in the text, else from the file's name."""
    words = "|".join(PROGRAMS)
    found = {PROGRAMS[word] for word in re.findall(rf"({words})_perf", text)}
    if not found:
        found = {PROGRAMS[word] for word in re.findall(words, re.split(r"[/\\]", name)[-1])}
    if len(found) != 1:
        because = (
            f"it names {' and '.join(sorted(found))}" if found else "neither the text nor the name of the file says"
        )
        attempt = f"a file name with one of {', '.join(get_args(Operation))} in it"
        _refuse(f"which collective {name} measures is not clear", name, 1, because, attempt)
    return found.pop()


def _row(words: list[str], titles: list[str], name: str, number: int) -> tuple[int, float, float, float, float]:
    """(line, bytes, microseconds, algbw, busbw) out of place."""
    try:
        first = titles.index("time")
        values = [float(words[titles.index(title, place)]) for title, place in (("size", 0), ("time", first))]
        values += [float(words[titles.index(title, first)]) for title in ("algbw", "busbw")]
    except (ValueError, IndexError):
        _refuse("a row without size, time, algbw and busbw", name, number, f"columns are {' '.join(titles)}")
    if not all(np.isfinite(values)) or min(values) < 0:
        _refuse("a row with a number below 0 or none", name, number, " ".join(words))
    return number, values[0], values[1], values[2], values[3]


def _refuse(what: str, name: str, number: int, because: str, attempt: str | None = None) -> NoReturn:
    raise InputError(Mistake(what, Place(name, number), because, attempt))
