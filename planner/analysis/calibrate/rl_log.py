"""Logs of slime, verl, NeMo-RL and of pretraining runs: seconds of each phase, tokens a second, reserved memory.

Values are found by their own names wherever they stand in a line, so that dictionaries as Python prints them
(`perf 3: {'perf/rollout_time': 41.2}`), `step:3 - timing_s/gen:41.2 - ...` and JSON lines are all read.
Names: slime v0.3.1 train_metric_utils.py; verl docs/advance (timing_s/*); NeMo-RL algorithms/grpo.py (timing/train/*).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median

from planner.errors import InputError, Mistake, Place
from planner.inputs.files import read_lenient

MOST_BYTES = 256 * 1024 * 1024
MOST = 1e9
"""Seconds, tokens a second or GiB: no run states more."""
Stated = tuple[float, int]
"""A value, and the line that states it."""

KEYS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "slime": {
        "rollout": ("perf/rollout_time",),
        "log_probs": ("perf/log_probs_time", "perf/ref_log_probs_time"),
        "train": ("perf/actor_train_time",),
        "train and log_probs": ("perf/train_time",),
        "weight_sync": ("perf/update_weights_time",),
        "switch": ("perf/sleep_time", "perf/wake_up_time"),
        "step": ("perf/step_time",),
    },
    "verl": {
        "rollout": ("timing_s/gen",),
        "log_probs": ("timing_s/old_log_prob", "timing_s/ref"),
        "train": ("timing_s/update_actor",),
        "weight_sync": ("timing_s/update_weights",),
        "switch": ("timing_s/reshard",),
        "step": ("timing_s/step",),
    },
    "NeMo-RL": {
        "rollout": ("timing/train/generation",),
        "log_probs": ("timing/train/policy_and_reference_logprobs",),
        "train": ("timing/train/policy_training",),
        "weight_sync": ("timing/train/weight_sync",),
        "switch": (
            "timing/train/prepare_for_generation/total",
            "timing/train/logprob_inference_prep",
            "timing/train/training_prep",
        ),
        "step": ("timing/train/total_step_time",),
    },
}
"""Phase, and the values that add up to it. A phase is the sum of those that a log states."""
REFERENCE = {"perf/ref_log_probs_time", "timing_s/ref"}
OLD = {"perf/log_probs_time", "timing_s/old_log_prob"}
_NUMBER = r"([0-9][0-9,]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)"
_NAMED = re.compile(r"((?:perf|timing_s|timing/train)/[\w/]+)['\"]?\s*[:=]\s*(?:[\w.]+\()?['\"]?" + _NUMBER)
_PRINTED = re.compile(r"^\W*([a-z_/]+):\s*" + _NUMBER + r"\s*s\s*\(")
_TOTAL = re.compile(r"Total step time:\s*" + _NUMBER + r"\s*s")
_SPEED: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("seconds", re.compile(r"elapsed[ _]time[ _]per[ _]iteration(?: \(ms\):|_ms=)\s*" + _NUMBER)),
    ("whole", re.compile(r"\bStep \d+ \| Time:\s*" + _NUMBER + r"s\b")),
    ("per_gpu", re.compile(r"tokens_per_sec_per_gpu:\s*" + _NUMBER + r"([KM]?)")),
    ("per_gpu", re.compile(r"\btps:\s*" + _NUMBER)),
    ("per_gpu", re.compile(r"\btokens_per_second_per_gpu:\s*" + _NUMBER)),
    ("whole", re.compile(r"train_speed\(s/it\)['\"]?\s*[:=]\s*['\"]?" + _NUMBER)),
    ("rate", re.compile(r"(?:train_speed\(iter/s\)|train_steps_per_second)['\"]?\s*[:=]\s*['\"]?" + _NUMBER)),
    ("all", re.compile(r"\btokens/s['\"]?\s*[:=]\s*" + _NUMBER)),
)
"""Megatron-LM and Argonne's Megatron-DeepSpeed, prime-rl, nanotron, torchtitan, torchtune, ms-swift (two ways), Hugging
Face's Trainer, and plain `tokens/s: ...` of all GPUs together."""
_MEMORY: tuple[tuple[float, re.Pattern[str]], ...] = (
    (1.0, re.compile(r"max_memory_reserved_gb['\"]?\s*[:=]\s*(?:[\w.]+\()?" + _NUMBER)),
    (1.0, re.compile(r"\bmemory:\s*" + _NUMBER + r"\s*GiB")),
    (1 / 1024, re.compile(r"max reserved:\s*" + _NUMBER)),
    (1.0, re.compile(r"\bPeak Mem\.:\s*" + _NUMBER + r"/[0-9.]+ GiB")),
)
"""GiB of one unit, and the form: verl (which divides by 2^30), torchtitan, Megatron-LM (MiB; ranks may share a line),
prime-rl."""
_LENGTHS: Mapping[str, re.Pattern[str]] = {
    "mean": re.compile(
        r"(?:response_length/mean|rollout/response_len/mean|mean_gen_tokens_per_sample|Mean Generation Length)"
        r"['\"]?\s*[:=]\s*(?:[\w.]+\()?" + _NUMBER
    ),
    "at the maximum": re.compile(
        r"(?:response_length/clip_ratio|rollout/truncated_ratio)['\"]?\s*[:=]\s*(?:[\w.]+\()?" + _NUMBER
    ),
}
"""Of responses: verl trainer/ppo/metric_utils.py, slime observability/rollout_metrics.py, NeMo-RL algorithms/grpo.py
(which states no share that was cut)."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SCALE = {"": 1.0, "K": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Reading:
    """A value of a log: its median over the lines that state it."""

    value: float
    lines: int
    line: int | None = field(default=None, compare=False)
    """The first of them."""


@dataclass(frozen=True)
class Log:
    """What a log says about speed and memory."""

    framework: str
    phases: Mapping[str, Reading]
    """Seconds by phase: rollout, log_probs, train, weight_sync, switch, step, or `train and log_probs` together."""
    passes: tuple[bool, bool] | None
    """RL: whether passes of the old policy and of the reference are stated apart; None where they are not."""
    seconds: Reading | None
    """Pretraining: one step. [s]"""
    tokens_per_second: Reading | None
    """Of all GPUs together."""
    tokens_per_second_per_gpu: Reading | None
    reserved_gib: Reading | None
    """What the allocator of the fullest GPU reserved at most. [GiB]"""
    lengths: Mapping[str, Reading] = field(default_factory=dict)
    """RL: `mean` of responses [tokens], and the share of them `at the maximum`."""


def read_log(path: str) -> Log:
    """Read a log file. Raises InputError where it cannot be read or states nothing that is known."""
    log = parse_log(read_lenient(path, most_bytes=MOST_BYTES).splitlines(), path)
    known = (log.seconds, log.tokens_per_second, log.tokens_per_second_per_gpu, log.reserved_gib)
    if not log.phases and not any(known):
        raise InputError(
            Mistake(
                f"{path} states no times that are known",
                Place(path),
                "looked for perf/*_time (slime), timing_s/* (verl), timing/train/* or the timing block (NeMo-RL), "
                "tokens/s, seconds an iteration and reserved memory",
                "give lines of the log that print them",
            )
        )
    return log


def parse_log(lines: Iterable[str], name: str = "the log") -> Log:
    """Medians of everything known in these lines. Raises InputError for a number that no run has."""
    named: dict[str, list[Stated]] = {}
    speed: dict[str, list[Stated]] = {}
    memory: list[Stated] = []
    lengths: dict[str, list[Stated]] = {}
    for number, line in enumerate(lines, start=1):
        where = Place(name, number)
        text = _COLOUR.sub("", line)
        pairs = _NAMED.findall(text)
        pairs += [(f"timing/train/{key}", value) for key, value in _PRINTED.findall(text)]
        pairs += [("timing/train/total_step_time", value) for value in _TOTAL.findall(text)]
        for key, value in pairs:
            _keep(named.setdefault(key, []), _float(value), where)
        for kind, form in _SPEED:
            found = form.search(text)
            if found:
                scale = _SCALE[found.group(2)] if form.groups == 2 else 1.0
                _keep(speed.setdefault(kind, []), _float(found.group(1)) * scale, where)
                break
        for unit, form in _MEMORY:
            if several := form.findall(text):
                for each in several:
                    _keep(memory, _float(each) * unit, where)
                break
        for kind, form in _LENGTHS.items():
            if found := form.search(text):
                _keep(lengths.setdefault(kind, []), _float(found.group(1)), where, least=0.0)
    framework, phases = _phases(named)
    steps = [(ms / 1e3, line) for ms, line in speed.get("seconds", [])] + speed.get("whole", [])
    seconds = _reading(steps + [(1 / rate, line) for rate, line in speed.get("rate", []) if rate > 0])
    apart = any(name in named for name in REFERENCE | OLD)
    return Log(
        framework=framework,
        phases=phases,
        passes=(bool(OLD & set(named)), bool(REFERENCE & set(named))) if apart else None,
        seconds=seconds,
        tokens_per_second=_reading(speed.get("all", [])),
        tokens_per_second_per_gpu=_reading(speed.get("per_gpu", [])),
        reserved_gib=Reading(max(memory)[0], len(memory), max(memory)[1]) if memory else None,
        lengths={kind: read for kind, values in lengths.items() if (read := _reading(values)) is not None},
    )


def _phases(named: Mapping[str, list[Stated]]) -> tuple[str, dict[str, Reading]]:
    """The framework whose names stand in the log most often, and its phases."""
    counts = {
        framework: sum(len(named.get(key, ())) for keys in table.values() for key in keys)
        for framework, table in KEYS.items()
    }
    framework = max(counts, key=lambda name: counts[name])
    if not counts[framework]:
        return "pretraining", {}
    out = {}
    for phase, keys in KEYS[framework].items():
        parts = [reading for key in keys if (reading := _reading(named.get(key, []))) is not None]
        if parts:
            most = max(part.lines for part in parts)
            out[phase] = Reading(sum(part.value for part in parts), most, parts[0].line)
    if "train" in out:
        out.pop("train and log_probs", None)
    return framework, out


def _reading(values: list[Stated]) -> Reading | None:
    return Reading(median(value for value, _ in values), len(values), values[0][1]) if values else None


def _keep(values: list[Stated], value: float, where: Place, least: float | None = None) -> None:
    """Keep a value above zero, or from `least` on. Raises InputError for one that no run has."""
    if not value <= MOST:
        raise InputError(Mistake(f"{value:g} is no time, rate, length or memory of a run", where, f"at most {MOST:g}"))
    if value > 0 or value == least:
        values.append((value, where.line or 0))


def _float(text: str) -> float:
    return float(text.replace(",", ""))
