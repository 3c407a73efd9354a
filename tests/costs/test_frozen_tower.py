"""A vision tower that stays frozen while the rest trains: weights alone, on the first stage."""

from __future__ import annotations

import json
from functools import cache

import pytest

from planner.costs.item_names import ItemName
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB

WHOLE, TOWER, PROJECTOR = 8_292_166_656, 631_975_680, 44_574_464
"""Parameters of Qwen2.5-VL-7B, of its tower and of the merger behind it (transformers 5.23.0 on the meta device)."""
BOTH = ("vision_tower", "projector")
IMAGES = {"global_batch_size": 8, "sequence_length": 1024, "micro_batch_size": 1, "image_tokens": 256}


@cache
def planned(engine: str, frozen: tuple[str, ...], changes: str = "{}") -> Plan:
    asked = {
        "name": "tower",
        "task": "sft",
        "model": "qwen2.5-vl-7b",
        "engine": engine,
        "cluster": {"gpu": "b200", "num_gpus": 8},
        "batch": {"global_batch_size": 8, "sequence_length": 1024, "micro_batch_size": 1},
        "layout": {
            "recomputed_layers": "all",
            "tensor_parallel": 1,
            "pipeline_parallel": 1,
            "layers_per_stage": "even",
        },
        "frozen": list(frozen),
    }
    more = json.loads(changes)
    layout = {**asked["layout"], **more.pop("layout", {})}  # type: ignore[dict-item]
    return estimate(parse_document(json.dumps({**asked, **more, "layout": layout}), "tower.json"))


def held(plan: Plan, stage: int = 0) -> dict[str, float]:
    """Bytes of each item as the optimizer steps."""
    moment = next(each for each in plan.memory if each.phase == "optimizer" and each.stage == stage)
    return {item.name: item.amount * GIB for item in moment.items}


@pytest.mark.parametrize(
    ("engine", "stage", "ranks", "each"),
    [("deepspeed", 1, 1, 2), ("deepspeed", 2, 1, 2), ("deepspeed", 3, 8, 2), ("fsdp2", 3, 8, 4),
     ("megatron-core", 1, 1, 2), ("transformers-ddp", 0, 1, 2)],
)  # fmt: skip
def test_gradients_and_optimizer_are_those_of_the_rest(engine: str, stage: int, ranks: int, each: int) -> None:
    """`each` bytes of a parameter are held of the tower, over as many ranks as weights are."""
    changes = json.dumps({"layout": {"zero_stage": stage}})
    for parts, count in ((BOTH, TOWER + PROJECTOR), (("vision_tower",), TOWER), (("projector",), PROJECTOR)):
        all_trained, frozen = held(planned(engine, (), changes)), held(planned(engine, parts, changes))
        share = (WHOLE - count) / WHOLE
        for name in (ItemName.GRADIENTS, ItemName.OPTIMIZER, ItemName.WEIGHTS):
            assert frozen[name] == pytest.approx(share * all_trained[name], rel=1e-9)
        assert frozen[ItemName.FROZEN_TOWER_WEIGHTS] == pytest.approx(each * count / ranks)
        if engine == "transformers-ddp":
            assert frozen[ItemName.GRADIENT_BUCKETS] == pytest.approx(share * all_trained[ItemName.GRADIENT_BUCKETS])


def test_only_the_first_stage_holds_it() -> None:
    """bf16 on Megatron, two stages: 2 B a parameter where 2 + 4 of gradients and 12 / 4 of the optimizer were."""
    change = json.dumps({"layout": {"pipeline_parallel": 2}})
    before, after = planned("megatron-core", (), change), planned("megatron-core", BOTH, change)
    assert ItemName.FROZEN_TOWER_WEIGHTS in held(after)
    assert held(after, 1).get(ItemName.FROZEN_TOWER_WEIGHTS, 0) == 0
    assert held(after, 1)[ItemName.OPTIMIZER] == held(before, 1)[ItemName.OPTIMIZER]
    less = sum(held(before).values()) - sum(held(after).values())
    reserve = before.problem.engine.reserve.median
    assert less == pytest.approx((4 + 12 / 4) * (TOWER + PROJECTOR) * reserve, rel=1e-6)


def test_blocks_of_a_tower_are_not_gathered_with_the_embedding() -> None:
    """FSDP2 gathers in 16 bits: embedding with the merger, 589.6 M parameters, before the first layer of 233 M."""
    found = next(each for each in planned("fsdp2", ()).memory if each.phase == "loss")
    gathered = sum(item.amount for item in found.items if item.name == ItemName.GATHERED_LAYERS)
    assert gathered * GIB == pytest.approx(2 * (544_997_376 + PROJECTOR + 233_057_792), rel=1e-6)


