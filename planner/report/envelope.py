"""What stands around every JSON answer: which command, how it ended, and everything that a second run needs."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version

from planner.inputs.document import Document
from planner.problem.problem import Question
from planner.report.json_text import JsonObject

SCHEMA_VERSION = 3
"""Raised when a key changes its meaning or goes away."""
ANSWERED = "answered"
"""Status of what is no search: a comparison, a diagnosis, a list."""


def enveloped(
    command: str,
    status: str,
    answer: JsonObject,
    *,
    asked: Sequence[Question | Document] = (),
    catalog: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> JsonObject:
    """An answer with its receipts: versions, inputs with hashes, overrides and seeds, and the catalog files it read.

    `asked`: what the answer is about, a question where it was searched; `catalog`: SHA-256 by file. No times, no dates.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "status": status,
        "provenance": {
            "planner": version("planner"),
            "ortools": version("ortools"),
            "python": platform.python_version(),
            "inputs": [_input(each) for each in asked],
            "catalog": dict(sorted(dict(catalog).items())),
        },
        **answer,
    }


def _input(asked: Question | Document) -> JsonObject:
    document = asked if isinstance(asked, Document) else asked.document
    search = None if isinstance(asked, Document) else asked.scenario.search
    return {
        "file": document.name,
        "sha256": document.sha256,
        "overrides": list(document.overrides),
        "seed": None if search is None else search.seed,
        "workers": None if search is None else search.workers,
    }


def together(statuses: Iterable[str]) -> str:
    """One status for several searches: feasible where some proof is missing; without any plan infeasible or unknown."""
    found = set(statuses)
    if found & {"optimal", "feasible"}:
        return "feasible" if found & {"feasible", "unknown"} else "optimal"
    return "unknown" if "unknown" in found else "infeasible"
