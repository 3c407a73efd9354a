"""Gradients that no micro-batch but a step's last reduces lie whole on every rank (FSDP under the Trainer)."""

from __future__ import annotations

import json

import numpy as np
import pytest

from planner.costs.item_names import ItemName
from planner.costs.time.layer import LayerTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import parse_document
from planner.problem.layouts import Layouts
from planner.problem.whole_gradients import adding_bytes, gathering_shares, reducing_share, staying_share
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GIB


def planned(model: str, engine: str, micro_batches: int, *options: str, **changes: object) -> Plan:
    asked = {
        "name": "whole",
        "task": "sft",
        "model": model,
        "engine": engine,
        "engine_options": list(options),
        "cluster": {"node": "hgx-a100-8", "num_gpus": 8},
        "batch": {"global_batch_size": 8 * micro_batches, "sequence_length": 2048, "micro_batch_size": 1},
        "layout": {"recomputed_layers": "all", **({"zero_stage": 3} if engine == "deepspeed" else {})},
    }
    return estimate(parse_document(json.dumps({**asked, **changes}), "whole.json"))


def whole(found: Plan, phase: str = "loss") -> float:
    """[GiB]"""
    items = next(moment for moment in found.memory if moment.phase == phase).items
    return sum(item.amount for item in items if item.name == ItemName.GRADIENTS_NOT_YET_REDUCED)


@pytest.mark.parametrize("engine", ["fsdp1", "fsdp2"])
def test_all_micro_batches_but_the_last_leave_them_whole(engine: str) -> None:
    """2 B of 8.03 G parameters, 15.0 GiB on each of eight ranks, however many they are."""
    once, twice, often = (planned("llama3-8b", engine, n) for n in (1, 2, 16))
    parameters = twice.problem.parameters.total
    assert whole(once) == 0
    assert whole(twice) == whole(often) == pytest.approx(2 * parameters / GIB, rel=1e-3)
    assert whole(twice) == pytest.approx(15.0, abs=0.1)


@pytest.mark.parametrize("engine", ["fsdp1", "fsdp2"])
def test_none_does_where_each_micro_batch_reduces_them(engine: str) -> None:
    assert whole(planned("llama3-8b", engine, 16, "sync_each_batch")) == 0
    assert planned("llama3-8b", engine, 1, "sync_each_batch").peak_gib == planned("llama3-8b", engine, 1).peak_gib


@pytest.mark.parametrize("engine", ["torchtitan", "prime-rl", "verl-fsdp2", "slime-fsdp", "nemo-rl-fsdp2"])
def test_engines_that_reduce_every_micro_batch_keep_none(engine: str) -> None:
    zero = default_catalog().find("engines", engine).zero_three
    assert zero is not None
    assert zero.unreduced in ("never", "in a pipeline")


@pytest.mark.parametrize(
    "engine", ["torchtitan", "prime-rl", "verl-fsdp2", "slime-fsdp", "nemo-rl-fsdp2", "verl-fsdp1"]
)
def test_stacks_with_a_policy_of_their_own_reduce_in_fp32(engine: str) -> None:
    found = default_catalog().find("engines", engine)
    assert found.gradient_reduce_bytes == 4
    assert found.zero_three is not None
    assert found.zero_three.reduced_bytes >= 4


def test_what_waits_for_its_reduction_is_half_in_16_bits() -> None:
    """Accelerate reduces in the format of mixed precision: 2 B of the largest unit, the head's 525 M parameters, are
    counted where fp32 took 4, and 2 B of the whole network between micro-batches."""
    once, wide = (planned("llama3-8b", "fsdp2", 1, *options) for options in ((), ("fp32_reduction",)))

    def gathered(found: Plan) -> float:
        items = next(moment for moment in found.memory if moment.phase == "backward").items
        return sum(item.amount for item in items if item.name == ItemName.GATHERED_LAYERS)

    assert gathered(wide) - gathered(once) == pytest.approx(2 * 128_256 * 4_096 / GIB, rel=1e-3)
    several = planned("llama3-8b", "fsdp2", 2, "fp32_reduction")
    assert whole(several) == pytest.approx(4 * several.problem.parameters.total / GIB, rel=1e-3)


