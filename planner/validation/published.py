"""What both validations share: published rows from a compressed file, and a catalog with their machines beside ours."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, shipped_folder
from planner.inputs.document import Document

Row = TypeVar("Row")
CHECKOUT = Path("validation", "data")
MARKER = "memory_cases.jsonl.gz"


class Overlay(Catalog):
    """Catalogs with the architectures and nodes of published runs beside them, or engines changed, in memory only."""

    def __init__(self, base: Catalog) -> None:
        super().__init__(base.folders)
        self._files, self._entries, self._documents = base._files, base._entries, base._documents
        self.extra: dict[tuple[str, str], Any] = dict(base.extra) if isinstance(base, Overlay) else {}

    def find(self, kind: str, name: str, where: Place | None = None, beside: Path | None = None) -> Any:
        """An entry made of a run, or one of the shipped ones."""
        if (kind, name) in self.extra:
            return self.extra[kind, name]
        return super().find(kind, name, where, beside)


def read_rows(path: Path, row_of: Callable[[dict[str, Any]], Row]) -> tuple[Row, ...]:
    """One row a line of a gzip file of JSON lines.

    Raises InputError where the file is missing or broken.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            return tuple(row_of(json.loads(line)) for line in stream)
    except FileNotFoundError:
        raise InputError(
            Mistake(
                f"{path}: no such file",
                where=Place(str(path)),
                because="all published measurements stand in validation/data of a checkout, a sample inside the wheel",
                attempt="--data FOLDER",
            )
        ) from None
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(Mistake(f"{path} is not readable", Place(str(path)), because=str(error))) from None


def data_folder() -> Path:
    """Where the measurements stand: in the checkout that the command runs in, in the one that this package lies in, or,
    where there is neither, the sample inside the package.
    """
    here = Path.cwd()
    beside = shipped_folder().parent
    for top in (here, *here.parents, beside):
        if (top / CHECKOUT / MARKER).is_file():
            return top / CHECKOUT
    return beside / "_validation"


def sample_text(folder: Path, kind: str) -> str | None:
    """What to say where a folder holds a sample only; `kind` is memory or throughput."""
    counts = folder / "sample.json"
    if not counts.is_file():
        return None
    held, in_all = json.loads(counts.read_text(encoding="utf-8"))[kind]
    return (
        f"A sample of {held:,} of {in_all:,} published rows, which comes with the package; "
        "a checkout of the repository has them all, and classes that are not in the sample are not scored here."
    )


def data_files(folder: Path) -> list[Document]:
    """Every file of a folder of published rows with its hash, as the receipts of an answer."""
    return [
        Document(name=path.name, data=None, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.iterdir())
        if path.is_file()
    ]
