"""Labels of items are printed, never tested: other words change no second and no byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.inputs.document import load
from planner.search.search import plan

Answers = dict[str, tuple[Any, list[str]]]

RENAMED = """
import json, re, sys, types
from pathlib import Path

import planner.costs

text = Path(planner.costs.__file__).with_name("item_names.py").read_text()
other = types.ModuleType("planner.costs.item_names")
exec(re.sub(r'= "(.*)"', r'= "renamed \\1"', text), other.__dict__)
sys.modules["planner.costs.item_names"] = other
sys.path.insert(0, sys.argv[1])
from test_item_names import answered

print(answered())
"""
CASES = {
    "RL on two pools": [
        "scenarios/qwen7b_rl_two_pools.yaml",
        "layout.optimizer_offload=false",
        "layout.pipeline_parallel=1",
        "layout.tensor_parallel=2",
        "rl.placement=asynchronous",
    ],
    "a pipeline with waits and schedules": [
        "scenarios/llama70b_64xh100.yaml",
        "layout.schedule=any",
        "layout.tensor_parallel=8",
    ],
    "adapters": ["scenarios/llama8b_lora_4090.yaml"],
}


def answered() -> str:
    """Figures and names of each case, as JSON."""
    answers = {}
    for case, (scenario, *overrides) in CASES.items():
        found = plan(load(scenario, overrides), check_points=0).plan
        assert found is not None
        memory = [entry for phase in found.memory for entry in phase.items]
        amounts = [entry.amount for entry in (*memory, *found.time, *found.host)]
        figures = [found.layout, found.layers, found.recomputed, found.step_seconds, found.peak_gib, amounts]
        answers[case] = [figures, [entry.name for entry in (*memory, *found.time)]]
    return json.dumps(answers)


@pytest.fixture(scope="module")
def answers() -> tuple[Answers, Answers]:
    """Figures and names of each case, in this process with the usual labels and in one with others."""
    command = [sys.executable, "-c", RENAMED, str(Path(__file__).parent)]
    renamed = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(answered()), json.loads(renamed.stdout)


@pytest.mark.parametrize("case", CASES)
def test_other_labels_change_no_figure(case: str, answers: tuple[Answers, Answers]) -> None:
    (usual, usual_names), (renamed, names) = (answer[case] for answer in answers)
    assert renamed == usual
    assert len(names) > 20
    assert all("renamed " in name for name in names if name not in usual_names)
    assert sum("renamed " in name for name in names) > 0.9 * len(names)
