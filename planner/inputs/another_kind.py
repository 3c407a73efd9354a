"""Another kind of file where a scenario or a budget is asked: what it is, and which command takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel

from planner.errors import InputError, Mistake, Place

ASKED: Mapping[str, str] = {"Scenario": "scenario", "Budget": "budget"}
"""Records of files that people write themselves and may take for another, by class name: a budget's record is loaded
only where one is asked."""
KINDS = (
    ("Scenario", frozenset(("task", "model", "engine", "cluster")), "a scenario", "planner solve {name}"),
    ("Budget", frozenset(("jobs", "offers")), "a budget", "planner budget {name}"),
    (None, frozenset(("id", "sources")), "an entry of a catalog", "planner catalog show {folder} {stem}"),
    (None, frozenset(("model_type",)), "a network's config.json", "planner ask {name} --gpus 8xh100"),
)
"""(class name of its record, keys that all stand at its top, what it is, what takes it)."""
SHELL = re.compile(rb"#!|\s*(?:set -|export )")


def another_kind(data: object, model: type[BaseModel], name: str) -> Mistake | None:
    """The one mistake of a document that is no such record at all; None for one that may be, with mistakes."""
    record = next((each.__name__ for each in model.__mro__ if each.__name__ in ASKED), None)
    if record is None or not isinstance(data, dict):
        return None
    needed = {key for key, field in model.model_fields.items() if field.is_required()}
    if len(needed & data.keys()) * 2 > len(needed):
        return None
    path, wanted = Path(name), ASKED[record]
    for other, keys, what, attempt in KINDS:
        if other != record and keys <= data.keys():
            typed = attempt.format(name=name, folder=path.parent.name, stem=path.stem)
            typed = typed if not name.startswith("<") else attempt.partition(" {")[0]
            return Mistake(f"{name} is no {wanted}", Place(name, 1), f"it is {what}", typed)
    if needed & data.keys() - {"name"} or not data.keys() - model.model_fields.keys():
        return None
    because = f"it has none of the keys {', '.join(sorted(needed - {'name'}))}"
    read = "planner lint" if name.startswith("<") else f"planner lint {name}"
    attempt = f"{read}, if it starts a run; planner init writes a scenario"
    return Mistake(f"{name} is no {wanted}", Place(name, 1), because, attempt)


def refuse_shell(raw: bytes, name: str) -> None:
    """Raise InputError for a shell script, which is no YAML at all."""
    if SHELL.match(raw) or Path(name).suffix in (".sh", ".bash", ".slurm", ".sbatch"):
        because = "it is a shell script"
        attempt = f"planner lint {name}; with --save run.yaml it becomes a scenario"
        raise InputError(Mistake(f"{name} is no scenario", Place(name, 1), because, attempt))


def of_ours(data: object, name: str) -> tuple[str, str] | None:
    """(what it is, what takes it) of data that people write for planner itself; None for any other."""
    for record, keys, what, attempt in KINDS:
        if record is not None and isinstance(data, dict) and keys <= data.keys():
            return what, attempt.format(name=name)
    return None
