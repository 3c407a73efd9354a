"""Every placement that a scenario leaves open is shown, the chosen one as it is, and what is known of the choice."""

from __future__ import annotations

import pytest

from planner.analysis.placements import Placed, placements
from planner.inputs.document import load
from planner.report.placements import placement_blocks, placement_line
from planner.search.search import plan

NARROW = (
    "cluster.max_gpus=8", "layout.tensor_parallel=4", "layout.pipeline_parallel=1", "layout.context_parallel=1",
    "batch.max_tokens_per_gpu=9216", "rl.rollout.tensor_parallel=2", "rl.rollout.gpu_memory_utilization=0.5",
    "layout.recomputed_layers=all",
)  # fmt: skip


def test_all_three_are_shown_with_what_is_known_of_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = plan(load("scenarios/qwen7b_rl.yaml", [*NARROW, "rl.placement=any"]), check_points=0)
    placed = placements(outcome)
    assert [one.name for one in placed] == ["colocated", "disaggregated", "asynchronous"]
    assert [one.chosen for one in placed].count(True) == 1
    assert next(one.plan for one in placed if one.chosen) is outcome.plan
    for one in placed:
        alone = plan(load("scenarios/qwen7b_rl.yaml", [*NARROW, f"rl.placement={one.name}"]), check_points=0).plan
        assert (alone is None) == (one.plan is None)
        if alone is not None and one.plan is not None:
            assert alone.step_seconds == one.plan.step_seconds
    line = placement_line(placed)
    assert all(one.name in line for one in placed)
    assert "(chosen)" in line
    assert "published pairs" in line
    assert "uncertain" not in line
    assert len(placement_blocks(placed)) == 3
    same = [Placed(name, outcome.plan, chosen) for name, chosen in (("colocated", True), ("asynchronous", False))]
    assert "uncertain" in placement_line(same)
    monkeypatch.setattr("planner.report.placements.RANKED_TO", 0.01)
    assert "uncertain" in placement_line(placed)


def test_a_pinned_placement_has_nothing_beside_it() -> None:
    outcome = plan(load("scenarios/qwen7b_rl.yaml", [*NARROW, "rl.placement=colocated"]), check_points=0)
    assert placements(outcome) == ()
    assert placement_line(()) == ""
