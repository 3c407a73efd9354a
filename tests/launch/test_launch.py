from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from planner import cli
from planner.errors import InputError, InternalError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load
from planner.launch import megatron, parallel, registry, slime
from planner.launch.script import Array, check_flags, flag_table
from planner.problem.resolve import question_of
from planner.search.plan import Plan
from planner.search.search import Outcome, search

GOLDEN = Path("tests/golden/launch_qwen7b_rl_slime.sh")
RL = "scenarios/qwen7b_rl.yaml"
CASES = (
    (RL, (), "slime"),
    ("scenarios/llama70b_64xh100.yaml", (), "megatron"),
    ("scenarios/llama70b_64xh100.yaml", ("cluster.num_gpus=256",), "megatron"),
    (
        "scenarios/llama70b_64xh100.yaml",
        ("cluster.num_gpus=32", "layout.recompute_method=uniform", "layout.recomputed_layers=all"),
        "megatron",
    ),
    ("scenarios/llama70b_64xh100.yaml", ("cluster.node=dgx-b200", "model=qwen2.5-72b"), "megatron"),
    ("scenarios/llama70b_64xh100.yaml", ("layout.optimizer_offload=true", "precision=fp8"), "megatron"),
    ("scenarios/llama70b_64xh100.yaml", ("engine_options=[tp_comm_overlap]", "layout.tensor_parallel=8"), "megatron"),
    ("scenarios/llama70b_64xh100.yaml", ("model=deepseek-v2-lite", "cluster.num_gpus=16"), "megatron"),
    ("scenarios/llama70b_64xh100.yaml", ("model=gpt3-175b", "batch.sequence_length=2048"), "megatron"),
    ("scenarios/mixtral8x7b_64xh100.yaml", (), "megatron"),
)


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def outcome(path: str, overrides: tuple[str, ...]) -> Outcome:
    return search(question_of(load(path, overrides), catalog()), check_points=0)


@cache
def fragment(path: str, overrides: tuple[str, ...], launcher: str) -> str:
    text: str = registry.find(launcher).fragment(outcome(path, overrides), catalog())
    return text


def flags(text: str) -> dict[str, str]:
    """Options and values as they stand inside the arrays."""
    arrays = text.partition("\n# Sourced,")[0]
    inside = re.findall(r"^  (--\S+)(?: (.+))?$", arrays, re.MULTILINE)
    return {name: value.strip("'") for name, value in inside}


def test_the_main_scenario_has_its_golden_text(capsys: pytest.CaptureFixture[str]) -> None:
    """Written by: planner launch scenarios/qwen7b_rl.yaml --to slime | sed '1,/^$/d' > tests/golden/..."""
    assert cli.main(["launch", RL, "--to", "slime"]) == 0
    header, _, body = capsys.readouterr().out.partition("\n\n")
    assert body == GOLDEN.read_text()
    for part in ("slime (Megatron training", "0.3.1", "planner 0.", "qwen7b_rl", "proved optimal among", "GiB free"):
        assert part in header
    assert re.search(r"sha256\s+#?\s*[0-9a-f]{64}", header)
    assert all(line.startswith("#") for line in header.splitlines())
    assert "\u202e" not in header


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[2]}-{Path(case[0]).stem}-{'-'.join(case[1])}")
def test_every_flag_is_known_and_bash_reads_it(case: tuple[str, tuple[str, ...], str]) -> None:
    text = fragment(*case)
    known = set(flag_table(catalog(), "megatron_0192.json")[1])
    if case[2] == "slime":
        known = set(flag_table(catalog(), "megatron_slime_031.json")[1])
        known |= set(flag_table(catalog(), "slime_031.yaml")[1])
    assert set(flags(text)) <= known
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    shown = subprocess.run(
        ["bash", "-euc", 'source /dev/stdin; printf "%s\\n" "${PLAN_ARGS[@]}"'],
        input=text,
        text=True,
        check=True,
        capture_output=True,
    ).stdout.split("\n")
    assert [word for word in shown if word.startswith("--")] == list(flags(text))


