"""What a trainer's file trains for, and what of it no plan counts: other losses and optimizers, short samples."""

from __future__ import annotations

from collections.abc import Iterable

from planner.errors import Place
from planner.launch.reading.found import Found
from planner.schema.preference import DPO
from planner.schema.tables import FlagTable

NEXT_TOKEN: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "llama-factory": (("stage", ("sft", "pt")),),
    "ms-swift": (("--rlhf_type", ()),),
    "ms-swift-trainer": (("rlhf_type", ()), ("task_type", ("causal_lm",))),
    "axolotl": (("rl", ()),),
}
"""Settings of a launcher that name the method, and the methods that are costed; an absent one is."""
OF_ROLLOUTS = ("num_generations", "max_completion_length", "vllm_mode", "use_vllm")
OF_PAIRS = ("max_prompt_length", "beta", "rpo_alpha", "precompute_ref_log_probs")
"""Settings of TRL's trainers (GRPOConfig; DPOConfig and its like) that its SFTConfig lacks."""
ANY_TRAINER = frozenset(("accelerate", "trl"))
"""Launchers whose files may be those of any trainer of the family."""
PAIRED = {"nemo-rl": ("dpo.", "rm.")}
"""Beginnings of settings of a launcher's runs on pairs of samples."""
OTHER_OPTIMIZERS = {
    "llama-factory": ("use_galore", "use_badam", "use_apollo", "use_adam_mini", "use_muon"),
    "ms-swift-trainer": ("use_galore", "optimizer", "lisa_activated_layers"),
}
"""Switches (LLaMA-Factory hparams/finetuning_args.py, ms-swift trainers/arguments.py) of optimizers whose state, or
share of trained weights, is not AdamW's."""
TEACHERS = {"nemo-rl": "teacher."}
"""Beginnings of settings of a second network that a student learns from."""
ELSEWHERE = {"llama-factory": ("use_kt", "tensor_model_parallel_size", "pipeline_model_parallel_size")}
"""Settings of a launcher that train over another engine: KTransformers, Megatron (LLaMA-Factory examples/megatron)."""
PACKED = ("dataset.packed", "packing", "sample_packing", "neat_packing", "--packing")
FAMILY = frozenset(("torchtune", "accelerate", "trl", "llama-factory", "axolotl", "ms-swift", "ms-swift-trainer"))


def say_method(found: Found) -> None:
    """List a method whose memory is not costed, and samples that need not be as long as the longest."""
    for name, costed in NEXT_TOKEN.get(found.launcher, ()):
        said = found.options.get(name)
        if said is not None and said.text.lower() not in (*costed, "null", "none", ""):
            text = f"{name} {said.text} is not costed: it holds more than the next token's loss"
            found.uncosted.append((said.place, text))
    sections = PAIRED.get(found.launcher, ())
    pairs = next((one for name, one in found.options.items() if sections and name.startswith(sections)), None)
    if pairs is not None:
        found.uncosted.append((pairs.place, f"{pairs.name.partition('.')[0]} (pairs of samples) is not costed"))
    teacher = TEACHERS.get(found.launcher)
    taught = next((one for name, one in found.options.items() if teacher and name.startswith(teacher)), None)
    if taught is not None:
        found.uncosted.append((taught.place, "a teacher, a second network beside the trained one, is not costed"))
    if found.launcher in ANY_TRAINER and found.words.get("task") != DPO:
        for options, what in ((OF_ROLLOUTS, "training on rollouts"), (OF_PAIRS, "training on preferences")):
            one = next((found.options[option] for option in options if option in found.options), None)
            if one is not None:
                found.uncosted.append((one.place, f"{what} by a trainer of this family ({one.name}) is not costed"))
                break
    for name in [name for name in ELSEWHERE.get(found.launcher, ()) if name in found.options and found.has(name)]:
        found.uncosted.append((found.options[name].place, f"{name}: training over another engine is not costed"))
    for name in OTHER_OPTIMIZERS.get(found.launcher, ()):
        if found.has(name):
            found.uncosted.append((found.options[name].place, f"the optimizer that {name} turns on is not costed"))
    if found.launcher not in FAMILY or found.uncosted or any(found.has(option) for option in PACKED):
        return
    length = found.words.get("sequence_length")
    if isinstance(length, int):
        found.padded = True
        place = found.places.get("sequence_length", Place("?"))
        found.note(place, f"nothing is packed: costed as if every sample had {length:,} tokens; shorter ones take less")


def say_optimizer(found: Found, tables: Iterable[FlagTable]) -> None:
    """The catalog's optimizer behind a name of the engine's own, or why none is."""
    name = str(found.words.get("optimizer"))
    other = next((table.optimizers[name] for table in tables if name in table.optimizers), None)
    if other is None:
        return
    if other.counted_as is not None:
        found.words["optimizer"] = other.counted_as
    else:
        found.refused["optimizer"] = f"{name} is not costed: {other.because}"