def test_adapters_are_as_small_whole() -> None:
    adapter = {"rank": 8, "targets": ["all-linear"], "base_precision": "bf16"}
    found = planned("llama3-8b", "fsdp2", 2, adapter=adapter)
    assert 0 < whole(found) < 0.1


def test_as_accelerates_own_guide_found_it() -> None:
    """Mixtral 8x7B trained whole by FSDP1 on eight A100 of 80 GB: 69 GB with one micro-batch, out of memory with two,
    69 GB with 16 that are reduced each (accelerate, docs/source/concept_guides/gradient_synchronization.md; lengths
    are not said there, so that the first figure says little and the other two all)."""
    once = planned("mixtral-8x7b", "fsdp1", 1)
    twice = planned("mixtral-8x7b", "fsdp1", 2)
    each = planned("mixtral-8x7b", "fsdp1", 16, "sync_each_batch")
    assert min(once.headroom_gib, each.headroom_gib) > 0 > twice.headroom_gib
    assert each.peak_gib == pytest.approx(once.peak_gib, rel=0.03)
    assert whole(twice) == pytest.approx(2 * twice.problem.parameters.total / GIB, rel=1e-3)


def layer_seconds(model: str, engine: str, micro_batches: int, *options: str) -> tuple[float, float]:
    """(gathers alone, gathers and reduction) of one layer and micro-batch, nothing of it hidden. [s]"""
    found = planned(model, engine, micro_batches, *options)
    rows = Layouts(**{name: np.array([[value]]) for name, value in found.layout.items()})
    none = np.asarray(0.0)
    forward, backward = LayerTime(found.problem, rows).zero_three((none, none))
    return float(forward.item()), float(backward.item())


@pytest.mark.parametrize(
    ("engine", "options", "sent_bytes"), [("fsdp1", (), 2), ("fsdp2", (), 2), ("fsdp2", ("fp32_reduction",), 4)]
)
def test_the_reduction_takes_its_time_once_a_step(engine: str, options: tuple[str, ...], sent_bytes: int) -> None:
    """218 M parameters a layer of Llama 3 8B; of eight ranks each sends 7/8 at NCCL's bus rate, 150 to 250 GB/s."""
    each = layer_seconds("llama3-8b", engine, 4, "sync_each_batch", *options)
    once = layer_seconds("llama3-8b", engine, 4, *options)
    reduced = each[1] - each[0]
    assert 7 / 8 * sent_bytes * 218.1e6 / 250e9 < reduced < 7 / 8 * sent_bytes * 218.1e6 / 150e9
    assert once[0] == each[0]
    assert once[1] - once[0] == pytest.approx(reduced / 4)
    single = layer_seconds("llama3-8b", engine, 1, *options)
    assert single == layer_seconds("llama3-8b", engine, 1, "sync_each_batch", *options)


def test_a_steps_gathers_grow_by_the_micro_batch_and_its_reduction_does_not() -> None:
    """n gathers and one reduction: a step of 16 micro-batches is 15 gathers longer than one of a single one."""

    def seconds(micro_batches: int, *options: str) -> float:
        entries = planned("llama3-8b", "fsdp1", micro_batches, *options).time
        return sum(entry.amount for entry in entries if entry.name == ItemName.GATHERING_SHARDED_WEIGHTS)

    one, eight, sixteen = (seconds(n) for n in (1, 8, 16))
    gather = (sixteen - eight) / 8
    assert sixteen == pytest.approx(one + 15 * gather)
    assert seconds(16, "sync_each_batch") == pytest.approx(16 * one)
    assert 0 < gather < one


