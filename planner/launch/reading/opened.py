"""A launch file of any engine, opened: which engine it is for, its settings, and the words they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.inputs.files import read_lenient
from planner.launch.keyed import key_table
from planner.launch.reading.deepspeed_chat import LAUNCHER as CHAT
from planner.launch.reading.deepspeed_chat import SIGNS as OF_CHAT
from planner.launch.reading.deepspeed_chat import say_chat
from planner.launch.reading.follow import FAMILIES, FIRST_FSDP, REPLICATED, STRATEGY, VERL, settle
from planner.launch.reading.found import Found, Spelling, command_options, options_of, program_at
from planner.launch.reading.joined import NO_PARENT, Unread, read_keys, settings_of
from planner.launch.reading.kernels import say_kernels
from planner.launch.reading.keyed import say_keyed, say_options
from planner.launch.reading.machines import say_machines
from planner.launch.reading.megatron import say_megatron
from planner.launch.reading.methods import say_optimizer
from planner.launch.reading.nemo_rl import say_packs, say_value_model, say_when
from planner.launch.reading.shell import Bash, read_script
from planner.launch.reading.slime import say_slime
from planner.launch.reading.swift import LAUNCHER as SWIFT
from planner.launch.reading.swift import say_ranks, trains
from planner.launch.reading.tables import TABLES, parts_of
from planner.launch.reading.torchtune import ENGINES as TORCHTUNE
from planner.launch.reading.torchtune import LAUNCHER as TUNES
from planner.launch.reading.torchtune import one_gpu, say_torchtune
from planner.launch.reading.trainers import is_trainer, trainer_settings
from planner.launch.reading.trl import LAUNCHER as TRL
from planner.launch.reading.trl import in_trls_words, is_trl, say_trl
from planner.launch.reading.words import Word
from planner.schema.tables import Habits

MAX_BYTES = 2_000_000
CONFIGURATIONS = (".yaml", ".yml", ".json")
PROGRAMS = (
    ("openrlhf.cli.", "openrlhf"),
    ("verl.trainer.main_ppo", "verl"),
    ("verl.trainer.main_fully_async", "verl"),
    ("verl.experimental.", "verl"),
    ("recipe.", "verl"),
    ("torchtitan", "torchtitan"),
    ("pretrain_gpt.py", "megatron"),
    ("train_async.py", "slime"),
    ("train.py", "slime"),
)
"""Words of a command that say whose it is."""
SIGNS = (
    *((sign, CHAT) for sign in OF_CHAT),
    ("checkpointer._component_", "torchtune"),
    ("tokenizer._component_", "torchtune"),
    ("--rollout-batch-size", "slime"),
    ("--actor-num-nodes", "slime"),
    ("--tensor_model_parallel_size", "ms-swift"),
    ("--tensor-model-parallel-size", "megatron"),
    ("--num-layers", "megatron"),
    ("--parallelism.", "torchtitan"),
    ("--ds.", "openrlhf"),
    ("actor_rollout_ref.", "verl"),
    ("policy.", "nemo-rl"),
    ("base_model", "axolotl"),
    ("finetuning_type", "llama-factory"),
    ("distributed_type", "accelerate"),
    ("zero_optimization", "deepspeed"),
    ("per_device_train_batch_size", "accelerate"),
)
"""Beginnings of settings that say it where no program does."""
VERL_MEGATRON = ("actor_rollout_ref.actor.megatron.", "+actor_rollout_ref.actor.megatron.")
"""Settings that make a trainer which no word names Megatron's: releases before 0.9 named its configuration file."""
ZERO_SIGNS = ("zero_optimization.stage", "deepspeed")
RL_OPTION = "--rollout-batch-size"
COSTED = {"openrlhf": "openrlhf.cli.train_ppo_ray"}
"""The one program of a launcher that is costed."""
ROLLS_OUT = frozenset(("slime",))
ITS_OWN_BASES = frozenset(("grpo_math_1B", "grpo_math_1B_megatron", "ppo_math_1B", "ppo_math_1B_megatron"))
"""Files of NeMo-RL's examples whose values are the defaults of catalogs/flags/nemo_rl_07.yaml."""
PACKS_WHOLE = frozenset(("nemo-rl",))
"""Launchers whose files say the tokens of a whole micro-batch."""
OF_FAMILY = "accelerate"
"""Launcher of files whose settings are a Trainer's."""
OF_TRAINER = frozenset((*FAMILIES, REPLICATED))
"""Engines that one file of a Trainer may be for, by what accelerate is told."""
SHARDS_ITSELF = frozenset(("deepspeed", CHAT))
"""Launchers whose files are for one engine alone."""
UNKNOWN = "which engine it is for cannot be told from its settings"


SHAPE_ALONE = "it starts no run and only holds a network's shape, as slime's scripts/models/*.sh do"
OF_RUNS = frozenset(("--micro-batch-size", "--global-batch-size", "--tensor-model-parallel-size", "--train-iters"))
"""Options of Megatron that say more than a network's shape."""


