"""Labels of items are printed, never tested: other words change no second and no byte."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

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

found = plan(load(sys.argv[2], sys.argv[3:]), check_points=0).plan
names = [entry.name for phase in found.memory for entry in phase.items] + [entry.name for entry in found.time]
amounts = [entry.amount for phase in found.memory for entry in phase.items] + [entry.amount for entry in found.time]
amounts += [entry.amount for entry in found.host]
print(json.dumps([found.layout, found.layers, found.recomputed, found.step_seconds, found.peak_gib, amounts]))
print(json.dumps(names), file=sys.stderr)
"""
CASES = {
    "RL on two pools": ["scenarios/qwen7b_rl_two_pools.yaml"],
    "a pipeline with waits and schedules": ["scenarios/llama70b_64xh100.yaml", "layout.schedule=any"],
    "adapters": ["scenarios/llama8b_lora_4090.yaml"],
}


@pytest.mark.parametrize("case", CASES)
def test_other_labels_change_no_figure(case: str) -> None:
    usual, renamed = (
        subprocess.run([sys.executable, "-c", RUN, how, *CASES[case]], capture_output=True, text=True, check=True)
        for how in ("usual", "renamed")
    )
    assert renamed.stdout == usual.stdout
    names = json.loads(renamed.stderr)
    assert len(names) > 20
    assert all("renamed " in name for name in names if name not in json.loads(usual.stderr))
    assert sum("renamed " in name for name in names) > 0.9 * len(names)
