"""Launch files read back: the plan that wrote a file is the plan that lint reads, and what is wrong has its line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from round_trips import decisions

from planner import cli
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.launch.lint import Linted, lint
from planner.launch.reading.megatron import layout_layers
from planner.launch.reading.shell import read_script
from planner.launch.reading.words import whole
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search

PLAIN = {
    "name": "round",
    "task": "pretrain",
    "model": "llama3-8b",
    "engine": "fsdp2",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16},
    "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 2},
}
OF_RL = {"slime", "nemo-rl", "openrlhf", "verl-megatron", "verl-fsdp1", "verl-fsdp2"}
LENGTH = "batch.sequence_length=4096"
ONE_GPU = {"model": "llama3.2-1b", "cluster.num_gpus": 1}
SIZES = ("cluster.num_gpus=1", "batch.global_batch_size=64")
ROUND = [
    ("megatron-core", "megatron", {}, ()),
    ("megatron-core", "megatron", {"layout.pipeline_parallel": 4, "layout.layers_per_stage": [7, 9, 9, 7]}, ()),
    ("megatron-core", "megatron", {"layout.pipeline_parallel": 4, "layout.layers_per_stage": [7, 8, 9, 8]}, ()),
    ("megatron-core", "megatron", {"layout.pipeline_parallel": 2, "layout.virtual_pipeline": 2}, ()),
    ("megatron-core", "megatron", {"layout.optimizer_offload": True, "precision": "fp8"}, ()),
    ("megatron-core", "megatron", {"layout.recompute_modules": ["mlp"], "cluster.num_gpus": 8}, ()),
    ("megatron-core", "megatron", {"engine_options": ["bf16_moments", "native_cross_entropy_fusion"]}, ()),
    ("megatron-core", "megatron", {"model": "deepseek-v2-lite", "layout.expert_parallel": 8}, ()),
    ("megatron-core", "ms-swift", {"layout.recomputed_layers": 8}, ()),
    ("slime", "slime", {}, ()),
    ("slime", "slime", {"rl.placement": "disaggregated", "cluster.num_gpus": 16}, ()),
    ("verl-megatron", "verl", {}, ()),
    ("verl-megatron", "verl", {"rl.steps_per_rollout": 2}, ()),
    ("verl-fsdp2", "verl", {}, ()),
    ("verl-fsdp1", "verl", {"engine_options": ["deferred_reduction", "model_in_16bit"]}, ()),
    ("nemo-rl", "nemo-rl", {}, ()),
    ("openrlhf", "openrlhf", {}, ()),
    ("torchtitan", "torchtitan", {"layout.recomputed_layers": "all"}, ("model=llama3-8b",)),
    ("torchtitan", "torchtitan", {"layout.pipeline_parallel": 2}, ("model=llama3-8b",)),
    ("torchtitan", "torchtitan", {"engine_options": ["async_tp"]}, ("model=llama3-8b",)),
    ("torchtitan", "torchtitan", {"engine_options": ["hybrid_sharding"]}, ("model=llama3-8b",)),
    ("torchtitan", "torchtitan", {"layout.recompute_modules": ["op"]}, ("model=llama3-8b",)),
    ("megatron-core", "ms-swift", {"engine_options": ["native_cross_entropy_fusion", "bf16_moments"]}, ()),
    ("verl-fsdp2", "verl", {"engine_options": ["fused_kernels"], "rl.reference_model": False}, ()),
    ("openrlhf", "openrlhf", {"rl.reference_model": False}, ()),
    ("nemo-rl", "nemo-rl", {"rl.reference_model": False}, ()),
    ("nemo-rl", "nemo-rl", {"rl.placement": "disaggregated", "rl.rollout.num_gpus": 4}, ()),
    ("fsdp2", "axolotl", {"engine_options": ["fused_head"]}, ()),
    ("deepspeed", "deepspeed", {}, ("model=llama3-8b", LENGTH, "cluster.num_gpus=16", "batch.global_batch_size=64")),
    ("deepspeed", "accelerate", {}, ("model=llama3-8b", LENGTH)),
    ("fsdp2", "accelerate", {}, ("model=llama3-8b", LENGTH)),
    ("transformers-ddp", "accelerate", {"model": "llama3.2-1b"}, ("model=llama3.2-1b", LENGTH)),
    (
        "transformers-ddp",
        "accelerate",
        {"model": "llama3.2-1b", "engine_options": ["autocast_16bit_weights"]},
        ("model=llama3.2-1b", LENGTH),
    ),
    *(
        ("transformers", launcher, {**ONE_GPU, "engine_options": options}, filled)
        for launcher, options, filled in (
            ("accelerate", [], ("model=llama3.2-1b", LENGTH)),
            ("llama-factory", [], SIZES),
            ("accelerate", ["autocast_16bit_weights"], ("model=llama3.2-1b", LENGTH)),
            ("llama-factory", ["autocast"], SIZES),
            ("llama-factory", ["autocast_16bit_weights"], SIZES),
            ("axolotl", ["autocast_16bit_weights"], SIZES),
        )
    ),
    ("fsdp2", "axolotl", {}, ()),
    ("deepspeed", "axolotl", {}, ("cluster.num_gpus=16", "batch.global_batch_size=64")),
    ("fsdp2", "llama-factory", {}, ()),
    ("fsdp2", "axolotl", {"engine_options": ["hybrid_sharding"], "cluster.num_gpus": 16}, ()),
    (
        "fsdp2",
        "accelerate",
        {"engine_options": ["hybrid_sharding"], "cluster.num_gpus": 16},
        ("model=llama3-8b", LENGTH),
    ),
    ("fsdp2", "accelerate", {"engine_options": ["parameter_offload"]}, ("model=llama3-8b", LENGTH)),
    (
        "deepspeed",
        "axolotl",
        {"engine_options": ["parameter_offload"], "layout.zero_stage": 3},
        ("cluster.num_gpus=16", "batch.global_batch_size=64"),
    ),
    ("verl-fsdp2", "verl", {"engine_options": ["hybrid_sharding"], "cluster.num_gpus": 16}, ()),
]
"""Engine, launcher, decisions, and what the format has no word for."""


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def solved(engine: str, changes: str) -> Outcome:
    wanted = {"engine": engine, **json.loads(changes)}
    if engine in OF_RL:
        base = load("scenarios/qwen7b_rl.yaml")
        wanted = {"cluster.max_gpus": None, "cluster.num_gpus": 8, "limits.headroom_gib": None, **wanted}
    else:
        base = parse_document(json.dumps(PLAIN), "round.yaml")
    return search(question_of(override(base, wanted), catalog()), check_points=0)


def place(written: dict[str, str], folder: Path) -> Path:
    for name, text in written.items():
        (folder / name).write_text(text)
    return folder if len(written) > 1 else folder / next(iter(written))


@pytest.mark.parametrize(("engine", "launcher", "changes", "filled"), ROUND)
def test_what_is_read_back_is_the_plan(
    engine: str, launcher: str, changes: dict[str, Any], filled: tuple[str, ...], tmp_path: Path
) -> None:
    outcome = solved(engine, json.dumps(changes))
    assert outcome.plan is not None
    path = place(registry.files(launcher, outcome, catalog()), tmp_path)
    linted = lint(path, catalog(), filled)
    assert linted.plan is not None, (linted.findings, linted.open)
    assert decisions(linted.plan) == decisions(outcome.plan)
    if launcher not in ("torchtitan",):
        assert {finding.rule for finding in linted.findings} <= {"cap_below_sample"}


MEGATRON = """\
#!/bin/bash
GPUS_PER_NODE={gpus}
NUM_NODES=${{SLURM_NNODES:-1}}
MODEL=(
  --num-layers 32
  --hidden-size 4096
  --ffn-hidden-size 14336
  --num-attention-heads 32
  --group-query-attention --num-query-groups 8
  --seq-length {length} --max-position-embeddings 32768
  --norm-epsilon 1e-5 --rotary-base {base} --vocab-size {vocab}
  --untie-embeddings-and-output-weights --bf16
  {experts}
)
PARALLEL=(
  --tensor-model-parallel-size {tensor}
  --pipeline-model-parallel-size {pipeline}
  --context-parallel-size {context}
  --use-distributed-optimizer
  {more}
)
torchrun --nnodes $NUM_NODES --nproc-per-node $GPUS_PER_NODE pretrain_gpt.py \\
  "${{MODEL[@]}}" "${{PARALLEL[@]}}" --micro-batch-size 1 --global-batch-size 64
