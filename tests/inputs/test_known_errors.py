"""What reports say of their own error is what the validations find."""

from __future__ import annotations

import dataclasses
import json
import math
from statistics import NormalDist

import pytest
from run_cli import run

from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, validate
from planner.inputs.known_errors import FILE, known_errors
from planner.inputs.memory_spread import Z90, MemorySpread
from planner.inputs.run_kind import RunKind, run_kind
from planner.schema.scenario import Scenario
from planner.validation.memory.summary import speed_tables
from planner.validation.throughput.left_out import LeftOutSpeeds
from planner.validation.throughput.run import run_throughput


def test_the_shipped_table_of_times_is_what_the_validation_finds() -> None:
    """One engine as shipped; all of them with every constant fitted again: tests/slow; memory: tests/validation."""
    shipped = json.loads(default_catalog().data_file(FILE).read_text())["time"]
    rows = run_throughput(sources=("torchtitan",)).estimates
    nothing = LeftOutSpeeds("source", rows, {e.speed.id: "nothing fitted" for e in rows}, ())
    (told,) = speed_tables(rows, nothing)["time"].values()
    for name in ("rows", "sources", "median_in_sample"):
        assert shipped["torchtitan"][name] == told[name], "run: planner validate summary"


@pytest.mark.parametrize("engine", default_catalog().ids("engines"))
def test_every_engine_states_its_error_or_that_it_has_none(engine: str) -> None:
    catalog = default_catalog()
    texts = known_errors(catalog.find("engines", engine), catalog).sentences(rollout=False)
    assert len(texts) == 2
    assert all("published run" in text for text in texts)


def test_interval_and_chance_of_a_spread_by_hand() -> None:
    spread = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.0, below=0.02, above=0.04)
    low, high = spread.interval_gib(60.0)
    assert low == pytest.approx(60 * math.exp(-1.6449 * 0.02), rel=1e-4)
    assert high == pytest.approx(60 * math.exp(1.6449 * 0.04), rel=1e-4)
    assert spread.fit_probability(60.0, 60.0) == pytest.approx(0.5)
    assert spread.fit_probability(60.0, high) == pytest.approx(0.95, abs=1e-4)
    assert spread.fit_probability(60.0, low) == pytest.approx(0.05, abs=1e-4)


def test_assumed_memory_and_a_colocated_engine_widen_the_interval() -> None:
    spread = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.0, below=0.02, above=0.04)
    low, high = spread.interval_gib(60.0)
    wider = spread.interval_gib(60.0, assumed_gib=8.0)
    assert wider[1] - 60 == pytest.approx(math.hypot(high - 60, 4.0))
    assert 60 - wider[0] == pytest.approx(math.hypot(60 - low, 4.0))
    shared = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.0, below=0.02, above=0.04, residual_gib=4.0)
    assert shared.interval_gib(60.0) == pytest.approx(wider)
    assert spread.fit_probability(60.0, 70.0) > shared.fit_probability(60.0, 70.0) > 0.95


@pytest.mark.parametrize("engine", ["deepspeed", "litgpt-fsdp", "megatron-core", "prime-rl", "torchtitan", "fsdp2"])
def test_the_chance_to_keep_what_is_demanded_by_hand(engine: str) -> None:
    """20 GiB demanded of 79.1, 20.01 free: about even, beside the chance not to run out at all.

    By the normal of the standard library on the figures of the shipped file; no plan, no code of the interval. Where
    runs take more than is said in the median, which those of an engine without runs did, it is less than even.
    """
    catalog = default_catalog()
    shipped = json.loads(catalog.data_file(FILE).read_text())
    row = shipped["memory"].get(engine, shipped["memory_like_none"])
    new = shipped["memory_new_source"]["sigma"] if engine in shipped["memory"] else 0.0
    above, below = (
        NormalDist(math.log(59.09) + row["centre"], math.sqrt(row[side] ** 2 + new**2)) for side in ("above", "below")
    )
    found = known_errors(catalog.find("engines", engine), catalog).memory
    assert found is not None
    side = above if math.log(59.1) > above.mean else below
    keeps, fits = found.fit_probability(59.09, 79.1 - 20.0), found.fit_probability(59.09, 79.1)
    assert keeps == pytest.approx(side.cdf(math.log(59.1)), abs=1e-6)
    assert abs(keeps - 0.5) <= 0.02 or (keeps < 0.5 and row["centre"] > 0)
    assert fits == pytest.approx(above.cdf(math.log(79.1)), abs=1e-6)
    assert fits > 0.75


@pytest.mark.parametrize("engine", default_catalog().ids("engines"))
def test_reinforcement_learning_is_like_no_published_run_and_colocation_leaves_4_gib(engine: str) -> None:
    catalog = default_catalog()
    file = catalog.find("engines", engine)
    colocated = file.colocation is not None
    path = "scenarios/qwen7b_rl_8gpu.yaml" if colocated else "scenarios/llama8b_sft_a100.yaml"
    scenario = validate(load(path), Scenario)
    architecture, bf16 = catalog.find("models", "qwen2.5-7b"), catalog.find("precisions", "bf16")
    asked = run_kind(scenario, file, architecture, bf16, bf16, 4096)
    assert asked.rl == colocated
    assert asked.residual_gib == (4.0 if colocated else 0.0)
    if colocated:
        found = known_errors(file, catalog, asked).memory
        assert found is not None
        assert found.missing
        alone = dataclasses.replace(found, residual_gib=0.0)
        for with_it, without in zip(found.interval_gib(60.0), alone.interval_gib(60.0), strict=True):
            middle = 60.0 * math.exp(found.centre)
            assert abs(with_it - middle) == pytest.approx(math.sqrt((without - middle) ** 2 + 4.0**2))


