"""Files as they come second-hand: real ones with a few edits that damage them, each fed to the command that reads it.

`attack` says what went wrong: an internal error, a number that is none, an error without its place, too much CPU.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from time import process_time

from run_cli import Result, run

from planner.inputs.catalog import shipped_folder

ROOT = Path(__file__).resolve().parents[1]
SCENARIOS = ROOT / "scenarios"
PINNED, RL = "llama70b_64xh100.yaml", "qwen7b_rl_8gpu.yaml"
DEADLINE_S = 10.0
"""CPU seconds that a case may take. [s]"""
CODES = {0, 1, 2, 3, 5}
NOT_FINITE = re.compile(r"(?<![\w./`:-])-?(?:nan|inf|infinity)(?![\w-])", re.IGNORECASE)
VALUES = (
    "0", "-1", "1", "-0.0", "0.5", "1e-300", "1e300", "1e999", "-1e999", "nan", "inf", ".inf", "NaN", "2147483648",
    "9223372036854775808", "9" * 60, "9" * 5000, "1e-9", "1000000", "null", "true", "", "''", "[]", "{}", "[1, 2]",
    "{a: 1}", "any", "all", "x", "x" * 300, "\u202e", "\u200b", "\0", "\x1b[2J", "\ud7ff", "é", "%s{}", "../..",
    "/dev/zero", "~", "&a", "*a", "!!python/object x", "- ", ": ", "\t", "\n", "\r", '"', "}", "]", "GPU0", "Process",
    "1,000", "1.2.3", "0x10", "-", "1e5", "1024 GiB", "0 B", "NaN GiB", "TB",
    "9" * 400, "-" + "9" * 400, "1e308", "-1e308", "0777", "0o17", "1_000", "2026-11-22", "1:30", "<<", "!!float 1",
    "!!binary aGk=", "\ufeff", "|", ">", "yes", "[[[[]]]]", "? ", "{a: {a: {a: }}}", "--", "$(id)", "1e-400",
)  # fmt: skip
"""New ones go to the end: cases that are replayed say a place in this list."""
EDITS = (
    "number", "number", "number", "number", "word", "word", "insert", "cut", "drop line", "repeat line", "swap lines",
    "end", "byte", "two lines as one", "times",
)  # fmt: skip
TIMES = (2, 2, 2, 0.5, 0.5, 3, 10, 1e3, 1e6, 1e12, 0.1, 1e-3, 1e-6, -1)
"""What a number that stands in the file may be multiplied by: most results are still of its type."""
Edit = tuple[str, int, int]
"""What to do, where (of what there is, round and round), and which of VALUES or TIMES."""
NUMBER = r"\d[\d.,]*(?:e[+-]?\d+)?"


def edits(rng: random.Random) -> list[Edit]:
    """A few random edits, most often one; of some files only numbers change, so that more is read than refused."""
    count = rng.choice((1, 1, 1, 2, 3, 6))
    words = EDITS if rng.random() < 0.6 else ("times",)
    return [(rng.choice(words), rng.randrange(2**24), rng.randrange(2**24)) for _ in range(count)]


def damaged(text: str, changes: Sequence[Edit], encoding: str = "utf-8") -> bytes:
    """A text after some edits."""
    for what, at, which in changes:
        text = _edited(text, what, at, which)
    raw = text.encode(encoding, errors="surrogatepass" if encoding == "utf-8" else "replace")
    for what, at, which in changes:
        if what == "byte" and raw:
            place = at % len(raw)
            raw = raw[:place] + bytes([which % 256]) + raw[place + 1 :]
    return raw


def _edited(text: str, what: str, at: int, which: int) -> str:
    value = VALUES[which % len(VALUES)]
    if what in ("number", "word", "times"):
        found = list(re.finditer(r"[A-Za-z_][\w.-]*" if what == "word" else NUMBER, text))
        if not found:
            return text + value
        match = found[at % len(found)]
        if what == "times":
            value = _times(match.group(), TIMES[which % len(TIMES)])
        return text[: match.start()] + value + text[match.end() :]
    place = at % (len(text) + 1)
    if what == "insert":
        return text[:place] + value + text[place:]
    if what == "cut":
        return text[:place] + text[place + 1 + at % 40 :]
    if what == "end":
        return text[:place]
    lines = text.split("\n")
    line = at % len(lines)
    if what == "drop line":
        del lines[line]
    elif what == "repeat line":
        lines.insert(line, lines[line])
    elif what == "swap lines":
        other = (line + 1 + at % 7) % len(lines)
        lines[line], lines[other] = lines[other], lines[line]
    elif what == "two lines as one":
        lines[line : line + 2] = ["".join(lines[line : line + 2])]
    return "\n".join(lines)


def _times(number: str, factor: float) -> str:
    """A number of a file multiplied, whole where it was whole and can stay so."""
    bare = number.replace(",", "").rstrip(".")
    try:
        value = float(bare) * factor
    except ValueError:
        return bare * 2
    return f"{value:.0f}" if bare.isdigit() and value.is_integer() else f"{value:.6g}"


@dataclass(frozen=True)
class Kind:
    """One sort of file."""

    name: str
    file: str
    """What the damaged file is called in its folder; it may be of a further folder."""
    texts: Callable[[], Sequence[str]]
    """Real ones."""
    command: Callable[[Path], Sequence[str]]
    """The command line that reads it, given the folder."""
    beside: Callable[[], Mapping[str, str]] = field(default=dict)
    """Other files of the folder."""
    catalog: bool = False
    """The folder stands before the shipped catalogs."""
    encoding: str = "utf-8"
    """latin-1 for bytes that are no text."""


def attack(kind: Kind, text: str, changes: Sequence[Edit], folder: Path) -> tuple[int, list[str]]:
    """(exit code, what is wrong with the answer) of one damaged file's command. The folder must be new."""
    before = process_time()
    result = answer(kind, damaged(text, changes, kind.encoding), folder)
    return result.code, wrong(result, process_time() - before, folder / kind.file)


