"""The saved output of `nvidia-smi topo -m` as links between GPUs.

Words of the matrix, from its own legend: NV# a bond of # NVLinks; PIX at most one PCIe bridge, PXB several, PHB a host
bridge, NODE host bridges of one NUMA node, SYS the link between sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from planner.cluster.node_graph import NVLINK_HOP_US, PCIE_EDGE_US, Edge, pcie_gb_per_s
from planner.errors import InputError, Mistake, Place
from planner.schema.catalog import Gpu, Node

LINK_GB_PER_S = {
    "sm_60": 20.0, "sm_70": 25.0, "sm_75": 25.0, "sm_80": 25.0, "sm_86": 14.0625,
    "sm_90": 25.0, "sm_100": 50.0, "sm_103": 50.0,
}  # fmt: skip
"""One NVLink, one direction, by compute capability: NVLink 1 20, 2 to 4 25 (GA102 14.06), 5 50 (NVIDIA data sheets:
V100 6 links 150, A100 12 links 300, RTX A6000 4 links 56.25, H100 18 links 450, B200 18 links 900). [GB/s]"""
PCIE_WORDS = {"PIX": 2, "PXB": 3, "PHB": 4, "NODE": 4, "SYS": 5, "SOC": 5}
"""Edges on the way from one GPU to the other, for its latency; SOC is what old drivers call SYS."""
ACROSS_SOCKETS = ("SYS", "SOC")
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def matrix_edges(text: str, name: str, node: Node, gpu: Gpu) -> tuple[int, tuple[Edge, ...]]:
    """(number of GPUs, links) of a matrix; raises InputError with file and line where it is not one."""
    lines = [_ESCAPE.sub("", line) for line in text.splitlines()]
    words = _words(lines, name)
    count = len(words)
    for index, (number, row) in enumerate(words):
        for other in range(count):
            if other != index and row[other] != words[other][1][index]:
                what = f"GPU{index} reaches GPU{other} by {row[other]}, and back by {words[other][1][index]}"
                raise InputError(Mistake(what, Place(name, number), "the matrix must be the same both ways"))
    bonds = [[_bond(word, name, number) for word in row] for number, row in words]
    slow = [
        _pcie(first, second, words[first][1][second], pcie_gb_per_s(node, gpu))
        for first in range(count)
        for second in range(first + 1, count)
        if not bonds[first][second]
    ]
    return count, (*_fast(bonds, words, name, gpu), *slow)


def _words(lines: Sequence[str], name: str) -> list[tuple[int, list[str]]]:
    """(line number, link words to every GPU) of each GPU."""
    head = next((n for n, line in enumerate(lines) if re.match(r"\s*GPU0\b", line) and "X" not in line.split()), None)
    if head is None:
        raise InputError(
            Mistake(
                f"{name} holds no GPU matrix",
                Place(name, 1),
                "no line starts the columns with GPU0",
                "nvidia-smi topo -m > topology.txt, or an edge list in a file that ends in .yaml",
            )
        )
    columns = lines[head].split()
    places = [place for place, title in enumerate(columns) if re.fullmatch(r"GPU\d+", title)]
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(lines[head + 1 :], start=head + 2):
        cells = line.split()
        if not cells or not re.fullmatch(r"GPU\d+", cells[0]):
            continue
        index = len(rows)
        if cells[0] != f"GPU{index}" or index >= len(places):
            raise InputError(Mistake(f"{cells[0]} where GPU{index} was expected", Place(name, number)))
        if len(cells) <= places[-1] + 1:
            raise InputError(Mistake(f"the row of {cells[0]} ends before GPU{len(places) - 1}", Place(name, number)))
        row = [cells[place + 1] for place in places]
        if row[index] != "X":
            because = "a GPU and itself are marked X"
            raise InputError(Mistake(f"{row[index]} between {cells[0]} and itself", Place(name, number), because))
        rows.append((number, row))
    if len(rows) != len(places):
        what = f"{len(places)} GPUs across, {len(rows)} down"
        raise InputError(Mistake(what, Place(name, head + 1), "a row of the matrix is missing"))
    return rows


def _bond(word: str, name: str, number: int) -> int:
    """NVLinks that a word stands for, 0 for PCIe."""
    if word == "X" or word in PCIE_WORDS:
        return 0
    if re.fullmatch(r"NV\d+", word) and int(word[2:]) > 0:
        return int(word[2:])
    known = ", ".join(["NV#", *PCIE_WORDS])
    raise InputError(Mistake(f"unknown link {word}", Place(name, number), f"known are {known}"))


def _fast(
    bonds: Sequence[Sequence[int]], words: Sequence[tuple[int, list[str]]], name: str, gpu: Gpu
) -> tuple[Edge, ...]:
    """NVLink edges; through a switch where a GPU shows more links to its peers than it has."""
    if not any(any(row) for row in bonds):
        return ()
    number = next(line for (line, _), row in zip(words, bonds, strict=True) if any(row))
    each = next((rate for chip, rate in LINK_GB_PER_S.items() if chip in gpu.chip.split()), None)
    if gpu.nvlink_gb_per_s is None or each is None:
        because = "its catalog entry has no nvlink_gb_per_s, or no rate a link is known for its chip"
        raise InputError(Mistake(f"{gpu.name} has no NVLink, the matrix shows some", Place(name, number), because))
    total = round(gpu.nvlink_gb_per_s / each)
    for (line, _), row in zip(words, bonds, strict=True):
        if max(row) > total:
            because = f"the catalog gives it {gpu.nvlink_gb_per_s:g} GB/s of {each:g} GB/s links"
            raise InputError(Mistake(f"NV{max(row)} on a GPU with {total} NVLinks", Place(name, line), because))
    if any(sum(row) > total for row in bonds):
        return tuple(
            Edge((f"gpu{index}", "nvswitch"), "nvlink", max(row) * each, NVLINK_HOP_US / 2)
            for index, row in enumerate(bonds)
            if any(row)
        )
    return tuple(
        Edge((f"gpu{first}", f"gpu{second}"), "nvlink", row[second] * each, NVLINK_HOP_US)
        for first, row in enumerate(bonds)
        for second in range(first + 1, len(row))
        if row[second]
    )


def _pcie(first: int, second: int, word: str, gb_per_s: float) -> Edge:
    kind: Literal["socket", "pcie"] = "socket" if word in ACROSS_SOCKETS else "pcie"
    latency = PCIE_WORDS[word] * PCIE_EDGE_US
    return Edge((f"gpu{first}", f"gpu{second}"), kind, gb_per_s, latency)
