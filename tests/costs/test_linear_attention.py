"""Networks of which three layers in four have linear attention: counts by hand, kinds of layers by listing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from memory_problems import CATALOG, estimated, problem, scenario
from round_trips import differences

from planner.costs.item_names import ItemName
from planner.costs.memory.layer_kinds import kind_share
from planner.costs.rollout import RolloutCosts
from planner.errors import InputError
from planner.formulas.delta_rule import rule_bytes, rule_seconds
from planner.formulas.parameters import lora_parameters
from planner.formulas.stages import stage_chunks
from planner.inputs.document import parse_document
from planner.search.plan import Plan
from planner.search.search import plan
from planner.search.space import build_space
from planner.units import GIB

TOKENS = 4096
ALONE: dict[str, Any] = {
    "cluster": {"node": "hgx-h100-8", "num_gpus": 1, "usable_gib": 4000}, "layout": {"recomputed_layers": 0},
}  # fmt: skip
ONE: dict[str, Any] = {
    "tensor_parallel": 1, "pipeline_parallel": 1, "context_parallel": 1, "expert_parallel": 1,
    "expert_tensor_parallel": 1, "virtual_pipeline": 1, "recomputed_layers": 0,
}  # fmt: skip
RL: dict[str, Any] = {
    "prompt_length": 1024, "response_length": 4096, "response_distribution": {"mean": 1500, "p99": 4000},
    "rollout_batch_size": 32, "n_samples_per_prompt": 8,
}  # fmt: skip

# One layer of qwen3.5-9b (4096 wide, MLP 12288, 16 key heads and 32 value heads of 128), bytes a token, 16 bits but
# where fp32 is said: what Megatron's module and the kernels that it calls keep for the backward pass.
PROJECTED = 2 * (2 * 16 * 128 + 2 * 32 * 128 + 2 * 32)
KEYS_AND_QUERIES = 2 * 2 * 16 * 128 + 2 * 16 * 4  # normalised, and a norm of each in fp32
REPEATED = 2 * 2 * 32 * 128
DECAYS = 32 * (4 + 2 + 2)
TRIANGLE = 2 * 32 * 64
ONE_OF_VALUES = 2 * 32 * 128  # gate, values, the rule's output, the same normalised, and gated
LINEAR = PROJECTED + KEYS_AND_QUERIES + REPEATED + DECAYS + TRIANGLE + 5 * ONE_OF_VALUES + 32 * 4
FULL = 2 * (16 * 256 + 2 * 4 * 256 + 16 * 256) + 16 * 4 + 2 * 2 * 16 * 256  # q, k and v, output, sums; gate, gated
REST = 2 * (2 * 4096 + 2 * 4096) + 2 * 3 * 12288  # both norms; gate, up and their product


def dense(engine: str = "megatron-core", gpus: int = 1, **layout: Any) -> Plan:
    cluster = {"node": "hgx-h100-8", "num_gpus": gpus, "usable_gib": 4000}
    return estimated(scenario(model="qwen3.5-9b", engine=engine, cluster=cluster, layout={**ONE, **layout}))


def item(found: Plan, phase: str, name: str, stage: int = 0) -> float:
    """Bytes of one item of a moment."""
    there = next(each for each in found.memory if each.phase == phase and each.stage == stage)
    return sum(each.amount for each in there.items if each.name == name) * GIB


def test_a_linear_layer_keeps_what_is_counted_by_hand() -> None:
    assert (LINEAR, FULL) == (94_848, 36_928)
    kept = item(dense(), "backward", ItemName.ACTIVATIONS_KEPT_LAYERS)
    assert kept == pytest.approx(TOKENS * (24 * (LINEAR + REST) + 8 * (FULL + REST)), rel=1e-9)


def test_a_step_over_transformers_holds_layers_of_both_kinds() -> None:
    """On one GPU what Transformers' modules keep, over 24 and 8 layers; without the kernels' package more."""
    norms_and_mlp = 2 * (4 + 4 + 2) * 4096 + 2 * 4 + 4 * 2 * 12288
    linear = 2 * 8192 + 448 + 2 * 2 * 2048 + 2 * 16 * 4 + 2 * 4096 + 2 * 32 * 64 + 3 * 4 * 4096 + 3 * 2 * 4096 + 4 * 32
    full = 4 * (2 * 4096 + 2 * 1024) + 4 * (16 + 4) + 2 * (4096 + 2 * 1024 + 4096) + 4 * 16 + 2 * 2 * 4096
    weights = 4 * 2 * 4096 + 8 * 32, 4 * 2 * 4096 + 4 * 2 * 256  # norms' 1 + weight, A and its negative; once a layer
    layers = 24 * (TOKENS * (linear + norms_and_mlp) + weights[0]) + 8 * (TOKENS * (full + norms_and_mlp) + weights[1])
    plain, slow = (
        estimated(scenario(model="qwen3.5-9b", engine="transformers", engine_options=options, **ALONE))
        for options in ([], ["torch_delta_rule"])
    )
    assert item(plain, "backward", ItemName.ACTIVATIONS_KEPT_LAYERS) == pytest.approx(layers, rel=1e-9)
    assert item(slow, "backward", ItemName.ACTIVATIONS_KEPT_LAYERS) == pytest.approx(
        layers + 24 * TOKENS * 233_987, rel=1e-9
    )


def test_its_backward_pass_holds_states_and_makes_again_what_it_needs() -> None:
    """w, dq, dk twice, dw; u, v', do, dv twice; two states of 128 x 128 every 64 tokens; the layer's own gradient."""
    rule = 2 * (5 + 5) * 32 * 128 + 2 * 2 * 32 * 128 * 128 // 64 + 10 * 32
    running = item(dense(), "backward", ItemName.LAYER_RUNNING_BACKWARD)
    assert running == pytest.approx(TOKENS * (rule + 2 * 4096), rel=1e-9)
    assert rule > 2 * 3 * 12288, "larger than the gradients of the MLP, which are gone by then"


def test_in_fp8_the_input_of_the_output_projection_alone_shrinks() -> None:
    """Transformer Engine keeps the fp8 input of a product; rule, convolution and norms stay in 16 bits."""
    cluster = {"node": "hgx-h100-8", "num_gpus": 1, "usable_gib": 4000}
    wide, narrow = (
        item(
            estimated(scenario(model="qwen3.5-9b", cluster=cluster, precision=precision, layout=ONE)),
            "backward",
            ItemName.ACTIVATIONS_KEPT_LAYERS,
        )
        for precision in ("bf16", "fp8")
    )
    norms_and_mlp = 2 * 4096 + 12288  # both norms' outputs, the product of gate and up: a byte less each
    rule = 32 * 128  # the gated output of the rule: a byte less
    gated = (2 - 1) * 16 * 256  # the gated output of attention: two bytes less, one of its fp8 copy more
    less = 32 * norms_and_mlp + 24 * rule + 8 * gated
    assert wide - narrow == pytest.approx(TOKENS * less, rel=1e-9)


def test_recomputation_rebuilds_the_larger_kind_of_layer() -> None:
    found = dense(recomputed_layers="all")
    rebuilt = item(found, "recomputation", ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED)
    assert rebuilt == pytest.approx(TOKENS * (LINEAR + REST), rel=1e-9)


@pytest.mark.parametrize(("model", "stages", "chunks"), [("qwen3.5-35b-a3b", 8, 1), ("qwen3-next-80b-a3b", 4, 4)])
def test_stages_have_the_layers_that_stand_on_them(model: str, stages: int, chunks: int) -> None:
    """Of five or three layers in a row some hold one that attends, some two or none."""
    layout = {**ONE, "pipeline_parallel": stages, "virtual_pipeline": chunks, "recomputed_layers": "any"}
    cluster = {"node": "hgx-h100-8", "num_gpus": stages}
    asked = problem(model=model, cluster=cluster, layout=layout)
    one = build_space(asked.alone).layouts.take(0).expand()
    layers = asked.architecture.num_hidden_layers
    each = layers // (stages * chunks)
    wanted = [0] * stages
    for layer in range(layers):
        wanted[layer // each % stages] += layer % 4 == 3
    shares = kind_share(asked, one, np.arange(stages)[None, :], "full")[0]
    assert shares * each * chunks == pytest.approx(wanted)
    assert len(set(wanted)) > 1


def test_listed_stages_too() -> None:
    split = [9, 11, 11, 9]
    layout = {**ONE, "pipeline_parallel": 4, "layers_per_stage": split, "recomputed_layers": "any"}
    asked = problem(model="qwen3.5-35b-a3b", cluster={"node": "hgx-h100-8", "num_gpus": 4}, layout=layout)
    one = build_space(asked.alone).layouts.take(0).expand()
    wanted, start = [], 0
    for (layers,) in stage_chunks(split, 1):
        wanted.append(sum(layer % 4 == 3 for layer in range(start, start + layers)) / layers)
        start += layers
    assert kind_share(asked, one, np.arange(4)[None, :], "full")[0].tolist() == pytest.approx(wanted)


def test_weights_of_all_stages_are_the_network() -> None:
    layout = {**ONE, "pipeline_parallel": 8}
    cluster = {"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": 4000}
    found = estimated(scenario(model="qwen3.5-35b-a3b", cluster=cluster, layout=layout))
    held = sum(item(found, "optimizer", ItemName.WEIGHTS, stage) for stage in range(8))
    assert held == pytest.approx(2 * 34_660_610_688, rel=1e-12)


def test_slime_holds_and_runs_linear_attention_whole_on_each_rank() -> None:
    """Weights of 24 layers are not cut over two tensor-parallel ranks, what they keep not over context ranks either."""
    linear = 4096 * (2 * 2048 + 2 * 4096 + 2 * 32) + 4 * (2 * 2048 + 4096) + 4096 * 4096 + 2 * 32
    both = {
        engine: estimated(
            scenario(
                engine=engine,
                model="qwen3.5-9b",
                task="rl",
                rl={**RL, "rollout": {"tensor_parallel": 2, "gpu_memory_utilization": 0.5}},
                cluster={"node": "hgx-h100-8", "num_gpus": 4, "usable_gib": 4000},
                batch={"micro_batch_size": 1},
                layout={**ONE, "tensor_parallel": 2, "context_parallel": 2},
            )
        )
        for engine in ("slime", "nemo-rl")
    }
    more = [item(found, "optimizer", ItemName.WEIGHTS) for found in both.values()]
    assert more[0] - more[1] == pytest.approx(2 * 24 * linear / 2, rel=1e-9)
    kept = [item(found, "backward", ItemName.ACTIVATIONS_KEPT_LAYERS) for found in both.values()]
    assert kept[0] > 2 * kept[1]


def test_a_sequence_has_a_state_and_full_layers_alone_cache_its_tokens() -> None:
    rollout = {"tensor_parallel": 1, "gpu_memory_utilization": 0.8}
    asked = problem(
        engine="slime",
        model="qwen3.5-35b-a3b",
        task="rl",
        rl={**RL, "rollout": rollout},
        cluster={"node": "dgx-h200", "num_gpus": 8},
        batch={"micro_batch_size": 1},
        layout={**ONE, "tensor_parallel": 2, "expert_parallel": 8},
    )
    costs = RolloutCosts(asked, build_space(asked.alone).rollouts)
    state = 30 * (128 * 32 * 128 * 4 + 3 * (2 * 2048 + 4096) * 2)
    assert costs.state_bytes == pytest.approx(state)
    assert costs.kv_bytes_per_token == pytest.approx(2 * 10 * 2 * 256 * 2)
    room = 0.8 * asked.usable_gib * GIB - 2 * 34_660_610_688
    assert costs.pool_tokens * costs.kv_bytes_per_token == pytest.approx(room - state)


def test_the_rules_seconds_are_those_measured_within_their_spread() -> None:
    """32 heads of 128 on H100: 1.01 and 4.02 ms for 8,192 and 32,768 tokens (sglang 0.5.14's kernels)."""
    assert rule_bytes(key=128, value=128) == 2 * (128 + 64 + 512 + 64 + 512 + 256 + 512 + 256)
    for tokens, measured_ms in ((8192, 1.0106), (32768, 4.0246)):
        seconds = rule_seconds(
            tokens=tokens, sequence_length=tokens, heads=32, key=128, value=128, memory_gb_per_s=3350
        )
        assert 0.8 < seconds * 1e3 / measured_ms < 1.25


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "torchtitan"}, "not known to train qwen3.5-9b"),
        ({"precision": "fp32"}, "precision fp32 beside linear attention"),
        ({"engine": "fsdp2", "engine_options": ["transformer_engine"]}, "some of these options beside linear"),
        ({"engine": "transformers", "model": "qwen3.5-35b-a3b", "adapter": {"rank": 8}}, "adapters on experts beside"),
        ({"optimizer": "muon"}, "optimizer muon beside linear attention"),
        ({"adapter": {"rank": 8, "targets": ["all-linear"]}}, "adapters beside linear attention"),
        ({"layout": {"layers_per_stage": "free"}}, "stages left free beside linear attention"),
        ({"layout": {"recompute_modules": ["mla_up_proj"]}}, "recomputation of these modules beside linear"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        problem(**{"model": "qwen3.5-9b", **changes})
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("model", "targets", "made"),
    [
        ("qwen3.5-9b", ["all-linear"], 43_278_336),
        ("qwen3.5-27b", ["all-linear"], 116_727_808),
        ("qwen3.5-9b", ["q_proj", "k_proj", "v_proj", "o_proj"], 3_932_160),
        ("qwen3.5-35b-a3b", ["in_proj_qkv", "in_proj_z", "out_proj"], 10_813_440),
        ("qwen3-next-80b-a3b", ["in_proj_qkvz", "out_proj"], 11_796_480),
    ],
)
def test_adapters_are_as_many_as_peft_makes(model: str, targets: list[str], made: int) -> None:
    """Rank 16, counted with peft 0.21.2 over transformers 5.23.0 on the meta device."""
    architecture = CATALOG.find("models", model)
    assert lora_parameters(architecture, 16, targets) == made


