"""A vision tower that stays frozen while the rest trains: weights alone, on the first stage."""

from __future__ import annotations

import json
from functools import cache

import pytest

from planner.costs.item_names import ItemName
from planner.errors import InputError
from planner.inputs.document import parse_document
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB

WHOLE, TOWER, PROJECTOR = 8_292_166_656, 631_975_680, 44_574_464
"""Parameters of Qwen2.5-VL-7B, of its tower and of the merger behind it (transformers 5.23.0 on the meta device)."""
BOTH = ("vision_tower", "projector")


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
    ],
)
def test_what_cannot_be_frozen_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(InputError, match=r"frozen") as refused:
        planned("fsdp2", BOTH, json.dumps(change))
    assert why in str(refused.value.problems[0].because)
