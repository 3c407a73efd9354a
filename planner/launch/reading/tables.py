"""Which tables of catalogs/flags a launcher's files are read by."""

from __future__ import annotations

from collections.abc import Iterable

from planner.schema.tables import TRANSFORMERS

FAMILY = TRANSFORMERS
ZERO, ARGUMENTS, PROGRAM = (FAMILY, "deepspeed"), (FAMILY, "training_arguments"), (FAMILY, "program")
OF_VERL = ("common", "megatron", "fsdp1", "fsdp2", "fsdp", "megatron_overrides", "megatron_adapter", "fsdp_adapter")
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "verl": tuple(("verl_091.yaml", part) for part in OF_VERL),
    "nemo-rl": tuple(
        ("nemo_rl_07.yaml", part)
        for part in ("grpo", "ppo", "common", "megatron", "dtensor", "megatron_adapter", "dtensor_adapter")
    ),
    "openrlhf": (("openrlhf_0112.yaml", "flags"), ("openrlhf_0112.yaml", "adapter")),
    "ms-swift": (("ms_swift_460.yaml", "flags"), ("ms_swift_460.yaml", "adapter")),
    "ms-swift-trainer": (("ms_swift_460.yaml", "trainer"), ("ms_swift_460.yaml", "trainer_adapter"), ZERO),
    "torchtitan": tuple(("torchtitan_030.yaml", part) for part in ("common", "pipeline")),
    "axolotl": (*(("axolotl_019.yaml", part) for part in ("common", "fsdp", "older", "adapter")), ZERO),
    "llama-factory": (
        *(("llama_factory_095.yaml", part) for part in ("common", "adapter")),
        *((FAMILY, part) for part in ("accelerate", "fsdp")),
        ZERO,
    ),
    "torchtune": (("torchtune_2026.yaml", "common"), ("torchtune_2026.yaml", "adapter")),
    "deepspeed": (ZERO, ARGUMENTS, PROGRAM),
    "deepspeed-chat": (("deepspeed_chat.yaml", "program"),),
    "trl": (
        *(("trl_116.yaml", part) for part in ("sft", "adapter")),
        *((FAMILY, part) for part in ("accelerate", "fsdp", "plugin")),
        ZERO,
    ),
    "accelerate": ((FAMILY, "accelerate"), (FAMILY, "fsdp"), ARGUMENTS, PROGRAM, ZERO, (FAMILY, "plugin")),
}
"""(file, part) of the key tables that a launcher's files are read by, the first word of a kind counting."""
OF_TRAINERS = {
    "common", "accelerate", "training_arguments", "program", "adapter", "trainer", "trainer_adapter", "sft",
}  # fmt: skip
KINDS: dict[str, set[str]] = {
    "verl-megatron": {"common", "megatron", "megatron_overrides", "megatron_adapter"},
    "verl-fsdp1": {"common", "fsdp1", "fsdp", "fsdp_adapter"},
    "verl-fsdp2": {"common", "fsdp2", "fsdp", "fsdp_adapter"},
    "nemo-rl": {"common", "grpo", "ppo", "megatron", "megatron_adapter"},
    "nemo-rl-fsdp2": {"common", "grpo", "ppo", "dtensor", "dtensor_adapter"},
    "deepspeed": OF_TRAINERS | {"deepspeed", "plugin"},
    "fsdp2": OF_TRAINERS | {"fsdp", "older"},
    "transformers": OF_TRAINERS,
    "transformers-ddp": OF_TRAINERS,
}
"""Parts that belong to an engine, where a launcher serves several."""
ONE_OF = {"nemo-rl": (("ppo", "ppo."), ("grpo", ""))}
"""Parts of a launcher of which a file is read by one, the first whose beginning some setting has."""


def parts_of(launcher: str, engine: str, names: Iterable[str]) -> list[tuple[str, str]]:
    """(file, part) of the tables that a file for this engine with settings of these names is read by."""
    every, choices = list(names), ONE_OF.get(launcher, ())
    taken = next((part for part, begins in choices if any(name.startswith(begins) for name in every)), None)
    others = {part for part, _ in choices} - {taken}
    own = [each for each in TABLES[launcher] if each[1] in KINDS.get(engine, {each[1]})]
    return [each for each in own if each[1] not in others]
