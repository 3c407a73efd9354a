"""The order of the suite: what breaks users most comes first."""

from __future__ import annotations

import pytest

FIRST = (
    "test_story",
    "test_solver_selftest",
    "test_solver_brute_force",
    "test_memory",
    "test_throughput",
    "test_autograd_witness",
    "test_known_errors",
    "test_laws",
    "test_memory_model",
    "test_cli",
    "test_document",
    "test_docs",
)
"""Main scenario, solver against enumeration, published measurements, laws, errors, documents; the rest follows."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by the list above; inside a file the order stays."""
    place = {name: index for index, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))
