"""Launch files as people write them outside of the engines' own examples: what is read, at which line, and what is not
costed because it would be another run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest

from planner import cli
from planner.commands.lint_report import verdict
from planner.inputs.catalog import Catalog, default_catalog
from planner.launch.lint import Linted, lint
from planner.launch.reading.shell import read_script

OPTIONS = """\
OPTS="
   --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336
   --num-attention-heads 32 --group-query-attention --num-query-groups 8 --swiglu
   --seq-length 8192 --micro-batch-size 1 --global-batch-size 128 --bf16 --use-distributed-optimizer
   --pipeline-model-parallel-size $PP --normalization RMSNorm --norm-epsilon 1e-5
"
"""
RUN = "torchrun --nproc-per-node 8 pretrain_gpt.py \\\n"


@cache
def catalog() -> Catalog:
    return default_catalog()


def judged(tmp_path: Path, text: str, *overrides: str, **given: str) -> Linted:
    path = tmp_path / "run.sh"
    path.write_text(text)
    return lint(path, catalog(), overrides, given={name.removeprefix("_"): value for name, value in given.items()})


@pytest.mark.parametrize(
    "start",
    [
        f"{RUN}  $OPTS --vocab-size 128256",
        f'CMD="{RUN} ${{OPTS}} ${{UNSET}} \\\n ${{TAIL}}"\nTAIL2=1\neval ${{CMD}}',
        f'srun --ntasks 8 bash -lc "cd /x && {RUN} $OPTS --vocab-size 128256"',
        f"bash -c 'cd /x; {RUN} $OPTS --vocab-size 128256'",
        f"sbatch <<EOF\n#!/bin/bash\n{RUN} \\$OPTS --vocab-size 128256\nEOF",
    ],
    ids=["as words", "eval", "bash -c", "raw", "document"],
)
def test_options_in_a_string_are_read_at_their_own_lines_however_the_command_is_started(
    start: str, tmp_path: Path
) -> None:
    linted = judged(tmp_path, f'PP=5\nTAIL="--vocab-size 128256"\n{OPTIONS}{start}\n')
    assert linted.found.words["model"] == "llama3-8b"
    places = {word: linted.found.places[word].line for word in ("model", "sequence_length", "pipeline_parallel")}
    assert places == {"model": 4, "sequence_length": 6, "pipeline_parallel": 7}
    (rule,) = [one for one in linted.findings if one.severity == "error"]
    assert (rule.rule, rule.where.line) == ("gpus_divide", linted.found.places["gpus_per_node"].line)


def test_tests_of_known_words_choose_a_branch_and_what_is_handed_over_is_known(tmp_path: Path) -> None:
    text = "SIZE=$1\nMODE=${MODE:-none}\nif [ $SIZE = 8B ]; then\n  L=32\n"
    text += 'elif [ "$SIZE" = 70B ] && [ $MODE != none ]; then\n'
    text += (
        '  L=80\nelse\n  L=1\nfi\nif [[ -n $2 || $L -gt 40 ]]; then\n  X=big\nfi\nif ! [ -z "$MODE" ]; then M=yes; fi\n'
    )
    text += "run --l $L --x $X --m $M\n"

    def words(**given: str) -> tuple[list[str], set[str]]:
        shell = read_script(
            tmp_path / "x.sh", text, "x.sh", {name.removeprefix("_"): each for name, each in given.items()}
        )
        (command,) = [each for each in shell.commands if each[0].text == "run"]
        return [word.text for word in command], {why.partition(" ")[0] for _, why in shell.unread}

    assert words(_1="70B", _2="", MODE="full") == (["run", "--l", "80", "--x", "big", "--m", "yes"], set())
    assert words(_1="8B", _2="", MODE="full") == (["run", "--l", "32", "--x", "\0", "--m", "yes"], set())
    assert words(_1="13B", _2="more") == (["run", "--l", "1", "--x", "big", "--m", "yes"], set())
    assert words()[1] == {"L"}, "of what only a running shell knows, one is taken and the others are listed"


def test_a_variable_is_handed_over_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.sh"
    path.write_text(f"PP=$2\n{OPTIONS}{RUN} $OPTS --vocab-size 128256 --tensor-model-parallel-size $N\n")
    assert cli.main(["lint", str(path), "--format", "json"]) == 5
    left = json.loads(capsys.readouterr().out)
    assert left["plan"] is None
    assert any("--tensor-model-parallel-size" in one["why"] for one in left["unread"])
    assert cli.main(["lint", str(path), "--env", "2=4", "--env", "N=2", "--format", "json"]) == 5
    layout = json.loads(capsys.readouterr().out)["scenario"]["layout"]
    assert (layout["tensor_parallel"], layout["pipeline_parallel"]) == (2, 4)
    assert cli.main(["lint", str(path), "--env", "N"]) == 2
    assert "--env N_GPUS=8" in capsys.readouterr().err


def test_a_network_that_the_options_state_is_costed_by_them(tmp_path: Path) -> None:
    text = RUN + "--num-layers 24 --hidden-size 2048 --num-attention-heads 16 --seq-length 2048 --micro-batch-size 4"
    text += " --global-batch-size 64 --bf16 --tokenizer-type GPT2BPETokenizer --max-position-embeddings 2048\n"
    linted = judged(tmp_path, text)
    assert linted.found.network is not None
    assert linted.plan is not None
    hidden, layers, tokens = 2048, 24, 50304  # padded to 128
    of_a_layer = 12 * hidden**2 + 13 * hidden  # 4 h^2 attention, 8 h^2 MLP; biases 3h + h + 4h + h, norms 4h
    parameters = layers * of_a_layer + tokens * hidden + 2048 * hidden + 2 * hidden
    held = {item.name: item.amount for item in linted.plan.binding.items}
    assert held["weights"] * 2**30 == pytest.approx(2 * parameters, rel=1e-3)
    moe = judged(tmp_path, text.replace("--bf16", "--bf16 --num-experts 8 --moe-ffn-hidden-size 1024 --swiglu"))
    assert moe.found.network is not None
    assert (moe.found.network.num_experts_per_tok, moe.found.network.moe_intermediate_size) == (2, 1024)
    named = judged(tmp_path, text.replace("--tokenizer-type GPT2BPETokenizer", "--tokenizer-model Qwen/Qwen3-8B"))
    assert named.found.network is not None
    assert named.found.network.vocab_size == 151936
    silent = judged(tmp_path, text.replace("--tokenizer-type GPT2BPETokenizer", ""))
    assert silent.plan is None
    assert "no model of the catalog has" in silent.open[0].what


def test_an_unsaid_width_is_megatrons_own_and_not_a_checkpoints(tmp_path: Path) -> None:
    """Llama-2-13B's MLP is 13,824 wide; pretrain_gpt.py without the option builds 13,632 (arguments.py:1327)."""
    text = RUN + "--num-layers 40 --hidden-size 5120 --num-attention-heads 40 --swiglu --vocab-size 32000\n"
    linted = judged(tmp_path, text)
    assert linted.found.network is not None
    assert linted.found.network.intermediate_size == 13632
    assert (
        judged(tmp_path, text.replace("--swiglu", "--swiglu --ffn-hidden-size 13824")).found.words["model"]
        == "llama2-13b"
    )