"""
DENSE = {"gpus": 8, "length": 8192, "base": 500000, "vocab": 128256, "experts": "", "tensor": 1, "pipeline": 1}
DENSE |= {"context": 1, "more": ""}
EXPERTS = {"base": 1000000, "vocab": 32000, "experts": "--num-experts 8 --moe-grouped-gemm"}


def script(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "run.sh"
    path.write_text(MEGATRON.format(**{**DENSE, **changes}))
    return path


def line_of(path: Path, words: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if words in line)


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        (
            {**EXPERTS, "pipeline": 2, "more": "--expert-model-parallel-size 8"},
            "expert_grid",
            "--expert-model-parallel-size",
        ),
        (
            {"pipeline": 4, "more": "--num-virtual-stages-per-pipeline-rank 3"},
            "layers_divide_pipeline",
            "--num-virtual-stages-per-pipeline-rank",
        ),
        (
            {**EXPERTS, "tensor": 2, "more": "--expert-model-parallel-size 4 --expert-tensor-parallel-size 1"},
            "moe_needs_sequence_parallel",
            "--tensor-model-parallel-size",
        ),
        (
            {"more": "--recompute-granularity full --recompute-method block --recompute-num-layers 40"},
            "recomputed_layers_exist",
            "--recompute-num-layers",
        ),
        ({"length": 8196, "context": 8}, "sequence_divides_context", "--seq-length"),
    ],
    ids=["experts beyond the world", "virtual stages", "experts without sequence parallelism", "layers", "sequence"],
)
def test_the_mistakes_that_megatrons_validators_miss(
    changes: dict[str, Any], rule: str, words: str, tmp_path: Path
) -> None:
    path = script(tmp_path, **changes)
    found = {finding.rule: finding for finding in lint(path, catalog()).findings}
    assert rule in found, found
    assert found[rule].where.line == line_of(path, words)
    assert found[rule].severity == "error"


def rules(linted: Linted) -> dict[str, int | None]:
    return {finding.rule: finding.where.line for finding in linted.findings}


def test_a_good_script_has_no_findings_and_a_full_one_is_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path)
    assert cli.main(["lint", str(path)]) == 1
    shown = capsys.readouterr().out
    assert "GiB missing" in shown
    assert re.search(r"does not fit, peak .* GiB missing \(fits with [0-9.]+ %\)", " ".join(shown.split()))
    assert cli.main(["lint", str(path), "--format", "sarif"]) == 1
    (memory,) = (r for r in json.loads(capsys.readouterr().out)["runs"][0]["results"] if r["ruleId"] == "memory")
    assert "; runs out in training" in memory["message"]["text"]
    small = script(tmp_path, tensor=4, more="--sequence-parallel")
    assert cli.main(["lint", str(small)]) == 0
    assert "0 findings" in " ".join(capsys.readouterr().out.split())


def test_memory_at_the_edge_is_a_finding_and_exit_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = script(tmp_path, tensor=4, more="--sequence-parallel")
    plan = lint(path, catalog()).plan
    assert plan is not None
    assert cli.main(["lint", str(path), "--set", f"cluster.usable_gib={plan.peak_gib * 1.01}", "--format", "json"]) == 5
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert finding["rule"] == "critical_memory"
    assert finding["line"] == line_of(path, "--micro-batch-size")
    assert finding["text"].startswith("critical: ")


def test_a_misspelt_option_has_its_line_its_name_and_its_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = script(tmp_path, tensor=4, more="--sequence-paralel")
    assert cli.main(["lint", str(path), "--format", "sarif"]) == 5
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["ruleId"] == "unknown_setting"
    assert "--sequence-parallel?" in result["message"]["text"]
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region["startLine"] == line_of(path, "--sequence-paralel")
    assert cli.main(["lint", str(path), "--fix"]) == 5
    diff = capsys.readouterr().out
    assert "-  --sequence-paralel\n" in diff
    assert "+  --sequence-parallel\n" in diff


def test_a_suggestion_differs_in_one_part_and_is_not_there_already(tmp_path: Path) -> None:
    path, actor = tmp_path / "run.sh", "actor_rollout_ref.actor"
    lines = [f"{actor}.model_engine=megatron", f"{actor}.ppo_mini_batch_sise=8", f"{actor}.megatron.grad_offload=True"]
    lines += [f"{actor}.megatron.param_offload=True", "actor_rollout_ref.model.path=Qwen/Qwen3-8B"]
    path.write_text("python3 -m verl.trainer.main_ppo \\\n " + " \\\n ".join(lines) + "\n")
    found = [one for one in lint(path, catalog()).findings if one.rule == "unknown_setting"]
    assert [(one.where.line, one.fix and one.fix[1]) for one in found] == [
        (2, "model_engine"),
        (3, f"{actor}.ppo_mini_batch_size"),
        (4, None),
    ]


def test_a_network_other_than_the_checkpoint_is_named(tmp_path: Path) -> None:
    found = rules(lint(script(tmp_path, base=1000000, tensor=4, more="--sequence-parallel"), catalog()))
    assert "other_rotary_base" in found


def test_the_kernel_that_megatron_refuses_is_found_where_it_is_written(tmp_path: Path) -> None:
    path = script(tmp_path, tensor=4, more="--cross-entropy-loss-fusion --cross-entropy-fusion-impl te")
    assert rules(lint(path, catalog()))["refused_loss_kernel"] == line_of(path, "--cross-entropy-fusion-impl")


SLIME = """\
SCRIPT_DIR="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
source "${SCRIPT_DIR}/models/qwen.sh"
GPUS=${GPUS:-4}
ROLLOUT_ARGS=(
   --rollout-batch-size 32 --n-samples-per-prompt 8
   --rollout-max-response-len 8192
   --global-batch-size 256 --num-steps-per-rollout 1
)
PERF_ARGS=(
   --tensor-model-parallel-size 2 --sequence-parallel
   --use-dynamic-batch-size --max-tokens-per-gpu 4096
   --recompute-granularity full --recompute-method uniform --recompute-num-layers 1
)
PERF_ARGS+=(--use-kl-loss --kl-loss-coef 0.00)
ray job submit --address=http://127.0.0.1:8265 -- python3 train.py --actor-num-nodes 1 \\
   --actor-num-gpus-per-node ${GPUS} --colocate ${MODEL_ARGS[@]} ${ROLLOUT_ARGS[@]} ${PERF_ARGS[@]} \\
   --rollout-num-gpus-per-engine 2 --sglang-mem-fraction-static 0.7 --tensor-model-paralel-size 4