def opened(
    path: Path,
    catalog: Catalog,
    engine: str | None = None,
    given: Mapping[str, str] | None = None,
    sharded_by: str | None = None,
    beside: Sequence[Path] = (),
) -> Found:
    """Read a file, or a folder of configurations, without running anything; `given`: variables of a shell script.

    sharded_by: the catalog's engine that shards, for a trainer whose file leaves it open. beside: configurations that
    the run is given too, such as accelerate's; what the file itself says counts.

    Raises InputError where it cannot be read, or is for no engine we know.
    """
    name = str(path)
    more = _together(beside)
    if path.is_dir():
        found = _read(name, more | _together(_configurations(path)), (), None, catalog, engine, sharded_by)
        for file in _configurations(path):
            if found.machines is None:
                say_machines(found, file, text_of(file), catalog)
        return found
    text = text_of(path)
    if path.suffix in CONFIGURATIONS:
        unread: Unread = []
        found = _read(name, more | settings_of(path, text, unread), (), None, catalog, engine, sharded_by)
        for one in unread:
            parent = one[1].removesuffix(NO_PARENT)
            known = parent == one[1] or Path(parent).stem in ITS_OWN_BASES
            (found.unread if known else found.uncosted).append(one)
        say_machines(found, path, text, catalog)
        return found
    if path.suffix == ".toml":
        raise InputError(
            Mistake(f"{name} is TOML", Place(name), "torchtitan reads none since 0.3.0, and prime-rl is not read yet")
        )
    shell = read_script(path, text, name, given)
    words = _command(shell)
    trainer = next((command for command in shell.commands if is_trainer(command)), None)
    if trainer is not None and (_program(words) is None or trainer is words):
        gone: Unread = []
        texts = [word.text for word in trainer]
        named = SWIFT if trains(texts) else TRL if is_trl(texts) else None
        settings = more | trainer_settings(path, trainer, gone)
        found = _read(name, settings, (), shell, catalog, engine or named, sharded_by, trainer)
        found.unread += gone
        say_machines(found, path, text, catalog)
        return found
    settings = more | command_options(words, program_at(words) or 0)
    found = _read(name, settings, words, shell, catalog, engine, sharded_by)
    own = COSTED.get(found.launcher)
    started = found.program or ""
    if own is not None and started != own and started.startswith(own.rpartition(".")[0]):
        found.uncosted.append((Place(name), f"{started} is not costed: {own} is"))
    if found.launcher == "megatron" and words not in shell.commands and OF_RUNS.isdisjoint(found.options):
        found.uncosted.append((Place(name), SHAPE_ALONE))
    say_machines(found, path, text, catalog)
    return found


def _together(files: Sequence[Path]) -> dict[str, Spelling]:
    """Settings of configurations which together are one run."""
    out: dict[str, Spelling] = {}
    for file in files:
        out |= read_keys(file, text_of(file))
    return out


def _configurations(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.suffix in CONFIGURATIONS]


def _read(
    name: str,
    options: dict[str, Spelling],
    words: tuple[Word, ...],
    shell: Bash | None,
    catalog: Catalog,
    engine: str | None,
    sharded_by: str | None = None,
    command: tuple[Word, ...] = (),
) -> Found:
    at = program_at(words)
    launcher = engine or _launcher(options, words, name)
    found = Found(_engine(launcher, options), launcher, options)
    if sharded_by in OF_TRAINER and found.engine in OF_TRAINER and launcher not in SHARDS_ITSELF:
        found.engine = sharded_by
    if at is not None:
        found.program = words[at].text.rpartition("/")[2]
        found.before = frozenset(options_of(words[:at])) - frozenset(options_of(words[at:]))
    if shell is not None:
        _machines(found, shell)
        if launcher == SWIFT and command:
            say_ranks(found, shell, command)
        found.unread += [(Place(word.file, word.line), why) for word, why in shell.unread]
    _say(found, catalog, words, [word.text for word in command or words])
    return found


def text_of(path: Path) -> str:
    """The text of a launch file. Raises InputError where it cannot be read or is too long."""
    return read_lenient(path, most_bytes=MAX_BYTES)


def _command(shell: Bash) -> tuple[Word, ...]:
    """The command that starts the run: the one that names a program we know, else the one with most options.

    A script that only sets arrays is read as if all of them were one command.
    """
    named = [words for words in shell.commands if _program(words) is not None and len(options_of(words)) > 1]
    if named:
        return max(named, key=len)
    arrays = tuple(word for name, words in shell.arrays.items() if name != "PLAN_ARGS" for word in words)
    return max([*shell.commands, arrays], key=lambda words: len(options_of(words)), default=())


def _program(words: tuple[Word, ...]) -> str | None:
    texts = [word.text for word in words if not word.text.startswith("--")]
    if "megatron" in texts[:2] and {"sft", "pt", "rlhf"} & set(texts[:3]):
        return "ms-swift"
    for part, launcher in PROGRAMS:
        if any(text.rpartition("/")[2].startswith(part) or text.startswith(part) for text in texts):
            return launcher
    return None


