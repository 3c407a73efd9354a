"""The variations of a sweep, each under a key that names it for good."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from planner.analysis.whatif import Changes, parse_values
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, validate
from planner.schema.scenario import Scenario

MAX_VARIANTS = 1_000_000
LONGEST_NAME = 1_000
"""Longer texts of a scenario name no file."""


@dataclass(frozen=True)
class GridPoint:
    """One point of the grid."""

    key: str
    """Of the scenario's bytes, its overrides, the changes, every file that these name, the catalogs and planner's
    version: the same variant on the same facts, the same key."""
    changes: Changes
    name: str = ""


def grid(document: Document, arguments: Sequence[str]) -> list[GridPoint]:
    """Every combination of the values of several PATH=VALUE,VALUE; without any, the scenario's `what_if:`.

    Raises InputError for nothing to vary, a path given twice, or more than a million variants.
    """
    choices: dict[str, list[object]] = {}
    for argument in arguments:
        path, values = parse_values(argument)
        if path in choices:
            raise InputError(Mistake(f"--set {path} is given twice", Place(f"--set {argument}"), attempt="one list"))
        choices[path] = values
    count = math.prod(map(len, choices.values()))
    if count > MAX_VARIANTS:
        raise InputError(Mistake(f"{count:,} variants are more than {MAX_VARIANTS:,}", Place("--set")))
    if not choices:
        named = validate(document, Scenario).what_if
        if not named:
            raise InputError(
                Mistake(
                    "nothing to vary",
                    where=Place("the command line"),
                    because="no --set is given and the scenario has no what_if:",
                    attempt="--set cluster.num_gpus=8,16,32 --set batch.micro_batch_size=1,2,4",
                )
            )
        facts = _facts(document, (each.set for each in named))
        return [_variant(document, facts, tuple(each.set.items()), each.name) for each in named]
    facts = _facts(document, [choices])
    return [
        _variant(document, facts, tuple(zip(choices, values, strict=True)))
        for values in itertools.product(*choices.values())
    ]


def _variant(document: Document, facts: Sequence[str], changes: Changes, name: str = "") -> GridPoint:
    said = [document.sha256, list(document.overrides), [list(change) for change in changes], version("planner"), *facts]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return GridPoint(hashlib.sha256(text.encode()).hexdigest()[:24], changes, name)


def _facts(document: Document, changed: Iterable[object]) -> list[str]:
    """Hashes of the catalogs, and of every file that the scenario or a change of it names (a network's config.json, a
    calibration, links, nccl-tests)."""
    folder = Path(document.name).parent
    named = {text for data in (document.data, *changed) for text in _texts(data) if len(text) < LONGEST_NAME}
    files = {str(folder / text) for text in named if text and (folder / text).is_file()}
    hashes = [hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in sorted(files)]
    return [default_catalog().digest(), *hashes]


def _texts(data: object) -> Iterator[str]:
    """Every text in nested lists and mappings."""
    if isinstance(data, str):
        yield data
    elif isinstance(data, Mapping | list | tuple):
        for part in data.values() if isinstance(data, Mapping) else data:
            yield from _texts(part)
