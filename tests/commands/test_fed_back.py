"""Saving and feeding back is the identity for every command: what a saved answer hands to an analysis is what its
scenario hands to it. Whole answers, command by command: tests/slow/test_restored_all.py.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from run_cli import run

from planner.cli import COMMANDS
from planner.errors import InputError, Mistake
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document
from planner.inputs.examples import examples
from planner.inputs.saved import load
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.report.plan_json import outcome_document
from planner.search.search import Outcome, Proof

NAMES = [name for name in examples() if not name.startswith("budget")]
LIMIT = "limits.headroom_gib=3"
ANALYSES = {
    "solve": ("planner.search.search", "plan", ()),
    "estimate": ("planner.search.estimate", "estimate", ()),
    "launch": ("planner.search.search", "search", ("--to", "slime")),
    "near": ("planner.analysis.near", "near_plans", ()),
    "explain": ("planner.analysis.explanation", "explain", ()),
    "whatif": ("planner.analysis.whatif", "what_if", ()),
    "pareto": ("planner.analysis.near", "front", ()),
    "compare": ("planner.analysis.two_plans", "side_of", ()),
    "rl-lengths": ("planner.analysis.rl_lengths", "rl_lengths", ()),
    "diagnose": ("planner.analysis.diagnose.diagnose", "diagnose", ("--file", "FILE")),
    "check": ("planner.search.estimate", "estimate", ("FILE",)),
    "calibrate": ("planner.analysis.calibrate.fit", "fit", ("--log", "FILE")),
    "sweep": ("planner.analysis.sweep.sweep", "grid", ("--out", "rows.jsonl")),
}
"""Command: (module, the function that gets the question, options)."""
LOG = """perf 3: {'perf/step_time': 41.2, 'perf/rollout_time': 20.0}
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.
"""


def saved(name: str, overrides: tuple[str, ...], folder: Path) -> str:
    """An answer to a scenario as `solve` writes it, without a search: one that found nothing keeps its question too."""
    question = question_of(load(f"example:{name}", overrides), default_catalog())
    proof = Proof("infeasible", None, None, 0, 0, (), 0, 0, None)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(outcome_document(Outcome(question, "infeasible", None, proof, ()))))
    return str(file)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_answer_asks_what_its_scenario_asks(name: str, tmp_path: Path) -> None:
    document = load(f"example:{name}", (LIMIT,))
    again = load(saved(name, (LIMIT,), tmp_path))
    assert again == document
    assert question_of(again, default_catalog()) == question_of(document, default_catalog())


@pytest.mark.parametrize("command", ANALYSES)
def test_every_command_takes_the_question_of_a_saved_answer(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without values of its own; no command reads the file by another way."""
    module, function, options = ANALYSES[command]
    log = tmp_path / "run.log"
    log.write_text(LOG)
    options = tuple(str(log) if option == "FILE" else option for option in options)
    given: list[Document | Question | Problem] = []

    def caught(asked: Document | Question | Problem, *_: object, **__: object) -> None:
        given.append(asked)
        raise InputError(Mistake("caught"))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.import_module(module), function, caught)
    changed = "--set-a" if command == "compare" else "--set"
    for path in (saved("qwen7b_rl", (), tmp_path), "example:qwen7b_rl"):
        assert "caught" in run(command, path, *options, changed, LIMIT).err
    assert len(given) == 2
    assert given[0] == given[1]


def test_every_command_that_takes_a_scenario_is_among_them() -> None:
    """But the page, which opens a shipped one by name."""
    taking = set()
    for name in COMMANDS:
        command = importlib.import_module(f"planner.commands.{name.replace('-', '_')}").command
        if {param.name for param in command.params} & {"scenario", "paths"}:
            taking.add(name)
    assert taking - {"serve"} == set(ANALYSES)
