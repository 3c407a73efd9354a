"""Settings of NeMo-RL's value model that are those of its policy under another name."""

from __future__ import annotations

from collections.abc import Mapping

from planner.launch.said import Setting, Words

POLICY, VALUE = "policy.", "value."
BRANCHES = ("megatron_cfg.", "sequence_packing.")
"""Branches that both have, each with values of its own."""
SAME = ("precision", "make_sequence_length_divisible_by")
"""Keys likewise; of the model's name, the length and the batches the value model takes the policy's."""
DECIDES = ("_parallel_size", "sequence_parallel", "activation_checkpointing", "precision", ".enabled", "_mb_tokens")
"""Ends of keys on which a layout's cost rests."""


def values_key(name: str) -> str | None:
    """The value model's key for one of the policy's; none where it has none of its own."""
    bare = name.removeprefix(POLICY)
    own = bare != name and (bare in SAME or bare.startswith(BRANCHES))
    return VALUE + bare if own else None


def like_the_policy(values: Mapping[str, Setting]) -> Words:
    """The value model's settings where it is laid out as the policy (NeMo-RL @7ea279ab models/value/config.py)."""
    named = ((values_key(name), value) for name, value in values.items())
    return {name: value for name, value in named if name is not None}
