"""Plans as the files of engines that are told by keys: each decision under the engine's own name, or refused."""

from __future__ import annotations

import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner import cli
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.launch.wrappers import wrapped
from planner.problem.resolve import question_of
from planner.search.search import Outcome, search

PLAIN = {
    "name": "other",
    "task": "pretrain",
    "model": "llama3-8b",
    "engine": "fsdp2",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16},
    "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 2},
}
RL = {"cluster.max_gpus": 8, "limits.headroom_gib": None}
PAIRS = [
    ("megatron-core", "ms-swift"), ("megatron-core", "megatron-bridge"), ("torchtitan", "torchtitan"),
    ("deepspeed", "deepspeed"), ("deepspeed", "accelerate"), ("deepspeed", "axolotl"), ("deepspeed", "llama-factory"),
    ("deepspeed", "trl"), ("fsdp2", "accelerate"), ("fsdp2", "axolotl"), ("fsdp2", "llama-factory"), ("fsdp2", "trl"),
    ("nemo-rl", "nemo-rl"), ("openrlhf", "openrlhf"), ("verl-megatron", "verl"), ("verl-fsdp1", "verl"),
    ("verl-fsdp2", "verl"),
]  # fmt: skip
OF_RL = {"nemo-rl", "openrlhf", "verl-megatron", "verl-fsdp1", "verl-fsdp2"}


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def solved(engine: str, changes: str) -> Outcome:
    base = load("scenarios/qwen7b_rl.yaml") if engine in OF_RL else parse_document(json.dumps(PLAIN), "other.yaml")
    wanted = {"engine": engine, **(RL if engine in OF_RL else {}), **json.loads(changes)}
    return search(question_of(override(base, wanted), catalog()), check_points=0)


def files(engine: str, launcher: str, **changes: Any) -> dict[str, str]:
    return registry.files(launcher, solved(engine, json.dumps(changes)), catalog())


def read(text: str) -> dict[str, Any]:
    """Keys and values of YAML and JSON, and of the SETTINGS of a script as bash itself splits them."""
    if not text.startswith("# shellcheck"):
        return dict(parse_document(text, "written").data)
    shown = subprocess.run(
        ["bash", "-euc", 'source /dev/stdin; printf "%s\\n" "${PLAN_ARGS[@]}"'],
        input=text, text=True, check=True, capture_output=True,
    ).stdout.splitlines()  # fmt: skip
    out: dict[str, Any] = {}
    for word in shown:
        if not word.startswith("--") and "=" in word:
            name, _, value = word.partition("=")
            out[name.lstrip("+")] = value
        elif word.startswith("--"):
            last = word
            out[word] = True
        elif not word.startswith("activation-checkpoint:"):
            out[last] = word
    return out


@pytest.mark.parametrize(("engine", "launcher"), PAIRS)
def test_every_launcher_of_an_engine_writes_its_plan(engine: str, launcher: str) -> None:
    written = files(engine, launcher)
    plan = solved(engine, "{}").plan
    assert plan is not None
    for name, text in written.items():
        assert read(text), name
        if not name.endswith(".json"):
            assert "sha256" in text
            assert "GiB free" in " ".join(text.split())
    assert all(launcher in found.engine.launch for found in [plan.problem])


def test_every_engine_names_launchers_that_exist() -> None:
    known = set(registry.launchers())
    named = {name for engine in catalog().all("engines") for name in engine.launch}
    assert named == known


def test_verl_counts_mini_batches_in_prompts_and_tokens_by_gpu() -> None:
    (text,) = files("verl-megatron", "verl", **{"rl.steps_per_rollout": 2}).values()
    plan = solved("verl-megatron", json.dumps({"rl.steps_per_rollout": 2})).plan
    assert plan is not None
    found, actor = read(text), "actor_rollout_ref.actor."
    assert int(found[actor + "ppo_mini_batch_size"]) * 2 == int(found["data.train_batch_size"])
    tokens = plan.layout["micro_batch_size"] * plan.layout["sequence_length"] // plan.layout["context_parallel"]
    assert int(found[actor + "ppo_max_token_len_per_gpu"]) == tokens
    degree = int(found.get(actor + "megatron.tensor_model_parallel_size", 1))
    assert degree == plan.layout["tensor_parallel"]
    assert "+actor_rollout_ref.actor.megatron.override_ddp_config.grad_reduce_in_fp32=true" in text


