"""The closed form that the search is proved over against the schedule run event by event, on legal layouts at random.

More of them: PLANNER_SCHEDULES=300 python -m pytest -s tests/analysis/test_schedule_at_random.py prints the spread.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from drawn import random_plans

from planner.analysis.schedule import AT_RANDOM, schedule_report
from planner.search.plan import Plan

DRAWN = int(os.environ.get("PLANNER_SCHEDULES", "25"))
"""Plans drawn for each engine; about two in three have a pipeline."""


def alike(plan: Plan) -> bool:
    """True where every stage and every chunk has as many layers, up to the one that does not divide."""
    chunks = plan.layout["virtual_pipeline"]
    return max(plan.layers) - min(plan.layers) <= 1 and all(count % chunks == 0 for count in plan.layers)


@pytest.mark.parametrize("engine", ["megatron-core", "slime"])
def test_the_closed_form_is_the_simulated_time(engine: str) -> None:
    found = [o.plan for o in random_plans(engine, DRAWN) if o.plan is not None]
    reports = [(plan, schedule_report(plan)) for plan in found]
    differences = {kind: [r.difference for plan, r in reports if r and alike(plan) is kind] for kind in (True, False)}
    for kind, values in differences.items():
        print(engine, "alike" if kind else "uneven", len(values), f"{min(values):+.4f} to {max(values):+.4f}")
    every = np.array(differences[True] + differences[False])
    assert len(every) >= DRAWN / 3
    assert AT_RANDOM[0] <= every.min() <= every.max() <= AT_RANDOM[1]
    assert np.median(np.abs(every)) <= 0.001
    assert max(map(abs, differences[True])) <= 0.004
