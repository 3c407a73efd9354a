"""Networks whose layers are one block alone (Mamba-2, attention, experts): counts by hand, kinds by listing them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from memory_problems import CATALOG, estimated, problem, scenario

from planner.costs.item_names import ItemName
from planner.costs.memory.layer_kinds import first_kind, kind_share
from planner.errors import InputError
from planner.formulas.model_flop import model_flop_per_token
from planner.formulas.parameters import count_parameters
from planner.formulas.state_scan import scan_bytes, scan_seconds
from planner.inputs.hf_config import architecture_from_hf_config
from planner.search.plan import Plan
from planner.search.space import build_space
from planner.units import GIB

NANO = "nemotron-3-nano-30b-a3b"
TOKENS = 4096
ONE: dict[str, Any] = {"cluster": {"node": "hgx-h100-8", "num_gpus": 1, "usable_gib": 4000}}

# One layer of each kind, bytes a token in 16 bits but where fp32 is said; hidden 2688, 64 heads of 64, 8 groups of 128.
NORM = 2 * 4 * 2688 + 4  # its input and the same normalised in fp32, and a scale
INPUT = 2 * 2688
PROJECTED = 2 * (2 * 4096 + 2 * 8 * 128 + 64)  # gate, heads, what groups write and read, step sizes
MAMBA = NORM + INPUT + PROJECTED + 2 * 4096 + 4 * 8  # the scan's output, and a norm for each group
ATTENTION = NORM + INPUT + 2 * (2 * 4096 + 2 * 256) + 4 * 32  # q and output, k and v, one sum a head
ROUTING = 4 * 2688 + 4 * 128 + 128 + 24 + 6 * (32 + 4 + 4) + 4  # its fp32 input, sigmoid, masks, indices, weights
EXPERTS = NORM + INPUT + ROUTING + 6 * 2 * (2 * 2688 + 2 * 1856) + 2 * 2 * 3712
MAMBA_PARAMETERS = 2688 * (PROJECTED // 2) + 5 * 6144 + 3 * 64 + 4096 + 4096 * 2688 + 2688
ONCE = 23 * 2 * 4 * 64 + 23 * 128 * (4 + 4 * 2688)  # A and its negative; offsets of experts, the router in fp32


def item(found: Plan, phase: str, name: str) -> float:
    """Bytes of one item of a moment."""
    there = next(each for each in found.memory if each.phase == phase)
    return sum(each.amount for each in there.items if each.name == name) * GIB


def test_layers_keep_what_is_counted_by_hand() -> None:
    assert (MAMBA, ATTENTION) == (55_716, 44_420)
    found = estimated(scenario(model=NANO, engine="transformers", layout={"recomputed_layers": 0}, **ONE))
    kept = item(found, "backward", ItemName.ACTIVATIONS_KEPT_LAYERS)
    assert kept == pytest.approx(TOKENS * (23 * MAMBA + 6 * ATTENTION + 23 * EXPERTS) + ONCE, rel=1e-9)


def test_its_backward_pass_holds_the_scan_made_again() -> None:
    """Nemotron-H 56B: 256 heads of 64, 8 groups of 256; states of 128 tokens in fp32 and 16 bits, twice."""
    found = estimated(scenario(model="nemotron-h-56b", engine="transformers", layout={"recomputed_layers": 0}, **ONE))
    running = item(found, "backward", ItemName.LAYER_RUNNING_BACKWARD)
    width, mixed = 16384, 16384 + 2 * 8 * 256
    made = 2 * (3 * width + 2 * mixed + width + mixed + 256) + 256 * (8 + 2) + 4 * 8 * 128
    states = 2 * (4 + 2) * width * 256 // 128 + 4 * width * 256 // 64 // 128 + 4 * 256 // 128
    assert running == pytest.approx(TOKENS * (made + states + 2 * 2 * 8192), rel=1e-9)


def test_the_first_layers_gradients_come_last() -> None:
    """The end of the backward pass waits for those of the embedding and of the first layer, one of Mamba-2."""
    steps = [
        estimated(
            scenario(
                model=NANO,
                engine="transformers",
                layout={"recomputed_layers": "all"},
                batch={"global_batch_size": sequences, "sequence_length": TOKENS, "micro_batch_size": 1},
                **ONE,
            )
        )
        for sequences in (8, 1)
    ]
    running, last = (
        [item(found, phase, ItemName.LAYER_RUNNING_BACKWARD) for found in steps]
        for phase in ("backward", "end_of_backward")
    )
    later = last[0] - last[1] - (running[0] - running[1])
    assert later == pytest.approx(2 * (MAMBA_PARAMETERS + 131072 * 2688), rel=1e-9)


@pytest.mark.parametrize("stages", [2, 4])
def test_stages_have_the_layers_that_stand_on_them(stages: int) -> None:
    pattern = CATALOG.find("models", NANO).hybrid_override_pattern or ""
    asked = problem(model=NANO, engine="transformers", **ONE)
    one = build_space(asked.alone).layouts.take(0).expand()
    one = type(one)(**{**vars(one), "pipeline_parallel": np.full_like(one.pipeline_parallel, stages)})
    each, places = len(pattern) // stages, np.arange(stages)[None, :]
    for kind, letter in (("mamba", "M"), ("attention", "*"), ("mlp", "E")):
        wanted = [pattern[at * each : (at + 1) * each].count(letter) / each for at in range(stages)]
        assert kind_share(asked, one, places, kind)[0].tolist() == pytest.approx(wanted)
    kinds = asked.architecture.kinds
    firsts = [kinds[at] for at in first_kind(asked, one, places)[0]]
    assert firsts == [{"M": "mamba", "*": "attention", "E": "mlp"}[pattern[at * each]] for at in range(stages)]


def test_units_gathered_together_stand_side_by_side() -> None:
    """FSDP gathers two layers at once: experts and Mamba-2 before or behind them, never twice experts."""
    layout = {"recomputed_layers": "all", "zero_stage": 3}
    cluster = {"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": 4000}
    found = estimated(scenario(model=NANO, engine="fsdp2", cluster=cluster, layout=layout))
    experts = 128 * 2 * 2688 * 1856 + 128 * 2688 + 2 * 2688 * 3712 + 2688
    gathered = item(found, "recomputation", ItemName.GATHERED_LAYERS)
    assert gathered == pytest.approx(2 * (MAMBA_PARAMETERS + experts) + 2 * experts, rel=1e-9)


def test_model_flop_are_products_of_the_active_parameters_and_states() -> None:
    a = CATALOG.find("models", NANO)
    used = 3_580_073_408 - 131072 * 2688
    by_hand = 6 * used + 12 * 6 * 4096 * 8192 + 12 * 23 * 4096 * 128
    assert model_flop_per_token(a, count_parameters(a), 8192) == by_hand


def test_seconds_of_the_scan_are_bytes_and_a_chain() -> None:
    """One chunk of 128 tokens of 64 heads of 64, 8 groups of 128: 4,096 numbers of states and 1,024 of squares."""
    shape = {"width": 4096.0, "shared": 2048.0, "state": 4096.0, "square": 1024.0}
    forward = 2 * 5120 + 4 * 4096 + 2 * 2048 + 4 * 1024 + 6 * 4096 + 4 * 1024 + 2 * 9216 + 2 * 4096
    assert scan_bytes(**shape) == forward
    assert 2 < scan_bytes(**shape, backward=True) / forward < 4
    one, two = (
        scan_seconds(tokens=t, sequence_length=128, chunk=128, bytes_a_token=forward, memory_gb_per_s=3350)
        for t in (128, 256)
    )
    assert two - one == pytest.approx(128 * forward / (0.42 * 3350e9))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "torchtitan"}, "not known to train nemotron-3-nano"),
        ({"engine": "prime-rl"}, "not known to train nemotron-3-nano"),
        ({"adapter": {"rank": 8, "targets": ["q_proj"]}}, "adapters beside Mamba-2"),
        ({"optimizer": "adafactor"}, "optimizer adafactor beside Mamba-2"),
        ({"engine_options": ["fused_head"]}, "some of these options beside Mamba-2"),
    ],
)
def test_what_is_not_counted_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        problem(**{"model": NANO, "engine": "fsdp2", **changes})


CONFIG: dict[str, Any] = {
    "model_type": "nemotron_h", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 96, "vocab_size": 128,
    "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4,
}  # fmt: skip


def test_blocks_may_be_letters_or_words() -> None:
    letters = architecture_from_hf_config({**CONFIG, "hybrid_override_pattern": "M-M*"}, "a")
    words = {"layers_block_type": ["mamba", "mlp", "linear_attention", "full_attention"]}
    same = architecture_from_hf_config({**CONFIG, **words}, "a")
    assert letters.hybrid_override_pattern == same.hybrid_override_pattern == "M-M*"
    mamba = 64 * (2 * 128 + 2 * 2 * 16 + 8) + 5 * (128 + 64) + 3 * 8 + 128 + 128 * 64
    blocks = 2 * mamba + 2 * 64 * 96 + 64 * (64 + 2 * 32) + 64 * 64
    assert count_parameters(letters).total == blocks + 5 * 64 + 2 * 64 * 128


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"layers_block_type": ["mamba", "conv", "mlp", "moe"]}, "block conv"),
        ({}, "missing hybrid_override_pattern"),
        ({"hybrid_override_pattern": "M-M"}, "has 3 letters"),
        ({"hybrid_override_pattern": "MEM*"}, "dense MLPs"),
        ({"hybrid_override_pattern": "M-M*", "use_conv_bias": False}, "convolution has no bias"),
        ({"hybrid_override_pattern": "M-M*", "residual_in_fp32": True}, "residual stream in fp32"),
        ({"hybrid_override_pattern": "M-M*", "moe_latent_size": 32}, "experts in a latent space"),
    ],
)
def test_other_blocks_are_refused_by_their_key(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        architecture_from_hf_config({**CONFIG, **keys}, "a")
