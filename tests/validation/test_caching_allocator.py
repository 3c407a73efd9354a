"""The simulated allocator by hand, and that lengths which change keep more reserved than lengths that do not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from validation.allocator.blocks import Allocator
from validation.allocator.experts import SHAPES, TRAINED, Stage

MIB = 2**20


@pytest.mark.parametrize(
    ("sizes", "reserved"),
    [([300_000], 2), ([MIB / 2] * 5, 4), ([3 * MIB], 20), ([3 * MIB] * 7, 40), ([11 * MIB], 12)],
)
def test_segments_are_pages_of_their_pool(sizes: list[float], reserved: int) -> None:
    memory = Allocator()
    for size in sizes:
        memory.take(size)
    assert memory.reserved == reserved * MIB


def test_the_smallest_block_is_taken_cut_and_joined_again() -> None:
    memory = Allocator()
    large, middle = memory.take(40 * MIB), memory.take(20 * MIB)
    memory.give(large)
    memory.give(middle)
    memory.take(19.5 * MIB)  # a rest of half a MiB is not cut off: all 20 are in use
    assert memory.allocated == 20 * MIB
    halves = [memory.take(15 * MIB), memory.take(25 * MIB)]
    assert memory.reserved == 60 * MIB
    for half in halves:
        memory.give(half)
    memory.take(40 * MIB)
    assert (memory.reserved, memory.allocated, memory.peak) == (60 * MIB,) * 3
    memory.take(41 * MIB)
    assert memory.reserved == 102 * MIB


def test_changing_lengths_keep_more_reserved() -> None:
    shape = replace(SHAPES[0], layers=4)
    same, other = (Stage(shape, spread, False, 0).run() for spread in (0.0, TRAINED))
    assert same[1] - same[0] < 0.7 < 1.5 < other[1] - other[0]
