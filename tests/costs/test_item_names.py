"""Labels of items are printed, never tested: other words change no second and no byte."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

Answers = dict[str, tuple[Any, list[str]]]

RUN = """
import json, re, sys, types
from pathlib import Path

import planner.costs

if sys.argv[1] == "renamed":
    text = Path(planner.costs.__file__).with_name("item_names.py").read_text()
    other = types.ModuleType("planner.costs.item_names")
    exec(re.sub(r'= "(.*)"', r'= "renamed \\1"', text), other.__dict__)
    sys.modules["planner.costs.item_names"] = other
from planner.inputs.document import load
from planner.search.search import plan

answers = {}
for case, (scenario, *overrides) in json.loads(sys.argv[2]).items():
    found = plan(load(scenario, overrides), check_points=0).plan
    names = [entry.name for phase in found.memory for entry in phase.items] + [entry.name for entry in found.time]
    amounts = [entry.amount for phase in found.memory for entry in phase.items] + [entry.amount for entry in found.time]
    amounts += [entry.amount for entry in found.host]
    figures = [found.layout, found.layers, found.recomputed, found.step_seconds, found.peak_gib, amounts]
    answers[case] = [figures, names]
print(json.dumps(answers))
"""
CASES = {
    "RL on two pools": [
        "scenarios/qwen7b_rl_two_pools.yaml",
        "layout.optimizer_offload=false",
        "layout.pipeline_parallel=1",
        "rl.placement=asynchronous",
    ],
    "a pipeline with waits and schedules": [
        "scenarios/llama70b_64xh100.yaml",
        "layout.schedule=any",
        "layout.tensor_parallel=8",
    ],
    "adapters": ["scenarios/llama8b_lora_4090.yaml"],
}


@pytest.fixture(scope="module")
def answers() -> tuple[Answers, Answers]:
    """Figures and names of each case, in a process with the usual labels and in one with others."""
    usual, renamed = (
        subprocess.run([sys.executable, "-c", RUN, how, json.dumps(CASES)], capture_output=True, text=True, check=True)
        for how in ("usual", "renamed")
    )
    return json.loads(usual.stdout), json.loads(renamed.stdout)


@pytest.mark.parametrize("case", CASES)
def test_other_labels_change_no_figure(case: str, answers: tuple[Answers, Answers]) -> None:
    (usual, usual_names), (renamed, names) = (answer[case] for answer in answers)
    assert renamed == usual
    assert len(names) > 20
    assert all("renamed " in name for name in names if name not in usual_names)
    assert sum("renamed " in name for name in names) > 0.9 * len(names)
