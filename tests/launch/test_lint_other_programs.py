"""Programs of an engine's repository that are no run of what is costed, and degrees that the catalog does not count."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from planner.commands.lint_report import lint_screen
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.launch.lint import Linted, lint

TRAINS = (
    "python3 -m openrlhf.cli.train_ppo_ray --actor.model_name_or_path Qwen/Qwen3-8B --actor.num_nodes 1 \\\n"
    " --actor.num_gpus_per_node 8 --data.max_len 4096 --rollout.max_new_tokens 2048 --rollout.batch_size 128 \\\n"
    " --rollout.n_samples_per_prompt 8 --train.batch_size 128 --train.colocate_all --algo.advantage.estimator rloo \\\n"
    " --train.dynamic_batch_enable --train.max_tokens_per_gpu 8192 --ds.zero_stage 3 --vllm.num_engines 8 \\\n"
)


@cache
def catalog() -> Catalog:
    return default_catalog()


def judged(tmp_path: Path, text: str, *overrides: str) -> Linted:
    path = tmp_path / "run.sh"
    path.write_text(text + "\n")
    return lint(path, catalog(), overrides)


@pytest.mark.parametrize(
    "command",
    [
        "python -m openrlhf.cli.serve_rm --port 5000 --batch_size 8",
        "deepspeed --module openrlhf.cli.train_sft --ds.zero_stage 2 --model.model_name_or_path Qwen/Qwen3-8B",
    ],
)
def test_other_programs_of_openrlhf_are_named_and_not_judged_by_its_ppo(command: str, tmp_path: Path) -> None:
    linted = judged(tmp_path, command)
    program = next(word for word in command.split() if word.startswith("openrlhf.cli"))
    assert linted.findings == ()
    assert linted.plan is None
    assert linted.open[0].what == f"{program} is not costed: openrlhf.cli.train_ppo_ray is"


def test_a_folder_named_after_an_engine_is_no_run_of_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be told"):
        judged(tmp_path, "docker run --runtime=nvidia -it --rm -v $PROJECT:/openrlhf image bash")
    with pytest.raises(InputError) as caught:
        judged(tmp_path, "read -r -d '' commands <<EOF\nx\nEOF\npython -m $commands --some 1")
    assert "\0" not in (caught.value.problems[0].because or "")


def test_a_degree_that_the_catalog_does_not_count_is_no_rule_of_the_engine(tmp_path: Path) -> None:
    """OpenRLHF has ring attention; what its ranks hold is not counted, which is not the user's mistake."""
    assert judged(tmp_path, TRAINS).plan is not None
    linted = judged(tmp_path, TRAINS + " --ds.ring_attn_size 2")
    assert [one for one in linted.findings if one.severity == "error"] == []
    assert [(one.what, one.where.line) for one in linted.open if one.where is not None] == [
        ("context_parallel 2 is not costed: the engine's file in the catalog does not have it", 5)
    ]


def test_torchtitans_batch_is_one_local_batch_of_each_rank_unless_it_is_said(tmp_path: Path) -> None:
    text = "torchrun --nproc_per_node=8 -m torchtitan.train --module llama3 --config llama3_8b \\\n"
    text += " --training.seq_len 8192 --training.local_batch_size 2"
    linted = judged(tmp_path, text, "model=llama3-8b")
    assert linted.plan is not None, linted.open
    lay = linted.plan.layout
    assert (lay["global_batch_size"], lay["micro_batch_size"], lay["num_micro_batches"]) == (16, 2, 1)


NEMO = """\
policy: &POLICY
  model_name: Qwen/Qwen3-8B
  max_total_sequence_length: 4096
  train_global_batch_size: 512
  train_micro_batch_size: 1
  logprob_batch_size: 1
  dtensor_cfg: {enabled: false}
  megatron_cfg: &MEGATRON {enabled: true, tensor_model_parallel_size: 2, activation_checkpointing: true}
  generation:
    colocated: {enabled: true}
    vllm_cfg: {tensor_parallel_size: 2, async_engine: true}
grpo: {num_prompts_per_step: 64, num_generations_per_prompt: 8}
loss_fn: {use_importance_sampling_correction: true}
cluster: {gpus_per_node: 8, num_nodes: 1}
"""


def configured(tmp_path: Path, text: str) -> Linted:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return lint(path, catalog())


def test_nemo_rl_is_asynchronous_where_its_own_switch_says_so(tmp_path: Path) -> None:
    """vLLM's asynchronous engine and a corrected loss serve synchronous runs too (algorithms/grpo.py:4121-4130)."""
    linted = configured(tmp_path, NEMO)
    assert linted.plan is not None, (linted.open, linted.findings)
    assert linted.plan.problem.scenario.rl is not None
    assert linted.plan.problem.scenario.rl.placement == "colocated"
    both = configured(tmp_path, NEMO.replace("grpo: {", "grpo: {async_grpo: {enabled: true}, "))
    assert both.found.words["asynchronous"] is True


def test_mappings_are_merged_as_pyyaml_merges_them_and_a_teacher_is_named(tmp_path: Path) -> None:
    text = (
        NEMO + "teacher:\n  <<: *POLICY\n  model_name: Qwen/Qwen3-32B\n  megatron_cfg:\n    <<: *MEGATRON\n    x: 1\n"
    )
    linted = configured(tmp_path, text)
    options = linted.found.options
    assert options["teacher.model_name"].text == "Qwen/Qwen3-32B"
    assert options["teacher.megatron_cfg.tensor_model_parallel_size"].text == "2"
    assert "teacher.megatron_cfg.<<" not in options
    assert [one.what for one in linted.open] == ["a teacher, a second network beside the trained one, is not costed"]


