"""What a caching allocator holds beside layers whose experts get another number of tokens each time.

    python -m validation.allocator.experts     prints the table of docs/memory.md

A stage of Megatron-LM core_v0.14.0 step by step: attention, the all-to-all dispatcher (permuted, exchanged, sorted by
expert, sent back; core/transformer/moe/token_dispatcher.py), experts, loss; state and gradients stand apart and are
left out. The number of tokens that a rank receives is drawn for each layer and step.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from validation.allocator.blocks import Allocator, Block

STEPS = 20
SEEDS = range(3)
TRAINED = 0.127
"""Standard deviation over mean of the tokens that a rank receives, at which the busiest of eight ranks gets 1.18 times
an even share (1.42 deviations above the mean)."""


@dataclass(frozen=True)
class Shape:
    """A stage: 16-bit tensors, gate and up in one product."""

    name: str
    tokens: int
    hidden: int
    expert: int
    top_k: int
    layers: int
    vocabulary: int = 151_936
    parts: int = 8
    """Expert-parallel ranks."""
    gathered: int = 1
    """Ranks of expert tensor parallelism: each holds its part of every expert and the tokens of all."""

    @property
    def by_chance(self) -> float:
        """The spread where routing is forced to be even: each token of all these ranks chooses by lot."""
        tokens = self.tokens * self.top_k * self.parts * self.gathered
        return math.sqrt((self.parts - 1) / tokens)


SHAPES = (
    Shape("tutorials, EP 8", 16384, 1024, 1024, 8, 16, 50_304),
    Shape("the same, EP 4, expert TP 2", 16384, 1024, 1024, 8, 16, 50_304, 4, 2),
    Shape("the same, EP 2, expert TP 4", 16384, 1024, 1024, 8, 16, 50_304, 2, 4),
    Shape("Qwen1.5-MoE, 12 layers, 8,192 tokens", 8192, 2048, 1408, 4, 12),
    Shape("Qwen3-30B, 24 layers, 8,192 tokens", 8192, 2048, 768, 8, 24),
    Shape("Qwen3-30B, 12 layers, 16,384 tokens", 16384, 2048, 768, 8, 12),
    Shape("Mixtral 8x7B, 8 layers, 4,096 tokens", 4096, 4096, 14336, 2, 8, 32_000),
    Shape("Moonlight, 13 layers, 8,192 tokens", 8192, 2048, 1408, 6, 13, 163_840),
    Shape("DeepSeek-V3, 4 layers, 4,096 tokens", 4096, 7168, 2048, 8, 4, 129_280),
)


class Stage:
    """One stage's steps on one allocator."""

    def __init__(self, shape: Shape, spread: float, recomputed: bool, seed: int) -> None:
        self.shape, self.spread, self.recomputed = shape, spread, recomputed
        self.random, self.memory = random.Random(seed), Allocator()
        self.row = 2 * shape.hidden
        self.sent = shape.tokens * shape.top_k * self.row
        self.each = shape.tokens * self.row

    def run(self) -> tuple[float, float]:
        """Most that was allocated, and what is reserved in the end. [GiB]"""
        for _ in range(STEPS):
            self._step()
        return self.memory.peak / 2**30, self.memory.reserved / 2**30

    def _step(self) -> None:
        take, give, shape = self.memory.take, self.memory.give, self.shape
        kept = [self._forward(keep=not self.recomputed) for _ in range(shape.layers)]
        logits, upcast = take(2 * shape.tokens * shape.vocabulary), take(4 * shape.tokens * shape.vocabulary)
        give(logits)
        made = take(2 * shape.tokens * shape.vocabulary)
        give(upcast)
        gradient = take(self.each)
        give(made)
        for layer, received in reversed(kept):
            if self.recomputed:
                gradient = self._backward(*self._forward(keep=True), gradient)
                give(layer[0])
            else:
                gradient = self._backward(layer, received, gradient)
        give(gradient)

    def _forward(self, keep: bool) -> tuple[list[Block], float]:
        take, give, shape = self.memory.take, self.memory.give, self.shape
        attention = [take(width * self.each) for width in (1, 3, 1, 1, 1)]
        received = shape.gathered * shape.tokens * shape.top_k * (1 + self.random.gauss(0, self.spread))
        expert = received * shape.expert / shape.gathered
        permuted, arrived = take(self.sent), take(received * self.row)
        in_order = take(received * self.row)
        give(arrived)
        both, product = take(4 * expert), take(2 * expert)
        answer = take(received * self.row)
        back = take(received * self.row)
        give(answer)
        returned = take(self.sent)
        give(back)
        give(permuted)
        output = take(self.each)
        if keep:
            return [output, *attention, in_order, both, product, returned], received
        for block in (*attention, in_order, both, product, returned):
            give(block)
        return [output], received

    def _backward(self, layer: list[Block], received: float, gradient: Block) -> Block:
        take, give, shape = self.memory.take, self.memory.give, self.shape
        output, *attention, in_order, both, product, returned = layer
        expert = received * shape.expert / shape.gathered
        here, before = take(self.sent), returned
        give(before)
        for size, gone in (
            (received * self.row, None),
            (received * self.row, None),
            (2 * expert, product),
            (4 * expert, both),
            (received * self.row, in_order),
            (received * self.row, None),
            (self.sent, None),
        ):
            made = take(size)
            give(here)
            if gone is not None:
                give(gone)
            here = made
        result = take(self.each)
        for block in (here, output, gradient, *attention):
            give(block)
        return result


def beside(shape: Shape, spread: float, recomputed: bool) -> tuple[float, float]:
    """(most allocated, reserved beside it), the mean of the seeds. [GiB]"""
    found = [Stage(shape, spread, recomputed, seed).run() for seed in SEEDS]
    peaks, reserves = (sum(values) / len(found) for values in zip(*found, strict=True))
    return peaks, reserves - peaks


def row(shape: Shape) -> str:
    """A row of the table."""
    cells = []
    for recomputed in (False, True):
        found = [beside(shape, spread, recomputed) for spread in (0.0, shape.by_chance, TRAINED)]
        cells.append(" / ".join(f"{more:.1f}" for _, more in found) + f" of {found[0][0]:.1f}")
    return f"| {shape.name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    for each in SHAPES:
        print(row(each))
