"""Shipped budgets by name, from any folder: the scenarios of their jobs are the shipped ones beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.analysis.budget.options import job_scenario
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, validate
from planner.inputs.examples import examples, typed_beside
from planner.schema.budget import Budget


@pytest.mark.parametrize("name", [name for name in examples() if name.startswith("budget")])
def test_jobs_of_a_shipped_budget_are_found_anywhere(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    document = load(f"example:{name}")
    for place, job in enumerate(validate(document, Budget).jobs):
        found = job_scenario(document, place, job, default_catalog())
        assert found.name == f"example:{Path(job.scenario).stem}"


def test_what_a_file_names_is_beside_it_and_a_shipped_scenario_may_be_named() -> None:
    assert typed_beside("runs/budget.yaml", "job.yaml") == "runs/job.yaml"
    assert typed_beside("<stdin>", "job.yaml") == "job.yaml"
    assert typed_beside("runs/budget.yaml", "example:qwen7b_rl") == "example:qwen7b_rl"
    document = load("example:budget_llama70b", ["jobs[0].scenario=nowhere.yaml"])
    with pytest.raises(InputError, match="example:nowhere: no such file"):
        job_scenario(document, 0, validate(document, Budget).jobs[0], default_catalog())
