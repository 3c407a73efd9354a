"""Rows read on 2026-11-22: what was said of them before anything was changed for them, and what is said now."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from planner.report.json_text import JsonObject
from planner.validation.memory.express import Prediction
from planner.validation.memory.score import MemoryResult

FILES = {
    3: "first_look_more.csv",
    4: "first_look_aside.csv",
    5: "first_look_fresh.csv",
    6: "first_look_next.csv",
    7: "first_look_thin.csv",
}
"""First looks by development."""
Table = tuple[str, list[str], list[list[str]]]
"""Title, header, rows."""


@dataclass(frozen=True)
class Said:
    """One prediction, with the 90 % interval and the peak of the fullest card that were printed beside it. [GiB]"""

    gib: float
    low_gib: float
    high_gib: float
    peak_gib: float


@dataclass(frozen=True)
class LaterLook:
    """Rows of one development, engine and metric."""

    development: int
    engine: str
    metric: str
    rows: tuple[tuple[Prediction, Said | None], ...]
    """Beside what was said at first; None where the planner of that day could not say the row."""

    @property
    def first(self) -> np.ndarray:
        """Relative errors at first look."""
        return np.array([said.gib / (p.case.memory_gib or 1.0) - 1 for p, said in self.rows if said is not None])

    @property
    def now(self) -> np.ndarray:
        """Relative errors of this version."""
        return np.array([p.error for p, _ in self.rows])

    @property
    def held(self) -> float:
        """Share of rows that lay in their 90 % interval at first look."""
        inside = [
            said.low_gib <= (p.case.memory_gib or 0.0) <= said.high_gib for p, said in self.rows if said is not None
        ]
        return float(np.mean(inside)) if inside else 0.0


def first_said(folder: Path, development: int = 3) -> dict[str, Said]:
    """What was said at first, by row id; empty where a folder has no such file."""
    path = folder / FILES[development]
    if not path.is_file():
        return {}
    with open(path, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {
        row["id"]: Said(*(float(row[f]) for f in ("predicted_gib", "low_gib", "high_gib", "peak_gib"))) for row in rows
    }


def looks(result: MemoryResult, folder: Path, development: int = 3) -> list[LaterLook]:
    """By engine and metric; doubtful rows last, as one of their own."""
    told = first_said(folder, development)
    found: dict[tuple[str, str, str], list[tuple[Prediction, Said | None]]] = {}
    for p in result.predictions:
        if p.case.development == development and p.case.memory_gib is not None:
            doubtful = "doubtful rows, any engine" if p.case.doubtful else ""
            key = (doubtful, *(("", "any") if doubtful else (p.group.problem.engine.id, p.case.metric)))
            found.setdefault(key, []).append((p, told.get(p.case.id)))
    return [LaterLook(development, key[1] or key[0], key[2], tuple(found[key])) for key in sorted(found)]


def later_tables(result: MemoryResult, folder: Path) -> list[Table]:
    """Errors at first look and now, and what the intervals of the first look held: the rows now in view, and others."""
    then = "before anything was changed for them and now"
    titles = {
        3: f"{then} (now is in view of them)",
        4: f"after those, {then} (now is in view of them)",
        5: f"last, {then} (now is in view of them)",
        6: f"and 23, {then} (now is in view of them)",
        7: f"to 23, of engines with few sources, {then} (a test: in no fit)",
    }
    tables = [_table(f"Rows read on 2026-11-22, {title}", result, folder, number) for number, title in titles.items()]
    return [table for table in tables if table[2]]


def _table(title: str, result: MemoryResult, folder: Path, development: int) -> Table:
    header = ["engine", "metric", "rows", "first look: rows", "median", "p90", "bias", "in the 90 % interval"]
    header += ["now: median", "p90", "bias"]
    lines = []
    for look in looks(result, folder, development):
        then = [*_errors(look.first), f"{look.held:.0%}"] if look.first.size else ["", "", "", ""]
        count = [str(len(look.rows)), str(look.first.size)]
        lines.append([look.engine, look.metric, *count, *then, *_errors(look.now)])
    lines += [_ran_out(result, folder, development), _unsaid(result, development)]
    return title, header, [line for line in lines if line]


def _errors(errors: np.ndarray) -> list[str]:
    size = np.abs(errors)
    return [f"{np.median(size):.1%}", f"{np.quantile(size, 0.9):.1%}", f"{np.median(errors):+.1%}"]


def _ran_out(result: MemoryResult, folder: Path, development: int) -> list[str]:
    """Runs of these sources that ran out of memory: how many are said not to fit."""
    told = first_said(folder, development)
    rows = [p for p in result.predictions if p.case.development == development and p.case.outcome == "oom"]
    if not rows:
        return []
    then = [p for p in rows if p.case.id in told]
    right = sum(told[p.case.id].peak_gib > p.usable_gib for p in then)
    now = sum(p.peak_gib > p.usable_gib for p in rows)
    said = f"said not to fit {right} of {len(then)}"
    return ["ran out", "", str(len(rows)), said, "", "", "", "", f"{now} of {len(rows)}", "", ""]


def _unsaid(result: MemoryResult, development: int) -> list[str]:
    lost = [u for u in result.unexpressed if u.case.development == development]
    return ["not expressed", "", str(len(lost)), "", "", "", "", "", "", "", ""] if lost else []


def later_data(result: MemoryResult, folder: Path) -> list[JsonObject]:
    """The same as plain data."""
    return [
        {
            "development": look.development,
            "engine": look.engine,
            "metric": look.metric,
            "rows": len(look.rows),
            "first_look": _figures(look.first),
            "inside_90_percent": look.held,
            "now": _figures(look.now),
        }
        for development in FILES
        for look in looks(result, folder, development)
    ]


def _figures(errors: Iterable[float]) -> JsonObject | None:
    told = np.array(list(errors))
    if not told.size:
        return None
    size = np.abs(told)
    return {
        "rows": len(told),
        "median": float(np.median(size)),
        "p90": float(np.quantile(size, 0.9)),
        "bias": float(np.median(told)),
    }