def answer(kind: Kind, raw: bytes, folder: Path) -> Result:
    """What the command says to a file."""
    for name, content in {**kind.beside(), kind.file: ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    (folder / kind.file).write_bytes(raw)
    if kind.catalog:
        os.environ["PLANNER_CATALOGS"] = str(folder)
    try:
        return run(*kind.command(folder))
    finally:
        os.environ.pop("PLANNER_CATALOGS", None)


def wrong(result: Result, seconds: float, file: Path) -> list[str]:
    """Everything that an answer to a damaged file must not be."""
    code, out, err = result.code, result.out, result.err
    found = []
    if code not in CODES:
        found.append("internal error")
    if code != 2 and (bad := _not_finite(out, file)):
        found.append(f"prints {bad}")
    if seconds > DEADLINE_S:
        found.append("over the deadline")
    errors = re.split("^Error: ", err, flags=re.MULTILINE)[1:] if code == 2 else []
    if code == 2 and (not errors or any("  where:   " not in part for part in errors)):
        found.append("no place")
    elif any(f"{file}\n" in f"{_where(part)}\n" and not _whole(part) for part in errors):
        found.append("no line")
    return found


def _not_finite(out: str, file: Path) -> str | None:
    """The first number of an answer that is none; words quoted from the file are no numbers of ours."""
    said = " ".join(file.read_text(encoding="utf-8", errors="replace").split())
    for match in NOT_FINITE.finditer(out):
        before, after = out[: match.start()].split()[-1:], out[match.end() :].split()[:1]
        start = out[: match.start()].rpartition(" ")[2].rpartition("\n")[2]
        end = out[match.end() :].partition("\n")[0].partition(" ")[0]
        word = start + match.group() + end
        bare = word.strip("'`\":")
        quoted = word != match.group() and (word in said or (bare != word and bare in said))
        if not quoted and f"{' '.join(before)} {word}" not in said and f"{word} {' '.join(after)}" not in said:
            return match.group()
    return None


def _where(error: str) -> str:
    return error.partition("  where:   ")[2].partition("\n")[0].partition("  ")[0]


def _whole(error: str) -> bool:
    """An error about a file as a whole has no line, and one in a pickle has a path in it instead."""
    if re.search(r"  where:   \S+\.pickle  \w", error):
        return True
    return any(
        words in error
        for words in (
            "no such file",
            "is larger than",
            "cannot read",
            "is empty",
            "states no",
            "nothing in ",
            "no row of ",
            ", at byte ",
            ", not a mapping",
        )
    )


def _scenario(name: str) -> str:
    return (SCENARIOS / name).read_text(encoding="utf-8")


def _files(pattern: str) -> Callable[[], Sequence[str]]:
    @cache
    def texts() -> Sequence[str]:
        return [path.read_text(encoding="utf-8") for path in sorted(shipped_folder().glob(pattern))]

    return texts


@cache
def _plan() -> str:
    return run("estimate", str(SCENARIOS / RL), "--format", "json").out


@cache
def _calibration() -> str:
    pinned = str(SCENARIOS / "qwen7b_dapo_h20.yaml")
    return run("calibrate", pinned, "--log", str(SCENARIOS / "qwen7b_dapo_h20.log"), "--out", "-").out


def _own_launch_files(*endings: str) -> list[str]:
    """Launch files as people wrote them."""
    paths = sorted((ROOT / "tests/fixtures/launch").iterdir())
    return [path.read_text(encoding="utf-8") for path in paths if path.suffix in endings]


@cache
def _scripts() -> Sequence[str]:
    ours = run("launch", str(SCENARIOS / PINNED), "--to", "megatron", "--set", "cluster.num_gpus=64").out
    return [ours, *_own_launch_files(".sh")]


@cache
def _slime_scripts() -> Sequence[str]:
    ours = run("launch", str(SCENARIOS / RL), "--to", "slime").out
    return [ours, *(text for text in _own_launch_files(".sh") if "--rollout-num-gpus-per-engine" in text)]


@cache
def _configs() -> Sequence[str]:
    from planner.inputs.catalog import default_catalog

    catalog = default_catalog()
    names = ("qwen2.5-7b", "deepseek-v3", "qwen3-30b-a3b", "gpt2")
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size",
            "intermediate_size", "num_experts", "num_experts_per_tok", "moe_intermediate_size", "kv_lora_rank",
            "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "model_type", "hidden_act",
            "max_position_embeddings", "first_k_dense_replace", "tie_word_embeddings", "attention_dropout")  # fmt: skip
    entries = [catalog.find("models", name) for name in names if name in catalog.ids("models")]
    configs = [{key: getattr(entry, key) for key in kept if getattr(entry, key) is not None} for entry in entries]
    configs += [{"model_type": "gemma3", "text_config": configs[0], "decoder_sparse_step": 1, "mlp_only_layers": []}]
    return [json.dumps(config, indent=1) for config in configs]


