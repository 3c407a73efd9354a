"""Samples of unequal length: the waits of pipelines and ranks against a schedule run with drawn lengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from planner.formulas.lengths import LengthLaw, draw_lengths, lognormal_parameters
from planner.formulas.packing import Packing, forward_wait, lockstep_wait, packed, per_rank, pipeline_wait, rank_wait
from planner.inputs.document import load, override
from planner.search.estimate import estimate

STORY = LengthLaw(prompt=1024, mean=2500, p99=9000, maximum=8192, at_cap=0.002)
SAMPLES = 256


def drawn(rng: np.random.Generator, count: int) -> list[float]:
    """Lengths of samples drawn one by one, sharing nothing with the planner's own draws."""
    mu, sigma = lognormal_parameters(mean=STORY.mean, p99=STORY.p99)
    response = np.minimum(rng.lognormal(mu, sigma, count), STORY.maximum)
    response = np.where(rng.random(count) < STORY.at_cap, STORY.maximum, response)
    return (STORY.prompt + response).tolist()


def one_forward_one_backward(micro_batches: Sequence[float], stages: int) -> float:
    """Time of 1F1B in units of tokens of a whole pass over one stage, a third of it forward; event by event."""
    forward = [[0.0] * len(micro_batches) for _ in range(stages)]
    backward = [[0.0] * len(micro_batches) for _ in range(stages)]
    clock = [0.0] * stages
    todo = []
    for stage in range(stages):
        ahead = min(stages - stage - 1, len(micro_batches))
        order = [("F", i) for i in range(ahead)]
        for i in range(len(micro_batches)):
            order += [("F", i + ahead)] if i + ahead < len(micro_batches) else []
            order += [("B", i)]
        todo.append(order)
    while any(todo):
        for stage in range(stages):
            if not todo[stage]:
                continue
            kind, index = todo[stage][0]
            if kind == "F":
                ready = 1e-9 if stage == 0 else forward[stage - 1][index]
            else:
                ready = forward[stage][index] if stage == stages - 1 else backward[stage + 1][index]
            if not ready:
                continue
            takes = micro_batches[index] * (1 / 3 if kind == "F" else 2 / 3)
            clock[stage] = max(clock[stage], ready) + takes
            (forward if kind == "F" else backward)[stage][index] = clock[stage]
            todo[stage].pop(0)
    return max(clock)


def first_fit(lengths: Sequence[float], capacity: float) -> list[float]:
    """Sums of micro-batches, each sample into the first with room."""
    sums: list[float] = []
    for length in lengths:
        place = next((i for i, used in enumerate(sums) if used + length <= capacity), None)
        if place is None:
            sums.append(length)
        else:
            sums[place] += length
    return sums


@pytest.mark.parametrize("capacity", [0, 9216, 16384])
@pytest.mark.parametrize(("stages", "ranks"), [(2, 1), (1, 1), (1, 2), (4, 1)])
def test_the_step_agrees_with_a_schedule_of_drawn_lengths(stages: int, ranks: int, capacity: int) -> None:
    rng, simulated, closed = np.random.default_rng(7), [], []
    packing = packed(STORY, samples=SAMPLES, ranks=ranks, capacity=capacity, packing="first_fit")
    wait = pipeline_wait(packing.sizes, stages=stages, micro_batches=packing.per_rank)
    wait *= rank_wait(packing.sizes, ranks=ranks, micro_batches=packing.per_rank)
    for _ in range(20):
        lengths = drawn(rng, SAMPLES)
        bins = first_fit(lengths, capacity) if capacity else lengths
        shares = [bins[rank::ranks] for rank in range(ranks)]
        simulated.append(max(one_forward_one_backward(share, stages) for share in shares))
        mean = STORY.mean_tokens * SAMPLES / (packing.per_rank * ranks)
        closed.append((packing.per_rank + stages - 1) * mean * wait)
    assert np.mean(closed) == pytest.approx(np.mean(simulated), rel=0.03)


def test_one_sample_a_micro_batch_keeps_pipelines_waiting_and_packing_does_not() -> None:
    one = packed(STORY, samples=SAMPLES, ranks=1, capacity=0, packing="first_fit")
    some = packed(STORY, samples=SAMPLES, ranks=1, capacity=16384, packing="first_fit")
    assert 1.15 < pipeline_wait(one.sizes, stages=2, micro_batches=one.per_rank) < 1.25
    assert pipeline_wait(some.sizes, stages=2, micro_batches=some.per_rank) < 1.03
    assert forward_wait(one.sizes, stages=2, micro_batches=one.per_rank) < 1.02