def test_a_run_of_another_kind_is_not_judged_as_if_it_were_ours(tmp_path: Path) -> None:
    text = f"PP=1\n{OPTIONS}{RUN} $OPTS --vocab-size 128256"
    usual = judged(tmp_path, text + "\n")
    assert usual.fits is False
    for more in ("--use-megatron-fsdp", "--use-torch-fsdp2", "--fp4-format e2m1", "--hybrid-override-pattern M*M"):
        linted = judged(tmp_path, f"{text} {more}\n")
        assert linted.fits is None, more
        assert more.partition(" ")[0] in linted.open[0].what
    optim = judged(tmp_path, f"{text} --use-megatron-fsdp --data-parallel-sharding-strategy optim\n")
    assert optim.fits is False
    listed = judged(tmp_path, f"{text} --main-grads-dtype bf16 --main-params-dtype fp32\n").found.unread
    assert [why for _, why in listed] == ["the format of gradients (--main-grads-dtype bf16) not counted"]


ZERO_3 = """\
compute_environment: LOCAL_MACHINE
deepspeed_config:
  offload_optimizer_device: none
  offload_param_device: none
  zero_stage: 3
distributed_type: DEEPSPEED
mixed_precision: bf16
num_machines: 1
num_processes: 8
"""
RECIPE = """\
model_name_or_path: Qwen/Qwen2.5-7B
torch_dtype: bfloat16
bf16: true
gradient_checkpointing: true
gradient_accumulation_steps: 8
per_device_train_batch_size: 2
max_length: 32768
use_liger_kernel: true
"""