"""
QWEN = """\
MODEL_ARGS=(--swiglu --num-layers 28 --hidden-size 3584 --ffn-hidden-size 18944 --num-attention-heads 28
  --group-query-attention --num-query-groups 4 --norm-epsilon 1e-06 --rotary-base 1000000 --vocab-size 152064
  --untie-embeddings-and-output-weights --disable-bias-linear --add-qkv-bias --normalization RMSNorm)
"""


def test_a_slime_script_with_a_sourced_model(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "qwen.sh").write_text(QWEN)
    path = tmp_path / "run.sh"
    path.write_text(SLIME)
    linted = lint(path, catalog())
    found = rules(linted)
    assert linted.found.engine == "slime"
    assert linted.found.words["model"] == "qwen2.5-7b"
    assert linted.found.places["model"].file.endswith("qwen.sh")
    assert found["unknown_setting"] == line_of(path, "--tensor-model-paralel-size")
    assert found["cap_below_sample"] == line_of(path, "--max-tokens-per-gpu")
    assert found["idle_reference"] == line_of(path, "--use-kl-loss")
    assert found["gpus_of_a_node"] is not None
    assert linted.plan is not None
    assert linted.plan.recomputed == linted.plan.layers
    assert linted.plan.layout["tensor_parallel"] == 2
    assert linted.found.assumed.keys() >= {"cluster.node", "rl.prompt_length"}
    path.write_text(SLIME.replace("--rollout-max-resp", "--rollout-max-prompt-len 2048 --rollout-max-resp"))
    stated = lint(path, catalog(), ("cluster.gpu=h200",))
    assert stated.plan is not None
    assert stated.plan.problem.gpu.id == "h200-sxm-141gb"
    assert stated.plan.named.sequence_length == 2048 + 8192
    assert stated.found.assumed.keys().isdisjoint({"cluster.node", "rl.prompt_length"})


def test_verl_keys_of_another_version_and_batches_that_do_not_divide(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(
        "python3 -m verl.trainer.main_ppo \\\n"
        "  data.train_batch_size=128 data.max_prompt_length=1024 data.max_response_length=${LEN:-2048} \\\n"
        "  actor_rollout_ref.model.path=Qwen/Qwen2.5-7B-Instruct actor_rollout_ref.rollout.n=5 \\\n"
        "  actor_rollout_ref.actor.ppo_mini_batch_size=256 \\\n"
        "  actor_rollout_ref.actor.fsdp_config.grad_offload=True trainer.n_gpus_per_node=8\n"
    )
    linted = lint(path, catalog())
    found = rules(linted)
    assert found["unknown_setting"] == 5
    assert found["mini_batch_above_rollout"] == 4
    assert "no_micro_batch" in found
    assert linted.found.words["model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert linted.scenario["model"] == "qwen2.5-7b"


def test_only_the_models_that_a_file_names_are_read(tmp_path: Path) -> None:
    fresh = default_catalog()
    assert lint(script(tmp_path, tensor=4, more="--sequence-parallel"), fresh).scenario["model"] == "llama3-8b"
    assert len([file for file in fresh.used() if file.startswith("models/")]) < 12


def test_chunks_that_differ_are_recomputed_whole_by_the_number_of_the_largest(tmp_path: Path) -> None:
    again = "--recompute-granularity full --recompute-method block --recompute-num-layers"
    more = "--pipeline-model-parallel-layout 'Et*9|t*8|t*8|t*7L' " + again
    plan = lint(script(tmp_path, pipeline=2, more=f"{more} 9"), catalog()).plan
    assert plan is not None
    assert plan.recomputed == plan.layers == (17, 15)
    found = rules(lint(script(tmp_path, pipeline=2, more=f"{more} 10"), catalog()))
    assert "recomputed_layers_exist" in found


def test_fixed_micro_batches_are_held_to_their_rule_and_are_no_packed_ones(tmp_path: Path) -> None:
    outcome = solved("verl-fsdp2", json.dumps({"engine_options": ["fixed_micro_batches"]}))
    with pytest.raises(InputError, match="packs samples or takes a fixed number"):
        registry.files("verl", outcome, catalog())


VERL = (
    "python3 -m verl.trainer.main_ppo {trainer} algorithm.adv_estimator=grpo data.train_batch_size=64 "
    "actor_rollout_ref.model.path={model} actor_rollout_ref.rollout.n=4 trainer.n_gpus_per_node=8 "
    "actor_rollout_ref.actor.ppo_mini_batch_size=64 actor_rollout_ref.actor.use_dynamic_bsz=True {more}\n"
)
"""A script of the releases that named the trainer's file, or nothing."""


