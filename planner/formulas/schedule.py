"""Seconds of a pipeline step by running its schedule event by event, for stages that are not equal.

A *chunk* is a run of layers; chunk d of the network lies on stage d mod p, so that p stages with v chunks each have
p v chunks. Every stage works through a fixed list of passes; a pass starts when its stage is free and what it needs
has arrived. Pure functions of seconds; nothing here is fitted.

Against the closed form of the solver, (m - 1/v) max + sum / v over the stages' seconds a micro-batch, which is exact
for equal stages and free sends (`closed_form_seconds`, `LARGEST_DIFFERENCE`, tests/test_schedule.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Schedule: TypeAlias = Literal["1f1b", "zb-h1", "forward"]
Order: TypeAlias = NDArray[np.int64]

WEIGHT_SHARE = 1 / 2
"""Share of the backward matrix products that makes gradients of weights; they are as large as those of inputs."""
LARGEST_DIFFERENCE = {"one chunk": (-0.17, 0.0), "several chunks": (-0.11, 0.18)}
"""Simulation over closed form less one, (least, largest) seen in 8,000 random pipelines each with free sends: 2 to 16
stages, p to 8 p micro-batches, 2 to 4 chunks, seconds of stages (of chunks) within 25 % of their mean, backward 1.6 to
3 times forward. With one chunk a stage the closed form is never too fast. The extremes come at m = p; from m = 4 p on,
one chunk a stage, it is at most 6 % too slow."""


@dataclass(frozen=True)
class Pass:
    """One chunk's work on one micro-batch."""

    kind: int
    """0 forward, 1 backward, 2 gradients of weights."""
    chunk: int
    """In the order of the network."""
    micro_batch: int
    start: float
    end: float


@dataclass(frozen=True)
class Simulated:
    """One pass of all micro-batches through the pipeline."""

    seconds: float
    """Until the last stage to finish has finished. [s]"""
    busy: tuple[float, ...]
    """Seconds that each stage computes. [s]"""
    passes: tuple[tuple[Pass, ...], ...] = ()
    """Of each stage, in order; only where they were asked for."""

    @property
    def idle(self) -> tuple[float, ...]:
        """Seconds that each stage waits. [s]"""
        return tuple(self.seconds - busy for busy in self.busy)

    @property
    def bubble(self) -> float:
        """Share of all stages' time that is spent waiting. [1]"""
        return 1 - sum(self.busy) / (len(self.busy) * self.seconds)


def closed_form_seconds(*, stages: Sequence[float], micro_batches: int, chunks: int = 1) -> float:
    """`(m - 1/v) max + sum / v` of the stages' seconds a micro-batch, all chunks of a stage together. [s]

    Equal stages: (m + (p - 1) / v) t. Source: Narayanan et al. 2021, arXiv:2104.04473, section 2.2.
    """
    return (micro_batches - 1 / chunks) * max(stages) + sum(stages) / chunks


def simulate(
    *,
    stages: int,
    micro_batches: int,
    forward: Sequence[float],
    backward: Sequence[float],
    weight: Sequence[float] | None = None,
    send: float | Sequence[float] = 0.0,
    schedule: Schedule = "1f1b",
    group_size: int | None = None,
    keep_passes: bool = False,
) -> Simulated:
    """Run a schedule over `stages` stages; `forward`, `backward` and `weight` hold seconds of each chunk in order. [s]

    - `1f1b`: one forward, one backward (PipeDream-flush, arXiv:2006.09503); with several chunks a stage interleaved as
      Megatron-core does it: 2 (p - rank - 1) + (v - 1) group passes of warm-up, chunks in turns of `group_size`
      micro-batches (p unless given). Source: core/pipeline_parallel/schedules.py, get_pp_rank_microbatches and
      get_schedule_table.
    - `zb-h1`: `backward` is only the gradient of the inputs, `weight` that of the weights, which stage i puts off by i
      micro-batches, so that no stage keeps more activations than under 1F1B; bubble (p - 1)(F + B - W). Source: Qi et
      al. 2023, arXiv:2401.10241, section 2.2. One chunk a stage.
    - `forward`: forward passes only; `backward` is not looked at.

    `send` is what a tensor takes from one chunk to the next, either way: one number, or one for each of the p v - 1
    seams. Sends run beside compute; only who waits for them loses time. A weight gradient that 1f1b does not split
    belongs into `backward`; a `weight` given with it is done right after.
    """
    depth = len(forward)
    chunks, rest = divmod(depth, stages)
    if rest or chunks < 1 or micro_batches < 1:
        raise ValueError(f"{depth} chunks do not lie evenly on {stages} stages, or there is no micro-batch")
    if schedule == "zb-h1" and (chunks > 1 or weight is None):
        raise ValueError("zb-h1 takes one chunk a stage and the seconds of weight gradients")
    seams = np.broadcast_to(np.asarray(send, dtype=np.float64), (depth - 1,))
    parts = [np.asarray(forward, dtype=np.float64)]
    if schedule != "forward":
        spent = np.asarray(backward, dtype=np.float64)
        if schedule == "1f1b" and weight is not None:
            spent = spent + np.asarray(weight, dtype=np.float64)
        parts += [spent] + ([np.asarray(weight, dtype=np.float64)] if schedule == "zb-h1" else [])
    seconds = np.concatenate(parts)
    if len(seconds) != len(parts) * depth or bool(np.any(seconds < 0)) or bool(np.any(seams < 0)):
        raise ValueError("forward, backward and weight need one number of seconds for each chunk, none below 0")
    group = min(stages if group_size is None else group_size, micro_batches)
    orders = [
        _order(schedule, rank=rank, stages=stages, chunks=chunks, micro_batches=micro_batches, group=group)
        for rank in range(stages)
    ]
    return _run(orders, seconds=seconds, seams=seams, micro_batches=micro_batches, depth=depth, keep_passes=keep_passes)


