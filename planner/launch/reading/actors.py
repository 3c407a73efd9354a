"""A critic whose launch file tells it apart from the actor by the beginning of a setting's name alone."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.found import Found

OF_ACTOR = {"openrlhf": ("--critic.", "--actor.", "--reward.model_name_or_path")}
"""By launcher: how settings of critic and actor begin, and which one names the critic where none of its own does."""
SAME = {"model_name_or_path": None, "num_nodes": "1", "num_gpus_per_node": "8", "optim": "adam"}
"""Settings on which a cost rests, and the critic's default; none where it takes the actor's."""


def counts_critic(found: Found) -> bool:
    """Whether a critic beside what is read can be costed: on shared GPUs, without adapters."""
    rank, tuner = found.words.get("adapter_rank"), found.words.get("tuner")
    adapts = isinstance(rank, int) and rank > 0 and tuner in (None, "lora")
    return found.words.get("colocated") is True and not adapts


def say_like_the_actor(found: Found) -> None:
    """PPO: the critic is costed as the actor is, and what it is told otherwise is listed.

    Source: OpenRLHF 0.11.2 cli/train_ppo_ray.py:120-127 and 644-650.
    """
    critic, actor, instead = OF_ACTOR[found.launcher]
    found.words["algorithm"] = "ppo"
    for name, usual in SAME.items():
        own, its = (found.options.get(begins + name) for begins in (critic, actor))
        if own is None and usual is None:
            own = found.options.get(instead)
        said = own.text if own is not None else usual
        other = its.text if its is not None else usual
        if own is not None and own.known and usual is None and said != other:
            found.say("critic_model", own.text, own.name)
        elif said is not None and said != other:
            place = next((option.place for option in (own, its) if option is not None), Place("?"))
            found.note(place, f"{critic}{name} {said} is costed as the actor's {other}")
