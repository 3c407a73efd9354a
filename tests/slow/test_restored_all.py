"""Saving and feeding back is the identity on every shipped scenario.

Slow, so not part of the main suite: python -m pytest tests/slow
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis"))
from test_restored import check

from planner.inputs.examples import examples


@pytest.mark.parametrize("name", [name for name in examples() if not name.startswith("budget")])
def test_identity(name: str, tmp_path: Path) -> None:
    check(name, tmp_path)