def test_what_accelerate_config_writes_of_deepspeed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "zero3.yaml"
    path.write_text(ZERO_3.replace("optimizer_device: none", "optimizer_device: cpu"))
    linted = lint(path, catalog(), ("model=qwen2.5-7b", "batch.sequence_length=4096"))
    assert linted.plan is not None
    assert linted.plan.layout["zero_stage"] == 3
    assert linted.scenario["layout"]["optimizer_offload"] is True  # type: ignore[index]
    assert linted.found.places["zero_stage"].line == 5


def test_a_recipe_is_not_judged_without_the_file_that_says_how_it_is_sharded(tmp_path: Path) -> None:
    recipe, both = tmp_path / "sft.yaml", tmp_path / "run.sh"
    recipe.write_text(RECIPE)
    alone = lint(recipe, catalog(), ("cluster.num_gpus=8",))
    assert alone.fits is None
    assert not alone.findings
    assert "accelerate's own file is not here" in alone.open[0].what
    told = lint(recipe, catalog(), ("cluster.num_gpus=8", "engine=transformers-ddp"))
    assert told.fits is False
    (tmp_path / "zero3.yaml").write_text(ZERO_3)
    both.write_text(
        "accelerate launch --config_file recipes/zero3.yaml \\\n sft.py --config sft.yaml --max_length 16384\n"
    )
    linted = lint(both, catalog())
    assert linted.plan is not None
    assert linted.scenario["batch"] == {"sequence_length": 16384, "micro_batch_size": 2, "global_batch_size": 128}
    assert linted.found.places["sequence_length"].line == 2
    assert linted.found.places["zero_stage"].file.endswith("zero3.yaml")


def test_liger_kernels_as_a_set_are_counted(tmp_path: Path) -> None:
    """A public recipe at 32k on eight H100 runs with them; read without, it was 146 GiB."""
    path = tmp_path / "sft.yaml"
    path.write_text(RECIPE + ZERO_3)
    linted = lint(path, catalog())
    assert linted.fits is True
    assert linted.scenario["engine_options"] == ["fused_head", "fused_layers"]
    path.write_text(RECIPE + "liger_kernel_config:\n  fused_linear_cross_entropy: false\n" + ZERO_3)
    assert lint(path, catalog()).scenario["engine_options"] == ["fused_layers"]
    path.write_text(RECIPE.replace("use_liger_kernel: true\n", "") + ZERO_3)
    assert lint(path, catalog()).fits is False


def test_a_trainers_command_line_is_read(tmp_path: Path) -> None:
    text = "torchrun --nproc_per_node 4 train.py \\\n  --model_name_or_path Qwen/Qwen2.5-7B --bf16 True \\\n"
    text += "  --per_device_train_batch_size 4 --gradient_accumulation_steps 8 --gradient_checkpointing True \\\n"
    text += '  --fsdp "full_shard auto_wrap"\n'
    linted = judged(tmp_path, text)
    assert (linted.found.engine, linted.found.words["micro_batch_size"]) == ("fsdp2", 4)
    assert linted.open[0].what == "no line says the sequence length"
    full = judged(tmp_path, text.replace("--bf16", "--model_max_length 2048 --bf16"))
    assert full.plan is not None
    assert full.plan.layout["data_parallel"] == 4


@pytest.mark.parametrize(
    ("more", "samples"),
    [("", 8), ("actor_rollout_ref.actor.ulysses_sequence_parallel_size=2", 16), ("trainer.nnodes=16", None)],
)
def test_verls_micro_batch_of_all_ranks_is_each_ranks_share(more: str, samples: int | None, tmp_path: Path) -> None:
    actor = "actor_rollout_ref.actor"
    text = f"python -m verl.trainer.main_ppo \\\n {actor}.ppo_micro_batch_size=64 trainer.n_gpus_per_node=8 \\\n"
    text += f" actor_rollout_ref.model.path=Qwen/Qwen2.5-3B {actor}.ppo_mini_batch_size=256 {more}\n"
    linted = judged(tmp_path, text)
    assert linted.found.words.get("fixed_micro_batch_size") == samples
    if samples is None:
        assert any("fewer than one sample for each of 128" in why for _, why in linted.found.unread)
    else:
        assert linted.found.places["fixed_micro_batch_size"].line == 2
        assert linted.plan is not None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("megatron rlhf --rlhf_type dpo --model Qwen/Qwen3-8B --tensor_model_parallel_size 2\n", "--rlhf_type dpo"),
        (f"trl kto --beta 0.1 {' '.join('--' + line.replace(': ', ' ') for line in RECIPE.splitlines())}\n", "beta"),
        ("llamafactory-cli train --stage dpo --finetuning_type full --model_name_or_path Qwen/Qwen3-8B\n", "stage dpo"),
        ("llamafactory-cli train --stage sft --finetuning_type full --use_galore true\n", "use_galore"),
    ],
)
def test_other_methods_than_the_next_tokens_are_named_and_not_costed(text: str, what: str, tmp_path: Path) -> None:
    linted = judged(tmp_path, text, "cluster.num_gpus=8", "model=qwen3-8b")
    assert linted.fits is None
    assert what in linted.open[0].what


