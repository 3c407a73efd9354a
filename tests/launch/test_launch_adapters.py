"""Adapters as files: each trainer's own keys, what is read back of them, and what is refused by name."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from drawn import catalog
from round_trips import LAUNCHERS, differences
from run_cli import run

from planner.errors import InputError
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.launch.lint import lint
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search

PLAIN = {
    "name": "adapters",
    "task": "sft",
    "model": "llama3.2-1b",
    "engine": "transformers",
    "engine_options": ["autocast_16bit_weights"],
    "cluster": {"node": "hgx-h100-8", "num_gpus": 1},
    "batch": {"global_batch_size": 8, "sequence_length": 1024, "micro_batch_size": 1},
    "layout": {"recomputed_layers": "all"},
}
SHARDED = {"cluster.num_gpus": 8, "engine_options": []}
RICH = {
    "rank": 8,
    "targets": ["q_proj", "v_proj"],
    "base_precision": "nf4-single",
    "variant": "dora",
    "dropout": 0.05,
    "modules_to_save": ["embed_tokens", "lm_head"],
}


@cache
def solved(changes: str) -> Outcome:
    base = parse_document(json.dumps(PLAIN), "adapters.yaml")
    return search(question_of(override(base, json.loads(changes)), catalog()), check_points=0)


def keys(launcher: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Settings of the trainer's own file."""
    written = registry.files(launcher, solved(json.dumps(changes)), catalog())
    name = {"axolotl": "axolotl.yaml", "llama-factory": "llama_factory.yaml", "trl": "trl_sft.yaml"}[launcher]
    return dict(parse_document(written[name], name).data)


PLAINLY = {"rank": 16}
TWICE = {"rank": 16, "base_precision": "nf4", "variant": "rslora"}
IN_8 = {"rank": 16, "base_precision": "int8"}
CASES = [
    ("axolotl", PLAINLY, {}, {"adapter": "lora", "lora_r": 16, "lora_target_linear": True}),
    (
        "axolotl", RICH, {},
        {"adapter": "qlora", "load_in_4bit": True, "bnb_config_kwargs": {"bnb_4bit_use_double_quant": False},
         "lora_r": 8, "lora_target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.05, "peft_use_dora": True,
         "lora_modules_to_save": ["embed_tokens", "lm_head"]},
    ),
    (
        "axolotl", TWICE, SHARDED,
        {"adapter": "qlora", "load_in_4bit": True, "lora_r": 16, "lora_target_linear": True, "peft_use_rslora": True},
    ),
    ("axolotl", IN_8, {}, {"adapter": "lora", "load_in_8bit": True, "lora_r": 16, "lora_target_linear": True}),
    ("llama-factory", PLAINLY, {}, {"finetuning_type": "lora", "lora_rank": 16}),
    (
        "llama-factory", RICH, {},
        {"finetuning_type": "lora", "lora_rank": 8, "lora_target": "q_proj,v_proj", "lora_dropout": 0.05,
         "use_dora": True, "additional_target": "embed_tokens,lm_head", "quantization_bit": 4,
         "double_quantization": False},
    ),
    (
        "llama-factory", TWICE, SHARDED,
        {"finetuning_type": "lora", "lora_rank": 16, "use_rslora": True, "quantization_bit": 4},
    ),
    ("llama-factory", IN_8, {}, {"finetuning_type": "lora", "lora_rank": 16, "quantization_bit": 8}),
    (
        "trl", PLAINLY, {},
        {"use_peft": True, "lora_r": 16, "lora_target_modules": ["all-linear"], "lora_dropout": 0},
    ),
    (
        "trl", TWICE, SHARDED,
        {"use_peft": True, "lora_r": 16, "lora_target_modules": ["all-linear"], "lora_dropout": 0, "use_rslora": True,
         "load_in_4bit": True, "use_bnb_nested_quant": True, "bnb_4bit_quant_storage": "bfloat16"},
    ),
]  # fmt: skip
OF_ADAPTERS = ("adapter", "lora", "peft", "load_in", "use_", "finetuning", "quant", "double_quant", "additional", "bnb")


@pytest.mark.parametrize(("launcher", "adapter", "changes", "said"), CASES)
def test_an_adapter_is_written_by_the_trainers_own_keys(
    launcher: str, adapter: dict[str, Any], changes: dict[str, Any], said: dict[str, Any]
) -> None:
    engine = {"engine": "fsdp2"} if changes else {}
    found = keys(launcher, {"adapter": adapter, **changes, **engine})
    assert {name: value for name, value in found.items() if name.startswith(OF_ADAPTERS)} == said
    assert "attn_implementation" not in found  # with adapters axolotl casts what it left in fp32 back
    assert found.get("dtype") == ("bfloat16" if launcher == "trl" else None)