@pytest.mark.parametrize(
    ("model", "gib"), [("qwen2.5-vl-7b", 72), ("qwen3-vl-8b", 76)]
)  # fmt: skip
def test_ms_swifts_own_figures(model: str, gib: int) -> None:
    """modelscope/ms-swift @3602360a examples/megatron/multimodal/dense/full.sh (2 * 72GiB) and
    mcore_bridge/full/dense.sh (2 * 76GiB): two GPUs, TP2, 2,048 packed tokens, all recomputed, tower and aligner
    frozen."""
    change = {
        "model": model, "cluster": {"node": "hgx-h100-8", "num_gpus": 2}, "layout": {"tensor_parallel": 2},
        "batch": {"global_batch_size": 4, "sequence_length": 2048, "micro_batch_size": 1},
        "engine_options": ["native_cross_entropy_fusion"],
    }  # fmt: skip
    assert planned("megatron-core", BOTH, json.dumps(change)).peak_gib == pytest.approx(gib, rel=0.05)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "qwen2.5-7b"}, "no vision tower"),
        ({"adapter": {"rank": 8}}, "an adapter trains in the place of all weights"),
        ({"model": "mistral-small-3.1-24b", "batch": IMAGES}, "what a vision tower keeps is not known"),
        ({"batch": {**IMAGES, "image_tokens": 2048}}, "a sequence has 1024 tokens"),
    ],
)
def test_what_cannot_be_frozen_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=r"frozen|image_tokens") as refused:
        planned("fsdp2", BOTH, json.dumps(change))
    assert why in str(refused.value.problems[0].because)


def kept(engine: str, frozen: tuple[str, ...], **layout: object) -> float:
    """Bytes that the tower keeps of 1,024 patches, at the fullest moment of the first stage."""
    plan = planned(engine, frozen, json.dumps({"batch": IMAGES, "layout": layout}))
    items = [item for moment in plan.memory if moment.stage == 0 for item in moment.items]
    return max((item.amount * GIB for item in items if item.name == ItemName.ACTIVATIONS_TOWER), default=0)


@pytest.mark.parametrize(
    ("model", "depth", "hidden", "inner"),
    [("qwen2.5-vl-3b", 32, 1280, 3420), ("qwen2.5-vl-7b", 32, 1280, 3420), ("qwen3-vl-2b", 24, 1024, 4096),
     ("qwen3-vl-4b", 24, 1024, 4096), ("qwen3-vl-8b", 27, 1152, 4304), ("qwen3-vl-32b", 27, 1152, 4304),
     ("qwen3-vl-30b-a3b", 27, 1152, 4304), ("qwen3-vl-235b-a22b", 27, 1152, 4304)],
)  # fmt: skip
def test_what_autograd_counted_is_the_sum_by_hand(model: str, depth: int, hidden: int, inner: int) -> None:
    """A patch and block, in 16 bits, 16 heads. Both: projected q, k, v 6 h, q and k turned 4 h, output 2 h, log-sum-exp
    64. Qwen2.5: two norms of 4 h in fp32, 2 h normalised, 2 h scaled and 4 B each, MLP 4 x 2 f. Qwen3: two norms of
    2 h, 2 h scaled and 8 B each, MLP 2 x 2 f. Recomputed, its input 2 h."""
    found = default_catalog().find("models", model).vision_kept
    assert found is not None
    if model.startswith("qwen2.5"):
        block = 12 * hidden + 64 + 2 * (8 * hidden + 4) + 8 * inner
    else:
        block = 12 * hidden + 64 + 2 * (4 * hidden + 8) + 4 * inner
    assert found.trained_bytes - found.recomputed_bytes == depth * (block - 2 * hidden)


def test_a_tower_that_trains_keeps_what_its_patches_make() -> None:
    """256 tokens of 4 patches each; Transformers' one switch recomputes its blocks with the layers."""
    assert kept("fsdp2", (), recomputed_layers=0) == pytest.approx(1024 * 2_044_856)
    assert kept("fsdp2", ()) == kept("fsdp2", ("projector",)) == pytest.approx(1024 * 102_072)
    assert kept("fsdp2", ("vision_tower",)) == pytest.approx(1024 * 12_034)
    assert kept("fsdp2", BOTH) == 0
    assert kept("megatron-core", (), tensor_parallel=2) == pytest.approx(1024 * 2_044_856)
    assert kept("megatron-core", (), pipeline_parallel=2) == pytest.approx(2 * 1024 * 2_044_856)
