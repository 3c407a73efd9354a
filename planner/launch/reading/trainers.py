"""Shell commands that start a trainer of the Hugging Face family: their options, and the files they name, as keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.errors import Place
from planner.launch.reading.found import Spelling, command_options, program_at
from planner.launch.reading.joined import Settings, Unread, beside, over, settings_of, text_of_file, with_shards
from planner.launch.reading.swift import own_settings, trains
from planner.launch.reading.words import Word

OPTIONS = ("--per_device_train_batch_size", "--finetuning_type")
"""Options of a program whose arguments are TrainingArguments, or LLaMA-Factory's."""
STARTERS = frozenset(("accelerate", "axolotl", "llamafactory-cli", "trl"))
"""Commands whose YAML files are settings of a run."""
FILES = (".yaml", ".yml")
NAMING = frozenset(("config", "config_file"))
"""Options whose value is one of these files."""
OTHER_NAMES = {"zero_stage": "deepspeed_config.zero_stage", "use_deepspeed": "deepspeed"}
"""Options of `accelerate launch` under the keys of its own file."""


def is_trainer(words: Sequence[Word]) -> bool:
    """Whether a command starts a trainer whose settings are its options, or in files that it names."""
    texts = [word.text for word in words]
    if trains(texts) or any(text.partition("=")[0] in OPTIONS for text in texts):
        return True
    starts = any(text.rpartition("/")[2] in STARTERS or text.startswith("axolotl.cli") for text in texts)
    return starts and any(text.endswith(FILES) for text in texts)


def trainer_settings(path: Path, words: tuple[Word, ...], unread: Unread) -> Settings:
    """Settings of such a command: of the files that it names, and over them its options, with and without dashes."""
    out: Settings = {}
    for word in words:
        if not word.text.endswith(FILES):
            continue
        file = beside(path, word.text) if word.known else None
        if file is None:
            last = word.text.rpartition("\0")[2]
            unread.append((Place(word.file, word.line), f"{last}, a file of settings, is not here"))
        else:
            out = over(out, settings_of(file, text_of_file(file), unread))
    own = command_options(words, program_at(words) or 0)
    keys: Settings = {}
    for option in own.values():
        name = option.name.lstrip("-")
        name = OTHER_NAMES.get(name, name)
        if name not in NAMING:
            keys[name] = Spelling(name, option.values or ("true",), option.place, option.known)
    out = over(out, keys)
    if trains([word.text for word in words]):
        out = own_settings(path, out, unread)
    with_shards(path, out, unread)
    return out | own
