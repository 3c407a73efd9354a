"""Samples of unequal length in micro-batches: how many there are, and how long pipelines and ranks wait for long ones.

Everything is drawn with a fixed seed from one law of lengths, so that the same question has the same answer. Times are
relative to micro-batches of equal length; a pass takes as long as its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from heapq import heapify, heappop, heappush
from statistics import NormalDist
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planner.formulas.lengths import LengthLaw, draw_lengths

Packing: TypeAlias = Literal["first_fit", "balanced", "first_fit_decreasing"]
"""How samples are put together up to a cap.

- `first_fit`: each sample into the first micro-batch with room. Source: slime utils/seqlen_balancing.py,
  first_fit_pack.
- `balanced`: ceil(tokens / cap) micro-batches of like work. Source: verl utils/seqlen_balancing.py,
  rearrange_micro_batches.
- `first_fit_decreasing`: the same as first_fit, longest samples first. Source: NeMo-RL data/packing/algorithms.py.
"""
MOST_SAMPLES = 512
"""Samples that are packed to learn how full micro-batches are; more fill them alike."""
DRAWS = 16
"""Pipelines that are run to learn how long stages wait."""
SLOTS = 16
"""Micro-batches of such a pipeline for each of its stages, at most."""
SEED = 20260821
FORWARD_SHARE = 1 / 3
"""Share of a micro-batch's work that its forward pass is; a fourth where all is recomputed moves the wait by 1 %."""


@dataclass(frozen=True)
class Packed:
    """Micro-batches of one optimizer step."""

    per_rank: int
    """Micro-batches of one data-parallel rank, equal on all."""
    sizes: tuple[float, ...]
    """Tokens of drawn micro-batches, in the order in which they were filled."""

    @property
    def mean(self) -> float:
        """Mean of the drawn sizes. [tokens]"""
        return sum(self.sizes) / len(self.sizes)


@lru_cache(maxsize=4096)
def packed(
    law: LengthLaw, *, samples: int, ranks: int, capacity: int, packing: Packing, multiple: int = 1, size: int = 1
) -> Packed:
    """Micro-batches of so many samples on so many ranks, each up to `capacity` tokens; of `size` samples where it is 0.

    Every rank gets the same number, a multiple of `multiple`. A sample longer than the capacity stands alone.
    """
    drawn = min(samples, MOST_SAMPLES)
    each = per_rank(law, samples=samples, ranks=ranks, capacity=capacity, packing=packing, multiple=multiple, size=size)
    if not capacity:
        lengths, whole = draw_lengths(law, drawn, SEED), drawn // size * size
        sums = lengths[:whole].reshape(-1, size).sum(axis=1) if whole else lengths.sum(keepdims=True)
        return Packed(each, tuple(sums.tolist()))
    return Packed(each, tuple(_split(_filled(law, drawn, capacity, packing), round(each * ranks * drawn / samples))))


