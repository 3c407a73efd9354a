"""Laws that no layout breaks, tried on layouts drawn at random: length, batch, recomputation, sums, adapters, limits.

The same draws each time; more of them: HYPOTHESIS_MAX_EXAMPLES in the environment.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from planner.analysis.near import Point, front
from planner.costs.item_names import ItemName
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import document_of
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan

FEW = settings(max_examples=int(os.environ.get("HYPOTHESIS_MAX_EXAMPLES", "12")), deadline=None, derandomize=True)
FEWER = settings(FEW, max_examples=max(4, FEW.max_examples // 3))
STATE = (ItemName.WEIGHTS, ItemName.FROZEN_BASE_WEIGHTS, ItemName.GRADIENTS, ItemName.OPTIMIZER)
MODELS = {"qwen2.5-7b": 28, "llama3.1-8b": 32, "mixtral-8x7b": 32}
Document = dict[str, Any]


@cache
def catalog() -> Catalog:
    return default_catalog()


@st.composite
def pinned(draw: st.DrawFn) -> Document:
    """A scenario whose layout is settled, sometimes one that an engine refuses."""
    model = draw(st.sampled_from(sorted(MODELS)))
    tensor, stages, copies = (draw(st.sampled_from(sizes)) for sizes in ((1, 2, 4), (1, 2, 4), (1, 2, 4, 8)))
    micro = draw(st.sampled_from((1, 2)))
    return {
        "name": "law",
        "task": "pretrain",
        "model": model,
        "engine": draw(st.sampled_from(("megatron-core", "megatron-core-replicated"))),
        "cluster": {"node": "hgx-h100-8", "num_gpus": tensor * stages * copies, "usable_gib": 100_000},
        "precision": draw(st.sampled_from(("bf16", "fp16"))),
        "batch": {
            "global_batch_size": 64,
            "sequence_length": draw(st.sampled_from((512, 1024, 2048, 4096))),
            "micro_batch_size": micro,
        },
        "layout": {
            "tensor_parallel": tensor,
            "pipeline_parallel": stages,
            "data_parallel": copies,
            "context_parallel": 1,
            "expert_parallel": 1,
            "expert_tensor_parallel": tensor if model.startswith("mixtral") else 1,
            "recomputed_layers": draw(st.integers(0, MODELS[model] // stages)),
            "recompute_method": "block",
        },
    }


def changed(scenario: Document, **blocks: Document) -> Document:
    """The scenario with other values in some of its blocks."""
    return {**scenario, **{name: {**scenario.get(name, {}), **values} for name, values in blocks.items()}}


def costed(scenario: Document) -> Plan:
    """The plan, where the engine takes such a layout."""
    try:
        return estimate(document_of(scenario), catalog())
    except InputError:
        assume(False)
        raise


def kept(found: Plan, names: tuple[ItemName, ...]) -> dict[tuple[int | None, str], float]:
    """GiB of these items by stage and phase."""
    return {
        (phase.stage, phase.phase): sum(item.amount for item in phase.items if item.name in names)
        for phase in found.memory
    }


@FEW
@given(pinned())
def test_longer_sequences_and_larger_micro_batches_never_take_less_memory(scenario: Document) -> None:
    base, batch = costed(scenario), scenario["batch"]
    assert costed(changed(scenario, batch={"sequence_length": 2 * batch["sequence_length"]})).peak_gib >= base.peak_gib
    assert (
        costed(changed(scenario, batch={"micro_batch_size": 2 * batch["micro_batch_size"]})).peak_gib >= base.peak_gib
    )


@FEW
@given(pinned(), st.integers(1, 8))
def test_more_recomputation_raises_the_peak_by_one_rebuilt_layer_at_most(scenario: Document, more: int) -> None:
    """What is kept between the passes never grows (test_laws.py says so of each stage); one layer is rebuilt."""
    layers, layout = MODELS[scenario["model"]] // scenario["layout"]["pipeline_parallel"], scenario["layout"]
    deeper = min(layers, layout["recomputed_layers"] + more)
    before, after = costed(scenario), costed(changed(scenario, layout={"recomputed_layers": deeper}))
    rebuilt = max(kept(after, (ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED, ItemName.LAYER_RUNNING_BACKWARD)).values())
    assert after.peak_gib <= before.peak_gib + rebuilt + 1e-9


@FEW
@given(pinned())
def test_ledgers_add_up_and_throughput_is_work_over_time(scenario: Document) -> None:
    found = costed(scenario)
    batch = scenario["batch"]
    tokens = batch["global_batch_size"] * batch["sequence_length"]
    assert found.tokens_per_second == pytest.approx(tokens / found.step_seconds)
    assert found.step_seconds == pytest.approx(sum(entry.amount for entry in found.time))
    assert found.step_seconds == pytest.approx(sum(seconds for _, seconds in found.phases))
    for phase in found.memory:
        assert phase.total_gib == pytest.approx(sum(item.amount for item in phase.items))
        assert all(item.amount >= 0 for item in phase.items)
    assert found.peak_gib == max(phase.total_gib for phase in found.memory)
    assert found.headroom_gib == pytest.approx(found.usable_gib - found.peak_gib)


@FEW
@given(
    st.sampled_from(("fsdp2", "transformers", "deepspeed")),
    st.sampled_from((1, 2, 8)),
    st.sampled_from((8, 64, 128)),
    st.sampled_from(("lora", "rslora")),
)
def test_adapters_never_keep_more_state_than_full_training(engine: str, gpus: int, rank: int, variant: str) -> None:
    scenario: Document = {
        "name": "law",
        "task": "sft",
        "model": "llama3.1-8b",
        "engine": engine,
        "cluster": {"node": "hgx-h100-8", "num_gpus": gpus, "usable_gib": 100_000},
        "batch": {"global_batch_size": 16, "sequence_length": 1024, "micro_batch_size": 1},
        "layout": {"data_parallel": gpus, "context_parallel": 1, "recomputed_layers": 0, "zero_stage": 3},
    }
    if engine == "transformers":
        scenario = changed(scenario, layout={"zero_stage": 0})
    full = kept(costed(scenario), STATE)
    small = kept(costed({**scenario, "adapter": {"rank": rank, "variant": variant}}), STATE)
    assert max(small.values()) <= max(full.values())


@FEW
@given(
    st.sampled_from(("deepspeed", "fsdp1", "fsdp2", "megatron-core", "torchtune", "transformers")),
    st.sampled_from(("llama3.1-8b", "qwen2.5-7b")),
    st.sampled_from((2048, 4096, 8192)),
    st.sampled_from((8, 64)),
    st.sampled_from((["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"])),
    st.sampled_from((0.0, 0.05)),
    st.sampled_from((0, "all")),
)
def test_lora_is_not_slower_and_where_layers_are_recomputed_not_larger_than_full_training(
    engine: str, model: str, length: int, rank: int, targets: list[str], dropout: float, recomputed: int | str
) -> None:
    """Exceptions, each an engine's own kernels (benchmarks/adapters.py names them): networks of one or two billion
    parameters and short micro-batches, whose thin kernels and launches outweigh the products saved; peft's casts around
    every projection, and its fp32 products without autocast; ZeRO-3's hooks of two more modules for each adapter;
    DoRA's norms of whole matrices; a base in few bits; inputs of adapters, which layers that are not recomputed keep.
    """
    options = {"transformers": ["autocast_16bit_weights"], "fsdp1": ["mixed_precision"]}.get(engine, [])
    gpus = 1 if engine in ("torchtune", "transformers") else 4
    scenario: Document = {
        "name": "law",
        "task": "sft",
        "model": model,
        "engine": engine,
        "engine_options": options,
        "cluster": {"node": "hgx-a100-8", "num_gpus": gpus, "usable_gib": 100_000},
        "batch": {"global_batch_size": 16, "sequence_length": length, "micro_batch_size": 1},
        "layout": {"data_parallel": gpus, "context_parallel": 1, "recomputed_layers": recomputed},
    }
    if engine == "deepspeed":
        scenario = changed(scenario, layout={"zero_stage": 2})
    adapter = {"rank": rank, "targets": targets, "dropout": dropout}
    full, lora = costed(scenario), costed({**scenario, "adapter": adapter})
    assert sum(item.amount for item in lora.time) <= sum(item.amount for item in full.time)
    assert recomputed == 0 or lora.peak_gib <= full.peak_gib


def best(scenario: Document) -> float:
    """Tokens a second of the best plan, 0 where nothing fits."""
    outcome = plan(document_of(scenario), catalog(), check_points=0)
    assert outcome.status in ("optimal", "infeasible")
    return outcome.plan.tokens_per_second if outcome.plan is not None else 0.0


@FEWER
@given(
    st.sampled_from((40, 60, 80)),
    st.sampled_from((1024, 4096)),
    st.sampled_from(([1], [2, 4], [1, 8])),
    st.sampled_from((1.05, 1.5)),
)
def test_more_memory_and_more_allowed_values_never_make_the_optimum_worse(
    usable: int, length: int, tensor: list[int], times: float
) -> None:
    scenario: Document = {
        "name": "law",
        "task": "sft",
        "model": "llama3.1-8b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": usable},
        "batch": {"global_batch_size": 32, "sequence_length": length, "micro_batch_size": [1, 2]},
        "layout": {"tensor_parallel": tensor, "pipeline_parallel": [1, 2], "layers_per_stage": "even"},
        "limits": {"headroom_gib": 2},
        "search": {"near_tie": 0},
    }
    base = best(scenario)
    assert best(changed(scenario, cluster={"usable_gib": usable * times})) >= base
    assert best(changed(scenario, layout={"tensor_parallel": sorted({*tensor, 1, 2, 4})})) >= base
    assert best(changed(scenario, batch={"micro_batch_size": [1, 2, 4]})) >= base


@cache
def bought(usd: float) -> tuple[Point, ...]:
    """The front of throughput over dollars at a price of a GPU hour."""
    scenario: Document = {
        "name": "law",
        "task": "sft",
        "model": "qwen2.5-7b",
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": [4, 8]},
        "batch": {"global_batch_size": 16, "sequence_length": 2048, "micro_batch_size": 1},
        "layout": {"tensor_parallel": 4, "pipeline_parallel": 1},
    }
    return front(document_of(scenario), catalog(), "dollars", price_usd_per_gpu_hour=usd).points


@settings(FEWER, max_examples=3)
@given(st.floats(0.01, 100))
def test_prices_scale_costs(usd: float) -> None:
    once, more = bought(2.0), bought(usd)
    assert [point.plan.layout for point in once] == [point.plan.layout for point in more]
    assert [usd / 2.0 * point.value for point in once] == pytest.approx([point.value for point in more])
