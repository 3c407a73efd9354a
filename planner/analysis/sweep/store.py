"""Rows on disk as they come: JSON Lines, or a folder of Parquet files. What is stored once is never computed again."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from planner.analysis.sweep.rows import Row
from planner.errors import InputError, Mistake, Place
from planner.inputs.files import refuse_target

ROWS_PER_PART = 50
"""Of a Parquet folder; a kill loses at most so many rows that were computed but not stored."""
ONE_AT_A_TIME = "another sweep writes there"


class Store(Protocol):
    """Where rows go."""

    def keys(self) -> set[str]:
        """Of all rows that are stored whole."""
        ...

    def rows(self) -> Iterator[Row]:
        """All that is stored, in the order in which it came."""
        ...

    def add(self, row: Row) -> None:
        """Store a row."""
        ...

    def __enter__(self) -> Self:
        """Open it, and keep others out."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Store what is left, and let others in."""
        ...


def store_at(path: str, *, resume: bool) -> Store:
    """JSON Lines, or Parquet where the name ends so. Raises InputError where something is there already and `resume`
    is off, and where rows cannot be stored there.
    """
    parquet = path.endswith(".parquet")
    taken = os.path.lexists(path)
    if taken and not resume:
        what = f"{path} exists already"
        raise InputError(
            Mistake(what, Place("--out"), "a sweep never overwrites its rows", "--resume to go on with it")
        )
    refuse_target(path, force=True, folder=parquet, attempt="a file that can be read again")
    if parquet and os.path.isfile(path):
        raise InputError(Mistake(f"{path} is a file", Place("--out"), "Parquet rows are a folder of files"))
    return ParquetStore(path) if parquet else LineStore(path)


class LineStore:
    """One JSON object a line, each on the disk before the next is written."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._handle = -1

    def __enter__(self) -> Self:
        try:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
            _alone(self._handle, self.path)
        except OSError as error:
            raise InputError(_unwritten(self.path, error)) from None
        try:
            whole = self._whole_bytes()
        except InputError:
            os.close(self._handle)
            raise
        if os.fstat(self._handle).st_size > whole:
            os.ftruncate(self._handle, whole)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._handle)

    def _whole_bytes(self) -> int:
        """Up to the end of the last line that is a row: a killed sweep may have left half of one."""
        whole, number = 0, 1
        with open(self.path, "rb") as stream:
            for line in stream:
                if not line.endswith(b"\n") or _row(line) is None:
                    break
                whole, number = whole + len(line), number + 1
            rest = stream.read()
        if rest.strip():
            what = f"line {number} of {self.path} is no row of a sweep, and there are lines after it"
            raise InputError(Mistake(what, Place(self.path, number), "only the last line may be torn", "another --out"))
        return whole

    def rows(self) -> Iterator[Row]:
        """Stored rows in the order in which they came."""
        with open(self.path, "rb") as stream:
            for line in stream:
                row = _row(line)
                if row is not None:
                    yield row

    def keys(self) -> set[str]:
        """Of all rows."""
        return {row["key"] for row in self.rows()}

    def add(self, row: Row) -> None:
        """Append a line and wait until it is on the disk."""
        line = json.dumps(row, sort_keys=True, separators=(",", ":")).encode() + b"\n"
        try:
            while line:
                line = line[os.write(self._handle, line) :]
            os.fsync(self._handle)
        except OSError as error:
            raise InputError(_unwritten(self.path, error)) from None


class ParquetStore:
    """A folder of files of up to 50 rows, each written beside first, then renamed; values and layouts as JSON text."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self._waiting: list[Row] = []
        self._lock = -1
        try:
            import pyarrow.parquet
        except ImportError:
            raise InputError(
                Mistake("Parquet needs the package pyarrow", Place("--out"), attempt="pip install 'planner[parquet]'")
            ) from None
        self._pyarrow = pyarrow

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(_unwritten(str(self.path), error)) from None
        _alone(self._lock, str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        os.close(self._lock)

    def parts(self) -> list[Path]:
        """Finished files."""
        return sorted(self.path.glob("part-*.parquet"))

    def keys(self) -> set[str]:
        """Of all rows in finished files."""
        read = self._pyarrow.parquet.read_table
        return {key for part in self.parts() for key in read(part, columns=["key"])["key"].to_pylist()}

    def rows(self) -> Iterator[Row]:
        """Rows of finished files; values and layouts are JSON text."""
        for part in self.parts():
            yield from self._pyarrow.parquet.read_table(part).to_pylist()

    def add(self, row: Row) -> None:
        """Keep a row until its file is full."""
        flat = {"key": row["key"], "name": row["name"], "status": row["status"], "because": row["because"]}
        flat["set"] = json.dumps(row["set"], sort_keys=True)
        plan = row["plan"] or {}
        names = (
            "num_gpus",
            "peak_gib",
            "headroom_gib",
            "given_back_gib",
            "step_seconds",
            "tokens_per_second",
            "samples_per_second",
            "mfu",
        )
        flat |= {name: None if plan.get(name) is None else float(plan[name]) for name in names}
        flat["layout"] = json.dumps(plan.get("layout"), sort_keys=True)
        self._waiting.append(flat)
        if len(self._waiting) >= ROWS_PER_PART:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        pa = self._pyarrow
        text = [(name, pa.string()) for name in ("key", "name", "status", "because", "set", "layout")]
        numbers = [(name, pa.float64()) for name in self._waiting[0] if name not in dict(text)]
        table = pa.Table.from_pylist(self._waiting, schema=pa.schema([*text, *numbers]))
        target = self.path / f"part-{len(self.parts()):06d}.parquet"
        scratch = self.path / ".unfinished"
        try:
            pa.parquet.write_table(table, scratch)
            os.replace(scratch, target)
        except OSError as error:
            raise InputError(_unwritten(str(self.path), error)) from None
        self._waiting = []


def _unwritten(path: str, error: OSError) -> Mistake:
    return Mistake(
        f"cannot write {path}", Place("--out"), error.strerror, "--resume where there is room: rows are kept"
    )


def _row(line: bytes) -> Row | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "key" in found else None


def _alone(handle: int, path: str) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(Mistake(f"{path} is being written", Place("--out"), ONE_AT_A_TIME, "wait for it")) from None
