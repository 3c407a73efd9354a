"""What a program's own defaults say where a file is silent: DeepSpeed-Chat's arguments, TRL's configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from drawn import catalog

from planner.launch.lint import Linted, lint

CHAT = """\
#!/bin/bash
deepspeed --num_gpus 8 main.py \\
   --data_path Dahoas/rm-static --data_split 2,4,4 \\
   --model_name_or_path meta-llama/Llama-2-7b-hf \\
   --per_device_train_batch_size 4 --gradient_checkpointing \\
   --zero_stage 3 --deepspeed {more}
"""
TRL = {"model_name_or_path": "meta-llama/Llama-3.1-8B", "max_length": 2048, "per_device_train_batch_size": 2,
       "gradient_accumulation_steps": 4}  # fmt: skip
ONE = ("cluster.num_gpus=1",)


def judged(folder: Path, name: str, text: str, *changes: str) -> Linted:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return lint(path, catalog(), changes)


def trl(folder: Path, more: dict[str, Any], *changes: str) -> Linted:
    return judged(folder, "run.yaml", "".join(f"{name}: {value}\n" for name, value in (TRL | more).items()), *changes)


def test_deepspeed_chat_computes_in_fp16_unless_its_argument_says_otherwise(tmp_path: Path) -> None:
    """main.py of its first step: --dtype is fp16, samples are 512 tokens; --offload moves both states at stage 3."""
    silent = judged(tmp_path, "run.sh", CHAT.format(more=""))
    assert silent.plan is not None, silent.open
    assert (silent.found.launcher, silent.plan.problem.precision.id) == ("deepspeed-chat", "fp16")
    assert (silent.plan.layout["sequence_length"], silent.plan.layout["num_gpus"]) == (512, 8)
    assert "--dtype" in silent.found.assumed["precision"]
    told = judged(tmp_path, "run.sh", CHAT.format(more="--dtype bf16 --offload --max_seq_len 1024"))
    assert told.plan is not None, told.open
    assert (told.plan.problem.precision.id, told.plan.layout["sequence_length"]) == ("bf16", 1024)
    assert told.plan.problem.scenario.engine_options == ["parameter_offload"]
    assert told.plan.problem.scenario.layout.optimizer_offload is True
    assert "precision" not in told.found.assumed


@pytest.mark.parametrize(
    ("folder", "more", "why"),
    [
        (".", "--lora_dim 128", "own adapters"),
        (".", "--num_padding_at_beginning 1", "another loss"),
        ("step2_dpo_finetuning", "", "preferences beside a reference"),
    ],
)
def test_deepspeed_chats_other_steps_are_not_costed(folder: str, more: str, why: str, tmp_path: Path) -> None:
    linted = judged(tmp_path / folder, "run.sh", CHAT.format(more=more))
    assert linted.plan is None
    assert why in linted.open[0].what


def test_trl_recomputes_and_loads_in_fp32_unless_told_otherwise(tmp_path: Path) -> None:
    """trl 1.16.0 trainer/base_config.py:62 and 108, model_config.py:89."""
    silent = trl(tmp_path, {}, *ONE)
    assert silent.plan is not None, silent.open
    assert (silent.found.launcher, silent.plan.problem.precision.id) == ("trl", "bf16")
    assert silent.plan.recomputed == silent.plan.layers
    assert silent.plan.problem.engine.states.weight_bytes == 4
    assert {"layout.recomputed_layers", "precision", "engine_options"} <= set(silent.found.assumed)
    told = trl(tmp_path, {"gradient_checkpointing": "false", "bf16": "false", "dtype": "bfloat16"}, *ONE)
    assert told.plan is not None, told.open
    assert (told.plan.problem.precision.id, told.plan.problem.scenario.engine_options) == ("bf16", [])
    assert not any(told.plan.recomputed)
    lora = trl(tmp_path, {"use_peft": "true"}, *ONE)
    assert lora.plan is not None, lora.open
    assert lora.plan.problem.base_weight_bytes == 4


def test_trl_trains_adapters_of_a_quantised_base_in_bf16(tmp_path: Path) -> None:
    """trl 1.16.0 trainer/sft_trainer.py:908-911; of another base peft's casts are left."""
    words = {"use_peft": "true", "dtype": "bfloat16"}
    narrow = trl(tmp_path, words | {"load_in_4bit": "true"}, *ONE)
    wide = trl(tmp_path, words, *ONE)
    assert narrow.plan is not None, narrow.open
    assert wide.plan is not None, wide.open
    assert (narrow.plan.problem.adapter_weight_bytes, wide.plan.problem.adapter_weight_bytes) == (2, 4)


