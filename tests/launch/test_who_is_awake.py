"""What of an RL stack is awake when: written into files of verl and slime and read back, refused by name elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawn import catalog, proof_of_anything
from round_trips import differences

from planner.errors import InputError
from planner.inputs.document import load, override
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search.estimate import estimate_question
from planner.search.search import Outcome

STAYS = {"rl.trainer_on_gpu": ["weights", "optimizer", "reference"], "rl.reference_model": True}
EAGER = {"rl.rollout.cuda_graphs": False}
SLEEPLESS = {"rl.rollout.sleeps": False}
SCORED = {"batch.log_prob_micro_batch_size": 4}
PACKED = {"batch": {"max_tokens_per_gpu": 10240, "log_prob_max_tokens_per_gpu": 20480}}


def outcome(engine: str, changes: dict[str, Any]) -> Outcome:
    document = override(load("scenarios/qwen7b_rl_8gpu.yaml"), {"engine": engine, **WHOLE[engine], **changes})
    question = question_of(document, catalog())
    return Outcome(question, "optimal", estimate_question(question), proof_of_anything(), ())


FSDP = {"layout.tensor_parallel": 1, "layout.data_parallel": 8, "layout.recomputed_layers": "all"}
WHOLE: dict[str, dict[str, Any]] = {
    "slime": {},
    "nemo-rl": {"layout.recomputed_layers": "all"},
    "verl-megatron": {"layout.recomputed_layers": "all"},
    "verl-fsdp2": FSDP,
}


@pytest.mark.parametrize(
    ("engine", "launcher", "changes"),
    [
        ("verl-megatron", "verl", STAYS),
        ("verl-megatron", "verl", {**STAYS, "rl.trainer_on_gpu": ["reference"], **EAGER}),
        ("verl-megatron", "verl", {"rl.trainer_on_gpu": ["optimizer"], "rl.reference_model": True, **SCORED}),
        ("verl-fsdp2", "verl", {"rl.trainer_on_gpu": ["weights", "optimizer"], **SLEEPLESS}),
        ("verl-fsdp2", "verl", PACKED),
        ("slime", "slime", EAGER),
        ("slime", "slime", PACKED),
    ],
)
def test_what_is_written_is_read_back(engine: str, launcher: str, changes: dict[str, Any], tmp_path: Path) -> None:
    assert differences(outcome(engine, changes), launcher, tmp_path) == []


@pytest.mark.parametrize(
    ("engine", "launcher", "changes", "word"),
    [
        ("slime", "slime", SLEEPLESS, "rollout_sleeps"),
        ("slime", "slime", SCORED, "log_prob_samples"),
        ("nemo-rl", "nemo-rl", EAGER, "eager"),
    ],
)
def test_what_has_no_word_is_refused_by_name(engine: str, launcher: str, changes: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=f"no word for {word}"):
        registry.files(launcher, outcome(engine, changes), catalog())
