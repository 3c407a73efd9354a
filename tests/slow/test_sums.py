"""What a reader adds up by hand in every shipped what-if: printed terms and differences give the printed totals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_cli import run

SHIPPED = sorted(path.stem for path in Path("scenarios").glob("whatif_*.yaml"))
DIGITS = (0.01, 0.001)
"""Of the memory and of the time ledger, as printed."""


@pytest.mark.parametrize("name", SHIPPED)
def test_printed_terms_of_every_shipped_what_if_add_up(name: str) -> None:
    path = f"scenarios/{name}.yaml"
    printed = run("whatif", path, "--format", "markdown")
    assert printed.code == 0, printed.err
    tables = printed.out.split("| item [")[1:]
    assert len(tables) == 2
    for table, digit in zip(tables, DIGITS, strict=True):
        lines = [line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| ") and "---" not in line]
        *items, total = [[float(cell.replace(",", "")) for cell in line] for line in lines]
        assert len(items) > 3
        for column, whole in enumerate(total):
            assert sum(row[column] for row in items) == pytest.approx(whole, abs=digit * (len(items) + 1) / 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_differences_of_every_shipped_what_if_are_those_of_the_totals(name: str) -> None:
    """The unrounded ones, against the totals of plans that know nothing of each other."""
    document = json.loads(run("whatif", f"scenarios/{name}.yaml", "--format", "json").out)
    base, plans = document["base"]["plan"], {row["name"]: row["plan"] for row in document["rows"]}
    assert [pair["side"] for pair in document["differences"]] == [side for side, plan in plans.items() if plan]
    for pair in document["differences"]:
        plan = plans[pair["side"]]
        assert sum(i["change_gib"] for i in pair["memory"]) == pytest.approx(
            plan["peak_gib"] - base["peak_gib"], abs=1e-6
        )
        seconds = plan["step_seconds"] - base["step_seconds"]
        assert sum(i["change_seconds"] for i in pair["time"]) == pytest.approx(seconds, abs=1e-6)
