"""Why a degree is what it is: what stops its neighbours, behind the flag that says it; the file is read as before."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from planner.analysis.reasons import Reason, reasons
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.launch import registry
from planner.launch.because import explained
from planner.launch.reading.opened import opened
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search

LLAMA = "scenarios/llama70b_64xh100.yaml"
MOE = "scenarios/mixtral8x7b_64xh100.yaml"


@cache
def solved(path: str, *changes: str) -> Outcome:
    return search(question_of(load(path, changes), default_catalog()), check_points=0)


def said(outcome: Outcome) -> dict[str, str]:
    assert outcome.plan is not None
    return {reason.decision: reason.text for reason in reasons(outcome.plan)}


def test_half_the_degree_lacks_memory_and_twice_is_slower() -> None:
    found = said(solved(LLAMA))
    assert re.fullmatch(r"TP=4: 8 trains \d+ % slower; 2 lacks \d+\.\d GiB", found["tensor_parallel"])
    assert re.fullmatch(r"micro-batch=1: 2 lacks \d+\.\d GiB", found["micro_batch_size"])


def test_what_lacks_memory_by_its_reason_lacks_it_when_it_is_pinned() -> None:
    found = said(solved(MOE))
    missing = re.search(r"1 lacks (\d+\.\d) GiB", found["pipeline_parallel"])
    assert missing is not None
    assert "16 does not divide the experts" in found["expert_parallel"]
    pins = ("layout.pipeline_parallel=1", "layout.tensor_parallel=1", "layout.expert_parallel=8")
    more = ("batch.micro_batch_size=1", "layout.recomputed_layers=0", "layout.context_parallel=1")
    more += ("layout.expert_tensor_parallel=1",)
    forced = solved(MOE, *pins, *more)
    assert forced.status == "infeasible"


def test_the_nvlink_domain_is_named() -> None:
    found = said(solved(LLAMA, "layout.tensor_parallel=8"))
    assert found["tensor_parallel"].startswith("TP=8: 16 would leave the NVLink domain")


@pytest.mark.parametrize("scenario", [LLAMA, MOE])
def test_a_file_with_its_reasons_is_read_as_without(scenario: str, tmp_path: Path) -> None:
    outcome = solved(scenario)
    assert outcome.plan is not None
    plain = registry.files("megatron", outcome, default_catalog())
    with_reasons = explained(plain, reasons(outcome.plan))
    (name,) = plain
    behind = re.findall(r"(?m)^  (--[\w-]+) \S+  # ", with_reasons[name])
    assert {"--micro-batch-size", "--pipeline-model-parallel-size"} <= set(behind)
    for folder, text in (("one", with_reasons[name]), ("other", plain[name])):
        (tmp_path / folder).write_text(text)
    assert subprocess.run(["bash", "-n", str(tmp_path / "one")], check=False).returncode == 0
    one, other = (opened(tmp_path / each, default_catalog()).options for each in ("one", "other"))
    assert {name: option.text for name, option in one.items()} == {name: option.text for name, option in other.items()}


def test_what_has_no_line_stands_in_the_header_and_json_stays_as_it_is() -> None:
    why = (Reason("context_parallel", "CP=4: 8 does not go into 4 GPUs"),)
    found = explained({"a.yaml": "# header\nkey: 1\n", "b.json": "{}\n"}, why)
    assert found == {"a.yaml": "# header\n# Why: CP=4: 8 does not go into 4 GPUs.\nkey: 1\n", "b.json": "{}\n"}