def test_what_a_memory_fraction_takes_is_not_in_error() -> None:
    """59 of 70 GiB are what a rollout engine was told to take: the interval is that of the other 11, by hand."""
    spread = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.0, below=0.1, above=0.2, residual_gib=4.0)
    low, high = spread.interval_gib(70.0, set_aside_gib=59.0)
    assert high == pytest.approx(70 + math.hypot(11 * (math.exp(Z90 * 0.2) - 1), 4))
    assert low == pytest.approx(70 - math.hypot(11 * (1 - math.exp(-Z90 * 0.1)), 4))
    assert spread.fit_probability(70.0, high, set_aside_gib=59.0) == pytest.approx(0.95, abs=1e-4)
    assert spread.fit_probability(70.0, 79.0, set_aside_gib=59.0) > spread.fit_probability(70.0, 79.0)


def test_a_run_under_5_gib_is_off_by_gib() -> None:
    """Where the engine has small runs they speak alone; else the wider of all engines' small runs and its own share."""
    spread = MemorySpread("x", 10, "reserved", 0.02, 0.05, centre=0.1, below=0.02, above=0.04, small_gib=0.5)
    low, high = spread.interval_gib(2.0)
    assert (low, high) == pytest.approx((2 * math.exp(0.1) - 0.5, 2 * math.exp(0.1) + 0.5))
    own = dataclasses.replace(spread, small_own=True)
    assert own.interval_gib(2.0) == pytest.approx((1.5, 2.5))
    assert own.fit_probability(2.0, 2.5) == pytest.approx(0.95, abs=1e-4)
    assert own.interval_gib(60.0) == spread.interval_gib(60.0)
    wide = dataclasses.replace(spread, above=0.4)
    assert wide.interval_gib(4.0)[1] == pytest.approx(4 * math.exp(0.1 + Z90 * 0.4))


def kind(**changes: object) -> RunKind:
    usual = RunKind("full training", False, "16 bits", (), 4096, 128256)
    return dataclasses.replace(usual, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ()),
        ({"rl": True}, ("reinforcement learning",)),
        ({"precision": "fp32"}, ("full training, dense, fp32",)),
        ({"switches": ("no_such_option",)}, ("option no_such_option",)),
        ({"sequence_length": 131072}, ("131,072 tokens a sequence (published: up to 32,768)",)),
        ({"vocab_size": 524288}, ("a vocabulary of 524,288 (published: 32,000 to 256,000)",)),
    ],
)
def test_a_run_like_no_published_one_is_told_what_it_has_that_none_had(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    catalog = default_catalog()
    engine = catalog.find("engines", "megatron-core")
    like = known_errors(engine, catalog, kind()).memory
    found = known_errors(engine, catalog, kind(**changes)).memory
    assert like is not None
    assert found is not None
    assert found.missing == words
    assert ("no published run like this" in found.whose) == bool(words)
    assert bool(found.new_sources) != bool(changes.get("rl"))
    if words:
        assert min(found.below / like.below, found.above / like.above) >= 1


def test_an_engine_that_another_stands_in_for_gets_no_spread_of_that_one() -> None:
    catalog = default_catalog()
    slime, fsdp2 = (known_errors(catalog.find("engines", name), catalog).memory for name in ("slime", "fsdp2"))
    assert slime is not None
    assert fsdp2 is not None
    assert (slime.missing, fsdp2.missing) == (("engine slime",), ("engine fsdp2",))


def test_solve_prints_interval_and_chance_and_the_cliff_is_a_named_limit() -> None:
    """Where less than the cliff is asked for; by default Megatron's own runs ask for a little more than it."""
    asked = ("solve", "scenarios/llama70b_64xh100.yaml", "--format", "json", "--set", "limits.headroom_gib=1")
    done = run(*asked)
    memory = json.loads(done.out)["plan"]["memory"]
    low, high = memory["interval_90_percent_gib"]
    assert low < memory["peak_gib"] < high
    assert 0.9 < memory["fit_probability"] <= 1
    assert memory["headroom_demanded_gib"] == pytest.approx(0.12 * memory["usable_gib"], rel=1e-3)
    assert memory["keep_probability"] <= memory["fit_probability"]
    free = run(*asked, "--set", "limits.reserved_cliff=false")
    assert json.loads(free.out)["plan"]["memory"]["headroom_demanded_gib"] < memory["headroom_demanded_gib"]


def test_default_headrooms_cover_the_left_out_spread() -> None:
    """A plan that keeps its engine's default stays on the card with 95 % by the engine's own runs, where it has any."""
    catalog = default_catalog()
    table = json.loads(catalog.data_file(FILE).read_text())["memory"]
    chosen_on_outcomes = {"nanotron"}
    for name in set(table) - chosen_on_outcomes:
        upper = table[name]["centre"] + Z90 * table[name]["above"]
        assert catalog.find("engines", name).default_headroom_fraction >= -math.expm1(-upper), name
