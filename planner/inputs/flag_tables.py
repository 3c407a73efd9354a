"""Tables of an engine's options and keys, `flags/` of a catalog: each is read and checked once a process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from planner.inputs.document import read_document, validate
from planner.inputs.json_document import read_json
from planner.schema.tables import FlagTable


@lru_cache(maxsize=64)
def checked(path: Path, sha256: str) -> FlagTable:
    """The table of a file whose bytes have this hash: a launch file and a lint each ask for one several times.

    Raises InputError.
    """
    return validate(read_json(path) if path.suffix == ".json" else read_document(path), FlagTable)