@pytest.mark.parametrize(
    ("more", "recomputed"),
    [("", 0), ("  activation_checkpointing: true\n", 36), ("  activation_checkpointing: false\n", 0)],
)
def test_fsdp_recomputes_by_a_switch_of_its_own(more: str, recomputed: int, tmp_path: Path) -> None:
    text = "base_model: Qwen/Qwen3-8B\nsequence_len: 2048\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n"
    text += "optimizer: adamw_torch_8bit\nbf16: true\nsample_packing: true\nfsdp_version: 2\nfsdp_config:\n"
    path = tmp_path / "run.yaml"
    path.write_text(text + "  reshard_after_forward: true\n" + more)
    linted = lint(path, catalog(), ("cluster.num_gpus=8",))
    assert linted.plan is not None, linted.open
    assert linted.plan.recomputed == (recomputed,)
    assert linted.scenario["optimizer"] == "adamw-8bit"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("use_kt: true\n", "use_kt: training over another engine"),
        ("tensor_model_parallel_size: 2\n", "tensor_model_parallel_size: training over another engine"),
        ("deepspeed: ds_z0_config.json\n", "zero_stage 0 is not costed"),
    ],
)
def test_other_engines_of_llama_factory_and_stages_that_are_not_counted(more: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "ds_z0_config.json").write_text('{"zero_optimization": {"stage": 0}, "bf16": {"enabled": "auto"}}')
    path = tmp_path / "run.yaml"
    text = "model_name_or_path: Qwen/Qwen3-8B\nstage: sft\nfinetuning_type: full\ncutoff_len: 2048\npacking: true\n"
    path.write_text(text + "bf16: true\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n" + more)
    linted = lint(path, catalog(), ("cluster.num_gpus=8",))
    assert linted.plan is None
    assert not [one for one in linted.findings if one.severity == "error"]
    assert why in linted.open[0].what


def test_copies_of_the_state_are_said_to_be_what_another_file_may_shard(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    text = "model_name_or_path: Qwen/Qwen3-8B\nstage: sft\nfinetuning_type: full\ncutoff_len: 2048\npacking: true\n"
    path.write_text(text + "bf16: true\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n")
    linted = lint(path, catalog(), ("cluster.num_gpus=8",))
    assert linted.found.engine == "transformers-ddp"
    assert any("accelerate's own file" in why for _, why in linted.found.unread)
    one = lint(path, catalog(), ("cluster.num_gpus=1",))
    assert not any("accelerate's own file" in why for _, why in one.found.unread)


def test_accelerates_own_file_is_read_beside_a_trainers_whose_words_count_first(tmp_path: Path) -> None:
    path, own = tmp_path / "run.yaml", tmp_path / "fsdp.yaml"
    text = "model_name_or_path: Qwen/Qwen3-8B\nstage: sft\nfinetuning_type: full\ncutoff_len: 2048\npacking: true\n"
    path.write_text(text + "bf16: true\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 2\n")
    own.write_text(
        "distributed_type: FSDP\nnum_processes: 8\nmixed_precision: bf16\ngradient_accumulation_steps: 4\n"
        "fsdp_config:\n  fsdp_version: 2\n  fsdp_reshard_after_forward: true\n"
    )
    linted = lint(path, catalog(), beside=[own])
    assert linted.plan is not None, linted.open
    lay = linted.plan.layout
    assert linted.found.engine == "fsdp2"
    assert (lay["num_gpus"], lay["zero_stage"], lay["num_micro_batches"]) == (8, 3, 2)
    assert not any("accelerate's own file" in why for _, why in linted.found.unread)
    assert f"--beside {own}" in "".join(str(block) for block in lint_screen(linted))


@pytest.mark.parametrize(
    ("name", "counted", "why"),
    [
        ("adamw_torch_8bit", "adamw-8bit", ""),
        ("adamw_8bit", "adamw-8bit", ""),
        ("galore_adamw", None, "galore_adamw is not costed: it keeps moments in a projection"),
        ("ao_adamw_8bit", None, "ao_adamw_8bit is not costed: axolotl 0.19.0 takes the name and stops at it"),
        ("adamw_torsh", None, "unknown optimizer `adamw_torsh`"),
    ],
)
def test_optimizers_under_other_names_are_counted_or_refused_by_name(
    name: str, counted: str | None, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.yaml"
    text = "base_model: Qwen/Qwen3-8B\nsequence_len: 2048\nmicro_batch_size: 1\ngradient_accumulation_steps: 1\n"
    path.write_text(text + f"optimizer: {name}\nbf16: true\nsample_packing: true\n")
    linted = lint(path, catalog(), ("cluster.num_gpus=1",))
    if counted is not None:
        assert linted.scenario["optimizer"] == counted
        assert linted.plan is not None, linted.open
        return
    assert [one.what.startswith(why) for one in linted.open] == [True]
    where = linted.open[0].where
    assert where is not None
    assert where.line == 5
    again = lint(path, catalog(), ("cluster.num_gpus=1", "optimizer=adafactor"))
    assert again.plan is not None, again.open
