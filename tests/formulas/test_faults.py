"""Young's and Daly's formulas by hand, and goodput in plans and budgets."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from planner.analysis.budget.budget import solve_budget
from planner.formulas.faults import (
    daly_interval_minutes,
    factor_at_scale,
    goodput_share,
    mean_minutes_between_failures,
    simumax_straggler_factor,
    young_interval_minutes,
)
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.schema.scenario import Faults
from planner.search.estimate import estimate
from planner.search.goodput import goodput

ROOT = Path(__file__).resolve().parents[2]
RL = str(ROOT / "scenarios" / "qwen7b_rl_8gpu.yaml")


def test_intervals_by_hand() -> None:
    assert mean_minutes_between_failures(hours_per_gpu=50_000, num_gpus=1000) == 3000
    assert young_interval_minutes(checkpoint_minutes=2, failure_minutes=100) == pytest.approx(20)
    # sqrt(400) (1 + sqrt(0.01) / 3 + 0.01 / 9) - 2 = 20 * 1.034444 - 2
    assert daly_interval_minutes(checkpoint_minutes=2, failure_minutes=100) == pytest.approx(18.68889, abs=1e-5)
    assert daly_interval_minutes(checkpoint_minutes=300, failure_minutes=100) == 100


def test_share_by_hand() -> None:
    # 20 / (100 e^0.1 (e^0.22 - 1)) = 20 / (100 * 1.105171 * 0.246077)
    share = goodput_share(checkpoint_minutes=2, interval_minutes=20, restart_minutes=10, failure_minutes=100)
    assert share == pytest.approx(0.735414, abs=1e-5)
    rare = goodput_share(checkpoint_minutes=1, interval_minutes=99, restart_minutes=10, failure_minutes=1e9)
    assert rare == pytest.approx(0.99, abs=1e-6)
    assert goodput_share(checkpoint_minutes=1, interval_minutes=99, restart_minutes=10, failure_minutes=0.01) == 0


def test_dalys_interval_is_close_to_the_best_one() -> None:
    def share(interval: float) -> float:
        return goodput_share(checkpoint_minutes=3, interval_minutes=interval, restart_minutes=5, failure_minutes=200)

    best = max(share(float(t)) for t in np.linspace(1, 200, 2000))
    assert share(daly_interval_minutes(checkpoint_minutes=3, failure_minutes=200)) == pytest.approx(best, rel=1e-4)


def test_laws() -> None:
    faults = Faults(mean_hours_between_failures_per_gpu=20_000, restart_minutes=10, checkpoint_minutes=2)
    shares = []
    for count in (8, 64, 512, 4096):
        good = goodput(faults, count)
        assert good is not None
        shares.append(good.share)
    assert shares == sorted(shares, reverse=True)
    assert goodput(None, 8) is None
    slow = goodput(faults.model_copy(update={"straggler_factor": 1.25}), 8)
    assert slow is not None
    assert slow.share == pytest.approx(shares[0] / 1.25)
    assert simumax_straggler_factor(1) == pytest.approx(1.045)
    assert simumax_straggler_factor(16) == pytest.approx(1 + 16 / 17 * 0.36)


def test_a_plan_states_its_goodput() -> None:
    stated = "faults={mean_hours_between_failures_per_gpu: 800, restart_minutes: 10, checkpoint_minutes: 2"
    plan = estimate(load(RL, [stated + ", checkpoint_interval_minutes: 20}"]))
    good = plan.goodput
    assert good is not None
    assert good.failure_minutes == 6000
    assert good.share == pytest.approx(20 / (6000 * math.exp(1 / 600) * math.expm1(22 / 6000)))
    assert "as stated" in good.sentence
    assert "optimal by Daly" in (estimate(load(RL, [stated + "}"])).goodput or good).sentence


def test_a_budget_takes_longer_and_costs_more_with_faults(tmp_path: Path) -> None:
    def hours(changes: dict[str, object]) -> float:
        job = {"name": "a", "scenario": str(ROOT / "scenarios" / "llama8b_sft_a100.yaml"), "tokens": 1e9}
        offer = {"price": "lambda-8x-h100", "nodes": [1]}
        data = {"name": "b", "jobs": [{**job, "deadline_days": 90, "set": changes}], "offers": [offer]}
        path = tmp_path / "budget.yaml"
        path.write_text(json.dumps(data))
        answer = solve_budget(str(path), (), default_catalog())
        assert answer.options[0].hours is not None
        return answer.options[0].hours

    faults = {"mean_hours_between_failures_per_gpu": 400, "restart_minutes": 30, "checkpoint_minutes": 5}
    good = goodput(Faults.model_validate(faults), 8)
    assert good is not None
    assert hours({"faults": faults}) == pytest.approx(hours({}) / good.share)


def test_steps_grow_with_the_gpus_beyond_those_that_constants_saw() -> None:
    found = factor_at_scale(np.array([8, 512, 2048, 8192, 16384]), per_doubling=0.0066)
    assert found[:3] == pytest.approx([1, 1, 1.0132])
    assert found[4] - found[3] == pytest.approx(0.0066)
