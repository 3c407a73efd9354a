"""A few words as a whole scenario: what was asked, and a default for everything else, said in a comment beside it.

`planner ask` solves such a scenario at once; `planner init` and `planner ask --save` write it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, usual_node
from planner.schema.beside_attention import beside_attention
from planner.schema.preference import DPO
from planner.schema.tables import STARTS_TRANSFORMERS, TRANSFORMERS
from planner.units import gib_to_bytes, parse_tokens

if TYPE_CHECKING:
    from planner.schema.catalog import Architecture, Gpu

TASKS = ("rl", "sft", "lora", "qlora", "dpo", "pretrain")
TASK_NAMES = {
    "grpo": "rl", "ppo": "rl", "dapo": "rl", "rlhf": "rl", "rlvr": "rl", "reinforce": "rl",
    "full": "sft", "finetune": "sft", "fine-tune": "sft", "finetuning": "sft", "fine-tuning": "sft",
    "preference": "dpo", "preferences": "dpo",
    "pretraining": "pretrain", "pre-train": "pretrain", "pre-training": "pretrain",
}  # fmt: skip
"""Other words that people type for a task."""
ENGINES = {
    "rl": ("slime", "slime"),
    "sft": ("transformers", "fsdp2"),
    "lora": ("transformers", "transformers-ddp"),
    "qlora": ("transformers", "transformers-ddp"),
    "dpo": ("transformers", "deepspeed"),
    "pretrain": ("megatron-core", "megatron-core"),
}
"""Engine that is assumed for a task on one GPU, and on several."""
SHARDS_ADAPTERS = "fsdp1"
"""Engine that is assumed for adapters where one GPU does not hold the frozen base."""
BASE_BYTES = {"lora": 2.0, "qlora": 0.6}
"""Bytes a parameter of the frozen base: 16 bits; 4 bits, their scales, and tables in 16 bits."""
SEQUENCES = {"sft": 4096, "dpo": 2048, "lora": 2048, "qlora": 2048, "pretrain": 4096}
"""Tokens of a sequence, where none are asked for."""
BATCHES = {"sft": 64, "dpo": 128, "lora": 16, "qlora": 16}
"""Sequences of an optimizer step, where none are asked for."""
PRETRAIN_TOKENS = 4 * 2**20
"""Tokens of an optimizer step of pretraining: 4 Mi, the size of Llama 2's (arXiv:2307.09288, section 2.2)."""
PROMPT, RESPONSE, PROMPTS, SAMPLES = 1024, 8192, 32, 8
"""Tokens of a prompt and of the longest response, prompts of a rollout, samples a prompt: those of the first story."""
MEAN_SHARE, P99_SHARE = 2500 / 8192, 9000 / 8192
"""Mean and 99th percentile of response lengths over the longest response, as in the first story."""
RANK = 16
TEXT_ALONE = "no images go through the vision tower, which trains (batch.image_tokens, or frozen: [vision_tower])"
"""Of full training of a network with a tower, where nothing is said of it."""
SCHEMA_FILE = "planner.schema.json"
_COUNT = re.compile(r"\s*(\d{1,6})\s*[x*]\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """What a person says; None where a default is taken."""

    model: str
    gpus: str
    """A number and a GPU, such as `4xh100`; a GPU alone is one of it."""
    task: str = "sft"
    engine: str | None = None
    sequence: int | None = None
    """[tokens]"""
    response: int | None = None
    """Longest response of RL. [tokens]"""
    batch: int | None = None
    """Sequences of an optimizer step; in RL prompts of a rollout."""
    headroom_gib: float | None = None
    """What must stay free on every GPU. [GiB]"""


@dataclass(frozen=True)
class Template:
    """A scenario that was made of a few words."""

    text: str
    """YAML."""
    assumed: tuple[str, ...]
    """What nobody asked for, in words."""
    words_by_path: dict[str, str] = field(default_factory=dict)
    """Those of them that are the value of a key, by its dotted path."""

    def assumed_beside(self, overrides: Sequence[str]) -> tuple[str, ...]:
        """What is assumed where `--set` gives some keys their values (`path=value` each)."""
        given = [text.partition("=")[0].strip() for text in overrides]
        said = {w for path, w in self.words_by_path.items() if any(f"{path}.".startswith(f"{key}.") for key in given)}
        return tuple(words for words in self.assumed if words not in said)


def tokens(text: str, where: str) -> int:
    """`8192` or `8k` as tokens; k is 1,024. Raises InputError for anything else."""
    try:
        return parse_tokens(text)
    except ValueError:
        wrong = Mistake(f"{where} {text}: expected tokens", Place(where), attempt=f"{where} 8192, or 8k")
        raise InputError(wrong) from None


def template(asked: Wanted, catalog: Catalog) -> Template:
    """The scenario that a few words mean. Raises InputError for a name that is unknown or may mean several things."""
    if asked.task not in TASKS:
        raise InputError(Mistake(f"no task {asked.task}", Place("--task"), attempt=f"one of {', '.join(TASKS)}"))
    count, gpu = counted_gpu(asked.gpus, catalog)
    model = catalog.find("models", asked.model, Place("MODEL"))
    name = asked.model if asked.model.endswith((".json", ".yaml")) or "/" in asked.model else model.id
    usual = usual_engine(asked.task, count, model, gpu)
    because = ", which shards the base: no GPU holds all of it" if usual == SHARDS_ADAPTERS else ""
    able = trains_beside_attention(catalog, model, rl=asked.task == "rl") if model.several_kinds else []
    if able and usual not in able:
        usual, because = able[0], f", which trains {'Mamba-2' if model.is_hybrid else 'linear attention'}"
    engine = catalog.find("engines", asked.engine or usual, Place("--engine"))
    _wrong_lengths(asked)
    lines = _Lines()
    lines.add("name", f"{_called(model.id)}-{asked.task}-{count}x{gpu.id}"[:80])
    lines.add("question", _question(asked))
    lines.add("task", {"lora": "sft", "qlora": "sft"}.get(asked.task, asked.task))
    lines.add("model", name)
    lines.add("engine", engine.id, None if asked.engine else f"engine {engine.id}{because}")
    lines.block("cluster")
    lines.add("  gpu", gpu.id, comment=f"in its usual box: {usual_node(catalog, gpu.id, Place('--gpus'))}")
    lines.add("  num_gpus", count)
    if "bf16" not in gpu.dense_tflops:
        lines.add("precision", "fp16", "fp16, since the GPU has no bf16")
    if asked.task in ("lora", "qlora"):
        _adapter(asked, lines)
    if asked.task == "rl":
        _rl(asked, count, lines)
    else:
        _batch(asked, count, model.max_position_embeddings, lines)
    longest = PROMPT + (asked.response or RESPONSE) if asked.task == "rl" else asked.sequence or 0
    if model.max_position_embeddings and longest > model.max_position_embeddings:
        lines.assumed.append(f"positions stretched beyond the {model.max_position_embeddings:,} of its configuration")
    if STARTS_TRANSFORMERS in engine.launch and model.model_type in catalog.flags(TRANSFORMERS).named_kernels:
        lines.assumed.append("a fused attention kernel, which the script must name (else eager: unfused_attention)")
    if model.vision_parameters and asked.task not in BASE_BYTES:
        lines.assumed.append(TEXT_ALONE)
        lines.words_by_path |= dict.fromkeys(("batch.image_tokens", "frozen"), TEXT_ALONE)
    if asked.headroom_gib is not None:
        lines.block("limits")
        lines.add("  headroom_gib", f"{asked.headroom_gib:g}", comment="stays free on every GPU [GiB]")
    head = [f"# yaml-language-server: $schema={SCHEMA_FILE}", f"# ({SCHEMA_FILE}: planner schema --out {SCHEMA_FILE})"]
    return Template("\n".join([*head, *lines.text]) + "\n", tuple(lines.assumed), lines.words_by_path)


def _called(model: str) -> str:
    """A network in the name of its scenario: its id; of a file its own name, or that of the folder of a config.json."""
    path = Path(model)
    if path.name == "config.json":
        path = path.resolve().parent
    return (path.stem if path.suffix in (".json", ".yaml") else path.name) or "model"


def trains_beside_attention(catalog: Catalog, model: Architecture, *, rl: bool) -> list[str]:
    """Ids of engines that train networks with such layers beside those that attend, of RL stacks or of the others, the
    plainest first."""
    able = [e for e in catalog.all("engines") if (said := beside_attention(e, model)) is not None and said.supported]
    return [engine.id for engine in able if (engine.colocation is not None) == rl]


def usual_engine(task: str, count: int, model: Architecture, gpu: Gpu) -> str:
    """Id of the engine that is assumed: of adapters one that shards, where the frozen base leaves a GPU no room."""
    from planner.formulas.parameters import count_parameters

    if count > 1 and task in BASE_BYTES:
        base_bytes = BASE_BYTES[task] * count_parameters(model).total
        if base_bytes > gib_to_bytes(0.85 * gpu.usable_gib):
            return SHARDS_ADAPTERS
    return ENGINES[task][count > 1]


def counted_gpu(text: str, catalog: Catalog) -> tuple[int, Gpu]:
    """`4xh100` as a number and a GPU. Raises InputError where it is none, or the GPU is unknown."""
    counts, name = counted(text)
    count = math.prod(counts)
    if "," in name:
        first, *others = (counted(part)[1].strip() for part in text.split(","))
        because = "one kind of GPU is planned for; kinds are compared on its saved question"
        attempt = f"--gpus {text.partition(',')[0]} --save run.yaml, then planner whatif run.yaml --set cluster.gpu="
        raise InputError(
            Mistake(f"--gpus {text}: several GPUs", Place("--gpus"), because, attempt + ",".join([first, *others]))
        )
    bare = name.strip().isdecimal() and not catalog.meant("gpus", name.strip())
    if not name.strip() or count == 0 or bare:
        attempt = f"{name.strip()}xh100" if bare and not counts else "4xh100"
        raise InputError(Mistake(f"--gpus {text}: expected a number and a GPU", Place("--gpus"), attempt=attempt))
    gpu: Gpu = catalog.find("gpus", name.strip(), Place("--gpus"))
    return count, gpu


def counted(text: str) -> tuple[list[int], str]:
    """`2x8xh100` as its numbers and what they count."""
    counts = []
    while (match := _COUNT.match(text)) is not None:
        counts.append(int(match[1]))
        text = text[match.end() :]
    return counts, text


def _wrong_lengths(asked: Wanted) -> None:
    """Raise InputError where a length is asked for that the task has not."""
    if asked.task == "rl" and asked.sequence is not None:
        because = "in RL the sequence is the prompt and the longest response"
        raise InputError(Mistake("--sequence is not for --task rl", Place("--sequence"), because, "--response 16k"))
    if asked.task != "rl" and asked.response is not None:
        because = f"--task {asked.task} generates nothing"
        raise InputError(Mistake("--response needs --task rl", Place("--response"), because, "--sequence 16k"))


def _question(asked: Wanted) -> str:
    what = {
        "rl": "RL (GRPO)",
        "sft": "full fine-tuning",
        "lora": "LoRA",
        "qlora": "QLoRA",
        "dpo": "DPO",
        "pretrain": "pretraining",
    }
    return f"How does {what[asked.task]} of {asked.model} lie on {asked.gpus}?"


def _adapter(asked: Wanted, lines: _Lines) -> None:
    base = "nf4" if asked.task == "qlora" else "bf16"
    lines.block("adapter")
    lines.add("  rank", RANK, f"rank {RANK} on all linear layers")
    lines.add("  base_precision", base, comment="in which the frozen base is held")
    lines.add("optimizer", "adamw-no-master", comment="adapters are trained in fp32 themselves")


def _rl(asked: Wanted, count: int, lines: _Lines) -> None:
    longest = asked.response or RESPONSE
    mean, p99 = round(longest * MEAN_SHARE), round(longest * P99_SHARE)
    prompts = asked.batch or _multiple(PROMPTS, count // math.gcd(count, SAMPLES))
    lines.block("rl")
    lines.add("  prompt_length", PROMPT, f"prompts of {PROMPT:,} tokens", "[tokens]")
    said = None if asked.response else f"responses of up to {longest:,} tokens"
    lines.add("  response_length", longest, said, "largest response [tokens]")
    lines.add(
        "  response_distribution",
        f"{{mean: {mean}, p99: {p99}}}",
        f"responses of {mean:,} tokens on average, 1 in 100 beyond {p99:,}",
        "before the largest response cuts them [tokens]",
    )
    lines.add("  rollout_batch_size", prompts, None if asked.batch else f"{prompts} prompts a rollout", "prompts")
    lines.add("  n_samples_per_prompt", SAMPLES, f"{SAMPLES} samples each")


def _batch(asked: Wanted, count: int, positions: int | None, lines: _Lines) -> None:
    length = asked.sequence or min(SEQUENCES[asked.task], positions or SEQUENCES[asked.task])
    usual = BATCHES.get(asked.task) or max(1, PRETRAIN_TOKENS // length)
    batch = asked.batch or _multiple(usual, count)
    lines.block("batch")
    lines.add("  sequence_length", length, None if asked.sequence else f"sequences of {length:,} tokens", "[tokens]")
    said = None if asked.batch else f"{batch:,} {'sequences' if asked.sequence else 'of them'} a step"
    lines.add("  global_batch_size", batch, said, "sequences of one optimizer step")
    if asked.task == "pretrain":
        lines.block("layout")
        lines.add("  virtual_pipeline", "any", comment="chunks a stage: decided")


def _multiple(value: int, of: int) -> int:
    """The least multiple that is no less."""
    return -(-value // of) * of


class _Lines:
    """YAML that is written line by line, and what of it was assumed."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.assumed: list[str] = []
        self.words_by_path: dict[str, str] = {}
        self._block = ""

    def block(self, name: str) -> None:
        """The key of a mapping."""
        self._block = name
        self.text.append(f"{name}:")

    def add(self, name: str, value: object, assumed: str | None = None, comment: str = "") -> None:
        """One key and its value, with what is assumed of it, and what it means."""
        written = str(value) if re.fullmatch(r"[\w.{][\w.{}, :/-]*", str(value)) else json.dumps(value)
        if name.strip() in ("question", "name", "model"):
            written = json.dumps(str(value), ensure_ascii=False) if re.search(r"[^\w./-]", str(value)) else str(value)
        said = ", ".join(part for part in (comment, "assumed" if assumed else "") if part)
        self.text.append(f"{name}: {written}" + (f"  # {said}" if said else ""))
        if assumed:
            self.assumed.append(assumed)
            self.words_by_path[f"{self._block}.{name.strip()}" if name.startswith(" ") else name] = assumed


def templates(catalog: Catalog) -> list[tuple[str, str]]:
    """(task, engine) of every template: RL for stacks that generate, and the tasks that train for the other engines."""
    out = []
    for engine in catalog.all("engines"):
        generates = engine.colocation is not None
        trains = [task for task in TASKS if task != DPO or engine.preference is not None]
        out += [(task, engine.id) for task in trains if (task == "rl") == generates]
    return sorted(out, key=lambda pair: (TASKS.index(pair[0]), pair[1]))
