"""What an engine is, before its internals: what it shards, its defaults, its options and its rules."""

from __future__ import annotations

from planner.analysis.engine_options import REFERENCE, OptionEffect, option_effects
from planner.inputs.catalog import Catalog
from planner.report.blocks import Block, Bullets, Grid, Heading, Text, pairs
from planner.schema.engine import Engine
from planner.schema.tensors import Tensor
from planner.units import percent, signed

_ZERO = ("nothing", "optimizer state", "optimizer state and gradients", "optimizer state, gradients and weights")


def engine_summary(engine: Engine, catalog: Catalog) -> list[Block]:
    """The page one reads first; what options cost is computed, on reference runs."""
    degrees = {
        "tensor": engine.tensor_parallel,
        "pipeline": engine.pipeline.supported,
        "context": engine.context_parallel,
        "expert": engine.expert_parallel,
        "data": engine.data_parallel,
    }
    sequence = "left to layout" if engine.sequence_parallel == "choice" else engine.sequence_parallel
    shards = [f"{stage}: {_ZERO[stage]}" for stage in engine.zero_stages]
    free = percent(engine.default_headroom_fraction)
    rows = [
        ("name", f"{engine.name} {engine.version}"),
        ("cuts over GPUs", ", ".join(name for name, has in degrees.items() if has) or "nothing"),
        ("cannot cut by", ", ".join(name for name, has in degrees.items() if not has) or "-"),
        ("data-parallel ranks shard", "; ".join(shards) + "; the first is the default"),
        ("sequence parallelism", sequence),
        ("modules recomputed alone", ", ".join(engine.recompute_modules) or "-"),
        ("optimizer on the host", "layout.optimizer_offload" if engine.optimizer_offload else "no"),
        ("precisions", ", ".join(engine.precisions) or "what its GPUs have"),
        ("kept free by default", f"{free} of usable memory{engine.headroom_standing}"),
        ("called critical below", percent(engine.critical_headroom_fraction)),
        ("launch files", ", ".join(engine.launch) or "none"),
        ("reinforcement learning", "yes" if engine.generation is not None else "no"),
    ]  # fmt: skip
    blocks: list[Block] = [pairs(rows)]
    if engine.options:
        effects = option_effects(engine, catalog)
        table = tuple(
            (name, option.text, option_changes(engine, name), effect_text(effects.get(name)))
            for name, option in sorted(engine.options.items())
        )
        header = ("engine_options", "what it does", "what it changes", "costs or gains")
        blocks += [Heading("Options of a scenario"), Grid(header, table, left=frozenset({0, 1, 2, 3}))]
        blocks.append(Text(f"Costs and gains: fullest GPU and step against the same run without it ({REFERENCE})."))
    if engine.rules:
        blocks += [Heading("Rules"), Bullets((", ".join(engine.rules), "each with its source in docs/engine-rules.md"))]
    return [*blocks, Heading("Internals")]


def effect_text(effect: OptionEffect | None) -> str:
    """`-4.1 GiB, step +0.0 % (8B on 8 GPUs)`; what changes no reference run says so."""
    if effect is None:
        return "nothing on the reference runs"
    return f"{signed(effect.gib, 1)} GiB, step {signed(effect.time * 100, 1)} % ({effect.run})"


def option_changes(engine: Engine, name: str) -> str:
    """What a plan with this option has other than one without it: where its cost or gain comes from."""
    option = engine.options[name]
    parts = [_PARTS.get(field, field) for field in option.set]
    parts += [f"layout.{option.decides}"] if option.decides is not None else []
    for field, words in _PARTS.items():
        tensors = getattr(engine, field)
        if isinstance(tensors, list):
            beside = [each.name for each in tensors if isinstance(each, Tensor) and _stands_beside(each, name)]
            parts += [f"{words} ({', '.join(dict.fromkeys(beside))})"] if beside else []
    parts += [f"rule {rule}" for rule in option.rules]
    return ", ".join(dict.fromkeys(parts)) or "times, communication or launch files alone"


def _stands_beside(tensor: Tensor, name: str) -> bool:
    said = tensor.option
    words = [said] if isinstance(said, str) else list(said or ())
    return any(word.removeprefix("not ") == name for word in words)


_PARTS = {
    "saved": "activations a layer keeps",
    "saved_by_adapter": "activations an adapter keeps",
    "stub": "what a recomputed layer keeps",
    "backward": "temporaries of the backward pass",
    "loss": "memory of logits and loss",
    "log_prob": "memory of log-probabilities",
    "states": "bytes of weights, gradients and optimizer",
    "zero_three": "gathered layers",
    "overlap": "which collectives hide behind compute",
    "timing": "times of kernels",
    "overhead": "fixed buffers",
    "reserve": "allocator reserve",
    "pipeline": "activations in flight and the bubble",
    "offloaded": "host memory",
    "offloaded_stub": "host memory",
    "expandable_segments": "allocator reserve and its cliff",
    "fused_attention": "memory and time of attention scores",
    "fused_head": "memory of logits and loss",
    "gradient_reduce_bytes": "bytes that gradients send",
    "run_ahead": "buffers of layers gathered ahead",
    "weight_gradient_buffer_bytes": "buffers of weight gradients",
}
"""Fields of an engine in words."""
