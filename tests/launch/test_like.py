"""A plan put into somebody's own file: read again, the file says the plan; comments, order and other settings stay."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.launch import registry
from planner.launch.like import DECISIONS, THEIRS, like
from planner.launch.reading.opened import opened
from planner.launch.reading.tables import TABLES
from planner.problem.resolve import question_of
from planner.search.search import search

RL = "scenarios/qwen7b_rl_8gpu.yaml"
MOE = "scenarios/mixtral8x7b_64xh100.yaml"
ONE = ("layout.tensor_parallel=2", "layout.data_parallel=4", "layout.recomputed_layers=all", "limits.headroom_gib=0")
OTHER = ("layout.pipeline_parallel=2", "layout.data_parallel=1", "layout.recomputed_layers=0", "limits.headroom_gib=0")
USER = """\
#!/bin/bash
# mine
TP=${TP:-2}
PERF_ARGS=(
   --tensor-model-parallel-size ${TP}  # was fine
   --sequence-parallel
   --micro-batch-size 1
)
SGLANG_ARGS=(
   --rollout-num-gpus-per-engine 1
   --sglang-mem-fraction-static 0.9   # too much?
)
python3 train.py --actor-num-nodes 1 --actor-num-gpus-per-node 8 --colocate \\
  --num-layers 28 --rollout-batch-size 32 "${PERF_ARGS[@]}" "${SGLANG_ARGS[@]}" --lr 1e-6
"""


@cache
def files(launcher: str, scenario: str, changes: tuple[str, ...]) -> dict[str, str]:
    outcome = search(question_of(load(scenario, changes), default_catalog()), check_points=0)
    assert outcome.plan is not None
    return registry.files(launcher, outcome, default_catalog())


def decided(path: Path, launcher: str) -> dict[str, str]:
    """Options that a plan decides."""
    options = opened(path, default_catalog()).options
    kept = options if launcher in TABLES else {name: options[name] for name in DECISIONS & set(options)}
    return {n: o.text for n, o in kept.items() if not any(part in f"{n}={o.text}" for part in THEIRS)}


@pytest.mark.parametrize(
    ("launcher", "scenario", "one", "other"),
    [
        ("slime", RL, ONE, OTHER),
        ("slime", RL, OTHER, ONE),
        ("megatron", MOE, (), ("layout.expert_parallel=4", "layout.tensor_parallel=2")),
    ],
)
def test_the_file_of_one_plan_becomes_that_of_another(
    launcher: str, scenario: str, one: tuple[str, ...], other: tuple[str, ...], tmp_path: Path
) -> None:
    path, target = tmp_path / "mine.sh", tmp_path / "target.sh"
    path.write_text(next(iter(files(launcher, scenario, one).values())))
    wanted = files(launcher, scenario, other)
    target.write_text(next(iter(wanted.values())))
    edited = like(path, wanted, launcher, default_catalog())
    assert edited.diff
    path.write_text(edited.text)
    left = {remark.split(" ")[1] for remark in edited.remarks if remark.startswith("add ")}
    mine, theirs = decided(path, launcher), decided(target, launcher)
    assert {name: text for name, text in theirs.items() if name not in left} == mine
    again = like(path, wanted, launcher, default_catalog())
    assert not again.diff


def test_hydra_words_change_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "mine.sh"
    one, other = (files("verl", RL, ("engine=verl-fsdp2", *pins)) for pins in (FSDP_ONE, FSDP_OTHER))
    path.write_text(next(iter(one.values())).replace("SETTINGS=(", "SETTINGS=(\n  trainer.project_name=mine  # mine"))
    edited = like(path, other, "verl", default_catalog())
    assert "trainer.project_name=mine  # mine" in edited.text
    assert "-  actor_rollout_ref.rollout.tensor_model_parallel_size=" in edited.diff


FSDP_PINS = (
    "layout.tensor_parallel=1",
    "layout.data_parallel=8",
    "limits.headroom_gib=0",
    "layout.recomputed_layers=all",
)
FSDP_ONE = (*FSDP_PINS, "rl.rollout.tensor_parallel=1", "rl.rollout.gpu_memory_utilization=0.5")
FSDP_OTHER = (*FSDP_PINS, "rl.rollout.tensor_parallel=2", "rl.rollout.gpu_memory_utilization=0.6")


def test_variables_comments_and_other_settings_of_a_users_script(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(USER)
    edited = like(path, files("slime", RL, OTHER), "slime", default_catalog())
    assert "-TP=${TP:-2}" in edited.diff
    assert "+TP=${TP:-4}" in edited.diff
    assert "--tensor-model-parallel-size ${TP}  # was fine" in edited.text
    assert "--sglang-mem-fraction-static 0.8   # too much?" in edited.text
    assert "   --pipeline-model-parallel-size 2\n" in edited.text
    assert "--lr 1e-6" in edited.text
    assert edited.text.startswith("#!/bin/bash\n# mine\n")


def test_another_engine_or_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(USER)
    with pytest.raises(InputError, match="is for slime, not megatron"):
        like(path, {}, "megatron", default_catalog())
    path.write_text(USER.replace("--num-layers 28", "--num-layers 36"))
    with pytest.raises(InputError, match="trains another network"):
        like(path, files("slime", RL, OTHER), "slime", default_catalog())
