"""torchtune's configurations as lint reads them: the recipe by the file's name, the adapter by its builder's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.inputs.catalog import Catalog, default_catalog
from planner.launch.lint import Linted, lint

CONFIGURATION = """\
tokenizer:
  path: /tmp/Llama-3.1-8B-Instruct/original/tokenizer.model
  max_seq_len: 2048
model:
  _component_: torchtune.models.llama3_1.{builder}
{more}
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: /tmp/Meta-Llama-3.1-8B-Instruct/
dataset:
  packed: True
optimizer:
  _component_: bitsandbytes.optim.PagedAdamW8bit
loss:
  _component_: torchtune.modules.loss.{loss}
batch_size: 2
gradient_accumulation_steps: 8
dtype: bf16
enable_activation_checkpointing: True
"""
ADAPTED = "  lora_attn_modules: ['q_proj', 'output_proj']\n  apply_lora_to_mlp: True\n  lora_rank: 64\n  use_dora: True"


@cache
def catalog() -> Catalog:
    return default_catalog()


def judged(folder: Path, name: str, builder: str, more: str = "", end: str = "", **other: str) -> Linted:
    path = folder / name
    loss = other.get("loss", "LinearCrossEntropyLoss")
    path.write_text(CONFIGURATION.format(builder=builder, more=more, loss=loss) + end)
    return lint(path, catalog(), ("cluster.num_gpus=4",) if "single_device" not in name else ())


def test_a_recipe_of_rollouts_is_torchtunes(tmp_path: Path) -> None:
    """Its parts stand under other keys, and base_model_path is no axolotl's base_model."""
    path = tmp_path / "qwen3B_async_grpo.yaml"
    path.write_text(
        "base_model_path: /tmp/Qwen2.5-3B\ntokenizer:\n  _component_: torchtune.models.qwen2_5.qwen2_5_tokenizer\n"
        "training:\n  loss:\n    _component_: torchtune.dev.rl.linear_grpo_loss.LinearGRPOLoss\n"
    )
    linted = lint(path, catalog())
    assert (linted.found.launcher, linted.plan) == ("torchtune", None)
    assert [(one.where.line, one.what) for one in linted.open] == [
        (6, "LinearGRPOLoss is not costed: it is not the next token's loss")
    ]


@pytest.mark.parametrize(
    ("name", "engine", "gpus"), [("8B_full_single_device.yaml", "torchtune", 1), ("8B_full.yaml", "torchtune-fsdp", 4)]
)
def test_the_name_says_whether_a_recipe_takes_one_gpu(name: str, engine: str, gpus: int, tmp_path: Path) -> None:
    linted = judged(tmp_path, name, "llama3_1_8b", end="compile: True\noptimizer_in_bwd: True\n")
    tree: Any = linted.scenario
    assert (tree["engine"], tree["model"], tree["optimizer"]) == (engine, "llama3.1-8b", "paged-adamw-8bit")
    assert tree["engine_options"] == ["compile", "optimizer_in_backward"]
    assert linted.plan is not None, (linted.open, linted.findings)
    lay = linted.plan.layout
    assert (lay["num_gpus"], lay["micro_batch_size"], lay["num_micro_batches"]) == (gpus, 2, 8)
    assert linted.plan.recomputed == (32,)


def test_an_adapter_is_read_by_the_name_of_the_networks_builder(tmp_path: Path) -> None:
    linted = judged(tmp_path, "8B_qlora.yaml", "qlora_llama3_1_8b", ADAPTED)
    assert linted.scenario["adapter"] == {
        "rank": 64,
        "targets": ["q_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "variant": "dora",
        "base_precision": "nf4",
    }
    assert linted.plan is not None
    assert "adapter" not in judged(tmp_path, "8B_full.yaml", "llama3_1_8b", ADAPTED).scenario


@pytest.mark.parametrize(
    ("end", "loss", "why"),
    [
        ("fsdp_cpu_offload: True\n", "LinearCrossEntropyLoss", "fsdp_cpu_offload is not costed"),
        ("tensor_parallel_dim: 2\n", "LinearCrossEntropyLoss", "tensor_parallel_dim 2 is not costed"),
        ("quantizer:\n  groupsize: 256\n", "LinearCrossEntropyLoss", "quantizer is not costed"),
        ("", "DPOLoss", "DPOLoss is not costed"),
    ],
)
def test_what_of_a_recipe_would_be_another_run_is_named(end: str, loss: str, why: str, tmp_path: Path) -> None:
    linted = judged(tmp_path, "8B_full.yaml", "llama3_1_8b", end=end, loss=loss)
    assert linted.plan is None
    assert any(why in one.what for one in linted.open), linted.open


def test_a_length_that_is_null_is_asked_for_by_name(tmp_path: Path) -> None:
    path = tmp_path / "8B_full.yaml"
    text = CONFIGURATION.format(builder="llama3_1_8b", more="", loss="LinearCrossEntropyLoss")
    path.write_text(text.replace("max_seq_len: 2048", "max_seq_len: null"))
    linted = lint(path, catalog(), ("cluster.num_gpus=4",))
    assert [(one.what, one.attempt) for one in linted.open] == [
        ("no line says the sequence length", "--set batch.sequence_length=N")
    ]
    assert lint(path, catalog(), ("cluster.num_gpus=4", "batch.sequence_length=1024")).plan is not None