def _launcher(options: dict[str, Spelling], words: tuple[Word, ...], name: str) -> str:
    program = _program(words) if words else None
    for sign, launcher in SIGNS:
        if program is None and any(option.lstrip("+").startswith(sign) for option in options):
            program = launcher
    if program in ROLLS_OUT and not any(option in options for option in (RL_OPTION, "--actor-num-nodes")):
        program = "megatron" if "--tensor-model-parallel-size" in options or "--num-layers" in options else None
    if program is None:
        known = sorted({launcher for _, launcher in (*PROGRAMS, *SIGNS)} | {TRL})
        at = program_at(words)
        starts = f"it starts {words[at].text.rpartition('/')[2]}; " if at is not None and words[at].known else ""
        because = f"{starts}known: {', '.join(known)}"
        raise InputError(Mistake(f"{name}: {UNKNOWN}", Place(name, 1), because, "--engine NAME"))
    return TRL if program == OF_FAMILY and in_trls_words(options) else program


def _engine(launcher: str, options: dict[str, Spelling]) -> str:
    """Id of the catalog's engine."""

    def text(name: str) -> str:
        return options[name].text.lower() if name in options else ""

    sharded = "megatron-core" if "--use-distributed-optimizer" in options else "megatron-core-replicated"
    trainer = text("model_engine") or text(STRATEGY) or text("--config-name")
    megatron = "megatron" in trainer or (not trainer and any(name.startswith(VERL_MEGATRON) for name in options))
    first = text("model_engine") in ("", "dp") and text(STRATEGY) in ("", "fsdp")
    verl = "megatron" if megatron else "fsdp" if first else "fsdp2"
    zero = text("distributed_type") in ZERO_SIGNS or any(name in options for name in ZERO_SIGNS)
    sharded_once = any(text(name) not in ("", "null", "false") for name in (*FIRST_FSDP, "fsdp_version"))
    one = text("distributed_type") == "no" or ("distributed_type" not in options and not sharded_once)
    family = FAMILIES[0 if zero else 1 if one else 2]
    if text("distributed_type") == "multi_gpu":
        family = REPLICATED
    return {
        "megatron": sharded,
        "ms-swift": "megatron-core",
        "slime": "slime",
        "verl": VERL[verl],
        "openrlhf": "openrlhf",
        "nemo-rl": "nemo-rl-fsdp2" if text("policy.dtensor_cfg.enabled") == "true" else "nemo-rl",
        "torchtitan": "torchtitan",
        "deepspeed": "deepspeed",
        CHAT: "deepspeed",
        "torchtune": TORCHTUNE[any(one_gpu(option.place.file) for option in options.values())],
    }.get(launcher, family)


def _machines(found: Found, shell: Bash) -> None:
    """GPUs from torchrun's own options, ms-swift's variables, and arrays' companions in our own scripts."""
    for word, names, variables in (
        ("training_nodes", ("--nnodes", "--actor-num-nodes", "--num_nodes"), ("NUM_NODES", "NNODES")),
        ("gpus_per_node", ("--nproc-per-node", "--nproc_per_node", "--actor-num-gpus-per-node", "--num_gpus"),
         ("GPUS_PER_NODE", "NPROC_PER_NODE")),
    ):  # fmt: skip
        for name in names:
            if found.number(name) is not None:
                found.say(word, found.number(name), name)
        for value in filter(None, map(shell.variables.get, variables)):
            whole = value.known and len(value.text) < 10 and value.text.isdecimal()
            if word not in found.words and whole:
                found.words[word] = int(value.text)
                found.places[word] = Place(value.file, value.line)
    if "gpus_per_node" in found.words and found.words.get("training_nodes") is None:
        found.words["training_nodes"] = 1


def _say(found: Found, catalog: Catalog, words: tuple[Word, ...], command: Sequence[str]) -> None:
    if found.launcher in TABLES:
        tables = [key_table(catalog, *part) for part in parts_of(found.launcher, found.engine, found.options)]
        say_keyed(found, tables)
        say_options(found, tables[0])
        whole = [catalog.flags(file) for file in dict.fromkeys(file for file, _ in TABLES[found.launcher])]
        found.habits = reduce(Habits.beside, (table.habits for table in whole))
        say_optimizer(found, whole)
        if found.launcher in PACKS_WHOLE:
            say_when(found)
            say_value_model(found, tables)
            packing = catalog.find("engines", found.engine, None).packing
            say_packs(found, packing.log_prob_times if packing is not None else 1)
        if found.launcher == TUNES:
            say_torchtune(found)
        if found.launcher == CHAT:
            say_chat(found)
        if found.launcher == TRL:
            say_trl(found, command)
        settle(found)
        say_kernels(found, catalog)
        return
    say_megatron(found, catalog)
    if RL_OPTION in found.options or found.launcher in ROLLS_OUT:
        say_slime(found, words)
