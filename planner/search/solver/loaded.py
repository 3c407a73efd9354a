"""The solver imported before it is needed, by processes that answer more than one question."""

from __future__ import annotations


def load() -> None:
    """Import what the first search would import otherwise."""
    from ortools.sat.python import cp_model  # noqa: F401
