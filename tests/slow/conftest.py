"""Time passes as on a clock here: limits and deadlines are what some of these tests are about."""

from __future__ import annotations

import pytest

from planner import clock


@pytest.fixture(autouse=True)
def _seconds_are_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "stretch", 1.0)
