"""Programs of an engine's repository that are no run of what is costed, and degrees that the catalog does not count."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

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
        ("context_parallel above 1 is not costed: engine openrlhf of the catalog has none", 5)
    ]


def test_torchtitans_batch_is_one_local_batch_of_each_rank_unless_it_is_said(tmp_path: Path) -> None:
    text = "torchrun --nproc_per_node=8 -m torchtitan.train --module llama3 --config llama3_8b \\\n"
    text += " --training.seq_len 8192 --training.local_batch_size 2"
    linted = judged(tmp_path, text, "model=llama3-8b")
    assert linted.plan is not None, linted.open
    lay = linted.plan.layout
    assert (lay["global_batch_size"], lay["micro_batch_size"], lay["num_micro_batches"]) == (16, 2, 1)
