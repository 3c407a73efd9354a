"""Near ties counted from the tables of one search, against layouts that are solved one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from run_cli import run

from planner.analysis.near import known_within, near_plans
from planner.analysis.robust import robust_document
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, document_of, override
from planner.problem.resolve import question_of
from planner.report.near_ties import near_tie_text, tie_degrees, variants_text
from planner.search.near_ties import DEGREES, NearTies, known_share
from planner.search.search import plan, search

CATALOG = default_catalog()
SMALL: dict[str, Any] = {
    "name": "small",
    "task": "pretrain",
    "model": "qwen2.5-1.5b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
    "batch": {"global_batch_size": 64, "sequence_length": 8192, "micro_batch_size": [1, 2]},
    "layout": {"tensor_parallel": [1, 2, 4], "pipeline_parallel": [1, 2, 4], "context_parallel": [1, 2]},
}
BAND = 0.25


def asked(split: str) -> Document:
    return override(document_of(SMALL), {"layout.layers_per_stage": split})


def ties_of(document: Document, share: float = BAND) -> tuple[NearTies, Any]:
    outcome = search(question_of(document, CATALOG), check_points=0, ties=share)
    assert outcome.near_ties is not None
    return outcome.near_ties, outcome


def degrees_of(layout: dict[str, int]) -> tuple[int, ...]:
    return tuple(layout[name] for name in DEGREES)


@pytest.mark.parametrize("split", ["even", "auto"])
def test_the_count_is_that_of_layouts_solved_one_by_one(split: str) -> None:
    document = asked(split)
    found, outcome = ties_of(document)
    solved = near_plans(question_of(document, CATALOG), count=50, within=BAND)
    one_by_one = [degrees_of(each.plan.layout) for each in solved if each.plan is not None]
    assert len(set(one_by_one)) == len(one_by_one) > 3
    # The band of near_plans begins at a plan that may itself be slower than the fastest by the scenario's near tie.
    surely = {degrees_of(tie.layout) for tie in found.ties}
    assert surely <= set(one_by_one)
    best = min(each.plan.step_seconds for each in solved if each.plan is not None)
    inside = {
        degrees_of(each.plan.layout)
        for each in solved
        if each.plan is not None and each.plan.step_seconds <= best * (1 + BAND) * (1 - 0.006)
    }
    assert found.at_least or inside <= surely
    assert not (split == "even" and found.at_least)
    assert degrees_of(outcome.plan.layout) in surely


@pytest.mark.parametrize("split", ["even", "auto"])
def test_the_roomiest_is_what_a_search_with_so_wide_a_band_finds(split: str) -> None:
    """That search is the solver's, whose band has the headroom first (even stages aside); in steps of 16 MiB."""
    found, _ = ties_of(asked(split))
    free = {"search.near_tie": 0.199, "layout.layers_per_stage": "free" if split == "auto" else split}
    wide = plan(override(asked(split), free), CATALOG, check_points=0)
    narrow, _ = ties_of(asked(split), 0.199 / 0.801)
    assert wide.plan is not None
    assert narrow.roomiest_gib <= wide.plan.headroom_gib + 0.02
    if split == "even":
        assert narrow.roomiest_gib == pytest.approx(wide.plan.headroom_gib, abs=0.05)
        assert degrees_of(narrow.roomiest.layout) == degrees_of(wide.plan.layout)
    assert found.roomiest_gib >= narrow.roomiest_gib - 1e-9


def test_a_wider_band_holds_what_a_narrow_one_holds() -> None:
    held: set[tuple[int, ...]] = set()
    for share in (0.0, 0.05, 0.25):
        found, outcome = ties_of(asked("even"), share)
        now = {degrees_of(tie.layout) for tie in found.ties}
        assert held <= now
        assert sum(tie.variants for tie in found.ties) >= len(now)
        held = now
    assert outcome.plan is not None


def test_the_line_names_count_simplest_and_roomiest() -> None:
    found, _ = ties_of(asked("even"))
    text = near_tie_text(found)
    assert text.startswith(f"{len(found.ties)} layouts lie within the known error of 25.0 %; simplest")
    assert f"roomiest {tie_degrees(found.roomiest)} (" in text
    assert all(variants_text(tie).startswith(str(tie.variants)) for tie in found.ties)
    alone, _ = ties_of(asked("even"), 0.0)
    assert near_tie_text(alone) == "no other layout lies within the known error of 0.0 %"


def test_robust_takes_the_roomiest_inside_the_known_error() -> None:
    document = asked("even")
    usual, robust = (plan(each, CATALOG, check_points=0) for each in (document, robust_document(document, CATALOG)))
    assert usual.plan is not None
    assert robust.plan is not None
    share = known_share(usual.question)
    assert share is not None
    assert known_within(usual.question) == share
    assert robust.plan.headroom_gib >= usual.plan.headroom_gib
    assert robust.plan.step_seconds <= usual.plan.step_seconds * (1 + share) * (1 + 1e-3)
    worst = [each.plan.interval_gib[1] for each in (robust, usual) if each.plan and each.plan.interval_gib]
    assert worst[0] <= worst[1]


def test_the_command_prints_what_is_worst(tmp_path: Any) -> None:
    file = tmp_path / "small.json"
    file.write_text(json.dumps(asked("even").data))
    done = run("solve", str(file), "--robust", "--no-check")
    words = " ".join(done.out.split())
    assert done.code == 0
    assert "robust most memory free of the near ties; at worst (95 of 100)" in words
    assert "--set search.near_tie=" in words
    assert "within the known error of" in words