@pytest.mark.parametrize(
    ("launcher", "changes"),
    [
        ("megatron", {"layout": {"tensor_parallel": 2, "pipeline_parallel": 2}}),
        ("slime", {"engine": "slime", "task": "rl", "rl": RL, "batch": {"micro_batch_size": 1}}),
        ("axolotl", {"engine": "fsdp2", "task": "sft", "layout": {"recomputed_layers": "all"}}),
        (
            "llama-factory",
            {"engine": "deepspeed", "task": "sft", "layout": {"recomputed_layers": "all", "zero_stage": 3}},
        ),
    ],
)
def test_what_is_written_is_read_back(launcher: str, changes: dict[str, Any], tmp_path: Path) -> None:
    cluster = {"node": "hgx-h100-8", "num_gpus": 8}
    document = parse_document(json.dumps(scenario(model="qwen3.5-9b", cluster=cluster, **changes)), "trip.yaml")
    outcome = plan(document, CATALOG, check_points=0)
    assert outcome.plan is not None
    assert differences(outcome, launcher, tmp_path) == []


def test_no_published_run_of_such_a_network_was_timed_so_that_the_interval_is_that_of_all_engines() -> None:
    known, usual = dense().problem.known_errors, problem(model="qwen3-8b").known_errors
    mine, theirs = known.step(rl=False), usual.step(rl=False)
    assert mine is not None
    assert theirs is not None
    assert mine.low < theirs.low < theirs.high < mine.high
    assert "with linear attention was timed" in mine.whose
