"""Speeds that sources of the memory rows print beside the memory: the same runs, in the words of those rows."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

from planner.validation.memory.cases import CASES as MEMORY
from planner.validation.memory.cases import Case, load_cases
from planner.validation.throughput.more_rows import READ

ROWS = "throughput_of_memory_rows.csv"
OF_MEMORY = "memory_row"
"""Tag of a run whose engine, switches, optimizer and adapter are read as those of memory rows are."""


def memory_rows(folder: Path) -> list[tuple[Case, float]]:
    """(run, tokens/s/GPU) of memory rows whose source prints a speed; none where a folder has no such file."""
    path = folder / ROWS
    if not path.is_file() or not (folder / MEMORY).is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        speeds = {row["id"]: float(row["tokens_per_s_per_gpu"]) for row in csv.DictReader(stream)}
    return [(_run(case), speeds[case.id]) for case in load_cases(folder) if case.id in speeds]


def _run(case: Case) -> Case:
    """The run of a memory row; ids of memory and of speed rows may be the same."""
    tags = case.tags | {READ, OF_MEMORY}
    return replace(case, id=f"{case.id}-speed", tags=tags, missing=(), outcome="value", development=1)
