"""What Megatron's and slime's own parsers refuse, or build otherwise, written right; each test names the evidence."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load, override, parse_document
from planner.launch import registry
from planner.launch.network import BEYOND_SHAPE
from planner.launch.parallel import pipeline_split
from planner.launch.script import flag_table
from planner.launch.switches import SWITCHES, Switch, of_older
from planner.problem.resolve import question_of
from planner.schema.engine import Engine
from planner.search.search import Outcome, search
from planner.search.space import build_space

BASE = {
    "name": "launched",
    "task": "pretrain",
    "model": "llama3-8b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": 4000, "host_memory_gib": 100000},
    "batch": {"global_batch_size": 64, "sequence_length": 4096, "micro_batch_size": 1},
}


@cache
def catalog() -> Catalog:
    return default_catalog()


@cache
def solved(changes: str) -> Outcome:
    document = override(parse_document(json.dumps(BASE), "launched.yaml"), json.loads(changes))
    return search(question_of(document, catalog()), check_points=0)


def text(changes: dict[str, Any]) -> str:
    written: str = registry.find("megatron").fragment(solved(json.dumps(changes)), catalog())
    return written


def flags(changes: dict[str, Any]) -> dict[str, str]:
    arrays = text(changes).partition("\n# Sourced,")[0]
    return {name: value.strip("'") for name, value in re.findall(r"^  (--\S+)(?: (.+))?$", arrays, re.MULTILINE)}


def pins(**values: Any) -> dict[str, Any]:
    return {f"layout.{name}": value for name, value in values.items()}


MLA = ("deepseek-v2", "deepseek-v2-lite", "deepseek-v3", "glm-4.7-flash", "kimi-k2", "moonlight-16b-a3b")
MANY = {"cluster.num_gpus": 1024, "batch.global_batch_size": 2048}


def test_the_refused_cross_entropy_kernel_is_not_written_and_not_counted() -> None:
    """arguments.py:1643 refuses --cross-entropy-fusion-impl te; the default computes in an fp32 copy."""
    one = {"model": "qwen2.5-1.5b", "cluster.num_gpus": 1, "batch.sequence_length": 32768}
    assert "--cross-entropy-loss-fusion" not in flags(one)
    native = {**one, "engine_options": ["native_cross_entropy_fusion"]}
    assert flags(native)["--cross-entropy-loss-fusion"] == ""
    assert not any(value == "te" for value in flags(native).values())
    logits = 32768 * 151936 / 2**30
    kernels = {"usual": [], "native": ["native_cross_entropy_fusion"], "te": ["te_cross_entropy_fusion"]}
    at_loss = {}
    for name, options in kernels.items():
        plan = solved(json.dumps({**one, "engine_options": options})).plan
        assert plan is not None
        at_loss[name] = max(phase.total_gib for phase in plan.memory if phase.phase == "loss")
    reserve = 1.038  # of the engine's file: allocated to reserved
    assert at_loss["usual"] - at_loss["te"] == pytest.approx(4 * logits * reserve, rel=0.02)
    assert at_loss["native"] - at_loss["usual"] == pytest.approx(4 * logits * reserve, rel=0.02)
    with pytest.raises(InputError, match="refuse that kernel"):
        text({**one, "engine_options": ["te_cross_entropy_fusion"]})


@pytest.mark.parametrize("model", MLA)
def test_latent_attention_has_its_norms_widths_and_positions(model: str) -> None:
    """Without --qk-layernorm Megatron builds no norm of the latents; arguments.py:1292 wants kv-channels where heads do
    not divide the hidden size; transformer_config.py:2967 refuses fused rope without yarn."""
    found = flags({"model": model, **MANY})
    assert "--qk-layernorm" in found
    assert int(found["--kv-channels"]) > 0
    a = catalog().find("models", model)
    if a.rope_scaling is None:
        assert found["--rope-type"] == "rope"
        assert "--no-rope-fusion" in found
    else:
        assert found["--rope-type"] == "yarn"
        assert "--no-rope-fusion" not in found
        assert float(found["--rotary-scaling-factor"]) == a.rope_scaling.factor
        assert float(found["--mscale-all-dim"]) == a.rope_scaling.mscale_all_dim


def test_two_uneven_interleaved_stages_are_a_layout_string() -> None:
    """transformer_layer.py:155 divides by the stages between the first and the last."""
    assert pipeline_split((16, 12), 2) == (("--pipeline-model-parallel-layout", "Et*8|t*6|t*8|t*6L"),)
    assert pipeline_split((16, 12), 1)[0][0] == "--decoder-first-pipeline-num-layers"


def test_context_ranks_between_stages_are_refused_for_dense_networks_too() -> None:
    """parallel_state.py:901: the expert grid of a dense network is one rank times tensor_parallel."""
    changes = {"cluster.rank_order": "tp_pp_dp", **pins(pipeline_parallel=2, context_parallel=2)}
    document = override(parse_document(json.dumps(BASE), "launched.yaml"), changes)
    space = build_space(question_of(document, catalog()))
    assert len(space.layouts) == 0
    assert "rank_order_keeps_stages" in {removed.rule for removed in space.removed}
    legal = override(document, pins(context_parallel=1))
    assert len(build_space(question_of(legal, catalog())).layouts) > 0


@pytest.mark.parametrize("engine", ["megatron-core", "slime", "verl-megatron", "nemo-rl"])
def test_positions_and_projections_are_cut_by_ranks_on_every_engine_of_megatron(engine: str) -> None:
    """yarn's cache over context ranks (MLA), projections over tensor ranks (module/layernorm_linear.py, divide)."""
    entry: Engine = catalog().find("engines", engine)
    assert {"positions_divide_context", "projections_divide_tensor"} <= set(entry.rules)