def _turns(*, rank: int, stages: int, chunks: int, micro_batches: int, group: int) -> tuple[Order, Order]:
    """Forward and backward passes of one stage in order, as chunk * micro_batches + micro-batch."""
    starts = range(0, micro_batches, group)
    batches = [np.arange(start, min(start + group, micro_batches)) for start in starts]
    turns = [(chunk, part) for part in batches for chunk in range(chunks)]
    back = [(chunks - 1 - chunk, part) for chunk, part in turns]
    forward, backward = (
        np.concatenate([(chunk * stages + rank) * micro_batches + part for chunk, part in order])
        for order in (turns, back)
    )
    return forward, backward


def _order(schedule: Schedule, *, rank: int, stages: int, chunks: int, micro_batches: int, group: int) -> Order:
    """What one stage does: forward passes from 0, backward from p v m, weight gradients from 2 p v m."""
    total = stages * chunks * micro_batches
    forward, backward = _turns(rank=rank, stages=stages, chunks=chunks, micro_batches=micro_batches, group=group)
    if schedule == "forward":
        return forward
    warm = stages - rank - 1 if chunks == 1 else 2 * (stages - rank - 1) + (chunks - 1) * group
    warm = min(warm, len(forward))
    backward = backward + total
    steady = len(forward) - warm
    if schedule == "1f1b":
        pairs = np.stack([forward[warm:], backward[:steady]], axis=1).reshape(-1)
        return np.concatenate([forward[:warm], pairs, backward[steady:]])
    late = backward + total
    places = [(index - warm, 0) for index in range(len(forward))]
    # Slot k of a stage: forward k + warm-up, backward k, weight gradient k - rank; what is left over comes last.
    places += [(index, 1) for index in range(len(backward))]
    places += [(index + rank, 2) for index in range(len(late))]
    keys = np.array(places)
    return np.concatenate([forward, backward, late])[np.lexsort((keys[:, 1], keys[:, 0]))]


def _run(
    orders: Sequence[Order],
    *,
    seconds: NDArray[np.float64],
    seams: NDArray[np.float64],
    micro_batches: int,
    depth: int,
    keep_passes: bool,
) -> Simulated:
    """Start every pass as early as its stage's order and its input allow."""
    total = depth * micro_batches
    # Delay before a pass of this kind and chunk: input of chunk d comes over seam d - 1, gradients over seam d.
    arrive = np.concatenate([[0.0], seams, seams, [0.0], np.zeros(depth)])
    work: list[list[tuple[int, int, float, float]]] = []
    for order in orders:
        place, kind = order // micro_batches, order // total
        chunk = place - kind * depth
        source = np.where(kind == 0, order - micro_batches, order + micro_batches)
        source = np.where((kind == 0) & (chunk == 0), -1, source)
        source = np.where((kind == 1) & (chunk == depth - 1), order - total, source)
        source = np.where(kind == 2, order - total, source)
        columns = (order.tolist(), source.tolist(), arrive[place].tolist(), seconds[place].tolist())
        work.append(list(zip(*columns, strict=True)))
    done = [-1.0] * (max(int(order.max()) for order in orders) + 1) + [0.0]
    place_of, clock = [0] * len(orders), [0.0] * len(orders)
    waiting: dict[int, int] = {}
    ready = list(range(len(orders)))
    while ready:
        rank = ready.pop()
        now, passes = clock[rank], work[rank]
        for index in range(place_of[rank], len(passes)):
            name, needed, delay, takes = passes[index]
            there = done[needed]
            if there < 0:
                waiting[needed] = rank
                place_of[rank], clock[rank] = index, now
                break
            there += delay
            now = (there if there > now else now) + takes
            done[name] = now
            if name in waiting:
                ready.append(waiting.pop(name))
        else:
            place_of[rank], clock[rank] = len(passes), now
    if any(place < len(passes) for place, passes in zip(place_of, work, strict=True)):
        raise ValueError("the schedule waits for itself: micro-batches must be a multiple of the turn of a chunk")
    busy = tuple(sum(entry[3] for entry in passes) for passes in work)
    kept: list[tuple[Pass, ...]] = []
    for entries in work if keep_passes else []:
        passed = []
        for name, _, _, takes in entries:
            part, of_chunk = name // total, name % total // micro_batches
            passed.append(Pass(part, of_chunk, name % micro_batches, done[name] - takes, done[name]))
        kept.append(tuple(passed))
    return Simulated(seconds=max(clock), busy=busy, passes=tuple(kept))