@lru_cache(maxsize=65536)
def per_rank(
    law: LengthLaw, *, samples: int, ranks: int, capacity: int, packing: Packing, multiple: int = 1, size: int = 1
) -> int:
    """Micro-batches of one rank alone, as `packed` has them: where nobody asks how large they are."""
    if not capacity:
        return max(1, samples // (ranks * size))
    drawn = min(samples, MOST_SAMPLES)
    count = len(_filled(law, drawn, capacity, packing)) * samples / drawn
    each = max(1, -(-round(count) // (ranks * multiple))) * multiple
    return min(each, max(1, samples // ranks))


@lru_cache(maxsize=1024)
def _filled(law: LengthLaw, samples: int, capacity: int, packing: Packing) -> tuple[tuple[float, ...], ...]:
    """Drawn samples up to the capacity together, on however many ranks."""
    return tuple(map(tuple, _bins(draw_lengths(law, samples, SEED), capacity, packing)))


def _bins(lengths: NDArray[np.float64], capacity: int, packing: Packing) -> list[list[float]]:
    if packing == "balanced":
        return _balanced(lengths, min(len(lengths), -(-int(lengths.sum()) // capacity)))
    order = np.sort(lengths)[::-1] if packing == "first_fit_decreasing" else lengths
    room = np.zeros(len(order))
    bins: list[list[float]] = []
    for length in order.tolist():
        open_bins = np.flatnonzero(room[: len(bins)] >= length)
        place = int(open_bins[0]) if len(open_bins) else len(bins)
        if place == len(bins):
            bins.append([])
            room[place] = capacity
        bins[place].append(length)
        room[place] -= length
    return bins


def _balanced(lengths: NDArray[np.float64], count: int) -> list[list[float]]:
    """So many micro-batches, none of them empty, each next longest sample into the emptiest one."""
    bins: list[list[float]] = [[] for _ in range(count)]
    sums = np.zeros(count)
    for length in np.sort(lengths)[::-1].tolist():
        place = int(sums.argmin())
        bins[place].append(length)
        sums[place] += length
    return bins


def _split(bins: Sequence[Sequence[float]], wanted: int) -> list[float]:
    """Sizes after the largest micro-batches of several samples are halved until there are so many."""
    parts = [list(part) for part in bins]
    largest = [(-sum(part), index) for index, part in enumerate(parts) if len(part) > 1]
    heapify(largest)
    while len(parts) < wanted and largest:
        place = heappop(largest)[1]
        halves = _halves(parts[place])
        parts[place] = halves[0]
        parts.append(halves[1])
        for index, part in zip((place, len(parts) - 1), halves, strict=True):
            if len(part) > 1:
                heappush(largest, (-sum(part), index))
    return [sum(part) for part in parts]


def _halves(lengths: Sequence[float]) -> tuple[list[float], list[float]]:
    """Two micro-batches, each next longest sample into the emptier one."""
    halves: tuple[list[float], list[float]] = ([], [])
    sums = [0.0, 0.0]
    for length in sorted(lengths, reverse=True):
        place = int(sums[1] < sums[0])
        halves[place].append(length)
        sums[place] += length
    return halves


def pipeline_wait(sizes: tuple[float, ...], *, stages: int, micro_batches: int) -> float:
    """1F1B with micro-batches of these sizes in any order, over the same with equal ones.

    A stage that has a short micro-batch waits for its neighbour that has a long one. Run pass by pass for drawn
    orders; PipeDream-flush, arXiv:2006.09503.
    """
    return _pipeline_wait(sizes, stages, min(micro_batches, SLOTS * stages))


@lru_cache(maxsize=4096)
def _pipeline_wait(sizes: tuple[float, ...], stages: int, count: int) -> float:
    spread = _drawn(sizes, stages, count)
    if spread is None:
        return 1.0
    takes = np.concatenate([FORWARD_SHARE * spread, (1 - FORWARD_SHARE) * spread], axis=1).T
    waves, last = _waves(stages, count)
    ended = np.zeros((2 * count * stages + 1, len(spread)))
    for passes, own, other, kinds in waves:
        ended[passes] = np.maximum(ended[own], ended[other]) + takes[kinds]
    equal = (count + stages - 1) * spread.mean(axis=1)
    return float((ended[last] / equal).mean())


@lru_cache(maxsize=64)
def _waves(stages: int, count: int) -> tuple[tuple[NDArray[np.int64], ...], int]:
    """(passes of 1F1B that wait for none of each other, wave after wave; the pass with which the first stage ends).

    A stage runs forward passes to warm up, one fewer than there are stages from it to the end, then one forward and
    one backward pass in turn. Rows of a wave: the passes; of each the one before on its stage, the one that it needs
    of a neighbour (0: none), and which of the forward and then backward passes of all micro-batches it is.
    """
    rank, index = np.arange(stages)[:, None], np.arange(count)[None, :]
    warm = stages - rank - 1
    forward = 1 + rank * count + index
    backward = forward + stages * count
    before = (
        np.where(index == 0, 0, np.where(index <= warm, forward - 1, backward - warm - 1)),
        np.where(index + warm < count, forward + warm, np.where(index > 0, backward - 1, forward + count - 1)),
    )
    needed = np.where(rank > 0, forward - count, 0), np.where(rank < stages - 1, backward + count, forward)
    turn = np.where(index <= warm, rank + index, rank + 2 * index), 2 * stages - 1 - rank + 2 * index
    kinds = np.broadcast_to(index, forward.shape), np.broadcast_to(count + index, forward.shape)
    columns = np.array([np.stack(each).ravel() for each in ((forward, backward), before, needed, kinds)])
    turns = np.stack(turn).ravel()
    order = np.argsort(turns, kind="stable")
    edges = np.flatnonzero(np.diff(turns[order])) + 1
    return tuple(np.split(columns[:, order], edges, axis=1)), int(backward[0, -1])


def _drawn(sizes: Sequence[float], stages: int, micro_batches: int) -> NDArray[np.float64] | None:
    """Orders of micro-batches, shape [draws, micro-batches]; None where nothing can wait."""
    if stages == 1 or max(sizes) - min(sizes) <= 1e-9 * max(sizes):
        return None
    count = min(micro_batches, SLOTS * stages)
    return np.random.default_rng(SEED).choice(np.array(sizes), size=(DRAWS, count))


@lru_cache(maxsize=4096)
def forward_wait(sizes: tuple[float, ...], *, stages: int, micro_batches: int) -> float:
    """The same for forward passes alone: stages take the same time for a micro-batch, so only the longest is seen.

    (sum + (p - 1) longest) / ((m + p - 1) mean)
    """
    spread = _drawn(sizes, stages, micro_batches)
    if spread is None:
        return 1.0
    mean, longest = spread.mean(axis=1), spread.max(axis=1)
    return float((1 + (stages - 1) * (longest - mean) / ((micro_batches + stages - 1) * mean)).mean())


def rank_wait(sizes: Sequence[float], *, ranks: int, micro_batches: int) -> float:
    """Largest share of the work among ranks over the mean share, samples dealt without looking at their length.

    1 + z / sqrt(m) * deviation / mean,  z = (largest of so many standard normals, Blom's approximation)
    """
    if ranks == 1:
        return 1.0
    values = np.array(sizes)
    largest = NormalDist().inv_cdf((ranks - 0.375) / (ranks + 0.25))
    return float(1 + largest * values.std() / values.mean() / micro_batches**0.5)


@lru_cache(maxsize=4096)
def lockstep_wait(sizes: tuple[float, ...], *, ranks: int) -> float:
    """Ranks that exchange something in every layer wait for the longest micro-batch of each turn: its mean over all."""
    if ranks == 1:
        return 1.0
    # The largest of n draws lies above a share q of the values with chance 1 - q^n.
    ordered = np.sort(np.array(sizes))
    edges = (np.arange(len(ordered) + 1) / len(ordered)) ** ranks
    return float((ordered * np.diff(edges)).sum() / ordered.mean())