def test_offloaded_activations_export_what_transformer_engine_asks_for() -> None:
    """arguments.py:1858: with Transformer Engine 2.10 and later NVTE_CPU_OFFLOAD_V1 must be 1."""
    assert "export NVTE_CPU_OFFLOAD_V1=1" in text(pins(activation_offload=True))
    assert "NVTE_CPU_OFFLOAD_V1" not in text({})


def test_a_stage_number_without_a_rank_stops_the_script() -> None:
    changes = {**pins(pipeline_parallel=2, recompute="per_stage", layers_per_stage=[16, 16])}
    outcome = solved(json.dumps({**changes, "cluster.num_gpus": 16, "cluster.usable_gib": 21}))
    plan = outcome.plan
    assert plan is not None
    assert len(set(plan.recomputed)) > 1
    written: str = registry.find("megatron").fragment(outcome, catalog())
    ask = 'source /dev/stdin; printf "%s\\n" "${PLAN_ARGS[@]}"'
    without = subprocess.run(["bash", "-c", ask], input=written, text=True, capture_output=True, check=False)
    assert without.returncode != 0
    assert "NODE_RANK" in without.stderr
    for node, count in enumerate(plan.recomputed):
        shown = subprocess.run(
            ["bash", "-c", f"NODE_RANK={node}; {ask}"], input=written, text=True, capture_output=True, check=True
        ).stdout.split("\n")
        assert shown[shown.index("--recompute-num-layers") + 1] == str(count)