def test_equal_lengths_wait_for_nothing() -> None:
    sizes = (1000.0,) * 64
    assert pipeline_wait(sizes, stages=4, micro_batches=64) == 1
    assert forward_wait(sizes, stages=4, micro_batches=64) == 1
    assert rank_wait(sizes, ranks=8, micro_batches=8) == 1
    assert lockstep_wait(sizes, ranks=8) == pytest.approx(1)


def test_no_micro_batch_is_above_its_cap_unless_a_sample_is() -> None:
    for packing in ("first_fit", "first_fit_decreasing"):
        found = packed(STORY, samples=SAMPLES, ranks=4, capacity=9216, packing=packing, multiple=2)  # type: ignore[arg-type]
        assert max(found.sizes) <= 9216
        assert found.per_rank % 2 == 0
        assert sum(found.sizes) == pytest.approx(draw_lengths(STORY, SAMPLES, 0).sum())
    alone = packed(STORY, samples=SAMPLES, ranks=1, capacity=4096, packing="first_fit")
    assert max(alone.sizes) == 9216


def test_ranks_in_lockstep_wait_for_the_longest_of_each_turn() -> None:
    sizes = tuple(drawn(np.random.default_rng(3), 4096))
    turns = np.random.default_rng(4).choice(np.array(sizes), size=(20_000, 8)).max(axis=1)
    assert lockstep_wait(sizes, ranks=8) == pytest.approx(turns.mean() / np.mean(sizes), rel=0.01)


def test_attention_follows_the_second_moment() -> None:
    lengths = np.array(drawn(np.random.default_rng(5), 200_000))
    assert STORY.mean_tokens == pytest.approx(lengths.mean(), rel=0.005)
    assert STORY.attention_tokens == pytest.approx((lengths**2).mean() / lengths.mean(), rel=0.01)


def pinned(**changes: object) -> dict[str, object]:
    """The story's four cards in one pipeline, tensor or data-parallel layout."""
    pins: dict[str, object] = {
        "cluster.max_gpus": None,
        "cluster.num_gpus": 4,
        "compare": {},
        "layout.context_parallel": 1,
        "layout.virtual_pipeline": 1,
        "layout.recomputed_layers": "all",
        "rl.response_length": 8192,
        "rl.rollout_batch_size": 32,
        "rl.n_samples_per_prompt": 8,
        "rl.rollout.tensor_parallel": 4,
        "rl.rollout.gpu_memory_utilization": 0.6,
        "limits.headroom_gib": 0,
    }
    return {**pins, **changes}


def test_memory_follows_the_cap_and_the_longest_sample() -> None:
    story = load(str(Path(__file__).resolve().parents[2] / "scenarios" / "qwen7b_rl.yaml"))
    degrees = {"layout.tensor_parallel": 2, "layout.pipeline_parallel": 2, "layout.data_parallel": 1}
    short, longest, more = (
        estimate(override(story, pinned(**degrees, **{"batch.max_tokens_per_gpu": cap}))) for cap in (4096, 9216, 18432)
    )
    one = estimate(override(story, pinned(**degrees, **{"batch.micro_batch_size": 1})))
    assert short.peak_gib == longest.peak_gib == one.peak_gib
    logits = [
        next(i.amount for p in plan.memory if p.phase == "loss" for i in p.items if i.name == "logits and loss")
        for plan in (longest, more)
    ]
    assert logits[1] == pytest.approx(2 * logits[0])
    assert one.step_seconds > longest.step_seconds


@pytest.mark.parametrize("packing", ["first_fit", "balanced", "first_fit_decreasing"])
def test_micro_batches_are_halved_at_the_largest_and_counted_alike_alone(packing: Packing) -> None:
    """More ranks than micro-batches: the largest is halved again and again, and the count needs no sizes."""
    for ranks, capacity in ((1, 40_000), (4, 40_000), (32, 20_000), (128, 60_000)):
        asked = {"samples": SAMPLES, "ranks": ranks, "capacity": capacity}
        whole = packed(STORY, **asked, packing=packing)
        assert per_rank(STORY, **asked, packing=packing) == whole.per_rank
        assert len(whole.sizes) >= min(whole.per_rank * ranks, SAMPLES)
        fewer = packed(STORY, samples=SAMPLES, ranks=1, capacity=capacity, packing=packing)
        assert sum(whole.sizes) == pytest.approx(sum(fewer.sizes))
        assert max(whole.sizes) <= max(fewer.sizes)