def test_the_flags_are_those_of_the_plan() -> None:
    for path, overrides, launcher in CASES:
        plan, found = outcome(path, overrides).plan, flags(fragment(path, overrides, launcher))
        assert plan is not None
        lay = plan.layout
        assert int(found.get("--tensor-model-parallel-size", 1)) == lay["tensor_parallel"]
        assert int(found.get("--pipeline-model-parallel-size", 1)) == lay["pipeline_parallel"]
        assert int(found.get("--context-parallel-size", 1)) == lay["context_parallel"]
        if lay["max_tokens"]:
            assert int(found["--max-tokens-per-gpu"]) == lay["max_tokens"]
            assert "--use-dynamic-batch-size" in found
            assert "--micro-batch-size" not in found
        else:
            assert int(found["--micro-batch-size"]) == lay["micro_batch_size"]
        assert int(found["--global-batch-size"]) == lay["global_batch_size"]
        assert ("--sequence-parallel" in found) == bool(lay["sequence_parallel"])
        assert ("--recompute-granularity" in found) == any(plan.recomputed)
        if "--pipeline-model-parallel-layout" not in found:
            assert int(found.get("--num-virtual-stages-per-pipeline-rank", 1)) == lay["virtual_pipeline"]
        else:
            chunks = found["--pipeline-model-parallel-layout"].count("|") + 1
            assert chunks == lay["virtual_pipeline"] * lay["pipeline_parallel"]
        assert int(found["--num-layers"]) == sum(plan.layers)


def test_other_vendors_get_what_the_stack_needs_there() -> None:
    pinned, name = "scenarios/qwen7b_rl_8gpu.yaml", "export RAY_EXPERIMENTAL_NOSET_HIP_VISIBLE_DEVICES=1"
    assert name not in fragment(pinned, (), "slime")
    text = fragment(pinned, ("cluster.node=mi300x-8",), "slime")
    assert text.index(name) < text.index("ray start --head")
    assert "--no-offload-train" in text.partition("export")[0]
    assert "--no-offload-train" not in flags(text)


def test_slime_flags_agree_with_each_other() -> None:
    found = flags(fragment(RL, (), "slime"))
    samples = int(found["--rollout-batch-size"]) * int(found["--n-samples-per-prompt"])
    assert int(found["--global-batch-size"]) == samples // int(found["--num-steps-per-rollout"])
    assert int(found["--actor-num-nodes"]) * int(found["--actor-num-gpus-per-node"]) == 4
    assert found["--colocate"] == ""


def test_shapes_and_special_cases() -> None:
    blackwell = fragment(*CASES[4])
    assert "CUDA_DEVICE_MAX_CONNECTIONS" not in blackwell
    assert "--add-qkv-bias" in flags(blackwell)
    assert "export CUDA_DEVICE_MAX_CONNECTIONS=1" in fragment(*CASES[1])
    uniform = flags(fragment(*CASES[3]))
    assert (uniform["--recompute-method"], uniform["--recompute-num-layers"]) == ("uniform", "1")
    offload = flags(fragment(*CASES[5]))
    assert {"--optimizer-cpu-offload", "--use-precision-aware-optimizer"} <= set(offload)
    assert offload["--fp8-format"] == "hybrid"
    assert "--tp-comm-overlap" in flags(fragment(*CASES[6]))
    latent = flags(fragment(*CASES[7]))
    assert latent["--moe-layer-freq"] == "([0]*1+[1]*26)"
    assert latent["--kv-lora-rank"] == "512"
    assert "--qk-head-dim" not in latent, "128 is Megatron's own default"
    biased = flags(fragment(*CASES[8]))
    assert not {"--disable-bias-linear", "--swiglu", "--untie-embeddings-and-output-weights"} & set(biased)
    assert "--position-embedding-type" not in biased, "learned_absolute is Megatron's own default"


