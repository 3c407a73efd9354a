"""Which physical GPUs a group gets: the order of a node's GPUs whose blocks have the fastest slowest rings.

Ranks fill a node in order, so a group of t neighbours gets block 0 to t-1, t to 2t-1 and so on of that order. Exact by
dynamic programming over subsets where there are few, otherwise blocks are built from the best smaller blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import combinations
from math import comb, log
from typing import TypeAlias

Rate: TypeAlias = Callable[[int, int], float]
Block: TypeAlias = tuple[int, ...]

MOST_SUBSETS = 2000
"""Subsets looked at for one block size; above that, blocks are built from smaller ones."""
MOST_GPUS = 16
"""GPUs of a node that are reordered; a larger node keeps its order."""


def best_ring(members: Sequence[int], rate: Rate, *, closed: bool = True) -> float:
    """Slowest link of the best ring (or chain) over these GPUs, in what `rate` counts; infinite for one."""
    if len(members) < 2:
        return float("inf")

    def joined(least: float) -> bool:
        return has_ring(members, lambda a, b: rate(a, b) >= least, closed=closed)

    rates = sorted({rate(a, b) for a, b in combinations(members, 2)})
    low, high = 0, len(rates) - 1
    while low < high:
        middle = (low + high + 1) // 2
        if joined(rates[middle]):
            low = middle
        else:
            high = middle - 1
    return rates[low]


def has_ring(members: Sequence[int], joined: Callable[[int, int], bool], *, closed: bool = True) -> bool:
    """Whether a ring (or a chain) visits every member once over joined pairs; at most 16 of them."""
    size = len(members)
    near = [sum(1 << j for j in range(size) if j != i and joined(members[i], members[j])) for i in range(size)]
    if size > 2 and min(bin(mask).count("1") for mask in near) < (2 if closed else 1):
        return False
    failed: set[tuple[int, int]] = set()

    def extend(last: int, left: int) -> bool:
        if not left:
            return not closed or size == 2 or bool(near[last] & 1)
        if (last, left) in failed:
            return False
        open_ = near[last] & left
        while open_:
            bit = open_ & -open_
            if extend(bit.bit_length() - 1, left ^ bit):
                return True
            open_ ^= bit
        failed.add((last, left))
        return False

    whole = (1 << size) - 1
    return any(extend(start, whole ^ (1 << start)) for start in ([0] if closed else range(size)))


def best_order(gpus: int, used: int, rate: Rate, wanted: int | None = None) -> Block:
    """Physical GPUs in rank order: the best `used` of them, in blocks of `wanted` first, then of every other divisor.

    The order is the usual one wherever another gains nothing. `rate(a, b)` is what two GPUs reach [GB/s]. Blocks of
    `wanted` GPUs get the fastest slowest ring; without it, the product over all block sizes counts.
    """
    if gpus > MOST_GPUS or used < 2 or used > gpus:
        return tuple(range(min(used, gpus)))

    @cache
    def quality(members: Block) -> tuple[float, float]:
        return best_ring(members, rate), sum(rate(a, b) for a, b in combinations(members, 2))

    sizes = [size for size in range(2, used + 1) if used % size == 0]

    def worst(order: Block, size: int) -> float:
        return min(quality(tuple(sorted(order[at : at + size])))[0] for at in range(0, used, size))

    def score(order: Block) -> tuple[float, float]:
        first = worst(order, wanted) if wanted in sizes else 0.0
        return round(first, 6), round(sum(log(max(worst(order, size), 1e-9)) for size in sizes), 6)

    orders: list[Block] = [tuple(range(used))]
    chosen = _subset(gpus, used, quality)
    for first in (None, *sizes):
        for start in dict.fromkeys((orders[0], chosen)):
            order = _arranged(start, first, quality)
            if order not in orders:
                orders.append(order)
    return max(orders, key=lambda order: (*score(order), -orders.index(order)))


Quality: TypeAlias = Callable[[Block], tuple[float, float]]


def _subset(gpus: int, used: int, quality: Quality) -> Block:
    """The GPUs to use where not all are: those with the best ring, then the most bandwidth."""
    if comb(gpus, used) <= MOST_SUBSETS:
        return max(combinations(range(gpus), used), key=lambda m: (*quality(m), [-x for x in m]))
    whole = _arranged(tuple(range(gpus)), None, quality)
    groups = [tuple(sorted(whole[at : at + used])) for at in range(0, gpus - used + 1, used)]
    return max(groups, key=lambda m: (*quality(m), [-x for x in m]))


def _arranged(members: Block, first: int | None, quality: Quality) -> Block:
    """An order of these GPUs whose blocks of `first` are best, then smaller ones inside and larger ones of them."""
    units: list[Block] = [(member,) for member in members]
    if first is not None and comb(len(units), first) <= MOST_SUBSETS:
        units = [_arranged(block, None, quality) for block in _partition(units, first, quality)]
    return _merged(units, quality)


def _merged(units: list[Block], quality: Quality) -> Block:
    """Blocks joined two by two (or by the next prime number), the best together, until one is left."""
    while len(units) > 1:
        ratio = next(n for n in range(2, len(units) + 1) if len(units) % n == 0)
        units = _partition(units, ratio, quality)
    return units[0]


def _partition(units: list[Block], size: int, quality: Quality) -> list[Block]:
    """Units in groups of `size` that maximise the slowest ring, then all bandwidth inside groups."""
    count = len(units)

    @cache
    def valued(chosen: Block) -> tuple[float, float]:
        return quality(tuple(sorted(gpu for index in chosen for gpu in units[index])))

    def search(least: float | None) -> tuple[float, tuple[Block, ...]] | None:
        """Best (slowest ring, groups), or with a floor on rings best (all bandwidth, groups)."""

        @cache
        def rest(left: int) -> tuple[float, tuple[Block, ...]] | None:
            if not left:
                return (float("inf") if least is None else 0.0), ()
            free = [index for index in range(count) if left >> index & 1]
            best: tuple[float, tuple[Block, ...]] | None = None
            for others in combinations(free[1:], size - 1):
                group = (free[0], *others)
                ring, total = valued(group)
                if least is not None and ring < least:
                    continue
                after = rest(left & ~sum(1 << index for index in group))
                if after is not None:
                    value = min(ring, after[0]) if least is None else total + after[0]
                    if best is None or value > best[0] + 1e-9:
                        best = value, (group, *after[1])
            return best

        return rest((1 << count) - 1)

    slowest = search(None)
    assert slowest is not None  # every partition has a slowest ring
    found = search(slowest[0])
    assert found is not None
    return [tuple(gpu for index in group for gpu in units[index]) for group in found[1]]