MESSAGES = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 58.15 GiB. GPU 0 has a total capacity of 139.81 GiB "
    "of which 40.00 GiB is free. Including non-PyTorch memory, this process has 99.81 GiB memory in use. Of the "
    "allocated memory 90.21 GiB is allocated by PyTorch, and 5.10 GiB is reserved by PyTorch but unallocated.",
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 79.11 GiB total capacity; 70.00 GiB already "
    "allocated; 1.00 GiB free; 76.00 GiB reserved in total by PyTorch)",
    "torch_memory_saver malloc return OOM (alloc)size=62433263616\n  File loss.py in cross_entropy",
    "ValueError: Free memory on device (7.10/79.11 GiB) on startup is less than desired GPU memory utilization (0.9)",
    "Task was killed due to the node running low on memory. Memory on the node was 1900.00GB / 2000.00GB (0.95)",
    "Out of memory: Killed process 123 (python) total-vm:1kB, anon-rss:123456789kB",
    "Process 12 has 10.00 GiB memory in use. Process 13 has 5.00 GiB memory in use. Tried to allocate 1.02 GiB. GPU 0 "
    "has a total capacity of 79.11 GiB of which 3.00 GiB is free. 60.00 GiB is allocated by PyTorch",
)
PRETRAINING = (
    " iteration 10/ 100 | elapsed time per iteration (ms): 12000.0 | lm loss: 7\nmax reserved: 70000.0\n" * 3,
    "step: 10  loss: 5  memory: 60.20GiB(76.10%)  tps: 1,200  mfu: 40%\n" * 3,
)
LINKS = {1: "PIX", 2: "NV12", 3: "SYS"}
MATRIX = "\tGPU0\tGPU1\tGPU2\tGPU3\tNIC0\tCPU Affinity\n" + "\n".join(
    "\t".join([f"GPU{i}", *("X" if i == j else LINKS[i ^ j] for j in range(4)), "PXB", "0-31"]) for i in range(4)
)
EDGES = "gpus: 4\nlinks:\n" + "\n".join(
    f"  - {{between: [gpu{i}, gpu{j}], gb_per_s: {25 * (1 + (i ^ j))}, kind: {'nvlink' if (i ^ j) == 2 else 'pcie'}}}"
    for i in range(4)
    for j in range(i)
)
NCCL_TEST = "\n".join(
    [
        "# nThread 1 nGpus 4 all_reduce_perf",
        *(f"#  Rank  {i} Group 0 Pid 7 on host device  {i} [0x0] H" for i in range(4)),
    ]
    + ["#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw"]
    + [
        f"{2**p:12d} {2**p // 4:12d}     float     sum      -1  {20 + 2**p / 2e5:8.2f} "
        f"{2**p / (20 + 2**p / 2e5) / 1e3:7.2f} {1.5 * 2**p / (20 + 2**p / 2e5) / 1e3:7.2f}      0"
        for p in range(20, 30)
    ]
)
OWN = """name: own
task: sft
model: qwen2.5-7b
engine: megatron-core
cluster: {node: a100-pcie-nvbridge-pairs, num_gpus: 4, %s}
batch: {global_batch_size: 8, sequence_length: 2048, micro_batch_size: 1}
layout: {tensor_parallel: 2, pipeline_parallel: 1, data_parallel: 2, context_parallel: 1, recomputed_layers: all,
         zero_stage: 1}
limits: {tensor_parallel_inside_domain: false}
"""