@pytest.mark.parametrize("launcher", ["axolotl", "llama-factory"])
def test_a_scenario_of_lora_is_written_and_read_back_with_the_same_memory(launcher: str, tmp_path: Path) -> None:
    """Its optimizer makes fp32 moments of fp32 adapters, which is what torch's AdamW is to them."""
    wanted = {"engine_options": ["autocast_16bit_weights"], "batch.sequence_length": 1024}
    question = question_of(override(load("scenarios/llama8b_lora_4090.yaml"), wanted), catalog())
    outcome = search(question, check_points=0)
    (file,) = registry.files(launcher, outcome, catalog()).items()
    (tmp_path / file[0]).write_text(file[1])
    sizes = ("cluster.num_gpus=1", "batch.global_batch_size=16", "cluster.node=rtx-4090-box")
    linted = lint(tmp_path / file[0], catalog(), sizes)
    assert linted.plan is not None, linted.open
    assert outcome.plan is not None
    assert linted.plan.problem.scenario.adapter == question.scenario.adapter
    assert linted.plan.peak_gib == pytest.approx(outcome.plan.peak_gib, rel=1e-9)


@pytest.mark.parametrize(("launcher", "adapter", "changes", "_"), [case for case in CASES if case[0] in LAUNCHERS])
def test_an_adapter_is_read_back(
    launcher: str, adapter: dict[str, Any], changes: dict[str, Any], _: dict[str, Any], tmp_path: Path
) -> None:
    engine = {"engine": "fsdp2"} if changes else {}
    assert differences(solved(json.dumps({"adapter": adapter, **changes, **engine})), launcher, tmp_path) == []


def test_a_file_of_axolotl_says_that_it_wants_an_alpha() -> None:
    """peft divides it by the rank, and without one stops there (peft 0.21.2, asked)."""
    (text,) = registry.files("axolotl", solved(json.dumps({"adapter": PLAINLY})), catalog()).values()
    assert "lora_alpha is yours to add" in text


@pytest.mark.parametrize(
    ("launcher", "adapter", "changes", "words"),
    [
        ("accelerate", PLAINLY, {}, "--to axolotl or llama-factory or trl"),
        ("deepspeed", PLAINLY, {"engine": "deepspeed", **SHARDED}, "--to axolotl or llama-factory or trl"),
        ("axolotl", {"rank": 8, "base_precision": "int4"}, {}, "no key for a base in int4"),
        ("axolotl", {"rank": 8}, {"engine_options": ["autocast_16bit_weights", "adapters_as_computed"]}, "as_computed"),
        ("axolotl", {"rank": 8}, {"engine_options": []}, "no word for 16-bit weights without autocast"),
        ("llama-factory", {"rank": 8, "variant": "lora-fa"}, {}, "no key for lora-fa adapters"),
        ("llama-factory", {"rank": 8, "targets": ["linear_qkv", "q_proj"]}, {}, "knows no module linear_qkv"),
        ("llama-factory", {"rank": 8}, {"engine_options": ["autocast"]}, "no key for a base in fp32 under autocast"),
        ("llama-factory", {"rank": 8}, {"model": "qwen3-30b-a3b"}, "no key for adapters on every expert"),
        ("llama-factory", IN_8, {"engine": "fsdp2", **SHARDED}, "does not shard a base in int8"),
        ("trl", {"rank": 8, "base_precision": "nf4"}, {}, "adapters of a quantised base are bf16"),
        ("trl", {"rank": 8}, {"engine_options": ["adapters_as_computed"]}, "that is not quantised are fp32"),
    ],
)
def test_an_adapter_without_a_key_is_refused_by_name(
    launcher: str, adapter: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        registry.files(launcher, solved(json.dumps({"adapter": adapter, **changes})), catalog())


def test_a_refusal_that_proposes_a_value_is_a_command_that_works() -> None:
    """The shipped scenario of one 4090, for a trainer that has no word for weights without autocast."""
    refused = run("launch", "example:llama8b_lora_4090", "--to", "axolotl")
    assert refused.code == 2
    words = shlex.split(refused.err.partition("try:")[2].splitlines()[0])
    assert words[:2] == ["planner", "launch"]
    taken = run(*words[1:])
    assert (taken.code, "bf16: true" in taken.out) == (0, True)