def test_stages_that_share_a_node_are_told_apart_by_their_processes() -> None:
    changes = pins(
        pipeline_parallel=4, recompute="per_stage", layers_per_stage=[8, 8, 8, 8], tensor_parallel=1, context_parallel=1
    )
    outcome = solved(json.dumps({**changes, "cluster.usable_gib": 40}))
    plan = outcome.plan
    assert plan is not None
    assert len(set(plan.recomputed)) > 1
    written: str = registry.find("megatron").fragment(outcome, catalog())
    assert "--no-python bash -c" in written
    for rank in range(8):
        shown = subprocess.run(
            ["bash", "-c", f'RANK={rank}; source /dev/stdin; printf "%s\\n" "${{PLAN_ARGS[@]}}"'],
            input=written, text=True, capture_output=True, check=True,
        ).stdout.split("\n")  # fmt: skip
        assert shown[shown.index("--recompute-num-layers") + 1] == str(plan.recomputed[rank // 2])


def test_uniform_recomputation_of_some_stages_is_not_written_for_all() -> None:
    """uniform 1 for every stage would recompute all layers of all stages."""
    changes = pins(
        pipeline_parallel=4, tensor_parallel=1, context_parallel=1, recompute="per_stage", recompute_method="uniform",
        layers_per_stage=[8, 8, 8, 8], recomputed_layers=[0, 8],
    )  # fmt: skip
    outcome = solved(json.dumps({**changes, "cluster.usable_gib": 40}))
    plan = outcome.plan
    assert plan is not None
    assert set(plan.recomputed) == {0, 8}
    written: str = registry.find("megatron").fragment(outcome, catalog())
    assert "--recompute-method block" in written
    assert f"STAGE_RECOMPUTED=({' '.join(map(str, plan.recomputed))})" in written


def test_fp32_is_refused_with_the_attention_that_it_does_not_have() -> None:
    """Transformer Engine takes only 16-bit and fp8 in its fused attention."""
    with pytest.raises(InputError, match="no fused attention in fp32"):
        text({"precision": "fp32"})
    found = flags({"precision": "fp32", "engine_options": ["unfused_attention"]})
    assert found["--attention-backend"] == "unfused"


def test_a_simplification_of_ours_says_that_it_is_one() -> None:
    changes = {**MANY, "model": "deepseek-v3", **pins(pipeline_parallel=2, layers_per_stage=[2, 59])}
    document = override(parse_document(json.dumps(BASE), "launched.yaml"), changes)
    removed = build_space(question_of(document, catalog())).removed
    said = {rule.rule: rule.text for rule in removed}
    assert "planner counts them nowhere else" in said["leading_dense_layers"]


ROUTER = {
    "deepseek-v3": ("sigmoid", True, False, 2.5, 8, 4),
    "kimi-k2": ("sigmoid", True, False, 2.827, None, None),
    "moonlight-16b-a3b": ("sigmoid", True, False, 2.446, None, None),
    "glm-4.5": ("sigmoid", True, False, 2.5, None, None),
    "glm-4.5-air": ("sigmoid", True, False, None, None, None),
    "glm-4.7-flash": ("sigmoid", True, False, 1.8, None, None),
    "deepseek-v2": (None, False, True, 16.0, 8, 3),
    "qwen3-30b-a3b": (None, False, False, None, None, None),
    "mixtral-8x7b": (None, False, False, None, None, None),
}
"""Score function, bias, pre-softmax, scaling, groups, groups looked at: as slime's scripts/models and config.json."""


@pytest.mark.parametrize("model", list(ROUTER))
def test_a_router_is_written_whole(model: str) -> None:
    found = flags({"model": model, **MANY})
    score, bias, pre, scale, groups, chosen = ROUTER[model]
    assert found.get("--moe-router-score-function") == score
    assert ("--moe-router-enable-expert-bias" in found) == bias
    assert ("--moe-router-pre-softmax" in found) == pre
    assert float(found.get("--moe-router-topk-scaling-factor", 1)) == (scale or 1)
    assert found.get("--moe-router-num-groups") == (str(groups) if groups else None)
    assert found.get("--moe-router-group-topk") == (str(chosen) if chosen else None)


DETAILS = {
    "qwen2.5-7b": ("1e-06", "1000000", None),
    "qwen2.5-14b": (None, "1000000", None),
    "llama3.1-8b": (None, "500000", "8"),
    "llama3.2-1b": (None, "500000", "32"),
    "llama2-7b": (None, None, None),
}


@pytest.mark.parametrize("model", list(DETAILS))
def test_norm_epsilon_and_rotary_positions_are_written_where_they_are_not_the_default(model: str) -> None:
    found = flags({"model": model})
    epsilon, base, factor = DETAILS[model]
    assert found.get("--norm-epsilon") == epsilon
    assert found.get("--rotary-base") == base
    assert ("--use-rope-scaling" in found) == (factor is not None)
    assert found.get("--rope-scaling-factor", "8" if factor else None) == factor


def test_what_the_catalog_does_not_hold_is_marked_as_missing() -> None:
    assert "FIXME: --norm-epsilon" in " ".join(text({"model": "gpt3-175b", "batch.sequence_length": 2048}).split())
    assert "FIXME" not in text({"model": "llama3-8b"})


def test_every_engine_option_is_a_switch_or_says_why_not() -> None:
    engine: Engine = catalog().find("engines", "megatron-core")
    assert set(SWITCHES) == set(engine.options)
    table = flag_table(catalog(), "megatron_0192.json")[1]
    for name, switch in SWITCHES.items():
        assert {flag for flag, _ in switch.flags} <= set(table), name
    assert {name for name, switch in SWITCHES.items() if switch.unsaid} == {
        "adapter_input_regather",
        "cuda_graphs",
        "fp8_activation_inputs",
        "fp8_attention",
        "fp8_turned_each_time",
        "no_fp8_transpose_cache",
        "no_weight_gradient_buffers",
        "te_cross_entropy_fusion",
        "unfused_norms",
    }


def test_every_engine_option_of_slime_is_one_of_its_own_megatron() -> None:
    """Its Megatron has --cuda-graph-scope where 0.19 has --cuda-graph-modules: planner stopped by its own check."""
    table = flag_table(catalog(), "megatron_slime_031.json")[1]
    for name in catalog().find("engines", "slime", None).options:
        (switch,) = of_older((SWITCHES.get(name, Switch()),))
        assert {flag for flag, _ in switch.flags} <= set(table), name


def test_what_the_default_gradient_accumulation_needs_is_said() -> None:
    assert "fused_weight_gradient_mlp_cuda" in text({})
    unfused = {"engine_options": ["unfused_gradient_accumulation"]}
    assert "fused_weight_gradient_mlp_cuda" not in text(unfused)
    assert "--no-gradient-accumulation-fusion" in flags(unfused)


def slime(*overrides: str) -> str:
    outcome = search(question_of(load("scenarios/qwen7b_rl.yaml", overrides), catalog()), check_points=0)
    written: str = registry.find("slime").fragment(outcome, catalog())
    return written


def test_slime_is_checked_against_the_megatron_that_it_pins() -> None:
    """docker/Dockerfile:7 of v0.3.1 pins Megatron 1dcf0daf; slime drops unknown flags in silence."""
    new, pinned = (flag_table(catalog(), name)[1] for name in ("megatron_0192.json", "megatron_slime_031.json"))
    assert len(set(new) - set(pinned)) == 192
    assert "1dcf0daf" in slime().partition("\n\n")[0].replace("\n#", "")


def test_slime_is_told_the_gpus_of_a_node() -> None:
    """rollout.py:132 of slime counts nodes of an engine with 8 GPUs unless it is told otherwise."""
    assert "--num-gpus-per-node 4" in slime()
    whole = slime("cluster.max_gpus=null", "cluster.num_gpus=8")
    assert "--num-gpus-per-node" not in whole.partition("\n# Sourced,")[0]


def test_slime_on_two_pools_says_which_nodes_train() -> None:
    """slime sorts nodes by address and trains on the lowest (ray/placement_group.py)."""
    written = slime(
        "cluster.node=null", "cluster.max_gpus=null",
        "cluster.pools=[{node: hgx-a100-8, num_gpus: 8}, {node: hgx-h100-8, num_gpus: 8}]", "rl.rollout.num_gpus=8",
        "rl.placement=disaggregated", "rl.rollout.node=hgx-h100-8",
    )  # fmt: skip
    said = " ".join(written.replace("#", " ").split())
    assert "hgx-a100-8 must have the lower addresses, hgx-h100-8 the higher ones" in said


def test_nemo_rl_recomputes_all_layers_or_none() -> None:
    """nemo_rl/models/megatron/setup.py:1072-1086 writes uniform, groups of one layer."""
    engine: Engine = catalog().find("engines", "nemo-rl")
    assert not engine.recompute.partial
    assert engine.recompute.methods == ["uniform"]


def nemo_rl(*overrides: str) -> dict[str, Any]:
    eight = ("cluster.max_gpus=null", "cluster.num_gpus=8", "cluster.usable_gib=4000")
    said = ("engine=nemo-rl", "layout.context_parallel=2", *eight, *overrides)
    outcome = search(question_of(load("scenarios/qwen7b_rl.yaml", said), catalog()), check_points=0)
    return dict(parse_document(registry.find("nemo-rl").fragment(outcome, catalog()), "written").data["policy"])


def test_nemo_rl_pads_sequences_so_that_context_ranks_get_pieces_of_one_length() -> None:
    """models/megatron/data.py:1290 stops where make_sequence_length_divisible_by is tensor_parallel, as in the base."""
    policy = nemo_rl(
        "layout.tensor_parallel=2",
        "batch.max_tokens_per_gpu=16384",
        "batch.log_prob_max_tokens_per_gpu=16384",
        "rl.response_length=5001",
    )
    assert policy["make_sequence_length_divisible_by"] == 8
    assert policy["max_total_sequence_length"] % 8
    with pytest.raises(InputError, match="only where it packs them"):
        nemo_rl("layout.tensor_parallel=2", "batch.max_tokens_per_gpu=none", "batch.micro_batch_size=1")


def test_nemo_rl_is_told_tokens_of_whole_packs_which_context_ranks_share() -> None:
    """models/policy/lm_policy.py:486-530 hands both to a packer that refuses a longer sequence (algorithms.py:254)."""
    packed = nemo_rl("batch.max_tokens_per_gpu=8192", "batch.log_prob_max_tokens_per_gpu=16384")["sequence_packing"]
    assert packed["train_mb_tokens"] == 2 * 8192
    assert packed["logprob_mb_tokens"] == 2 * 16384
    unsaid = nemo_rl("batch.max_tokens_per_gpu=16384")
    assert unsaid["sequence_packing"]["logprob_mb_tokens"] == 4 * 2 * 16384 != 4 * unsaid["max_total_sequence_length"]
    with pytest.raises(InputError, match="pads its longest sequence from 6001 to 6004"):
        nemo_rl("batch.max_tokens_per_gpu=3001", "rl.prompt_length=1000", "rl.response_length=5001")


def test_nemo_rl_scores_in_micro_batches_of_training_over_four_tensor_ranks() -> None:
    """models/policy/lm_policy.py:212-230 asserts it, for log-probabilities vary by the batch."""
    fixed = ("layout.context_parallel=1", "batch.max_tokens_per_gpu=none", "batch.micro_batch_size=1")
    assert nemo_rl(*fixed, "layout.tensor_parallel=2", "batch.log_prob_micro_batch_size=2")["logprob_batch_size"] == 2
    with pytest.raises(InputError, match="one micro-batch to train and to score"):
        nemo_rl(*fixed, "layout.tensor_parallel=4", "batch.log_prob_micro_batch_size=2")


def test_slime_takes_lengths_that_do_not_divide_and_says_one_that_does() -> None:
    """cp_utils.py:308 pads each sequence; Megatron's arguments.py:817 wants the length that is said to divide."""
    more = ("cluster.max_gpus=null", "cluster.num_gpus=8", "layout.context_parallel=2", "layout.tensor_parallel=2")
    written = slime(*more, "rl.prompt_length=1000", "rl.response_length=5001")
    assert "--seq-length 6004" in written
    assert "sequence_divides_tensor" in catalog().find("engines", "megatron-core").rules


def test_verl_with_dynamic_batches_takes_any_number_of_samples() -> None:
    """validate_config of verl 0.9.1 binds samples to GPUs only without use_dynamic_bsz."""
    few = {"engine": "verl-fsdp2", "cluster.max_gpus": None, "cluster.num_gpus": 8, "rl.rollout_batch_size": 10,
           "rl.n_samples_per_prompt": 2, "layout.context_parallel": 2}  # fmt: skip
    document = load("scenarios/qwen7b_rl.yaml")
    packed = build_space(question_of(override(document, few | {"batch.max_tokens_per_gpu": "any"}), catalog()))
    fixed = build_space(question_of(override(document, few | {"batch.micro_batch_size": 1}), catalog()))
    assert len(packed.layouts)
    assert not len(fixed.layouts)
    assert {each.rule: each.count for each in fixed.removed}["samples_divide_gpus"]


def test_the_script_is_one_that_bash_reads(tmp_path: Path) -> None:
    for written in (slime(), text({})):
        subprocess.run(["bash", "-n"], input=written, text=True, check=True)
    path = tmp_path / "plan.sh"
    path.write_text(slime())
    ran = subprocess.run(
        ["bash", str(path)], text=True, capture_output=True, check=False, env={"PATH": "/usr/bin:/bin"}
    )
    assert ran.returncode != 0
    assert "HF_CHECKPOINT: FIXME" in ran.stderr


def test_slimes_script_starts_a_job_that_finds_megatron_and_asks_for_what_only_the_user_knows(tmp_path: Path) -> None:
    """Without PYTHONPATH `import megatron.training` fails; without a reward the first rollout does (rm_hub)."""
    script, ray = tmp_path / "plan.sh", tmp_path / "ray"
    script.write_text(slime())
    ray.write_text('#!/bin/bash\nprintf "%s\\n" "$@" >> "$CALLS"\n')
    ray.chmod(0o755)
    known = {
        "HF_CHECKPOINT": "/my models/q",
        "REF_LOAD": "/r",
        "PROMPT_DATA": "/d",
        "NUM_ROLLOUT": "9",
        "RM_TYPE": "math",
    }
    known |= {"MEGATRON_LM": "/m/Megatron LM", "MASTER_ADDR": "10.0.0.1"}
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "CALLS": str(tmp_path / "calls")}
    subprocess.run(["bash", str(script)], env=env | known, check=True, capture_output=True)
    words = (tmp_path / "calls").read_text().splitlines()
    variables = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
    assert variables == {"CUDA_DEVICE_MAX_CONNECTIONS": "1", "PYTHONPATH": "/m/Megatron LM"}
    assert [words[words.index(name) + 1] for name in ("--hf-checkpoint", "--rm-type")] == ["/my models/q", "math"]
    for name in known:
        left = {each: value for each, value in known.items() if each != name}
        ran = subprocess.run(["bash", str(script)], env=env | left, check=False, capture_output=True, text=True)
        assert ran.returncode != 0
        assert f"{name}: FIXME" in ran.stderr


@pytest.mark.parametrize(
    ("model", "has"), [("smollm3-3b", "without rotary positions"), ("afm-4.5b", "an MLP with relu2")]
)
def test_a_network_with_more_than_megatrons_options_say_gets_no_file(model: str, has: str) -> None:
    """A file of them would train another network: Megatron takes GELU and turns every layer's queries."""
    layout = pins(tensor_parallel=1, pipeline_parallel=1, context_parallel=1, recomputed_layers="all")
    with pytest.raises(InputError, match=has):
        text({"model": model, **layout})


def test_what_no_option_says_is_of_networks_that_are_there() -> None:
    assert set(BEYOND_SHAPE) <= {model.model_type for model in catalog().all("models")}
