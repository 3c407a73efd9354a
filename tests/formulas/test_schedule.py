"""The simulated pipeline: equal to the closed form where it must be, bounded against it elsewhere, and lawful."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_cli import run

from planner.analysis.schedule import schedule_report
from planner.formulas.schedule import LARGEST_DIFFERENCE, closed_form_seconds, simulate
from planner.formulas.stages import stage_chunks
from planner.inputs.document import load
from planner.search.estimate import estimate

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"
PIPELINE = (
    "model=llama3.1-8b", "cluster.num_gpus=16", "batch.global_batch_size=64", "batch.sequence_length=4096",
    "batch.micro_batch_size=1", "layout.tensor_parallel=2", "layout.pipeline_parallel=4", "layout.data_parallel=2",
    "layout.context_parallel=1", "layout.zero_stage=1", "layout.recomputed_layers=0",
)  # fmt: skip


def one_f_one_b(p: int, m: int, v: int = 1, **changes: float) -> float:
    """Equal stages that take 1 s forward and 2 s backward a micro-batch."""
    each = {"forward": [1 / v] * (p * v), "backward": [2 / v] * (p * v)}
    return simulate(stages=p, micro_batches=m, **each, **changes).seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("p", [1, 2, 3, 4, 8, 16])
@pytest.mark.parametrize("turns", [1, 2, 5])
@pytest.mark.parametrize("v", [1, 2, 3, 4])
def test_equal_stages_take_what_the_closed_form_says(p: int, turns: int, v: int) -> None:
    m, v = turns * p, v if p > 1 else 1
    expected = (m + (p - 1) / v) * 3
    assert one_f_one_b(p, m, v) == pytest.approx(expected, rel=1e-12)
    assert closed_form_seconds(stages=[3.0] * p, micro_batches=m, chunks=v) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("p", "m"), [(4, 1), (4, 3), (8, 5), (3, 7)])
def test_without_interleaving_any_number_of_micro_batches_will_do(p: int, m: int) -> None:
    assert one_f_one_b(p, m) == pytest.approx((m + p - 1) * 3, rel=1e-12)


def test_a_step_by_hand() -> None:
    """Two stages, two micro-batches: F 1, B 2 on stage 0; F 2, B 3 on stage 1; half a second a send.

    Stage 1 starts at 1.5 and works 10 s without a gap, its gradient leaves at 11.5; stage 0 ends at 11.5 + 0.5 + 2.
    """
    done = simulate(stages=2, micro_batches=2, forward=[1, 2], backward=[2, 3], send=0.5)
    assert done.seconds == 14.0
    assert done.busy == (6.0, 10.0)
    assert done.idle == (8.0, 4.0)
    assert done.bubble == pytest.approx(12 / 28)


def differences(chunks: tuple[int, ...], cases: int) -> tuple[float, float]:
    """Simulation over closed form less one, least and largest, over the random pipelines that the bound is stated for.

    One chunk: random stages; several: random chunks.
    """
    rng = np.random.default_rng(7)
    found = []
    for _ in range(cases):
        p, v = int(rng.choice([2, 3, 4, 6, 8, 12, 16])), int(rng.choice(chunks))
        m = p * int(rng.integers(1, 9))
        each = rng.uniform(0.75, 1.25, (v, p))
        forward = each / (1 + rng.uniform(1.6, 3.0, p))
        done = simulate(
            stages=p, micro_batches=m, forward=forward.ravel().tolist(), backward=(each - forward).ravel().tolist()
        )
        closed = closed_form_seconds(stages=each.sum(axis=0).tolist(), micro_batches=m, chunks=v)
        found.append(done.seconds / closed - 1)
    return min(found), max(found)


@pytest.mark.parametrize(("name", "chunks"), [("one chunk", (1,)), ("several chunks", (2, 3, 4))])
def test_unequal_stages_stay_within_the_stated_difference(name: str, chunks: tuple[int, ...]) -> None:
    least, largest = differences(chunks, 300)
    low, high = LARGEST_DIFFERENCE[name]
    assert low <= least
    assert largest <= high + 1e-12
    assert least < low / 2, "the bound is not idle"


def test_the_page_states_the_same_difference() -> None:
    page = (SCENARIOS.parent / "docs" / "time.md").read_text()
    for low, high in LARGEST_DIFFERENCE.values():
        assert f"{-low * 100:.0f} % too slow" in page
        assert high == 0 or f"{high * 100:.0f} % too fast" in page


@pytest.mark.parametrize(("p", "m"), [(2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 64)])
def test_zero_bubble_waits_at_most_a_third_as_long(p: int, m: int) -> None:
    one = [1.0] * p
    split = simulate(stages=p, micro_batches=m, forward=one, backward=one, weight=one, schedule="zb-h1")
    plain = simulate(stages=p, micro_batches=m, forward=one, backward=one, weight=one)
    assert split.busy == plain.busy == (3.0 * m,) * p
    assert split.seconds - 3 * m == pytest.approx(p - 1)  # (p - 1)(F + B - W), arXiv:2401.10241
    assert plain.seconds - 3 * m == pytest.approx(3 * (p - 1))


def test_forward_passes_alone_are_a_flow_shop() -> None:
    times = [1.0, 3.0, 2.0]
    done = simulate(stages=3, micro_batches=5, forward=times, backward=times, schedule="forward")
    assert done.seconds == closed_form_seconds(stages=times, micro_batches=5)


@pytest.mark.parametrize("v", [1, 2, 4])
def test_the_bubble_vanishes_as_micro_batches_grow(v: int) -> None:
    rng = np.random.default_rng(3)
    noise = rng.uniform(0.9, 1.1, 4)
    waits = []
    for turns in (1, 4, 16, 64):
        for each in (np.ones(4), noise):
            times = np.tile(each, v)
            done = simulate(stages=4, micro_batches=4 * turns, forward=times.tolist(), backward=(2 * times).tolist())
            if each is noise:
                slowest = 3 * v * float(noise.max()) * 4 * turns
                assert done.seconds >= slowest - 1e-9
                waits.append(done.seconds / slowest - 1)
            else:
                assert done.bubble == pytest.approx(3 / v / (4 * turns + 3 / v))
    assert waits == sorted(waits, reverse=True)
    assert waits[-1] < 0.02


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, object]:
    p, v = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    v = v if p > 1 else 1
    seconds = st.lists(st.floats(0.01, 10), min_size=p * v, max_size=p * v)
    names = ["1f1b", "forward", *(["zb-h1"] if v == 1 else [])]
    return {
        "stages": p,
        "micro_batches": p * draw(st.integers(1, 4)),
        "forward": draw(seconds),
        "backward": draw(seconds),
        "weight": draw(seconds),
        "send": draw(st.floats(0, 5)),
        "schedule": draw(st.sampled_from(names)),
    }


@settings(max_examples=150, deadline=None)
@given(pipelines(), st.data())
def test_a_faster_stage_or_wire_never_slows_the_step(case: dict[str, object], data: st.DataObject) -> None:
    before = simulate(**case)  # type: ignore[arg-type]
    name = data.draw(st.sampled_from(["forward", "backward", "weight", "send"]))
    value = case[name]
    if isinstance(value, list):
        index = data.draw(st.integers(0, len(value) - 1))
        faster: object = [x / 2 if i == index else x for i, x in enumerate(value)]
    else:
        faster = float(value) / 2  # type: ignore[arg-type]
    after = simulate(**(case | {name: faster}))  # type: ignore[arg-type]
    assert after.seconds <= before.seconds + 1e-9
    assert min(before.idle) >= -1e-9
    assert max(before.busy) <= before.seconds + 1e-9


def test_turns_of_five_micro_batches_fit_any_number_of_them() -> None:
    """--microbatch-group-size-per-virtual-pipeline-stage: the last turn may be short."""
    each = {"forward": [0.5] * 8, "backward": [1.0] * 8}
    done = simulate(stages=4, micro_batches=20, group_size=5, **each)  # type: ignore[arg-type]
    assert done.seconds >= one_f_one_b(4, 20, 2) - 1e-9
    assert math.isclose(done.busy[0], 20 * 3)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="evenly"):
        simulate(stages=2, micro_batches=2, forward=[1] * 3, backward=[1] * 3)
    with pytest.raises(ValueError, match="zb-h1"):
        simulate(stages=2, micro_batches=2, forward=[1] * 2, backward=[1] * 2, schedule="zb-h1")
    with pytest.raises(ValueError, match="none below 0"):
        simulate(stages=2, micro_batches=2, forward=[1, -1], backward=[1, 1])


def arguments(*more: str) -> list[str]:
    out = [str(SCENARIOS / "llama70b_64xh100.yaml")]
    for item in (*PIPELINE, *more):
        out += ["--set", item]
    return out


@pytest.mark.parametrize("v", [1, 2])
def test_the_report_prints_it_beside_the_closed_form(v: int) -> None:
    chosen = arguments(f"layout.virtual_pipeline={v}")
    page = run("estimate", "-vv", *chosen)
    assert page.code == 0, page.err
    said = " ".join(page.out.partition("Schedule simulated")[2].split())
    assert ("interleaved 1F1B" in said) == (v > 1)
    document = json.loads(run("estimate", *chosen, "--format", "json").out)["plan"]["time"]
    difference = document["simulated_step_seconds"] / document["step_seconds"] - 1
    assert abs(difference) < 0.1
    assert f"{difference * 100:+.1f} % on the step above" in said  # one step time is printed
    assert len(document["schedule"]["idle_seconds_per_stage"]) == 4
    assert (document["schedule"]["zero_bubble_step_seconds"] is None) == (v > 1)


def test_a_plan_without_a_pipeline_has_no_schedule() -> None:
    chosen = arguments("layout.pipeline_parallel=1", "layout.data_parallel=8", "layout.virtual_pipeline=1")
    assert "Schedule simulated" not in run("estimate", "-vv", *chosen).out
    document = json.loads(run("estimate", *chosen, "--format", "json").out)["plan"]["time"]
    assert document["simulated_step_seconds"] is None


def test_many_micro_batches_are_extrapolated_without_error() -> None:
    document = load(
        str(SCENARIOS / "llama70b_64xh100.yaml"),
        [*PIPELINE, "layout.virtual_pipeline=1", "batch.global_batch_size=512"],
    )
    plan = estimate(document)
    report = schedule_report(plan)
    assert report is not None
    import planner.analysis.schedule as module

    usual = module.MOST_PASSES
    try:
        module.MOST_PASSES = 128
        short = schedule_report(plan)
    finally:
        module.MOST_PASSES = usual
    assert short is not None
    assert short.step_seconds == pytest.approx(report.step_seconds, rel=1e-6)


@pytest.mark.parametrize(
    ("layers", "chunks", "split"),
    [
        ((4, 4), 2, ((2, 2), (2, 2))),
        ((3, 4, 3), 2, ((1, 2), (2, 2), (2, 1))),  # ten layers, embedding and loss: six chunks of two
        ((4, 3), 2, ((2, 2), (1, 2))),  # nine places for seven layers and two ends: not alike
        ((1, 1), 2, ((0, 1), (1, 0))),
    ],
)
def test_the_loss_takes_the_place_of_a_layer(layers: tuple[int, ...], chunks: int, split: object) -> None:
    assert stage_chunks(layers, chunks) == split
