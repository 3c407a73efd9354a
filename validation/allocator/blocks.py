"""PyTorch's caching allocator on one stream, as far as it decides how much is reserved.

Source: c10/cuda/CUDACachingAllocator.cpp @001074d25 (round_size, get_allocation_size, get_free_block, should_split,
free_block): sizes in steps of 512 B, two pools, the smallest free block that is large enough, what remains of it split
off, neighbours joined again. Without expandable segments, garbage collection and a limit of memory.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

STEP = 512
SMALL = 2**20
"""Up to so many bytes a tensor comes from the small pool, whose segments have twice as many."""
MIDDLE, MIDDLE_SEGMENT = 10 * 2**20, 20 * 2**20
ROUNDED = 2 * 2**20
"""Segments of larger tensors are multiples of it."""


@dataclass(eq=False)
class Block:
    """Part of a segment."""

    size: int
    small: bool
    number: int
    before: Block | None = None
    behind: Block | None = None
    free: bool = True


@dataclass
class Allocator:
    """How much is reserved for what is allocated and freed."""

    reserved: int = 0
    allocated: int = 0
    peak: int = 0
    """Most that was allocated at once."""
    blocks: list[Block] = field(default_factory=list)
    pools: tuple[list[tuple[int, int]], list[tuple[int, int]]] = field(default_factory=lambda: ([], []))
    """Free blocks as (size, number), large ones and small ones."""

    def take(self, wanted: float) -> Block:
        """A block for a tensor of so many bytes."""
        size = max(STEP, -(-int(wanted) // STEP) * STEP)
        small = size <= SMALL
        pool = self.pools[small]
        place = bisect_left(pool, (size, -1))
        block = self.blocks[pool.pop(place)[1]] if place < len(pool) else self._segment(size, small)
        rest = block.size - size
        if rest >= STEP if small else rest > SMALL:
            other = self._block(rest, small)
            other.before, other.behind = block, block.behind
            if block.behind is not None:
                block.behind.before = other
            block.behind, block.size = other, size
            insort(pool, (rest, other.number))
        block.free = False
        self.allocated += block.size
        self.peak = max(self.peak, self.allocated)
        return block

    def give(self, block: Block) -> None:
        """Free a block; free neighbours of its segment join it."""
        pool = self.pools[block.small]
        self.allocated -= block.size
        block.free = True
        for first in (block, block.before):
            second = first.behind if first is not None else None
            if first is None or second is None or not (first.free and second.free):
                continue
            other = first if second is block else second
            del pool[bisect_left(pool, (other.size, other.number))]
            first.size, first.behind = first.size + second.size, second.behind
            if second.behind is not None:
                second.behind.before = first
            block = first
        insort(pool, (block.size, block.number))

    def _segment(self, size: int, small: bool) -> Block:
        large = MIDDLE_SEGMENT if size < MIDDLE else -(-size // ROUNDED) * ROUNDED
        block = self._block(2 * SMALL if small else large, small)
        self.reserved += block.size
        return block

    def _block(self, size: int, small: bool) -> Block:
        self.blocks.append(Block(size, small, len(self.blocks)))
        return self.blocks[-1]