@pytest.mark.parametrize(
    ("text", "launcher"),
    [
        ("trl sft --model_name_or_path Qwen/Qwen2.5-7B --per_device_train_batch_size 1\n", "trl"),
        ("accelerate launch trl/scripts/sft.py --per_device_train_batch_size 1\n", "trl"),
        ("python train.py --model_name_or_path a/b --per_device_train_batch_size 1\n", "accelerate"),
    ],
)
def test_a_command_says_whose_defaults_hold(text: str, launcher: str, tmp_path: Path) -> None:
    assert judged(tmp_path, "run.sh", text).found.launcher == launcher


def test_fp32_that_no_line_says_is_listed(tmp_path: Path) -> None:
    text = "model_name_or_path: Qwen/Qwen2.5-7B\nfinetuning_type: full\nper_device_train_batch_size: 1\n{}"
    assert "fp32" in judged(tmp_path, "a.yaml", text.format("")).found.assumed["precision"]
    assert "precision" not in judged(tmp_path, "b.yaml", text.format("bf16: false\n")).found.assumed


@pytest.mark.parametrize("engine", ["fsdp2", "deepspeed", "transformers-ddp"])
def test_a_trainers_file_is_costed_over_the_engine_that_is_asked_for(engine: str, tmp_path: Path) -> None:
    """The file alone does not say what shards: its switches mean another thing under each (autocast, or the engine)."""
    text = (
        "model_name_or_path: Qwen/Qwen2.5-0.5B\nfinetuning_type: full\ncutoff_len: 1024\nbf16: true\n"
        "per_device_train_batch_size: 1\ngradient_accumulation_steps: 1\npacking: true\n"
    )
    linted = judged(tmp_path, "run.yaml", text, "cluster.num_gpus=8", f"engine={engine}")
    if engine == "deepspeed":  # the proposal is a command that works
        assert [mistake.attempt for mistake in linted.open] == ["--set layout.zero_stage=1"]
        changes = ("cluster.num_gpus=8", "engine=deepspeed", "layout.zero_stage=1")
        linted = judged(tmp_path, "run.yaml", text, *changes)
    assert linted.plan is not None, linted.open
    options = linted.plan.problem.scenario.engine_options
    assert (linted.plan.problem.engine.id, options) == (engine, ["autocast"] if engine == "transformers-ddp" else [])


VERL = """\
python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_batch_size=1024 data.max_prompt_length=512 \\
 data.max_response_length=1024 actor_rollout_ref.model.path=Qwen/Qwen3-8B \\
 actor_rollout_ref.actor.ppo_mini_batch_size=256 {more} actor_rollout_ref.rollout.n=5 \\
 actor_rollout_ref.model.enable_gradient_checkpointing=True \\
 actor_rollout_ref.rollout.tensor_model_parallel_size=2 actor_rollout_ref.rollout.gpu_memory_utilization=0.6 \\
 trainer.n_gpus_per_node=8 trainer.nnodes=1
"""
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
FIXED = f"{ACTOR}.ppo_micro_batch_size_per_gpu=32 {ROLLOUT}.log_prob_micro_batch_size_per_gpu=32"
BY_TOKENS = (
    f"{ACTOR}.use_dynamic_bsz=True {ACTOR}.ppo_max_token_len_per_gpu={{cap}} {ROLLOUT}.log_prob_use_dynamic_bsz=True "
    f"{ROLLOUT}.log_prob_max_token_len_per_gpu={{cap}}"
)


def test_a_micro_batch_at_the_edge_is_costed_at_the_mean_of_its_samples_too(tmp_path: Path) -> None:
    """As verl's own packs of so many tokens are, which are read by other keys; padded samples are all the longest."""
    edge = judged(tmp_path, "run.sh", VERL.format(more=FIXED))
    (note,) = [one for one in edge.findings if one.rule == "longest_samples"]
    found = re.search(r"all 32 samples .* at 1,536 tokens; at their mean of (\d+) \(assumed\): ([\d.]+) GiB", note.text)
    assert found is not None, note.text
    packed = judged(tmp_path, "run.sh", VERL.format(more=BY_TOKENS.format(cap=32 * int(found[1]))))
    assert packed.plan is not None, packed.open
    assert edge.plan is not None
    assert f"{packed.plan.peak_gib:.1f}" == found[2]
    assert packed.plan.peak_gib < edge.plan.peak_gib
    for more in (f"{FIXED} actor_rollout_ref.model.use_remove_padding=False", FIXED.replace("=32", "=2")):
        again = judged(tmp_path, "run.sh", VERL.format(more=more))
        assert not [one for one in again.findings if one.rule == "longest_samples"]