@pytest.mark.parametrize(
    ("trainer", "more", "engine"),
    [
        ("--config-path=config --config-name='ppo_megatron_trainer.yaml'", "", "verl-megatron"),
        ("", "actor_rollout_ref.actor.megatron.tensor_model_parallel_size=2", "verl-megatron"),
        ("", "+actor_rollout_ref.actor.megatron.override_transformer_config.recompute_method=uniform", "verl-megatron"),
        ("", "actor_rollout_ref.actor.fsdp_config.param_offload=True", "verl-fsdp1"),
        ("actor_rollout_ref.actor.strategy=fsdp", "actor_rollout_ref.ref.megatron.param_offload=True", "verl-fsdp1"),
        ("actor_rollout_ref.actor.strategy=fsdp2", "", "verl-fsdp2"),
        ("model_engine=veomni", "", "verl-fsdp2"),
    ],
)
def test_which_trainer_a_verl_script_means(trainer: str, more: str, engine: str, tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(VERL.format(trainer=trainer, more=more, model="Qwen/Qwen2.5-7B"))
    assert lint(path, catalog()).found.engine == engine


def test_a_network_that_the_catalog_lacks_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(VERL.format(trainer="", more="", model="Nobody/Nothing-7B"))
    (mistake,) = lint(path, catalog()).open
    assert (mistake.what, mistake.because) == ("unknown model `Nobody/Nothing-7B`", None)
    assert mistake.attempt == "--set model=NAME, or the path of its config.json"
    path.write_text(VERL.format(trainer="", more="", model="NousResearch/Meta-Llama-3.1-8B-Instruct"))
    assert lint(path, catalog()).scenario["model"] == "llama3.1-8b"


def test_fsdp_of_the_first_kind_is_sharded_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    keys = "base_model: Qwen/Qwen3-8B\nsequence_len: 2048\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\n"
    path.write_text(keys + "bf16: true\nfsdp:\n  - full_shard\nfsdp_config:\n  fsdp_offload_params: true\n")
    linted = lint(path, catalog(), ("cluster.num_gpus=8",))
    assert linted.plan is not None
    assert linted.plan.layout["zero_stage"] == 3
    assert linted.plan.layout["global_batch_size"] == 64  # of the number of GPUs that --set gives
    assert linted.plan.named.engine_options == ("parameter_offload",)
    assert (6, "FSDP of the first kind is costed as FSDP2 is") in [(p.line, why) for p, why in linted.found.unread]
    path.write_text(keys + "bf16: true\nfsdp:\n")
    assert lint(path, catalog(), ("cluster.num_gpus=1",)).found.engine == "transformers"


def test_deepspeed_json_with_a_key_that_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    lines = ["{", ' "zero_optimisation": {"stage": 3},', ' "train_micro_batch_size_per_gpu": 3,']
    lines += [' "gradient_accumulation_steps": 2,', ' "train_batch_size": 64,', ' "bf16": {"enabled": true}', "}"]
    path.write_text("\n".join(lines) + "\n")
    found = rules(lint(path, catalog(), ("model=llama3-8b", "cluster.num_gpus=8"), "deepspeed"))
    assert found["unknown_setting"] == 2
    assert found["unequal_batch"] == 5


def test_what_deepspeed_leaves_to_the_trainer_is_the_trainers_default_and_listed(tmp_path: Path) -> None:
    path = tmp_path / "ds.json"
    path.write_text('{"zero_optimization": {"stage": 2},\n "train_micro_batch_size_per_gpu": "auto"}\n')
    filled = ("model=llama3-8b", "cluster.num_gpus=8", "batch.sequence_length=2048", "batch.global_batch_size=64")
    linted = lint(path, catalog(), filled)
    assert linted.plan is not None
    assert linted.plan.layout["micro_batch_size"] == 8
    assert [(at.line, why) for at, why in linted.found.unread] == [
        (2, "train_micro_batch_size_per_gpu auto: the trainer's own settings say it")
    ]


def test_what_only_a_running_shell_knows_is_listed_and_nothing_is_run(tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(f"touch {tmp_path}/ran\nTP=$(nvidia-smi | wc -l)\n" + MEGATRON.format(**{**DENSE, "tensor": "$TP"}))
    linted = lint(path, catalog())
    assert not (tmp_path / "ran").exists()
    assert any("--tensor-model-parallel-size" in why for _, why in linted.found.unread)


def test_a_file_for_no_engine_is_said(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("a: 1\n")
    with pytest.raises(InputError, match="cannot be told"):
        lint(path, catalog())


def test_the_shell_is_read_as_bash_reads_it(tmp_path: Path) -> None:
    text = (
        "A=(--x 1 '--y z')\nA+=(\"--w=$((2 * (3 + 1)))\")\nB=${NOT_SET:-'seven 8'}\nexport C=\"a${B}b\"\n"
        'run "${A[@]}" $B "$B" \\\n  ${C} --last\n'
    )
    (words,) = read_script(tmp_path / "x.sh", text, "x.sh").commands
    texts = [word.text for word in words]
    assert texts == ["run", "--x", "1", "--y z", "--w=8", "seven", "8", "seven 8", "aseven", "8b", "--last"]
    assert [word.line for word in words][-1] == 6
    assert whole("7 / 2 * 3 % 4") == 1
    assert layout_layers("Et*7|(t*8|)*2t*7L") == [7, 8, 8, 7]


def git(folder: Path, *words: str) -> str:
    own = ("-c", "user.name=x", "-c", "user.email=x@y.z", "-c", "commit.gpgsign=false")
    ran = subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True)
    return ran.stdout.strip()


def test_the_github_action_says_by_how_much_a_pull_request_raises_the_peak(tmp_path: Path) -> None:
    action = parse_document(Path("action.yml").read_text(), "action.yml").data
    (step,) = [step for step in action["runs"]["steps"] if "LINT_FILE" in step.get("env", {})]
    assert set(action["inputs"]) == {"file", "set", "base"}
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    script(repository, tensor=4, more="--sequence-parallel")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "before")
    base = git(repository, "rev-parse", "HEAD")
    script(repository, tensor=4, more="--sequence-parallel", length=16384)
    program = tmp_path / "bin" / "planner"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\necho "$*" >> "$CALLS"\nexec {sys.executable} -m planner "$@"\n')
    program.chmod(0o755)
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "LINT_FILE": "run.sh"}
    env |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary"), "LINT_SET": "cluster.node=dgx-h200", "LINT_BASE": base}
    env |= {"PYTHONPATH": str(Path.cwd()), "HOME": str(tmp_path)}
    words = ["bash", "-eo", "pipefail", "-c", step["run"]]
    ran = subprocess.run(words, env=env, cwd=repository, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first == "lint run.sh --set cluster.node=dgx-h200 --format sarif --out planner.sarif --force"
    assert second.startswith("lint run.sh --set cluster.node=dgx-h200 --base ")
    summary = (tmp_path / "summary").read_text()
    raised = re.search(r"^This change raises the peak by ([0-9.]+) GiB, from ([0-9.]+) to ([0-9.]+) GiB", summary, re.M)
    assert raised is not None, summary
    change, before, after = (float(text) for text in raised.groups())
    assert change == pytest.approx(after - before, abs=0.11)
    assert change > 5
    assert f"::notice title=planner lint::{raised[0]}" in ran.stdout
    assert json.loads((repository / "planner.sarif").read_text())["runs"][0]["results"] == []


def test_a_value_that_a_branch_sets_is_the_first_and_the_others_are_listed(tmp_path: Path) -> None:
    text = 'case "$1" in\na) X=1 ;;\nb) X=2 ;;\nesac\nif [ -n "$2" ]; then\n  Y=3\nelse\n  Y=4\nfi\nrun --x $X --y $Y\n'
    shell = read_script(tmp_path / "x.sh", text, "x.sh")
    (words,) = [words for words in shell.commands if words[0].text == "run"]
    assert [word.text for word in words] == ["run", "--x", "1", "--y", "3"]
    assert [(word.line, why[:2]) for word, why in shell.unread] == [(3, "X "), (8, "Y ")]


def test_a_case_of_a_known_word_takes_its_branch_and_a_value_from_before_stays(tmp_path: Path) -> None:
    text = 'D=${D:-npu}\nL=2048\nT=1\ncase "$D" in\ngpu) X=1 ;;\nnpu) X=2; T=4 ;;\n*) X=3; L=9 ;;\nesac\n'
    text += 'if [ -n "$BIG" ]; then\n  L=32768\nfi\nrun --x $X --l $L --t $T\n'
    shell = read_script(tmp_path / "x.sh", text, "x.sh")
    (words,) = [words for words in shell.commands if words[0].text == "run"]
    assert [word.text for word in words] == ["run", "--x", "2", "--l", "2048", "--t", "4"]
    assert {(word.line, why.partition(" ")[0]) for word, why in shell.unread} == {
        (5, "X"),
        (7, "X"),
        (7, "L"),
        (10, "L"),
    }


MOST_CALLS = 50
"""Calls of Python functions that a line of a shell script may take: about a microsecond each."""


@pytest.mark.parametrize("lines", [200, 400])
def test_the_work_of_reading_a_script_grows_with_its_lines_alone(tmp_path: Path, lines: int) -> None:
    """2,000 lines are read in 67,000 calls, far within a second of a CPU: counted, since a clock is the machine's."""
    text = "".join(f'X{i}="${{X{i - 2}:-{i}}}"\n' if i % 2 else f'echo "step {i}: $X{i - 1}"\n' for i in range(lines))
    count = 0

    def counted(_: object, event: str, __: object) -> None:
        nonlocal count
        count += event == "call"

    read_script(tmp_path / "x.sh", "X=1\n", "x.sh")  # imports
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        shell = read_script(tmp_path / "x.sh", text, "x.sh")
    finally:
        sys.setprofile(before)
    assert shell.variables[f"X{lines - 1}"].line == lines
    assert lines < count < MOST_CALLS * lines