@pytest.mark.parametrize(
    ("layers", "chunks", "expected"),
    [
        ((8, 8, 8, 8), 1, ()),
        ((8, 8), 2, (("--num-virtual-stages-per-pipeline-rank", "2"),)),
        ((15, 13), 1, (("--decoder-first-pipeline-num-layers", "15"), ("--decoder-last-pipeline-num-layers", "13"))),
        ((7, 8, 8, 7), 1, (("--decoder-first-pipeline-num-layers", "7"), ("--decoder-last-pipeline-num-layers", "7"))),
        ((7, 8, 9, 7), 1, (("--pipeline-model-parallel-layout", "Et*7|t*8|t*9|t*7L"),)),
        ((4, 6, 8, 4), 2, (("--pipeline-model-parallel-layout", "Et*2|t*3|t*4|t*2|t*2|t*3|t*4|t*2L"),)),
    ],
)
def test_uneven_stages(layers: tuple[int, ...], chunks: int, expected: tuple[tuple[str, str], ...]) -> None:
    assert parallel.pipeline_split(layers, chunks) == expected


def recomputation(plan: Plan) -> tuple[Array | None, str | None]:
    return parallel.recomputation(plan, ())


def test_recomputation_that_one_flag_cannot_say_is_refused() -> None:
    plan = outcome(RL, ()).plan
    assert plan is not None
    plan = dataclasses.replace(plan, layers=(14, 14), layout={**plan.layout, "pipeline_parallel": 2})
    with pytest.raises(InputError, match=r"layout\.recompute: uniform"):
        recomputation(dataclasses.replace(plan, recomputed=(3, 1)))
    array, _ = recomputation(dataclasses.replace(plan, layers=(15, 13), recomputed=(14, 13)))
    assert array is not None
    assert array.flags[-1] == ("--recompute-num-layers", "14")
    assert recomputation(dataclasses.replace(plan, recomputed=(0, 0))) == (None, None)


@pytest.mark.parametrize(
    ("scenario", "overrides", "launcher", "message"),
    [
        ("scenarios/llama8b_sft_a100.yaml", (), "megatron", "it speaks megatron-core"),
        (RL, (), "megatron", "--to slime"),
        (RL, (), "slme", "did you mean `slime`"),
        ("scenarios/llama70b_64xh100.yaml", ("model=gemma2-27b",), "megatron", "4 norms a layer"),
        ("scenarios/llama70b_64xh100.yaml", ("optimizer=adafactor",), "megatron", "does not speak optimizer adafactor"),
    ],
)
def test_what_cannot_be_launched_is_refused(
    scenario: str, overrides: tuple[str, ...], launcher: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for override in overrides for part in ("--set", override)]
    assert cli.main(["launch", scenario, "--to", launcher, *sets]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_infeasible_is_exit_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["launch", RL, "--to", "slime", "--set", "cluster.max_gpus=1"]) == 1
    assert "nothing to launch" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag",
    [
        ("--tensor-model-paralel-size", "2"),
        ("--tensor-model-parallel-size", "two"),
        ("--tensor-model-parallel-size", None),
        ("--bf16", "true"),
        ("--recompute-method", "blocks"),
    ],
)
def test_a_flag_that_the_engine_does_not_know_is_our_bug(flag: tuple[str, str | None]) -> None:
    table = flag_table(catalog(), "megatron_0192.json")[1]
    with pytest.raises(InternalError, match=flag[0]):
        check_flags([Array("ARGS", (flag,))], [table])


def test_the_tables_are_whole_and_dated() -> None:
    raw = json.loads(catalog().data_file("flags/megatron_0192.json").read_text())
    assert len(raw["flags"]) == 846
    assert "0.19.2" in raw["source"]
    assert {megatron.NAME, slime.NAME} < set(registry.launchers())


def test_names_cannot_leave_the_comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\nrm -rf x\n$(id)\u202e.yaml"
    path.write_text(Path(RL).read_text())
    assert cli.main(["launch", str(path), "--to", "slime"]) == 0
    header = capsys.readouterr().out.partition("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert "\u202e" not in header
