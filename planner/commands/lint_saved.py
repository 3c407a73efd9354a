"""What lint read of a launch file, as a scenario: for explain, whatif, launch --like and check."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import document_of, with_overrides
from planner.launch.lint import Linted


def scenario_text(linted: Linted, overrides: Sequence[str] = ()) -> str:
    """A scenario as YAML, whose layout is pinned to what the file says; what no line says is marked as taken.

    Raises InputError where values are still open, or where the file states a network that no model of the catalog is:
    a scenario names one.
    """
    if linted.open:
        raise InputError(
            [Mistake(f"not saved: {each.what}", each.where, each.because, each.attempt) for each in linted.open]
        )
    found, file = linted.found, str(linted.path)
    if found.network is not None and not any(change.startswith("model=") for change in overrides):
        because = "its options state a network that no model of the catalog is, and a scenario names one"
        raise InputError(Mistake(f"{file} is not saved", Place(file), because, "--set model=PATH of its config.json"))
    data = with_overrides(document_of(linted.scenario, file), overrides).data
    head = [f"# What `planner lint {shlex.quote(file)}` read: its layout, pinned; open a value to have it decided."]
    return "\n".join([*head, *_lines(data, found.assumed, "", "")]) + "\n"


def _lines(data: Mapping[str, object], taken: Mapping[str, str], before: str, indent: str) -> Iterator[str]:
    for key, value in data.items():
        path = f"{before}{key}"
        why = taken.get(path)
        remark = f"  # taken as usual: {why.partition(': ')[2] or why}" if why is not None else ""
        if isinstance(value, Mapping) and value:
            yield f"{indent}{key}:{remark}"
            yield from _lines(value, taken, f"{path}.", f"{indent}  ")
        else:
            yield f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}{remark}"
