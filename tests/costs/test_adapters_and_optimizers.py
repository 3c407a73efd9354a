"""Adapters and optimizers: bytes of state by hand arithmetic."""

from __future__ import annotations

from typing import Any

import pytest
from memory_problems import ADAPTED, CATALOG, estimated, pinned, problem

from planner.errors import InputError
from planner.units import GIB


def state_of(**changes: Any) -> dict[str, float]:
    """GiB of each item of the optimizer moment of a one-GPU run of plain Transformers on Llama-3.2-3B."""
    found = estimated(pinned("transformers", model="llama3.2-3b", task="sft", **changes))
    return {e.name: e.amount for e in next(p for p in found.memory if p.phase == "optimizer").items}


LAYERS, HIDDEN, KEYS, VOCAB, RANK = 28, 3072, 1024, 128256, 32
QV = {"rank": RANK, "targets": ["q_proj", "v_proj"]}
LORA = LAYERS * RANK * (2 * HIDDEN + HIDDEN + KEYS)


@pytest.mark.parametrize(
    ("adapter", "weights", "trained"),
    [
        ({}, 4 * LORA, 4 * LORA),
        ({"variant": "rslora"}, 4 * LORA, 4 * LORA),
        # magnitudes: one an output of q_proj and v_proj; 9,289,728 in all, as peft counts (peft-30 of the data)
        ({"variant": "dora"}, 4 * 9_289_728, 4 * 9_289_728),
        ({"variant": "lora-fa"}, 4 * LORA, 4 * LAYERS * RANK * (HIDDEN + KEYS)),
        (
            {"modules_to_save": ["embed_tokens", "lm_head"]},
            4 * LORA + 4 * VOCAB * HIDDEN,
            4 * LORA + 4 * VOCAB * HIDDEN,
        ),
        ({"modules_to_save": ["lm_head"]}, 4 * LORA + 2 * VOCAB * HIDDEN, 4 * LORA + 2 * VOCAB * HIDDEN),
    ],
)
def test_adapters_by_hand(adapter: dict[str, Any], weights: int, trained: int) -> None:
    """fp32 adapters; tables trained whole are 16-bit copies beside the frozen ones."""
    items = state_of(adapter=QV | adapter)
    assert items["weights"] * GIB == pytest.approx(weights, rel=1e-9)
    assert items["gradients"] * GIB == pytest.approx(trained, rel=1e-9)
    assert items["frozen base weights"] * GIB == pytest.approx(2 * 3_212_749_824, rel=1e-9)


def test_nf4_is_four_bits_and_a_bit() -> None:
    """Dettmers et al. 2023, section 3: 4 + 8/64 + 32/(64 * 256) = 4.127 bits; 4 + 32/64 = 4.5 without."""
    assert CATALOG.find("precisions", "nf4").weight_bytes * 8 == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=5e-4)
    assert CATALOG.find("precisions", "nf4-single").weight_bytes * 8 == 4.5
    inner = 3_212_749_824 - VOCAB * HIDDEN - HIDDEN
    quantised = state_of(adapter=QV | {"base_precision": "nf4"})
    ends = 2 * (VOCAB * HIDDEN + HIDDEN)
    assert quantised["frozen base weights"] * GIB == pytest.approx(0.515875 * inner + ends, rel=1e-9)


def test_all_linear_is_every_matrix_by_name() -> None:
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    both = [
        estimated(pinned("transformers", task="sft", adapter={"rank": 16, "targets": t}))
        for t in (["all-linear"], names)
    ]
    assert both[0].memory == both[1].memory


def test_an_adapter_that_an_engine_does_not_describe_is_refused() -> None:
    for variant, engine in (("dora", "megatron-core"), ("dora", "nanotron"), ("lora-fa", "nanotron")):
        with pytest.raises(InputError, match=f"does not say what {variant} adapters keep"):
            problem(engine=engine, adapter=ADAPTED | {"variant": variant})


def test_dora_norms_one_matrix_at_a_time() -> None:
    """Beside a running layer's recomputation: 16 B an element of down_proj and 4 B of a square of its inputs."""
    document = pinned("transformers", task="sft", adapter=ADAPTED | {"variant": "dora"})
    document["layout"]["recomputed_layers"] = "all"
    moment = next(p for p in estimated(document).memory if p.phase == "recomputation")
    norm = next(e for e in moment.items if e.name == "norm under magnitudes")
    assert norm.amount * GIB == 16 * 14336 * 4096 + 4 * 14336**2


WHOLE, INNER, NORMS = 3_212_749_824, 3_212_749_824 - VOCAB * HIDDEN - HIDDEN, LAYERS * 2 * HIDDEN
MATRICES = ((HIDDEN, HIDDEN), (HIDDEN, KEYS), (HIDDEN, KEYS), (HIDDEN, HIDDEN), *((HIDDEN, 8192),) * 3)


