"""What lint read, saved as a scenario: the same layout and figures, and from there to the diff of the same file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from run_cli import run

FOLDER = Path("tests/fixtures/launch")
COMMON = """python3 -m verl.trainer.main_ppo \\
    algorithm.adv_estimator=grpo \\
    data.train_files=$HOME/train.parquet \\
    data.train_batch_size=1024 \\
    data.max_prompt_length=512 \\
    data.max_response_length=8192 \\
    actor_rollout_ref.model.path=Qwen/Qwen2.5-14B-Instruct \\
    actor_rollout_ref.actor.ppo_mini_batch_size=256 \\
    actor_rollout_ref.actor.use_dynamic_bsz=True \\
    actor_rollout_ref.actor.ppo_max_token_len_per_gpu=24000 \\
    actor_rollout_ref.actor.fsdp_config.param_offload=False \\
    actor_rollout_ref.actor.fsdp_config.optimizer_offload=False \\
    actor_rollout_ref.rollout.tensor_model_parallel_size=4 \\
    actor_rollout_ref.rollout.name=vllm \\
    actor_rollout_ref.rollout.gpu_memory_utilization=0.8 \\
    actor_rollout_ref.rollout.n=5 \\
    trainer.n_gpus_per_node=8 \\
    trainer.nnodes=1
"""


@pytest.mark.parametrize("name", ["slime_colocated.sh", "verl_fsdp.sh", "verl_megatron.sh"])
def test_a_saved_scenario_costs_what_the_file_costs(name: str, tmp_path: Path) -> None:
    saved = tmp_path / "run.yaml"
    linted = run("lint", str(FOLDER / name), "--save", str(saved), "--format", "json")
    assert linted.code in (0, 1, 5), linted.err
    plan = json.loads(linted.out)["plan"]
    again = json.loads(run("estimate", str(saved), "--format", "json").out)["plan"]
    assert again == plan


def test_what_no_line_says_is_marked_and_nothing_is_overwritten(tmp_path: Path) -> None:
    script, saved = tmp_path / "run.sh", tmp_path / "run.yaml"
    script.write_text(COMMON)
    first = run("lint", str(script), "--save", str(saved))
    assert first.code == 1
    assert f"Next: planner explain {saved}" in " ".join(first.out.replace("\\\n", " ").split())
    text = saved.read_text()
    assert 'node: "hgx-h100-8"  # taken as usual: no line names the machines' in text
    assert "response_distribution:  # taken as usual: no line says how long responses are" in text
    assert "num_gpus: 8\n" in text
    refused = run("lint", str(script), "--save", str(saved))
    assert (refused.code, refused.out) == (2, "")
    assert "exists already" in refused.err
    assert "where:   --save" in refused.err
    assert run("lint", str(script), "--save", str(saved), "--force").code == 1
    asked = run("lint", str(script)).out
    assert f"Next: planner lint {script} --save run.yaml" in " ".join(asked.replace("\\\n", " ").split())


def test_from_a_file_that_does_not_fit_to_its_diff(tmp_path: Path) -> None:
    script, saved = tmp_path / "run.sh", tmp_path / "run.yaml"
    script.write_text(COMMON)
    run("lint", str(script), "--save", str(saved))
    diff = run("launch", str(saved), "--to", "verl", "--set", "rl.trainer_on_gpu=[]", "--like", str(script))
    assert diff.code == 0, diff.err
    changed = [line for line in diff.out.splitlines() if line.startswith("-") and not line.startswith("---")]
    assert [line.split(".")[-1] for line in changed] == ["param_offload=False \\", "optimizer_offload=False \\"]
    assert "data.train_files" not in diff.err, "paths are the user's"
    script.write_text("".join(each + "\n" for each in _patched(script.read_text(), diff.out)))
    assert run("lint", str(script)).code in (0, 5)


def _patched(before: str, diff: str) -> list[str]:
    """The lines that a diff of one hunk leaves."""
    lines, hunk = before.splitlines(), diff.split("@@")
    start = int(hunk[1].split(",")[0].strip(" -")) - 1
    body = hunk[2].splitlines()[1:]
    old = [line[1:] for line in body if line[:1] in (" ", "-")]
    assert lines[start : start + len(old)] == old
    return [*lines[:start], *(line[1:] for line in body if line[:1] in (" ", "+")), *lines[start + len(old) :]]


def test_what_is_open_is_asked_before_anything_is_saved(tmp_path: Path) -> None:
    script = tmp_path / "own.sh"
    text = (FOLDER / "megatron_gpt3_175b.sh").read_text()
    script.write_text(text.replace("--num-layers 96", "--num-layers 90"))
    result = run("lint", str(script), "--save", str(tmp_path / "run.yaml"))
    assert result.code == 2
    assert "not saved: no model of the catalog has --num-layers 90" in result.err
    assert "--set model=NAME, or the path of a config.json" in result.err
    assert not (tmp_path / "run.yaml").exists()


def test_a_diff_of_nothing_says_so(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_text(COMMON)
    result = run("lint", str(script), "--fix")
    assert result.out.strip() == ""
    assert "nothing that is wrong is mended by another word" in result.err
    assert f"planner lint {script} --save run.yaml, then planner explain run.yaml" in result.err
