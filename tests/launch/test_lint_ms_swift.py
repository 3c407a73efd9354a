"""ms-swift's `swift sft` and `swift pt` as lint reads them, and checkpoints by names that begin like another's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.inputs.catalog import Catalog, default_catalog
from planner.launch.lint import Linted, lint


@cache
def catalog() -> Catalog:
    return default_catalog()


def judged(tmp_path: Path, text: str) -> Linted:
    path = tmp_path / "run.sh"
    path.write_text(text)
    return lint(path, catalog())


SWIFT = "swift sft --model Qwen/Qwen2.5-7B-Instruct --max_length 2048 --torch_dtype bfloat16"


@pytest.mark.parametrize(
    ("before", "after", "engine", "read"),
    [
        ("NPROC_PER_NODE=4 ", " --tuner_type full --deepspeed zero3_offload", "deepspeed",
         {"zero_stage": 3, "num_gpus": 4, "optimizer_offload": True, "options": ["parameter_offload"], "batch": 16}),
        ("NPROC_PER_NODE=2 CUDA_VISIBLE_DEVICES=0,1 ", " --gradient_accumulation_steps 3", "transformers-ddp",
         {"zero_stage": 0, "num_gpus": 2, "adapter": 8, "options": ["autocast_16bit_weights"], "batch": 6}),
        ("CUDA_VISIBLE_DEVICES=0 ", " --quant_bits 4 --lora_rank 16", "transformers",
         {"zero_stage": 0, "num_gpus": 1, "adapter": 16, "base": "nf4", "options": ["autocast_16bit_weights"]}),
        ("NPROC_PER_NODE=8 ", " --fsdp fsdp2 --tuner_type full --gradient_checkpointing false", "fsdp2",
         {"zero_stage": 3, "num_gpus": 8, "recomputed": "all"}),
    ],
)  # fmt: skip
def test_ms_swifts_own_trainer_is_read_by_its_own_names(
    before: str, after: str, engine: str, read: dict[str, object], tmp_path: Path
) -> None:
    """What ms-swift 4.6.0 makes of its words: swift/arguments/sft_args.py, trainers/arguments.py, swift/config."""
    linted = judged(tmp_path, f"{before}{SWIFT}{after}\nCUDA_VISIBLE_DEVICES=0 swift infer --model x\n")
    tree: Any = linted.scenario
    found = {
        "zero_stage": tree["layout"]["zero_stage"],
        "num_gpus": tree["cluster"]["num_gpus"],
        "optimizer_offload": tree["layout"].get("optimizer_offload", False),
        "options": tree.get("engine_options", []),
        "batch": tree["batch"]["global_batch_size"],
        "adapter": tree.get("adapter", {}).get("rank"),
        "base": tree.get("adapter", {}).get("base_precision"),
        "recomputed": tree["layout"]["recomputed_layers"],
    }
    assert (linted.found.engine, linted.found.launcher) == (engine, "ms-swift-trainer")
    assert {name: found[name] for name in read} == read
    assert linted.plan is not None


def test_samples_that_are_only_joined_are_as_long_as_they_are(tmp_path: Path) -> None:
    """padding_free joins a micro-batch's own samples; packing fills it with others (swift/arguments/base_args)."""
    for option, padded in (("--padding_free true", True), ("--packing true", False)):
        assert judged(tmp_path, f"NPROC_PER_NODE=2 {SWIFT} {option}\n").found.padded == padded


def test_a_file_for_fsdp_is_read_beside_the_script(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"fsdp": "full_shard offload", "fsdp_config": {"fsdp_version": 2}}')
    linted = judged(tmp_path, f"NPROC_PER_NODE=2 {SWIFT} --fsdp ./examples/mine.json\n")
    assert [one.what for one in linted.open] == ["fsdp_offload of the file for FSDP is not costed"]
    assert not any("first kind" in why for _, why in linted.found.unread)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"CUDA_VISIBLE_DEVICES=0,1,2,3 NPROC_PER_NODE=2 {SWIFT}", "GPUs that they see: 4"),
        (f"CUDA_VISIBLE_DEVICES=0,1 {SWIFT}", "processes a node: 1, GPUs that they see: 2"),
        (f"NPROC_PER_NODE=2 {SWIFT} --sequence_parallel_size 2", "sequence_parallel_size 2"),
        (f"NPROC_PER_NODE=2 {SWIFT} --tuner_type vera", "vera is not costed"),
        (f"NPROC_PER_NODE=2 {SWIFT} --task_type seq_cls", "task_type seq_cls"),
        (f"NPROC_PER_NODE=2 {SWIFT.replace('sft', 'rlhf')} --rlhf_type dpo", "rlhf_type dpo"),
        (f"NPROC_PER_NODE=2 {SWIFT} --optimizer muon", "the optimizer that optimizer turns on"),
    ],
)
def test_what_of_ms_swifts_trainer_would_be_another_run_is_named(text: str, why: str, tmp_path: Path) -> None:
    linted = judged(tmp_path, text + "\n")
    assert linted.plan is None
    assert any(why in mistake.what for mistake in linted.open), linted.open


@pytest.mark.parametrize(
    ("name", "model", "noted"),
    [
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "qwen3-8b", False),
        ("deepseek-ai/DeepSeek-R1-Zero-Qwen3-8B", None, False),
        ("LLM-Research/Phi-4-multimodal-instruct", None, False),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b-2507", False),
        ("Qwen/Qwen2.5-7B-Instruct-AWQ", "qwen2.5-7b", True),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b", False),
    ],
)
def test_a_name_that_begins_like_a_networks_may_be_anothers(
    name: str, model: str | None, noted: bool, tmp_path: Path
) -> None:
    linted = judged(tmp_path, f"NPROC_PER_NODE=2 {SWIFT}\n".replace("Qwen/Qwen2.5-7B-Instruct", name))
    assert linted.scenario["model"] == (model or name)
    assert any("in fewer bits" in why for _, why in linted.found.unread) == noted
