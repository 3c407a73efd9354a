"""Every scenario in which nothing fits: what is said of it, and every sentence tried on the edited file.

Slow, so not part of the main suite: python -m pytest tests/slow
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from infeasible_rows import INFEASIBLE

from planner.inputs.catalog import default_catalog

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analysis" / "infeasible"))
from test_conflict import every_sentence_is_so, is_what_a_person_would_name


@pytest.mark.parametrize("row", INFEASIBLE, ids=lambda row: row["name"])
def test_every_sentence_is_so(row: dict[str, Any], tmp_path: Path) -> None:
    every_sentence_is_so(row, default_catalog(), tmp_path)


@pytest.mark.parametrize("row", INFEASIBLE, ids=lambda row: row["name"])
def test_a_person_would_name_it(row: dict[str, Any]) -> None:
    is_what_a_person_would_name(row, default_catalog())