def megatron_state(optimizer: str) -> dict[str, float]:
    """Bytes of the optimizer moment of Llama-3.2-3B on one GPU of Megatron-core, whose tables are padded to 128,256."""
    found = estimated(pinned("megatron-core", model="llama3.2-3b", optimizer=optimizer))
    return {e.name: e.amount * GIB for e in next(p for p in found.memory if p.phase == "optimizer").items}


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("adamw", 12 * WHOLE),
        ("adamw-foreach", 12 * WHOLE),
        ("lion", 8 * WHOLE),
        ("sgd-momentum", 8 * WHOLE),
        ("adamw-8bit", 2.03125 * WHOLE),
        # momentum and master copy 8 B; embedding, final norm and norms 4 B more, for AdamW takes them
        ("muon", 8 * WHOLE + 4 * (VOCAB * HIDDEN + HIDDEN + NORMS)),
        # rows and columns of each matrix and of the table, vectors whole, fp32
        ("adafactor", 4 * (LAYERS * sum(map(sum, MATRICES)) + VOCAB + 2 * HIDDEN + NORMS)),
        # two fp32 moments of rank x longer side, a projector of rank x shorter side; all else plain AdamW
        (
            "galore",
            LAYERS * 128 * sum(8 * max(m) + 4 * min(m) for m in MATRICES) + 8 * (VOCAB * HIDDEN + HIDDEN + NORMS),
        ),
    ],
)
def test_optimizer_state_by_hand(optimizer: str, expected: float) -> None:
    assert megatron_state(optimizer)["optimizer"] == pytest.approx(expected, rel=1e-4)


def test_foreach_adds_four_bytes_while_it_steps() -> None:
    more = megatron_state("adamw-foreach")["optimizer temporaries"]
    less = megatron_state("adamw").get("optimizer temporaries", 0.0)
    assert more - less == pytest.approx(4 * WHOLE, rel=1e-12)


def test_galore_of_the_paper_in_one_matrix() -> None:
    """arXiv:2403.03507, table 1: optimizer states m r + 2 n r, and plain moments where the rank is not below m."""
    from planner.formulas.optimizer_state import projected

    kept = projected(1024, moment_bytes=8, projector_bytes=4)
    assert kept(4096, 11008) == 4 * (4096 * 1024 + 2 * 11008 * 1024)
    assert kept(512, 2048) == 8 * 512 * 2048


@pytest.mark.parametrize(("optimizer", "each"), [("paged-adamw-8bit", 2.03125), ("paged-adamw-32bit", 8.0)])
def test_paged_state_is_on_the_host_and_comes_back_a_tensor_at_a_time(optimizer: str, each: float) -> None:
    found = estimated(pinned("megatron-core", model="llama3.2-3b", optimizer=optimizer))
    items = megatron_state(optimizer)
    assert "optimizer" not in items
    assert items["optimizer state brought back"] == pytest.approx(each * (VOCAB * HIDDEN + HIDDEN), rel=1e-9)
    host = {e.name: e.amount for e in found.host}
    assert host["paged optimizer state"] * GIB == pytest.approx(each * WHOLE, rel=1e-9)
    plain = estimated(pinned("megatron-core", model="llama3.2-3b", optimizer=found.problem.optimizers[0].id[6:].replace(
        "adamw-32bit", "adamw-no-master")))  # fmt: skip
    fetched = 2 * each * WHOLE / (0.8 * found.problem.gpu.pcie_gb_per_s * 1e9)
    assert dict(found.phases)["update"] - dict(plain.phases)["update"] == pytest.approx(fetched, rel=1e-6)


def test_offloaded_state_counts_the_same_bytes_on_the_host() -> None:
    for optimizer in ("adamw", "lion"):
        document = pinned("deepspeed", model="llama3.2-3b", optimizer=optimizer)
        phase = next(p for p in estimated(document).memory if p.phase == "optimizer")
        kept = next(e.amount * GIB for e in phase.items if e.name == "optimizer")
        document["layout"]["optimizer_offload"] = True
        host = {e.name: e.amount * GIB for e in estimated(document).host}
        assert host["optimizer on the host"] == pytest.approx(kept, rel=1e-12)


def test_adapter_moments_are_fp32_beside_16_bit_weights() -> None:
    """torch makes moments in the format of what trains: fp32 for adapters, bf16 for tables trained whole."""
    items = state_of(adapter=QV | {"modules_to_save": ["lm_head"]})
    assert items["optimizer"] * GIB == pytest.approx(8 * LORA + 4 * VOCAB * HIDDEN, rel=1e-9)


def test_the_paged_tensor_of_experts_is_their_stack() -> None:
    """Mixtral 8x7B: 8 x 28,672 x 4,096 elements of gate and up, 8 B each: 7 GiB come back at once."""
    found = estimated(pinned("transformers", model="mixtral-8x7b", optimizer="paged-adamw-32bit"))
    items = {e.name: e.amount for e in next(p for p in found.memory if p.phase == "optimizer").items}
    assert items["optimizer state brought back"] * GIB == pytest.approx(8 * 8 * 28_672 * 4_096, rel=1e-9)