def test_torchtitan_gives_a_pipeline_its_whole_local_batch_and_even_stages() -> None:
    pins = {"layout.pipeline_parallel": 2, "layout.tensor_parallel": 1}
    (text,) = files("torchtitan", "torchtitan", **pins).values()
    plan = solved("torchtitan", json.dumps(pins)).plan
    assert plan is not None
    found, lay = read(text), plan.layout
    assert int(found["--training.local_batch_size"]) == lay["micro_batch_size"] * lay["num_micro_batches"]
    assert found["--parallelism.pipeline_parallel_first_stage_less_layers"] == "0"
    assert found["--training.disable_cuda_graphs"] is True  # tyro takes no word behind a switch
    assert int(found["--parallelism.pipeline_parallel_layers_per_stage"]) == plan.layers[0]
    assert text.index("activation-checkpoint:") > text.index("--training.")


def test_parts_that_share_a_node_are_one_node_to_nemo_rl() -> None:
    """nemo_rl/algorithms/grpo.py:860-914: one node is shared out, several are given whole, all of one size."""
    beside = {
        "rl.placement": "disaggregated",
        "rl.rollout.num_gpus": 4,
        "cluster.num_gpus": 8,
        "cluster.max_gpus": None,
    }
    (text,) = files("nemo-rl", "nemo-rl", **beside).values()
    found = read(text)
    assert found["cluster"].get("num_nodes", 1) == 1
    assert found["cluster"]["gpus_per_node"] == 8
    there = found["policy"]["generation"]["colocated"]["resources"]
    assert there == {"num_nodes": 1, "gpus_per_node": 4}
    split = {**beside, "cluster.num_gpus": 16, "rl.rollout.num_gpus": 12}
    with pytest.raises(InputError, match="whole nodes of one size"):
        files("nemo-rl", "nemo-rl", **split)


def test_deepspeed_leaves_the_global_batch_to_the_world_it_finds() -> None:
    found = json.loads(files("deepspeed", "deepspeed")["ds_config.json"])
    plan = solved("deepspeed", "{}").plan
    assert plan is not None
    assert "train_batch_size" not in found
    steps, lay = found["gradient_accumulation_steps"], plan.layout
    assert found["train_micro_batch_size_per_gpu"] * steps * lay["data_parallel"] == lay["global_batch_size"]


def test_nodes_of_torchtitan_meet_at_a_port_that_all_know() -> None:
    """c10d's store on port 0 takes any that is free, which no other node can know."""
    several = files("torchtitan", "torchtitan")["plan.sh"]
    assert '--rdzv-endpoint "${MASTER_ADDR:?FIXME: address of one node}:${MASTER_PORT:-29500}"' in several
    alone = files("torchtitan", "torchtitan", **{"cluster.num_gpus": 8})["plan.sh"]
    assert "--rdzv-endpoint localhost:0" in alone


def test_torchtitan_is_told_what_its_configuration_function_would_set_otherwise() -> None:
    """llama3_70b has 8 tensor ranks, 8,192 tokens and a batch of 8: a default of configs.py is no run's default."""
    pins = {"layout.tensor_parallel": 1, "batch.sequence_length": 2048, "cluster.num_gpus": 8}
    (text,) = files("torchtitan", "torchtitan", **pins).values()
    found = read(text)
    assert found["--training.seq_len"] == "2048"
    assert found["--parallelism.tensor_parallel_degree"] == "1"
    assert found["--compile.no-enable"] is True
    assert found["--training.no-disable_cuda_graphs"] is True
    assert found["--parallelism.fsdp_reshard_after_forward"] == "default"
    (text,) = files("torchtitan", "torchtitan", **pins, engine_options=["async_tp", "no_reshard"]).values()
    found = read(text)
    assert found["--compile.components"] == "model,loss"
    assert found["--compile.enable"] is found["--compile.enable_async_tensor_parallel"] is True
    assert found["--parallelism.fsdp_reshard_after_forward"] == "never"


def test_torchtitan_turns_graphs_off_where_experts_lie_on_several_ranks() -> None:
    pins = {"model": "qwen3-30b-a3b", "layout.expert_parallel": 8, "layout.expert_tensor_parallel": 1}
    (text,) = files("torchtitan", "torchtitan", **pins).values()
    assert "--training.disable_cuda_graphs\n" in text
    pins |= {"layout.expert_parallel": 1, "layout.tensor_parallel": 2}
    with pytest.raises(InputError, match="cuts experts over 2 tensor ranks"):
        files("torchtitan", "torchtitan", **pins)


