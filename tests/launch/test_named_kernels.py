"""Networks without sdpa in Transformers: a file names a kernel of attention, or is read as eager attention."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from test_other_engines import files, read

import planner
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.launch.attention import OPTION
from planner.launch.lint import Linted, lint
from planner.report.solve import Solved, solve_ledgers, solve_screen
from planner.report.table import render

HUB = "kernels-community/vllm-flash-attn3"
FLASH = "flash_attention_2"
ALONE = {"cluster.num_gpus": 1, "engine_options": ["autocast_16bit_weights"], "batch.micro_batch_size": 1}
ROOM = {"cluster.usable_gib": 4000}
AXOLOTL = (
    "sequence_len: 4096\nmicro_batch_size: 1\ngradient_accumulation_steps: 8\nbf16: true\noptimizer: adamw_torch\n"
    "gradient_checkpointing: false\n"
)
LLAMA_FACTORY = (
    "stage: sft\nfinetuning_type: full\ncutoff_len: 4096\nper_device_train_batch_size: 1\nbf16: true\n"
    "gradient_accumulation_steps: 8\n"
)


@cache
def catalog() -> Catalog:
    return default_catalog()


def linted(tmp_path: Path, text: str, *overrides: str) -> Linted:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return lint(path, catalog(), ("cluster.num_gpus=1", "cluster.usable_gib=4000", *overrides))


def written(engine: str, launcher: str, model: str, **changes: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for text in files(engine, launcher, model=model, **ROOM, **changes).values():
        out |= read(text)
    return out


@pytest.mark.parametrize(
    ("engine", "model", "gpu", "more", "said", "named"),
    [
        ("fsdp2", "gemma2-2b", "h100-sxm5-80gb", {}, "as flash_attention_2, which the script must name", FLASH),
        ("fsdp2", "gpt-oss-20b", "h100-sxm5-80gb", {}, f"as {HUB}", HUB),
        ("fsdp2", "gpt-oss-20b", "a100-sxm4-80gb", {}, "no kernel is known to train it on Ampere", None),
        ("fsdp2", "gemma2-2b", "h100-sxm5-80gb", {"precision": "fp32"}, "no kernel is known to train it in fp32", None),
        ("fsdp2", "gemma2-2b", "h100-sxm5-80gb", {"engine_options": [OPTION]}, None, None),
        ("fsdp2", "llama3.2-1b", "h100-sxm5-80gb", {}, None, None),
        ("megatron-core", "gpt-oss-20b", "a100-sxm4-80gb", {}, None, None),
    ],
)
def test_a_plan_says_which_fused_attention_it_counts(
    engine: str, model: str, gpu: str, more: dict[str, Any], said: str | None, named: str | None
) -> None:
    """In every report of it; where no kernel trains the network there, what is typed next counts eager attention."""
    document = {
        "name": "asked", "engine": engine, "model": model, "task": "pretrain", **more,
        "cluster": {"gpu": gpu, "num_gpus": 8, "usable_gib": 4000},
        "layout": {"recomputed_layers": "all", "tensor_parallel": 1, "pipeline_parallel": 1},
        "batch": {"global_batch_size": 8, "micro_batch_size": 1, "sequence_length": 1024},
    }  # fmt: skip
    outcome = planner.solve(document)
    assert outcome.plan is not None
    for blocks in (solve_screen, solve_ledgers):
        text = " ".join(render(blocks(Solved(outcome)), colour=False, width=80).split())
        assert ("kernel attention as" in text) == (said is not None), text
        assert said is None or said in text
        assert ("the same with eager attention" in text) == (said is not None and named is None)
    told = planner.to_dict(outcome)["plan"].get("attention_kernel")
    assert (told is None) == (said is None)
    assert told is None or told["named"] == named


@pytest.mark.parametrize(
    ("engine", "launcher", "model", "changes", "key", "value"),
    [
        ("fsdp2", "axolotl", "gemma2-2b", {}, "attn_implementation", FLASH),
        ("deepspeed", "axolotl", "gpt-oss-20b", {}, "attn_implementation", HUB),
        ("transformers", "axolotl", "gpt-oss-20b", ALONE, "attn_implementation", HUB),
        ("fsdp2", "axolotl", "qwen3-8b", {}, "attn_implementation", None),
        ("fsdp2", "trl", "gpt-oss-20b", {}, "attn_implementation", HUB),
        ("fsdp2", "trl", "gemma2-2b", {"engine_options": [OPTION]}, "attn_implementation", "eager"),
        ("deepspeed", "llama-factory", "gemma2-2b", {}, "flash_attn", "fa2"),
        ("deepspeed", "llama-factory", "gpt-oss-20b", {}, "flash_attn", None),  # it names the kernel itself
        ("deepspeed", "llama-factory", "gemma2-2b", {"engine_options": [OPTION]}, "flash_attn", "disabled"),
    ],
)
def test_a_plan_of_fused_attention_names_its_kernel(
    engine: str, launcher: str, model: str, changes: dict[str, Any], key: str, value: str | None
) -> None:
    assert written(engine, launcher, model, **changes).get(key) == value


def test_training_arguments_have_no_key_for_it_and_say_so() -> None:
    text = files("fsdp2", "accelerate", model="gpt-oss-20b", **ROOM)["training_arguments.yaml"]
    assert f"attn_implementation={HUB}" in text
    assert "attn_implementation" not in files("fsdp2", "accelerate")["training_arguments.yaml"]


@pytest.mark.parametrize(
    ("model", "changes", "words"),
    [
        ("gpt-oss-20b", {"cluster.node": "dgx-a100"}, "gpt-oss-20b on NVIDIA A100"),
        ("gemma2-2b", {"precision": "fp32"}, "gemma2-2b in fp32"),
    ],
)
def test_no_kernel_is_no_launch_file(model: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        written("fsdp2", "axolotl", model, **changes)
    assert written("fsdp2", "axolotl", model, engine_options=[OPTION], **changes)["attn_implementation"] == "eager"


@pytest.mark.parametrize(
    ("line", "eager", "rules"),
    [
        ("", True, {"eager_attention"}),
        ("attn_implementation: eager\n", True, set()),
        (f"attn_implementation: {FLASH}\n", False, set()),
        ("attn_implementation: null\n", True, {"eager_attention"}),
        ("flash_attention: true\n", False, set()),
        ("flash_attention: false\n", True, {"eager_attention"}),
        ("attn_implementation: sdpa\n", False, {"refused_attention"}),
    ],
)
def test_a_file_that_names_no_kernel_is_eager(line: str, eager: bool, rules: set[str], tmp_path: Path) -> None:
    judged = linted(tmp_path, f"base_model: google/gemma-2-2b\n{AXOLOTL}{line}")
    assert {one.rule for one in judged.findings} == rules
    assert judged.plan is not None
    assert (OPTION in judged.plan.named.engine_options) == eager
    other = linted(tmp_path, f"base_model: Qwen/Qwen3-8B\n{AXOLOTL}" + (line if FLASH in line else ""))
    assert other.plan is not None
    assert OPTION not in other.plan.named.engine_options


def test_eager_keeps_the_scores_of_every_layer(tmp_path: Path) -> None:
    """Gemma 2 2B, 26 layers of 8 heads over 4,096 tokens: 4 B of soft-max, 2 of its cast, 2 of the cap are 1 GiB a
    layer; keys and values of 4 heads become 8 (16 MiB), and two masks of 2 B lie there once."""
    silent = f"base_model: google/gemma-2-2b\n{AXOLOTL}"
    whole, fused = (linted(tmp_path, silent + line) for line in ("", f"attn_implementation: {FLASH}\n"))
    assert whole.plan is not None
    assert fused.plan is not None
    more = 26 * (1 + 2 * 4 * 256 * 2 * 4096 / 2**30) + 2 * 2 * 4096**2 / 2**30
    assert whole.plan.peak_gib - fused.plan.peak_gib == pytest.approx(more, rel=0.015)  # the allocator's share beside


def test_the_options_that_a_user_states_stand(tmp_path: Path) -> None:
    judged = linted(tmp_path, f"base_model: google/gemma-2-2b\n{AXOLOTL}", "engine_options=[autocast_16bit_weights]")
    assert judged.findings == ()
    assert judged.plan is not None
    assert OPTION not in judged.plan.named.engine_options


@pytest.mark.parametrize(
    ("line", "eager", "rules"),
    [
        ("", False, {"kernel_of_attention"}),
        ("flash_attn: fa2\n", False, set()),
        ("flash_attn: disabled\n", True, set()),
    ],
)
def test_llama_factory_names_a_kernel_itself(line: str, eager: bool, rules: set[str], tmp_path: Path) -> None:
    judged = linted(tmp_path, f"model_name_or_path: google/gemma-2-2b\n{LLAMA_FACTORY}{line}")
    assert {one.rule for one in judged.findings} == rules
    assert judged.plan is not None
    assert (OPTION in judged.plan.named.engine_options) == eager