def test_samples_that_are_not_packed_are_said_to_be_as_long_as_the_longest(tmp_path: Path) -> None:
    text = "NPROC_PER_NODE=2 megatron sft --model Qwen/Qwen2-7B-Instruct --tensor_model_parallel_size 2 \\\n"
    text += " --sequence_parallel true --micro_batch_size 16 --max_length 2048 --recompute_granularity full \\\n"
    text += " --recompute_method uniform --recompute_num_layers 1"
    linted = judged(tmp_path, text + "\n")
    assert (linted.fits, linted.found.padded) == (False, True)
    assert linted.scenario["model"] == "qwen2.5-7b", "Qwen2's releases of that shape"
    assert verdict(linted).endswith("if every sample is as long as the longest")
    packed = judged(tmp_path, text + " --packing true --fp8_format e4m3 --optimizer dist_muon\n")
    assert (packed.found.padded, packed.found.unread) == (False, [])
    assert (packed.scenario["precision"], packed.scenario["optimizer"]) == ("fp8", "muon")


def test_a_script_of_another_release_is_said_once(tmp_path: Path) -> None:
    old = "pretrain save_path micro_train_batch_size train_batch_size prompt_max_len generate_max_len zero_stage bf16"
    text = "python -m openrlhf.cli.train_ppo_ray \\\n" + " \\\n".join(f"--{name} 1" for name in old.split()) + "\n"
    linted = judged(tmp_path, text)
    (one,) = linted.findings
    assert (one.rule, one.where.line) == ("other_release", 2)
    assert "does not know 8 of 8 settings" in one.text
    assert linted.fits is None


def test_a_configuration_without_the_one_it_starts_from_is_not_judged(tmp_path: Path) -> None:
    path = tmp_path / "grpo.yaml"
    text = "policy:\n  model_name: Qwen/Qwen2.5-1.5B\n  dtensor_cfg: {enabled: true}\n  megatron_cfg:\n"
    text += "    enabled: false\n    distributed_data_parallel_config: {grad_reduce_in_fp32: false}\n"
    text += "  max_total_sequence_length: 4096\n  train_micro_batch_size: 1\n  train_global_batch_size: 64\n"
    text += "cluster: {gpus_per_node: 8, num_nodes: 1}\n"
    path.write_text("defaults: base.yaml\n" + text)
    gone = lint(path, catalog())
    assert gone.fits is None
    assert gone.open[0].what == "base.yaml, from which it starts, is not here"
    path.write_text(text)
    whole = lint(path, catalog())
    assert whole.plan is not None, "a setting of the trainer that is off says nothing"
    assert "engine_options" not in whole.scenario
    path.write_text(text + "dpo: {sft_loss_weight: 0}\n")
    assert lint(path, catalog()).open[0].what == "dpo (pairs of samples) is not costed"


def test_embedding_and_loss_count_as_layers_and_an_optimizer_goes_to_the_host(tmp_path: Path) -> None:
    actor = "actor_rollout_ref.actor"
    over = f"{actor}.megatron.override_transformer_config.account_for"
    text = "python -m verl.trainer.main_ppo actor_rollout_ref.model.path=Qwen/Qwen3-235B-A22B trainer.nnodes=4 \\\n"
    text += f" +{over}_embedding_in_pipeline_split=True +{over}_loss_in_pipeline_split=True \\\n"
    text += f" +{actor}.optim.override_optimizer_config.optimizer_cpu_offload=True {actor}.use_dynamic_bsz=True \\\n"
    text += f" {actor}.megatron.pipeline_model_parallel_size=8 {actor}.megatron.tensor_model_parallel_size=4\n"
    layout = judged(tmp_path, text).scenario["layout"]
    assert isinstance(layout, dict)
    assert layout["layers_per_stage"] == [11, 12, 12, 12, 12, 12, 12, 11]
    assert layout["optimizer_offload"] is True
    flags = " --account-for-embedding-in-pipeline-split --account-for-loss-in-pipeline-split"
    options = OPTIONS.replace("--num-layers 32", "--num-layers 30")
    megatron = judged(tmp_path, f"PP=4\n{options}{RUN} $OPTS --vocab-size 128256{flags}\n").scenario["layout"]
    assert isinstance(megatron, dict)
    assert megatron["layers_per_stage"] == [7, 8, 8, 7]


