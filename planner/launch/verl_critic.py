"""Settings of verl's critic that are those of its policy under another name."""

from __future__ import annotations

from collections.abc import Mapping

from planner.launch.said import Setting, Words

SAME = {
    "actor_rollout_ref.model.path": "critic.model.path",
    "actor_rollout_ref.model.enable_gradient_checkpointing": "critic.model.enable_gradient_checkpointing",
    "actor_rollout_ref.model.use_liger": "critic.model.use_liger",
    "actor_rollout_ref.actor.strategy": "critic.strategy",
    "actor_rollout_ref.actor.ulysses_sequence_parallel_size": "critic.ulysses_sequence_parallel_size",
}
"""Keys by name; those of a trainer, an optimizer and of Megatron are whole branches."""
BRANCHES = {
    "actor_rollout_ref.actor.fsdp_config.": "critic.fsdp.",
    "actor_rollout_ref.actor.megatron.": "critic.megatron.",
    "actor_rollout_ref.actor.optim.": "critic.optim.",
}
DECIDES = (
    "strategy",
    "_size",
    ".dtype",
    ".model_dtype",
    "recompute_granularity",
    "recompute_num_layers",
    "pipeline_stage",
    "optim.optimizer",
    "enable_gradient_checkpointing",
    "model.path",
)
"""Ends of keys on which a layout's cost rests."""
OWN = ("param_offload", "optimizer_offload")
"""Said of each by itself."""


def critics_key(name: str) -> str | None:
    """The critic's key for one of the policy's; none where it has none, or its own value."""
    bare = name.removeprefix("+")
    if bare in SAME:
        return SAME[bare]
    branch = next((each for each in BRANCHES if bare.startswith(each)), None)
    if branch is None or bare.endswith(OWN):
        return None
    return ("+" if name.startswith("+") else "") + BRANCHES[branch] + bare.removeprefix(branch)


def like_the_policy(values: Mapping[str, Setting]) -> Words:
    """The critic's settings where it is laid out as the policy. Source: verl 0.9.1 trainer/config/critic."""
    named = ((critics_key(name), value) for name, value in values.items())
    return {name: value for name, value in named if name is not None}
