"""ms-swift's `swift sft` and `swift pt`: a Trainer under names of its own, whose shards may be named by one word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from planner.errors import Place
from planner.launch.reading.found import Found, Spelling
from planner.launch.reading.joined import STAGE, Settings, Unread, beside, read_keys, text_of_file
from planner.launch.reading.shell import Bash
from planner.launch.reading.words import Word

LAUNCHER = "ms-swift-trainer"
TRAINS = frozenset(("sft", "pt", "rlhf"))
SHARDS = re.compile(r"zero([0-3])(_offload)?")
"""Words of --deepspeed that name a file of its own (ms-swift 4.6.0 swift/config, arguments/sft_args.py:261-267)."""
OFFLOADED = {"2": ("optimizer",), "3": ("optimizer", "param")}
"""What the files whose name ends in _offload put on the host, by stage."""
NAMED_FSDP, OWN_FSDP = "fsdp2", {"fsdp_version": "2", "activation_checkpointing": "true"}
"""The word of --fsdp that names its own file, and what that says (swift/config/fsdp2.json)."""
OFFLOAD = "fsdp_offload"
NOT_COSTED = ("activation_cpu_offload", OFFLOAD)
"""Of a file for FSDP: recomputed layers' inputs on the host, and shards there."""
HALF, WHOLE = ("float16", "fp16"), ("float32", "fp32")
OWN_SWITCH = "vit_gradient_checkpointing"
"""Recomputation of a vision tower apart from the layers', with which it goes by default (trainers/arguments.py:297)."""
SAMPLES = 16
"""Samples of a step where no accumulation is said (trainers/arguments.py:289-291)."""
RANKS, SEEN = ("NPROC_PER_NODE", "NNODES"), "CUDA_VISIBLE_DEVICES"


def trains(words: Sequence[str]) -> bool:
    """Whether a command is one of ms-swift's that train over a Trainer, not over Megatron."""
    return len(words) > 1 and words[0].rpartition("/")[2] == "swift" and words[1] in TRAINS


def own_settings(path: Path, options: Settings, unread: Unread) -> Settings:
    """What its words mean to a Trainer: shards by name, and the format of the weights, which autocast follows."""
    out = dict(options)

    def put(name: str, text: str, said: Spelling) -> None:
        out.setdefault(name, Spelling(name, (text,), said.place))

    zero = options.get("deepspeed")
    named = SHARDS.fullmatch(zero.text) if zero is not None and zero.known else None
    if zero is not None and named is not None:
        put(STAGE, named[1], zero)
        for part in OFFLOADED.get(named[1], ()) if named[2] else ():
            put(f"zero_optimization.offload_{part}.device", "cpu", zero)
    fsdp = options.get("fsdp")
    if fsdp is not None:
        inside = _of_fsdp(path, fsdp, unread)
        if inside.get("fsdp_version") == "2":
            put("fsdp_version", "2", fsdp)
        if inside.get("activation_checkpointing") == "true":  # instead of the Trainer's own
            out["gradient_checkpointing"] = Spelling("gradient_checkpointing", ("true",), fsdp.place)
        for name in [name for name in NOT_COSTED if inside.get(name) == "true"]:
            put(name, "true", fsdp)
    weights = options.get("torch_dtype")
    said = weights or options.get("model")
    if said is not None:  # model_args.py, _init_mixed_precision
        half = weights is not None and weights.text in (*HALF, *WHOLE)
        put("fp16" if half else "bf16", "true", said)
    return out


def _of_fsdp(path: Path, fsdp: Spelling, unread: Unread) -> dict[str, str]:
    """fsdp_config of the file that --fsdp names: its own by one word, or a path (arguments/sft_args.py, _init_fsdp)."""
    if fsdp.text == NAMED_FSDP:
        return OWN_FSDP
    if not fsdp.text.endswith(".json"):
        return {}
    file = beside(path, fsdp.text)
    if file is None:
        unread.append((fsdp.place, f"{fsdp.text} is not here"))
        return {}
    keys = read_keys(file, text_of_file(file))
    out = {name.removeprefix("fsdp_config."): one.text for name, one in keys.items() if name.startswith("fsdp_config.")}
    strategy = keys.get("fsdp")
    return out | {OFFLOAD: "true"} if strategy is not None and "offload" in strategy.text.split() else out


def say_ranks(found: Found, shell: Bash, command: tuple[Word, ...]) -> None:
    """One process where nothing says how many: on one GPU, or with the layers over all that it sees."""
    place = Place(command[0].file, command[0].line)
    seen = shell.prefixes.get(shell.commands.index(command), {}).get(SEEN)
    devices = len([name for name in seen.text.split(",") if name.strip()]) if seen is not None and seen.known else None
    ranks = found.words.get("gpus_per_node", 1)
    if not any(name in shell.variables for name in RANKS):
        if devices is None:
            found.note(place, f"{RANKS[0]} is not set: one process, which lays the layers over all GPUs that it sees")
            return
        found.words["num_gpus"] = devices
        found.places["num_gpus"] = place
    if devices is not None and isinstance(ranks, int) and devices >= 2 * ranks:  # swift/utils/env.py:64-75
        what = f"processes a node: {ranks}, GPUs that they see: {devices}; layers laid over several GPUs are not costed"
        found.uncosted.append((place, what))


def say_swift(found: Found) -> None:
    """Micro-batches of a step where no line says them, and what is not costed."""
    words = found.words
    nodes, each = words.get("training_nodes"), words.get("gpus_per_node")
    ranks = nodes * each if isinstance(nodes, int) and isinstance(each, int) else words.get("num_gpus")
    samples = words.get("micro_batch_size")
    if words.get("gradient_accumulation") is None and isinstance(ranks, int) and isinstance(samples, int):
        words["gradient_accumulation"] = max(1, -(-SAMPLES // max(samples * ranks, 1)))
    for name in [name for name in NOT_COSTED if found.has(name)]:
        found.uncosted.append((found.options[name].place, f"{name} of the file for FSDP is not costed"))
    if words.get("frozen_tower") is False and OWN_SWITCH in found.options and not found.has(OWN_SWITCH):
        what = f"{OWN_SWITCH} is off: a tower's blocks are counted as recomputed where the layers are"
        found.unread.append((found.options[OWN_SWITCH].place, what))
    wide = found.number("sequence_parallel_size") or 1
    if wide > 1:
        found.uncosted.append(
            (found.options["sequence_parallel_size"].place, f"sequence_parallel_size {wide} is not costed")
        )
