"""DeepSpeed-Chat's scripts: arguments of a program of its own, which are read as its first step's."""

from __future__ import annotations

from planner.errors import Place
from planner.launch.reading.found import Found

LAUNCHER = "deepspeed-chat"
SIGNS = ("--data_split", "--actor_model_name_or_path")
"""Arguments that its programs alone have."""
OTHER_STEPS = {
    "step2_dpo": "preferences beside a reference",
    "step2_reward": "rewards of pairs of samples",
    "step3_rlhf": "PPO with four networks",
}
"""Folders of its programs that train otherwise, and what they train."""
OF_OTHER_STEPS = ("--num_padding_at_beginning", "--beta", "--offload_reference_model", "--actor_model_name_or_path")
"""Arguments that only they have."""
OWN_ADAPTERS = "--lora_dim"
TAKEN = (
    "read as the first step of DeepSpeed-Chat, supervised fine-tuning: the second's (dpo) may have the same arguments"
)


def say_chat(found: Found) -> None:
    """Say what --offload moves, and list what is not costed: its other steps, and its own adapters."""
    words, first = found.words, next(iter(found.options.values()))
    folder = next((name for name in OTHER_STEPS if f"{name}_finetuning" in first.place.file), None)
    other = next((found.options[name] for name in OF_OTHER_STEPS if name in found.options), None)
    if folder is not None or other is not None:
        what = OTHER_STEPS[folder] if folder is not None else "another loss than the next token's"
        found.uncosted.append(((other or first).place, f"{what}: of DeepSpeed-Chat only the first step is costed"))
    else:
        found.note(found.places.get("micro_batch_size", Place(first.place.file)), TAKEN)
    if (found.number(OWN_ADAPTERS) or 0) > 0:
        text = f"{OWN_ADAPTERS}: DeepSpeed-Chat's own adapters (dschat/utils/module/lora.py) are not costed"
        found.uncosted.append((found.options[OWN_ADAPTERS].place, text))
    if words.get("optimizer_offload") is True and words.get("zero_stage") == 3:
        words["parameters_offloaded"] = True
    if "precision" not in found.places:
        found.assumed["precision"] = f"{words['precision']}: the default of --dtype, which no line says"