def test_tables_name_only_options_that_an_engine_has() -> None:
    for launcher, module in registry.launchers().items():
        if not hasattr(module, "TABLE") or module.TABLE.endswith(".json"):
            continue
        spoken = [engine for engine in catalog().all("engines") if launcher in engine.launch]
        known = {name for engine in spoken for name in engine.options}
        options = catalog().flags(module.TABLE).options
        assert set(options) <= known, launcher
        assert all(bool(words.settings) is False or words.unsaid is None for words in options.values())


def test_an_optimizer_that_training_arguments_name_is_no_matter_of_the_deepspeed_file() -> None:
    written = files("deepspeed", "deepspeed", optimizer="adamw-8bit")
    assert read(written["training_arguments.yaml"])["optim"] == "adamw_bnb_8bit"


@pytest.mark.parametrize(
    ("engine", "launcher", "option", "setting"),
    [
        ("deepspeed", "deepspeed", "fused_head", "liger_kernel_config"),
        ("fsdp2", "axolotl", "fused_head", "liger_fused_linear_cross_entropy"),
        ("verl-fsdp2", "verl", "fused_kernels", "actor_rollout_ref.model.use_fused_kernels"),
        ("megatron-core", "ms-swift", "a2a_context_parallel", "--cp_comm_type"),
    ],
)
def test_an_engine_option_is_set_or_refused_by_name(engine: str, launcher: str, option: str, setting: str) -> None:
    written = files(engine, launcher, engine_options=[option])
    assert any(setting in text for text in written.values())