RUN_LOGS = (
    "[Rank 0] (after 2 iterations) memory (MB) | allocated: 1.0 | max allocated: 10240.0 | reserved: 2.0 | "
    "max reserved: 20480.00\n" + PRETRAINING[0],
    "step:3 - perf/max_memory_allocated_gb:41.5 - perf/max_memory_reserved_gb:np.float64(50.25) - "
    "perf/cpu_memory_used_gb:200.0\n" * 2,
    "step: 10  loss:  6.1  memory: 56.78GiB(71.1%)  tps: 7,345  mfu: 40%\n" * 3,
    "timestamp, index, memory.used [MiB], memory.total [MiB]\n2026/01/02 10:00:00.000, 0, 40960 MiB, 81559 MiB\n",
)
"""Lines of jobs that print their memory, and samples of nvidia-smi."""
BUDGET = """name: own
jobs:
  - {name: tune, scenario: run.yaml, tokens: 1.0e+9, deadline_days: 6, repeat: {every_days: 7, times: 2}}
confidence: 0.9
goodput: 0.9
offers:
  - {price: lambda-8x-h100, nodes: [1]}
  - {price: coreweave-8x-h100, nodes: [1], capacity_nodes: 2}
"""


DS_CONFIG = """{"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "bf16": {"enabled": true},
 "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": 500000000}}
"""


