"""How frameworks cut layers into pipeline stages: pure functions of counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any


def equal_stages(*, layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage in equal numbers; what is left over goes to the first stages. [layers]"""
    each, over = divmod(layers, stages)
    return tuple(each + (stage < over) for stage in range(stages))


def cost_balanced_stages(*, layers: int, stages: int, layer_cost: float, head_cost: float) -> tuple[int, ...]:
    """Layers of each stage where blocks are dealt out by cumulative cost and the head is one block at the end. [layers]

    A stage takes blocks until the running cost reaches its share of the total, the block that reaches it included.
    Source: nanotron src/nanotron/models/base.py (build_model) with get_block_compute_costs of models/llama.py;
    32 layers of 4096 x 14336 with a vocabulary of 131,072 on 4 stages give 9, 9, 8, 6.
    """
    total = layers * layer_cost + head_cost
    counts = [0] * stages
    stage, done = 0, 0.0
    for _ in range(layers):
        counts[stage] += 1
        done += layer_cost
        if done >= total * (stage + 1) / stages:
            stage += 1
    return tuple(counts)


def padded_ends_stages(*, layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each stage where embedding and loss count as one layer each. [layers]

    Source: Megatron-LM --account-for-embedding-in-pipeline-split and --account-for-loss-in-pipeline-split.
    """
    counts = list(equal_stages(layers=layers + 2, stages=stages))
    counts[0] -= 1
    counts[-1] -= 1
    return tuple(counts)


def chunk_layers(layers: int, chunks: int) -> tuple[int, ...]:
    """Layers of each chunk of one stage: in equal numbers, the later chunks one more where they do not divide.

    Of a chunk the more micro-batches are in flight the earlier it comes, so that this order keeps least activations.
    """
    each, over = divmod(layers, chunks)
    return tuple(each + (chunk >= chunks - over) for chunk in range(chunks))


def stage_chunks(layers: Sequence[int], chunks: int) -> tuple[tuple[int, ...], ...]:
    """Layers of each chunk of each stage; `layers` of the stages. [layers]

    The loss stands in the last chunk of the last stage: where embedding and loss count as a layer each, or the chunk
    holds nothing else, that chunk is the short one, so that it takes no longer than the others.

    >>> stage_chunks((3, 4, 3), 2)
    ((1, 2), (2, 2), (2, 1))
    """
    each = [chunk_layers(count, chunks) for count in layers]
    padded = (sum(layers) + 2) % (chunks * len(layers)) == 0 and layers[-1] % chunks == chunks - 1
    if layers[-1] < chunks or padded:
        each[-1] = each[-1][::-1]
    return tuple(each)


def layout_stages(*, text: str, stages: int) -> tuple[int, ...]:
    """Decoder layers of each stage in a pipeline layout such as `Et*3|(tt|)*6mL`. [layers]

    `|` ends a chunk, chunks go round the stages, `t` is a decoder layer; E, m and L are embedding, further-token head
    and loss.
    Source: Megatron-LM core/transformer/pipeline_parallel_layer_layout.py.
    """
    flat = re.sub(r"\(([^)]*)\)\*(\d+)", lambda m: m.group(1) * int(m.group(2)), text)
    flat = re.sub(r"([A-Za-z])\*(\d+)", lambda m: m.group(1) * int(m.group(2)), flat)
    counts = [0] * stages
    for index, chunk in enumerate(flat.split("|")):
        counts[index % stages] += chunk.count("t")
    return tuple(counts)


def usual_stages(*, architecture: Any, stages: int, balance: str) -> tuple[int, ...]:
    """Layers of each stage as a framework cuts them by default: `layers` in equal numbers, `cost` by cost. [layers]"""
    layers = architecture.num_hidden_layers
    if balance == "layers":
        return equal_stages(layers=layers, stages=stages)
    h, inner = architecture.hidden_size, architecture.intermediate_size
    layer = 4 * architecture.num_attention_heads * architecture.head_dim * h + 3 * inner * h
    return cost_balanced_stages(layers=layers, stages=stages, layer_cost=layer, head_cost=architecture.vocab_size * h)