@pytest.mark.parametrize(
    ("engine", "launcher", "changes", "words"),
    [
        ("fsdp2", "llama-factory", {"engine_options": ["fused_head"]}, "engine option fused_head"),
        ("torchtitan", "torchtitan", {"engine_options": ["whole_logits"]}, "CrossEntropyLoss"),
        ("megatron-core", "ms-swift", {"engine_options": ["two_optimizer_instances"]}, "has no setting for it"),
        ("verl-fsdp2", "verl", {"optimizer": "adamw-8bit"}, "no word for optimizer adamw-8bit"),
        ("openrlhf", "openrlhf", {"precision": "fp32"}, "no word for precision fp32"),
        ("megatron-core", "ms-swift", {"adapter": {"rank": 8}}, "no word for adapter"),
        ("verl-megatron", "verl", {"cluster.rank_order": "tp_pp_dp"}, "verl has no word for rank_order tp_pp_dp"),
        ("megatron-core", "ms-swift", {"layout.activation_offload": True}, "has no word for activation_offload"),
        (
            "megatron-core",
            "ms-swift",
            {"layout.pipeline_parallel": 4, "layout.virtual_pipeline": 2, "layout.layers_per_stage": [7, 9, 9, 7]},
            "chunks of as many layers each",
        ),
        ("megatron-core", "ms-swift", {"model": "mixtral-8x7b"}, "ms-swift builds no network of kind mixtral"),
        ("deepspeed", "accelerate", {"adapter": {"rank": 8}}, "full training"),
        ("fsdp2", "axolotl", {"optimizer": "adamw-8bit"}, "no bitsandbytes optimizer in 8 bits over FSDP2"),
        ("verl-fsdp2", "verl", {"rl.placement": "disaggregated"}, "no word for placement"),
    ],
)
def test_a_decision_without_a_word_is_refused_by_name(
    engine: str, launcher: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        files(engine, launcher, **changes)


ONE_GPU = {"model": "llama3.2-1b", "cluster.num_gpus": 1}


@pytest.mark.parametrize(
    ("launcher", "options", "said"),
    [
        ("accelerate", [], {"bf16": None, "mixed_precision": "no"}),
        ("accelerate", ["autocast_16bit_weights"], {"bf16": True, "mixed_precision": "bf16"}),
        ("axolotl", ["autocast_16bit_weights"], {"bf16": True, "attn_implementation": "flash_attention_2"}),
        ("llama-factory", [], {"pure_bf16": True, "bf16": None}),
        ("llama-factory", ["autocast"], {"pure_bf16": None, "bf16": True}),
        ("llama-factory", ["autocast_16bit_weights"], {"pure_bf16": True, "bf16": True}),
        ("trl", [], {"dtype": "bfloat16", "bf16": False}),
        ("trl", ["autocast"], {"dtype": "float32", "bf16": True}),
    ],
)
def test_weights_and_autocast_of_one_gpu_are_what_the_plan_counts(
    launcher: str, options: list[str], said: dict[str, Any]
) -> None:
    """`bf16: true` is autocast, over weights that LLaMA-Factory and TRL make fp32 by default: 16 bytes a parameter."""
    written = files("transformers", launcher, engine_options=options, **ONE_GPU)
    found: dict[str, Any] = {}
    for text in written.values():
        found |= read(text)
    assert {name: found.get(name) for name in said} == said


def test_a_word_that_yaml_would_take_for_no_is_quoted() -> None:
    """accelerate reads with PyYAML, to which a bare no is false: its launcher stops at False.lower()."""
    written = files("transformers", "accelerate", **ONE_GPU)["accelerate.yaml"]
    assert 'mixed_precision: "no"' in written
    assert 'distributed_type: "NO"' in written


def test_weights_and_autocast_that_a_trainer_cannot_have_are_refused() -> None:
    with pytest.raises(InputError, match="does not train weights in fp16"):
        files("transformers", "accelerate", precision="fp16", **ONE_GPU)
    with pytest.raises(InputError, match="no word for 16-bit weights without autocast"):
        files("transformers", "axolotl", **ONE_GPU)
    written = files("transformers", "accelerate", precision="fp16", engine_options=["autocast"], **ONE_GPU)
    assert read(written["training_arguments.yaml"])["fp16"] is True


def test_ms_swift_hides_the_communication_that_the_plan_hides() -> None:
    """Both are off by default (swift/megatron/arguments/megatron_args.py); Megatron's script turns them on."""
    written = files("megatron-core", "ms-swift")["plan.sh"]
    assert "--overlap_grad_reduce true" in written
    assert "--overlap_param_gather true" in written


TINY = {"model": "qwen2.5-0.5b", "layout.recomputed_layers": 0, "batch.sequence_length": 512}


def test_trl_is_told_what_its_own_defaults_would_set_otherwise() -> None:
    """trl/trainer/base_config.py: recomputation is on, and bf16 where fp16 is off."""
    written = read(files("deepspeed", "trl", precision="fp32", **TINY)["trl_sft.yaml"])
    assert written["gradient_checkpointing"] is False
    assert written["bf16"] is False
    again = files("fsdp2", "trl", engine_options=["fused_head"])["trl_sft.yaml"]
    assert "liger" not in again


def test_several_files_want_a_folder_and_nothing_is_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(json.dumps(PLAIN))
    call = ["launch", str(scenario), "--to", "accelerate"]
    assert cli.main(call) == 2
    assert "--out DIR" in capsys.readouterr().err
    folder = tmp_path / "run"
    assert cli.main([*call, "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["accelerate.yaml", "training_arguments.yaml"]
    before = (folder / "accelerate.yaml").read_text()
    (folder / "accelerate.yaml").write_text("mine")
    assert cli.main([*call, "--out", str(folder)]) == 2
    assert (folder / "accelerate.yaml").read_text() == "mine"
    assert cli.main([*call, "--out", str(folder), "--force"]) == 0
    assert (folder / "accelerate.yaml").read_text() == before


@pytest.mark.parametrize("name", ["slurm", "skypilot", "kubeflow"])
def test_a_wrapper_asks_for_the_machines_of_the_plan(name: str) -> None:
    outcome = solved("megatron-core", "{}")
    assert outcome.plan is not None
    written = wrapped(name, files("megatron-core", "megatron"), outcome.plan)
    assert len(written) == 2
    (text,) = (text for file, text in written.items() if file != "plan.sh")
    if name == "slurm":
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        assert "--nodes=2" in text
        assert "--gpus-per-node=8" in text
        return
    found = parse_document(text, name).data
    machines = found["spec"]["trainer"] if name == "kubeflow" else found
    nodes = machines["numNodes"] if name == "kubeflow" else machines["num_nodes"]
    assert nodes == 2
    assert "plan.sh" in text
    if name == "skypilot":
        assert machines["resources"]["accelerators"] == "H100:8"


@pytest.mark.parametrize(
    ("node", "accelerators"), [("azure-ndm-a100-v4", "A100-80GB:8"), ("aws-p4d", "A100:8"), ("dgx-h200", "H200:8")]
)
def test_skypilot_is_asked_for_gpus_of_the_memory_that_was_planned(node: str, accelerators: str) -> None:
    """To SkyPilot an A100 has 40 GB."""
    plan = solved("megatron-core", json.dumps({"cluster.node": node})).plan
    assert plan is not None
    asked = wrapped("skypilot", files("megatron-core", "megatron"), plan)["sky.yaml"]
    assert parse_document(asked, "sky").data["resources"] == {"accelerators": accelerators}


OF_NODE_1 = {
    "slurm": {"SLURM_JOB_NODELIST": "host[0-1]"},
    "skypilot": {"SKYPILOT_NODE_IPS": "host0\nhost1", "SKYPILOT_NODE_RANK": "1"},
    "kubeflow": {"PET_NODE_RANK": "1", "PET_MASTER_ADDR": "host0", "PET_MASTER_PORT": "29500"},
}
STAND_INS = {
    "torchrun": 'echo "$@"',
    # As many names as fill a pipe: who stops reading at the first would end a script that sets pipefail.
    "scontrol": '[ "$*" = "show hostnames host[0-1]" ] && seq -f host%g 0 20000',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
}


@pytest.mark.parametrize("name", sorted(OF_NODE_1))
def test_what_a_wrapper_runs_starts_every_node_as_itself(name: str, tmp_path: Path) -> None:
    """Run by bash, with programs of the scheduler that say what they were asked."""
    plan = solved("megatron-core", "{}").plan
    assert plan is not None
    for file, text in wrapped(name, files("megatron-core", "megatron"), plan).items():
        (tmp_path / file).write_text(text)
    for program, text in STAND_INS.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / program).chmod(0o755)
    command = ["bash", "plan.sbatch"]
    if name == "skypilot":
        command = ["bash", "-euc", str(parse_document((tmp_path / "sky.yaml").read_text(), "sky").data["run"])]
    elif name == "kubeflow":
        command = parse_document((tmp_path / "trainjob.yaml").read_text(), "job").data["spec"]["trainer"]["command"]
    variables = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATA_PATH": "x", "TOKENIZER_MODEL": "x"}
    ran = subprocess.run(
        command, cwd=tmp_path, env=variables | OF_NODE_1[name], text=True, check=True, capture_output=True
    ).stdout.splitlines()
    started = [line for line in ran if line.startswith("--nnodes 2 --nproc-per-node 8")]
    assert len(started) == (2 if name == "slurm" else 1), ran
    assert "--node-rank 1" in started[-1]
    assert "host0" in started[-1]
    assert "29500" in started[-1]


def test_a_plan_that_a_wrapper_cannot_start_is_refused() -> None:
    rl, plain = solved("verl-megatron", "{}").plan, solved("megatron-core", "{}").plan
    assert rl is not None
    assert plain is not None
    script = files("verl-megatron", "verl")
    assert "ray_job.sh" in wrapped("ray", script, rl)
    with pytest.raises(InputError, match="starts once, inside Ray"):
        wrapped("slurm", script, rl)
    with pytest.raises(InputError, match="head node"):
        wrapped("ray", files("megatron-core", "megatron"), plain)
    with pytest.raises(InputError, match="no wrapper"):
        wrapped("pbs", script, rl)
    with pytest.raises(InputError, match="only scripts"):
        wrapped("slurm", {"a.yaml": ""}, plain)


def test_several_nodes_are_never_taken_for_one(tmp_path: Path) -> None:
    """A rank or an address that is not there stops the script; it was rank 0 of every node, and a port each its own."""
    (one,), (several,) = (files("megatron-core", "ms-swift", **{"cluster.num_gpus": gpus}).values() for gpus in (8, 16))
    assert 'NODE_RANK="${NODE_RANK:-0}"' in one
    path = tmp_path / "plan.sh"
    path.write_text(several.replace("megatron pt", "true"))
    given = {"NODE_RANK": "1", "MASTER_ADDR": "a", "DATASET": "d", "PATH": "/usr/bin:/bin"}
    assert subprocess.run(["bash", str(path)], env=given, check=False).returncode == 0
    for name in ("NODE_RANK", "MASTER_ADDR"):
        left = {each: value for each, value in given.items() if each != name}
        ran = subprocess.run(["bash", str(path)], env=left, check=False, text=True, capture_output=True)
        assert ran.returncode != 0
        assert name in ran.stderr
    (alone,), (many,) = (files("torchtitan", "torchtitan", **{"cluster.num_gpus": gpus}).values() for gpus in (8, 16))
    assert "--rdzv-endpoint localhost:0" in alone
    assert '--rdzv-endpoint "${MASTER_ADDR:?' in many
    assert ':${MASTER_PORT:-29500}"' in many
    for engine, launcher in (("verl-fsdp2", "verl"), ("openrlhf", "openrlhf")):
        (text,) = files(engine, launcher, **{"cluster.max_gpus": None, "cluster.num_gpus": 16}).values()
        assert "ray start --head" in text