@cache
def _settings() -> Sequence[str]:
    ours = run("launch", str(SCENARIOS / "llama8b_sft_a100.yaml"), "--to", "axolotl").out
    return [ours, DS_CONFIG, *_own_launch_files(".yaml", ".json")]


@cache
def _snapshots() -> Sequence[str]:
    """The beginning of a real memory snapshot, a character a byte."""
    packed = ROOT / "tests/fixtures/snapshots/qwen2.5-0.5b.pickle.gz"
    whole = pickle.loads(gzip.decompress(packed.read_bytes()))
    events = [{**event, "frames": event["frames"][:3]} for event in whole["device_traces"][0][:12]]
    part = {**whole, "segments": whole["segments"][:6], "device_traces": [events]}
    return [pickle.dumps(part).decode("latin-1")]


WHAT_IF = (
    OWN % "topology: null"
    + """what_if:
  - name: longer
    set: {batch.sequence_length: 4096, batch.global_batch_size: 4}
  - name: roomier
    set: {limits.headroom_gib: 12, layout.recomputed_layers: 14}
"""
)
SWEPT = ("--set", "limits.headroom_gib=1,70", "--workers", "1")


@cache
def _rows() -> Sequence[str]:
    """What a sweep of two variants has stored."""
    with tempfile.TemporaryDirectory() as folder:
        scenario, rows = Path(folder, "run.yaml"), Path(folder, "rows.jsonl")
        scenario.write_text(OWN % "topology: null", encoding="utf-8")
        run("sweep", str(scenario), *SWEPT, "--out", str(rows))
        return [rows.read_text(encoding="utf-8")]


