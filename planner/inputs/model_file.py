"""A network's file on disk, with the id and the date that a catalog entry of it gets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from planner.inputs.document import MAX_BYTES
from planner.inputs.hf_config import Understood, understand_hf_config
from planner.inputs.json_document import read_json


@dataclass(frozen=True)
class Imported:
    """A configuration file and what it was taken for."""

    path: str
    understood: Understood


def imported(config: str, entry_id: str | None, *, text_only: bool) -> Imported:
    """Read a config.json, or the one in a folder. The entry is dated as the file is.

    Raises InputError for a file that cannot be read or a network that cannot be planned.
    """
    path = Path(config)
    path = path / "config.json" if path.is_dir() else path
    document = read_json(path, most_bytes=MAX_BYTES)
    date = datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    understood = understand_hf_config(document, text_only=text_only, date=date)
    own = path.resolve()
    name = entry_id or _plain(understood.architecture.hf_id or (own.parent.name if own.stem == "config" else own.stem))
    architecture = understood.architecture.model_copy(update={"id": name})
    return Imported(str(path), Understood(architecture, understood.ignored, understood.left_out))


def _plain(name: str) -> str:
    """`Qwen/Qwen2.5-7B` as `qwen2.5-7b`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.rpartition("/")[2].lower()).strip("-.") or "model"
