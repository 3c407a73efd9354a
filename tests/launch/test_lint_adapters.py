"""Files that train low-rank adapters are no full training: each format's own names, defaults and quantised bases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drawn import catalog

from planner.launch.lint import lint

QWEN = "Qwen/Qwen2.5-7B-Instruct"
LLAMA_FACTORY = {"model_name_or_path": QWEN, "finetuning_type": "lora", "cutoff_len": 2048, "bf16": "true",
                 "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}  # fmt: skip
AXOLOTL = {"base_model": QWEN, "sequence_len": 2048, "micro_batch_size": 1, "gradient_accumulation_steps": 8,
           "bf16": "auto", "lora_r": 16}  # fmt: skip
TRL = {"model_name_or_path": QWEN, "max_length": 2048, "per_device_train_batch_size": 1, "bf16": "true",
       "gradient_accumulation_steps": 8}  # fmt: skip
NEMO_RL = {"policy.model_name": QWEN, "policy.train_global_batch_size": 64, "grpo.num_prompts_per_step": 8,
           "grpo.num_generations_per_prompt": 8, "cluster.gpus_per_node": 8}  # fmt: skip
VERL = (
    "python3 -m verl.trainer.main_ppo algorithm.adv_estimator=grpo data.train_batch_size=128 "
    f"actor_rollout_ref.model.path={QWEN} actor_rollout_ref.rollout.n=8 actor_rollout_ref.actor.use_kl_loss=True "
    "actor_rollout_ref.actor.ppo_mini_batch_size=64 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 "
)
SWIFT = f"NPROC_PER_NODE=8 megatron sft --model {QWEN} --micro_batch_size 1 --global_batch_size 16 --max_length 2048 "
OPENRLHF = f"python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path {QWEN} --rollout.n_samples_per_prompt 8 "
OPENRLHF += "--vllm.num_engines 8 --train.colocate_all "
SIZES = ("cluster.num_gpus=1", "batch.global_batch_size=8")
ALL = ["all-linear"]


def written(content: dict[str, Any] | str, folder: Path) -> Path:
    path = folder / ("run.sh" if isinstance(content, str) else "run.yaml")
    if isinstance(content, dict):
        content = "".join(f"{name}: {value}\n" for name, value in content.items())
    path.write_text(content)
    return path


CASES = [
    (LLAMA_FACTORY, SIZES, {"rank": 8, "targets": ALL, "base_precision": "bf16"}),
    (
        LLAMA_FACTORY | {"lora_target": "q_proj,v_proj", "lora_rank": 32, "use_dora": "true", "quantization_bit": 4},
        SIZES,
        {"rank": 32, "targets": ["q_proj", "v_proj"], "variant": "dora", "base_precision": "nf4"},
    ),
    (LLAMA_FACTORY | {"finetuning_type": "full"}, SIZES, None),
    (AXOLOTL, SIZES, None),
    (
        AXOLOTL | {"adapter": "qlora", "load_in_4bit": "true", "lora_target_linear": "true", "lora_dropout": 0.05},
        SIZES,
        {"rank": 16, "targets": ALL, "dropout": 0.05, "base_precision": "nf4"},
    ),
    (
        AXOLOTL | {"adapter": "lora", "load_in_8bit": "true", "lora_target_modules": "[q_proj, o_proj]",
                   "lora_modules_to_save": "[embed_tokens, lm_head]"},
        SIZES,
        {"rank": 16, "targets": ["q_proj", "o_proj"], "modules_to_save": ["embed_tokens", "lm_head"],
         "base_precision": "int8"},
    ),
    # axolotl 0.19.0 loaders/model.py:801 and 1146: not quantised, and made fp32 by peft's preparation.
    (
        AXOLOTL | {"adapter": "lora", "load_in_4bit": "true", "lora_target_linear": "true"},
        SIZES,
        {"rank": 16, "targets": ALL, "base_precision": "fp32"},
    ),
    (TRL, SIZES, None),
    (
        TRL | {"use_peft": "true", "load_in_4bit": "true"},
        SIZES,
        {"rank": 16, "targets": ["q_proj", "v_proj"], "dropout": 0.05, "base_precision": "nf4-single"},
    ),
    (SWIFT, (), None),
    (SWIFT + "--tuner_type lora", (), {"rank": 8, "targets": ALL, "dropout": 0.05, "base_precision": "bf16"}),
    (
        SWIFT + "--train_type lora --lora_rank 4 --target_modules linear_qkv linear_proj --lora_dropout 0",
        (),
        {"rank": 4, "targets": ["linear_qkv", "linear_proj"], "base_precision": "bf16"},
    ),
    (VERL, (), None),
    (VERL + "actor_rollout_ref.model.lora_rank=64", (), {"rank": 64, "targets": ALL, "base_precision": "bf16"}),
    (OPENRLHF, (), None),
    (OPENRLHF + "--ds.lora.rank 32 --ds.load_in_4bit", (), {"rank": 32, "targets": ALL, "base_precision": "nf4"}),
    (NEMO_RL, (), None),
    (
        NEMO_RL | {"policy.megatron_cfg.peft.enabled": "true", "policy.megatron_cfg.peft.dim": 16},
        (),
        {"rank": 16, "targets": ALL, "base_precision": "bf16"},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("content", "filled", "adapter"), CASES)
def test_an_adapter_is_read_as_one(
    content: dict[str, Any] | str, filled: tuple[str, ...], adapter: dict[str, Any] | None, tmp_path: Path
) -> None:
    linted = lint(written(content, tmp_path), catalog(), filled)
    assert linted.scenario.get("adapter") == adapter
    assert linted.plan is not None, (linted.open, linted.findings)
    assert (linted.plan.problem.scenario.adapter is not None) == (adapter is not None)


@pytest.mark.parametrize(
    ("more", "rule", "line", "fix"),
    [
        ({"adapter": "lora", "load_in_4bit": "true"}, "base_left_whole", 7, ("lora", "qlora")),
        ({"adapter": "qlora"}, "refused_base", 7, None),
        ({"adapter": "qlora", "load_in_4bit": "true", "load_in_8bit": "true"}, "refused_base", 9, None),
        ({"load_in_8bit": "true"}, "refused_base", 7, None),
        ({"adapter": "lora", "lora_target_linear": "null"}, "no_targets", 7, None),
        ({"adapter": "qlora", "load_in_4bit": "true"}, None, 0, None),
    ],
)
def test_axolotls_bases_in_few_bits_are_what_its_schema_and_loader_make_of_them(
    more: dict[str, str], rule: str | None, line: int, fix: tuple[str, str] | None, tmp_path: Path
) -> None:
    found = lint(written(AXOLOTL | more | {"lora_target_linear": more.get("lora_target_linear", "true")}, tmp_path),
                 catalog(), SIZES).findings  # fmt: skip
    assert [(one.rule, one.where.line, one.fix) for one in found] == ([(rule, line, fix)] if rule is not None else [])


def test_a_rank_that_no_line_says_is_asked_for(tmp_path: Path) -> None:
    """axolotl has no default, and peft's class stops at None; of a shell's own variable nothing is known."""
    words = {name: value for name, value in AXOLOTL.items() if name != "lora_r"}
    words |= {"adapter": "qlora", "load_in_4bit": "true", "lora_target_linear": "true"}
    silent = lint(written(words, tmp_path), catalog(), SIZES)
    assert [(one.what, one.attempt) for one in silent.open] == [
        ("no line that can be read says the adapter's rank", "--set adapter.rank=N")
    ]
    assert lint(written(words, tmp_path), catalog(), (*SIZES, "adapter.rank=4")).plan is not None
    unknown = lint(written(SWIFT + "--tuner_type lora --lora_rank $RANK", tmp_path), catalog())
    assert unknown.plan is None
    assert "rank" in unknown.open[0].what


def test_what_is_trained_otherwise_is_not_costed(tmp_path: Path) -> None:
    linted = lint(written(LLAMA_FACTORY | {"finetuning_type": "oft", "packing": "true"}, tmp_path), catalog(), SIZES)
    assert linted.plan is None
    assert [(one.where.line, one.what) for one in linted.open] == [
        (2, "oft is not costed: it trains other weights than low ranks")
    ]
    verl = lint(written(VERL + "actor_rollout_ref.model.lora_rank=8", tmp_path), catalog())
    assert verl.plan is not None
    assert verl.plan.problem.scenario.rl is not None
    assert verl.plan.problem.scenario.rl.reference_model
    assert "reference" in verl.plan.problem.scored_by
    assert "weight copy (reference)" not in {item.name for item in verl.plan.host}
    wrong = lint(written(TRL | {"use_peft": "true", "lora_target_modules": "[w1]"}, tmp_path), catalog(), SIZES)
    assert wrong.plan is None
    assert "adapter.targets does not fit" in wrong.open[0].what


@pytest.mark.parametrize(
    ("said", "each"),
    [("", 4), ("fp32", 4), ("null", 4), ("bfloat16", 2), ("bf16", 2), ("fp16", 2), ("fp8", 4)],
)
def test_verls_base_is_as_it_is_loaded(said: str, each: int, tmp_path: Path) -> None:
    key = "actor_rollout_ref.actor.fsdp_config.model_dtype"
    words = f"{VERL}actor_rollout_ref.model.lora_rank=8" + f" {key}={said}" * bool(said)
    linted = lint(written(words, tmp_path), catalog())
    assert linted.plan is not None
    assert linted.plan.problem.base_weight_bytes == linted.plan.problem.adapter_weight_bytes == each
    assert any(key in why for _, why in linted.found.unread) == (said == "fp8")


def test_an_empty_list_of_targets_is_every_linear_layer(tmp_path: Path) -> None:
    keys = {"policy.megatron_cfg.peft.enabled": "true", "policy.megatron_cfg.peft.target_modules": "[]"}
    assert lint(written(NEMO_RL | keys, tmp_path), catalog()).scenario["adapter"]["targets"] == ALL  # type: ignore[index]
