"""TRL's `trl sft` and `trl dpo`: a Trainer with defaults of its own, read by the table that writes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.launch.reading.found import Found, Spelling
from planner.schema.preference import DPO, SEQUENCES_OF_A_PAIR

LAUNCHER = "trl"
SUBCOMMANDS = ("sft", DPO)
SCRIPTS = tuple(f"trl/scripts/{name}.py" for name in SUBCOMMANDS)
REFERENCE_BEFORE = "precompute_ref_log_probs"
"""A setting of its DPOConfig and KTOConfig alone."""
OF_KTO = ("desirable_weight", "undesirable_weight")
OWN = ("max_length", "packing_strategy", "assistant_only_loss", "use_peft")
"""Settings of its SFTConfig and ModelConfig that TrainingArguments lack; before 0.16 it said max_seq_length."""
FIRST = "max_seq_length"
DEFAULTS = {
    "layout.recomputed_layers": ("gradient_checkpointing", "all: TRL recomputes unless told otherwise"),
    "precision": ("bf16", "bf16: TRL's default where fp16 is off"),
    "adapter.rank": ("lora_r", "{adapter_rank}: TRL's default"),
}
"""Paths of a scenario, the settings that say them, and what is taken where a file is silent, with words in it."""
OPTIONS, HEAD = "engine_options", "log_probs_in_tiles"
CHUNKED = f"costed with whole logits; TRL 1.16.0 takes the loss in chunks, which {HEAD} counts"
AS_COMPUTED = "adapters_as_computed"


def is_trl(words: Sequence[str]) -> bool:
    """Whether a command is `trl sft` or `trl dpo`, or starts the script of one."""
    named = len(words) > 1 and words[0].rpartition("/")[2] == LAUNCHER and words[1] in SUBCOMMANDS
    return named or any(word.endswith(SCRIPTS) for word in words)


def _on_pairs(found: Found, words: Sequence[str]) -> bool:
    """Whether it trains on pairs: a command says so, or of a file alone a setting that only such a trainer has."""
    if is_trl(words):
        return DPO in words[1:2] or any(word.endswith(SCRIPTS[-1]) for word in words)
    return REFERENCE_BEFORE in found.options and not any(name in found.options for name in OF_KTO)


def in_trls_words(options: Mapping[str, Spelling]) -> bool:
    """Whether a file of a Trainer is one of TRL's since 0.16."""
    return FIRST not in options and any(name in options for name in OWN)


def say_trl(found: Found, command: Sequence[str]) -> None:
    """Adapters of a quantised base are bf16 (trl 1.16.0 trainer/sft_trainer.py:908-911); list what defaults say."""
    words = found.words
    adapts = words.get("tuner") == "lora"
    if adapts and (words.get("base_bits") == 4 or words.get("base_bits_8") is True):
        found.switch_on(AS_COMPUTED, "tuner")
    for path, (name, text) in DEFAULTS.items():
        silent = name not in found.options and (adapts or not path.startswith("adapter."))
        if silent and not (name == "bf16" and found.has("fp16")):
            found.assumed[path] = text.format(**words)
    if not _on_pairs(found, command):
        found.assumed[OPTIONS] = CHUNKED
        return
    words["task"], samples = DPO, words.get("micro_batch_size")
    if isinstance(samples, int):  # pairs: DataCollatorForPreference puts both answers in one batch
        words["micro_batch_size"] = SEQUENCES_OF_A_PAIR * samples
    if found.has(REFERENCE_BEFORE):
        found.say("reference_of_pairs", "precomputed", REFERENCE_BEFORE)
