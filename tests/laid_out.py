"""Layouts of budgets that tests of one worker share, as budgets share them that are given one `KnownLayouts`."""

from __future__ import annotations

import pytest

from planner.analysis.budget.known_layouts import KnownLayouts

KNOWN = KnownLayouts()
"""Of all tests: what one has searched the next does not."""


def keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this test keep their layouts here too: the same searches, each made once."""
    monkeypatch.setattr("planner.analysis.budget.budget.KnownLayouts", lambda: KNOWN)