def in_a_pipeline(
    engine: str, pipeline: int, micro_batches: int, *options: str, chunks: int = 1
) -> tuple[Plan, Layouts]:
    """Eight GPUs, one sequence a micro-batch."""
    pins = dict.fromkeys(("tensor_parallel", "context_parallel"), 1)
    layout = {**pins, "pipeline_parallel": pipeline, "virtual_pipeline": chunks, "zero_stage": 3}
    layout |= {"layers_per_stage": "even", "recomputed_layers": "all"}
    batch = {"global_batch_size": 8 // pipeline * micro_batches, "sequence_length": 2048, "micro_batch_size": 1}
    found = planned("llama3-8b", engine, micro_batches, *options, layout=layout, batch=batch)
    rows = Layouts(**{name: np.array([value]) for name, value in found.layout.items()})
    assert int(rows.num_micro_batches[0]) == micro_batches
    return found, rows


@pytest.mark.parametrize(
    ("engine", "pipeline", "micro_batches", "share"),
    [("fsdp1", 1, 4, 1 / 4), ("torchtitan", 1, 4, 1), ("torchtitan", 2, 4, 1 / 5), ("deepspeed", 1, 4, 1)],
)
def test_one_of_all_backward_passes_reduces(engine: str, pipeline: int, micro_batches: int, share: float) -> None:
    """Of a pipeline of two stages a step with four micro-batches lasts five passes."""
    found, rows = in_a_pipeline(engine, pipeline, micro_batches)
    assert float(reducing_share(found.problem, rows)[0]) == pytest.approx(share)


@pytest.mark.parametrize(
    ("pipeline", "chunks", "options", "shares", "staying"),
    [
        (1, 1, (), (1, 1), 0),
        (1, 1, ("no_reshard",), (1, 0), 1),
        (2, 1, (), (1 / 5, 0), 1),
        (2, 2, (), (1 / 4.5, 0), 1),
        (2, 4, (), (1, 1), 3 / 4),  # three of four chunks at once, in turn
    ],
)
def test_weights_that_stay_gathered_are_gathered_once(
    pipeline: int, chunks: int, options: tuple[str, ...], shares: tuple[float, float], staying: float
) -> None:
    """torchtitan in memory and in time alike: a step of four micro-batches."""
    found, rows = in_a_pipeline("torchtitan", pipeline, 4, *options, chunks=chunks)
    assert [float(each[0]) for each in gathering_shares(found.problem, rows)] == pytest.approx(shares)
    assert float(staying_share(found.problem, rows)[0]) == pytest.approx(staying)


def test_a_pipeline_gathers_in_its_first_pass_and_reduces_after_its_last() -> None:
    """218 M parameters a layer, four ranks: 3/4 of 2 B gathered and of 4 B reduced, nothing beside the reduction."""
    found, rows = in_a_pipeline("torchtitan", 2, 4)
    endless = np.full((1, 1), 1e9)
    columns = {name: np.asarray(getattr(rows, name)).reshape(1, 1) for name in found.layout}
    forward, backward = LayerTime(found.problem, Layouts(**columns)).zero_three((endless, endless))
    hidden = 1 - found.problem.engine.overlap.data * (1 - found.problem.engine.timing.sm_tax)
    assert 5 * float(backward.item()) == pytest.approx(2 * 5 * float(forward.item()) / hidden, rel=0.1)
    assert 3 / 4 * 4 * 218.1e6 / 250e9 < 5 * float(backward.item()) < 3 / 4 * 4 * 218.1e6 / 150e9


@pytest.mark.parametrize(
    ("engine", "options", "micro_batches", "bytes_each"),
    [
        ("fsdp2", (), 1, 0),
        ("fsdp2", (), 4, 6 * 3 / 4),
        ("fsdp1", (), 4, 6 * 3 / 4),
        ("fsdp2", ("fp32_reduction",), 4, (6 + 10 * 3) / 4),
        ("fsdp2", ("sync_each_batch",), 4, 0),
    ],
)
def test_adding_whole_gradients_takes_its_time(
    engine: str, options: tuple[str, ...], micro_batches: int, bytes_each: float
) -> None:
    """In 16 bits the first stays and each later one is read with the sum and written; in fp32 the first is cast."""
    found = planned("llama3-8b", engine, micro_batches, *options)
    rows = Layouts(**{name: np.array([[value]]) for name, value in found.layout.items()})
    assert float(adding_bytes(found.problem, rows).item()) == pytest.approx(bytes_each)
    seconds = float(LayerTime(found.problem, rows).accumulate().item())
    least = bytes_each * 218.1e6 / 2039e9  # an A100's memory at its peak
    assert least <= seconds <= 1.5 * least + 1e-5 * (bytes_each > 0)