@cache
def _vms() -> Sequence[str]:
    return [path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests/fixtures/vms").glob("*/vms.csv"))]


def _own(key: str, file: str) -> Callable[[], Mapping[str, str]]:
    return lambda: {"run.yaml": OWN % f"{key}: {file}"}


def _of_scenario(*arguments: str) -> Callable[[Path], Sequence[str]]:
    return lambda folder: [arguments[0], str(folder / "run.yaml"), *arguments[1:]]


def _shipped(name: str, *arguments: str) -> Callable[[Path], Sequence[str]]:
    return lambda folder: [arguments[0], str(SCENARIOS / name), *(part.format(folder=folder) for part in arguments[1:])]


def _dapo() -> Mapping[str, str]:
    return {"run.yaml": _scenario("qwen7b_dapo_h20.yaml") + "\ncalibration: own.yaml\n"}


def _entry(file: str) -> Kind:
    """A file of a catalog folder that stands before the shipped one."""
    name = "measured/" + Path(file).stem if file.endswith(".json") else f"catalog {file.partition('/')[0]}"
    return Kind(name, file, _files(file), _shipped(RL, "estimate", "--format", "json"), catalog=True)


KINDS = (
    Kind("scenario, estimated", "run.yaml", lambda: [_scenario(RL), OWN % "topology: null"], _of_scenario("estimate")),
    Kind("scenario, solved", "run.yaml", lambda: [_scenario("qwen7b_rl.yaml"), _scenario("llama8b_lora_4090.yaml")],
         _of_scenario("solve", "--time-limit", "3", "--no-compare", "--no-check")),
    Kind("scenario, explained", "run.yaml", lambda: [_scenario("llama8b_lora_4090.yaml"), OWN % "topology: null"],
         _of_scenario("explain", "--no-neighbours")),
    Kind("log", "run.log", lambda: [(SCENARIOS / "qwen7b_dapo_h20.log").read_text()],
         _shipped("qwen7b_dapo_h20.yaml", "calibrate", "--log", "{folder}/run.log")),
    Kind("log of pretraining", "run.log", lambda: PRETRAINING,
         lambda folder: ["calibrate", str(folder / "run.yaml"), "--log", str(folder / "run.log")],
         beside=lambda: {"run.yaml": OWN % "topology: null"}),
    Kind("out-of-memory message", "oom.txt", lambda: MESSAGES, _shipped(RL, "diagnose", "--file", "{folder}/oom.txt")),
    Kind("saved plan", "plan.json", lambda: [_plan()],
         lambda folder: ["compare", str(folder / "plan.json"), str(folder / "b.json")],
         beside=lambda: {"b.json": _plan()}),
    Kind("calibration", "own.yaml", lambda: [_calibration()], _of_scenario("estimate"), beside=_dapo),
    _entry("measured/gemm_h100_sxm.json"),
    _entry("measured/nccl.json"),
    _entry("measured/known_errors.json"),
    _entry("gpus/h100-sxm5-80gb.yaml"),
    _entry("nodes/hgx-h100-8.yaml"),
    _entry("models/qwen2.5-7b.yaml"),
    _entry("engines/slime.yaml"),
    _entry("rollouts/sglang.yaml"),
    _entry("optimizers/adamw.yaml"),
    _entry("precisions/bf16.yaml"),
    Kind("catalog prices", "prices/lambda-8x-h100.yaml", _files("prices/lambda-8x-h100.yaml"),
         lambda folder: ["catalog", "show", "prices", "lambda-8x-h100"], catalog=True),
    Kind("config.json", "config.json", _configs, lambda folder: ["estimate", "--rules", str(folder / "config.json")]),
    Kind("topology matrix", "topo.txt", lambda: [MATRIX], _of_scenario("estimate"),
         beside=_own("topology", "topo.txt")),
    Kind("edge list", "topo.yaml", lambda: [EDGES], _of_scenario("estimate"), beside=_own("topology", "topo.yaml")),
    Kind("nccl-tests", "all_reduce.txt", lambda: [NCCL_TEST], _of_scenario("estimate"),
         beside=_own("nccl_tests", "[all_reduce.txt]")),
    Kind("log, checked", "run.log", lambda: RUN_LOGS,
         lambda folder: ["check", str(folder / "run.yaml"), str(folder / "run.log")],
         beside=lambda: {"run.yaml": OWN % "topology: null"}),
    Kind("saved plan, launched", "plan.json", lambda: [_plan()],
         lambda folder: ["launch", str(folder / "plan.json"), "--to", "slime"]),
    Kind("budget", "budget.yaml", lambda: [BUDGET],
         lambda folder: ["budget", str(folder / "budget.yaml"), "--time-limit", "5"],
         beside=lambda: {"run.yaml": OWN % "topology: null"}),
    Kind("vms.csv", "vms.csv", _vms,
         lambda folder: ["catalog", "import-prices", str(folder / "vms.csv"), "--read-on", "2026-11",
                         "--provider", "x"]),
    Kind("launch settings", "settings.yaml", _settings, lambda folder: ["lint", str(folder / "settings.yaml")]),
    Kind("launch script", "run.sh", _scripts, lambda folder: ["lint", str(folder / "run.sh")]),
    Kind("launch script, mended", "run.sh", _slime_scripts,
         lambda folder: ["launch", str(folder / "plan.json"), "--to", "slime", "--like", str(folder / "run.sh")],
         beside=lambda: {"plan.json": _plan()}),
    Kind("memory snapshot", "snapshot.pickle", _snapshots,
         lambda folder: ["check", str(folder / "run.yaml"), str(folder / "snapshot.pickle")],
         beside=lambda: {"run.yaml": OWN % "topology: null"}, encoding="latin-1"),
    Kind("what-if", "run.yaml", lambda: [WHAT_IF], _of_scenario("whatif")),
    Kind("sweep, gone on with", "rows.jsonl", _rows,
         lambda folder: ["sweep", str(folder / "run.yaml"), *SWEPT, "--out", str(folder / "rows.jsonl"), "--resume"],
         beside=lambda: {"run.yaml": OWN % "topology: null"}),
)  # fmt: skip
"""Every sort of file that a command reads, with the cheapest command that reads all of it."""