def test_what_sglang_chooses_by_itself_is_taken_and_listed(tmp_path: Path) -> None:
    text = "python train.py --actor-num-nodes 1 --actor-num-gpus-per-node 8 --colocate --rollout-batch-size 32 \\\n"
    text += " --n-samples-per-prompt 8 --rollout-max-response-len 8192 --global-batch-size 256 --num-layers 36 \\\n"
    text += " --hidden-size 2560 --ffn-hidden-size 9728 --num-attention-heads 32 --group-query-attention \\\n"
    text += " --num-query-groups 8 --vocab-size 151936 --max-tokens-per-gpu 9216 --use-dynamic-batch-size --swiglu\n"
    linted = judged(tmp_path, text)
    assert linted.plan is not None
    assert linted.found.words["rollout_tensor_parallel"] == 1
    assert linted.found.assumed["rl.rollout.gpu_memory_utilization"].startswith("0.85")


AXOLOTL = "base_model: {model}\nsequence_len: 4096\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nbf16: true\n"
LLAMA_FACTORY = """\
model_name_or_path: Qwen/Qwen2.5-7B
stage: sft
do_train: true
finetuning_type: full
dataset: identity
cutoff_len: 4096
packing: true
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
bf16: true
"""


def test_all_that_is_missing_is_said_at_once_with_one_line_to_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fft.yaml"
    path.write_text(AXOLOTL.format(model="Nobody/Nothing-7B"))
    linted = lint(path, catalog())
    assert [one.what for one in linted.open] == [
        "no line says how many GPUs there are",
        "unknown model `Nobody/Nothing-7B`",
    ]
    assert cli.main(["lint", str(path), "--set", "cluster.node=azure-nd-h200-v5"]) == 5
    shown = " ".join(capsys.readouterr().out.replace("\\\n", " ").split())
    assert "--set cluster.node=azure-nd-h200-v5 --set cluster.num_gpus=N --set model=NAME" in shown
    path.write_text(AXOLOTL.format(model="Qwen/Qwen2.5-7B"))
    assert [one.attempt for one in lint(path, catalog()).open] == ["--set cluster.num_gpus=N"]
    (uneven,) = lint(path, catalog(), ("cluster.num_gpus=12",)).open
    assert (uneven.what, uneven.attempt) == ("12 GPUs are not whole nodes", "--set cluster.num_gpus=8")
    assert cli.main(["lint", str(path), "--set", "cluster.num_gpus=12"]) == 5
    shown = capsys.readouterr().out
    assert "num_gpus=8" in shown
    assert "num_gpus=12" not in shown


def test_fp32_weights_under_autocast_on_several_gpus_are_costed(tmp_path: Path) -> None:
    """LLaMA-Factory trains in fp32 under autocast unless told otherwise, and shards nothing without DeepSpeed or FSDP:
    16 bytes a parameter and its bucket of 4."""
    path = tmp_path / "sft.yaml"
    path.write_text(LLAMA_FACTORY)
    plan = lint(path, catalog(), ("cluster.num_gpus=8",)).plan
    assert plan is not None
    assert plan.problem.engine.data_parallel
    held = {item.name: item.amount * 2**30 for item in plan.binding.items}
    assert held["gradient buckets"] == pytest.approx(4 * 7_615_616_512, rel=1e-6)
    assert held["optimizer"] == pytest.approx(8 * 7_615_616_512, rel=1e-6)


def test_a_file_that_holds_a_networks_shape_alone_is_said_to_start_nothing(tmp_path: Path) -> None:
    shape = "--num-layers 36 --hidden-size 4096 --num-attention-heads 32 --ffn-hidden-size 12288 --swiglu"
    (alone,) = judged(tmp_path, f"MODEL_ARGS=({shape})\n").open
    assert "starts no run" in alone.what
    assert alone.attempt == "planner lint of the script that sources it"
    more = judged(tmp_path, f"ARGS=({shape} --micro-batch-size 1 --global-batch-size 8)\n")
    assert not any("starts no run" in one.what for one in more.open)
