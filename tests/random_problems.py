"""Random small problems over all decision kinds, each a scenario text and a model text that reproduce it."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.costs.ledger import total
from planner.costs.rollout import RolloutCosts
from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.json_document import json_document
from planner.problem.problem import Question
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_layers
from planner.search.enumerate import count_points
from planner.search.space import build_space

NODES = (
    "hgx-h100-8", "hgx-h100-4", "hgx-a100-8", "hgx-a100-4", "a100-pcie-nvbridge-pairs", "h100-pcie-nvbridge-pairs",
    "l40s-pcie-8", "rtx-4090-box", "mi300x-8", "dgx1-v100",
)  # fmt: skip
RL_ENGINES = ("slime", "slime", "nemo-rl", "verl-megatron")
PLAIN_ENGINES = ("megatron-core",) * 9 + ("megatron-core-replicated", "deepspeed", "deepspeed", "fsdp2", "transformers")
PLAIN_ENGINES += ("torchtitan",)
MODEL = "random-model.yaml"
RECORD = Path(__file__).parent / "fixtures" / "rejected_draws.json"
REFUSED, EMPTY, LARGE, SMALL, FULL = "relsf"
"""Why a draw is rejected: no legal input, no rows, too many points, few points, no memory left for a rollout."""
DRAWN_AGAIN = EMPTY + SMALL
"""After these one more number was drawn."""


@dataclass(frozen=True)
class Case:
    """One random problem."""

    seed: int
    scenario: dict[str, Any]
    model: dict[str, Any]
    points: int

    @property
    def text(self) -> str:
        """Both files, as needed to reproduce the case."""
        model, scenario = json.dumps(self.model), json.dumps(self.scenario)
        return f"# seed {self.seed}, {self.points} points\n# {MODEL}\n{model}\n# scenario\n{scenario}"

    def question(self) -> Question:
        """The case with all names resolved."""
        return _question(self.scenario, self.model)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="planner-random-")


@cache
def _catalog() -> Catalog:
    return default_catalog()


def _question(scenario: dict[str, Any], model: dict[str, Any]) -> Question:
    text = json.dumps(model)
    path = Path(_folder().name) / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
    if not path.exists():
        path.write_text(text)
    return _asked(json.dumps(scenario | {"model": str(path)}))


@lru_cache(maxsize=128)
def _asked(scenario: str) -> Question:
    """Questions are frozen: several tests ask the same one."""
    return question_of(json_document(scenario.encode(), "random.json"), _catalog())


def random_model(rng: random.Random, *, large: bool) -> dict[str, Any]:
    """An architecture of 2 to 8 layers: grouped or multi-head attention, dense or with experts."""
    heads = rng.choice([4, 8, 12, 16])
    head_dim = rng.choice([32, 64, 128])
    hidden = rng.choice([4096, 8192] if large else [512, 1024, 2048, 4096])
    model: dict[str, Any] = {
        "id": "random-model",
        "model_type": "random",
        "hidden_size": hidden,
        "num_hidden_layers": rng.choice([2, 3, 4, 4, 5, 6, 6, 7, 8, 8]),
        "num_attention_heads": heads,
        "num_key_value_heads": rng.choice([d for d in (1, 2, 4, 8, 12, 16) if heads % d == 0 and d <= heads]),
        "head_dim": head_dim,
        "intermediate_size": rng.choice([2, 3, 4]) * hidden,
        "vocab_size": rng.choice([1000, 32000, 50257, 151936]),
        "tie_word_embeddings": rng.random() < 0.3,
        "gated_mlp": rng.random() < 0.7,
        "sources": [{"ref": "made up by a test", "date": "2026-11-21"}],
    }
    if rng.random() < 0.15:
        model["sliding_window"], model["sliding_window_layers"] = 512, model["num_hidden_layers"] // 2
    if rng.random() < 0.4:
        model["num_experts"] = rng.choice([4, 6, 8])
        model["num_experts_per_tok"] = rng.choice([1, 2])
        model["moe_intermediate_size"] = rng.choice([1, 2]) * hidden
        model["shared_expert_intermediate_size"] = rng.choice([0, hidden])
        model["first_k_dense_replace"] = rng.choice([0, 0, 1, 2])
    return model


def _int_choice(rng: random.Random, values: list[int]) -> Any:
    """A pin, a list, a range or `any`."""
    kind = rng.random()
    if kind < 0.55:
        return "any"
    if kind < 0.7:
        return rng.choice(values)
    if kind < 0.85:
        return sorted(rng.sample(values, min(2, len(values))))
    return {"max": rng.choice(values)}


def _wish(rng: random.Random, values: list[Any]) -> Any:
    """A value, or one wanted and others allowed."""
    first = rng.choice(values)
    if rng.random() < 0.55:
        return first
    return {"want": first, "allow": sorted({first, rng.choice(values)}, reverse=True)}


def _layers(rng: random.Random, layers: int, uneven: bool) -> Any:
    kind = rng.random()
    if kind < 0.25 or (kind < 0.5 and not uneven):
        return "even"
    if kind < 0.5 or not uneven:
        return "auto"
    if kind < 0.78:
        return "free"
    stages = rng.choice([s for s in (1, 2, 3, 4) if s <= layers])
    cuts = sorted(rng.sample(range(1, layers), stages - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, layers], strict=True)]


def _layout(rng: random.Random, model: dict[str, Any], engine: str) -> dict[str, Any]:
    layers = model["num_hidden_layers"]
    megatron = engine in ("megatron-core", "megatron-core-replicated", *RL_ENGINES)
    layout: dict[str, Any] = {"layers_per_stage": _layers(rng, layers, megatron)}
    if not megatron:
        if rng.random() < 0.3:
            layout["recomputed_layers"] = rng.choice(["all", "any", 0])
        if rng.random() < 0.3 and engine == "deepspeed":
            layout["optimizer_offload"] = True
        if rng.random() < 0.4 and engine == "deepspeed":
            layout["zero_stage"] = rng.choice([1, 2, 3, [1, 3]])
        return layout
    layout["recompute"] = rng.choice(["uniform", "uniform", "per_stage"])
    layout["recompute_method"] = rng.choice([None, None, "block", "uniform"])
    layout["recomputed_layers"] = rng.choice(
        ["any", "any", "any", "any", "all", rng.randint(0, layers), sorted({0, rng.randint(1, layers), layers}),
         {"min": 1, "max": rng.randint(1, layers)}]
    )  # fmt: skip
    for axis in ("tensor_parallel", "pipeline_parallel", "data_parallel"):
        layout[axis] = _int_choice(rng, [1, 2, 4])
    if rng.random() < 0.45:
        layout["pipeline_parallel"] = rng.choice([2, 3, 4, {"min": 2}])
    layout["context_parallel"] = rng.choice([1, 1, "any", [1, 2]])
    layout["virtual_pipeline"] = rng.choice([1, 1, "any", [1, 2], [1, 3]])
    if model.get("num_experts") is not None:
        layout["expert_parallel"] = _int_choice(rng, [1, 2, 4])
        layout["expert_tensor_parallel"] = rng.choice([1, "any", "any", [1, 2]])
    if rng.random() < 0.15:
        layout["sequence_parallel"] = False
    if rng.random() < 0.15 and engine not in RL_ENGINES:
        layout["optimizer_offload"] = True
    return layout


def _draw(rng: random.Random) -> tuple[dict[str, Any], dict[str, Any]]:
    is_rl = rng.random() < 0.3
    model = random_model(rng, large=is_rl)
    engine = rng.choice(RL_ENGINES) if is_rl else rng.choice(PLAIN_ENGINES)
    node = rng.choice(NODES)
    cluster: dict[str, Any] = {"node": node}
    if rng.random() < 0.5:
        cluster["max_gpus"] = rng.choice([1, 2, 4, 8, 16])
    else:
        cluster["num_gpus"] = rng.choice([1, 2, 4, 8, 16, [2, 4], [4, 8]])
    scenario: dict[str, Any] = {
        "name": "random",
        "task": "rl" if is_rl else "pretrain",
        "model": MODEL,
        "engine": engine,
        "precision": "fp16" if node == "dgx1-v100" else "bf16",
        "cluster": cluster,
        "layout": _layout(rng, model, engine),
        "limits": {
            "headroom_gib": 0.0,
            "tensor_parallel_inside_domain": rng.random() < 0.8,
            "reserved_cliff": rng.random() < 0.15,
        },
        "search": {"near_tie": rng.choice([0.005, 0.005, 0.005, 0.0, 0.05])},
    }
    if rng.random() < 0.4:
        scenario["optimizer"] = {"want": "adamw", "allow": ["adamw", rng.choice(["adamw-8bit", "sgd", "adafactor"])]}
    micro: Any = rng.choice(["any", 1, 2, [1, 2, 4], [1, 3]])
    scenario["batch"] = {"micro_batch_size": micro}
    if is_rl:
        if rng.random() < 0.6:
            caps = rng.choice(["any", 1024, [768, 2048], {"min": 4096, "max": 12288}, "none"])
            scenario["batch"] = {"max_tokens_per_gpu": caps}
        scenario["rl"] = {
            "prompt_length": rng.choice([256, 512]),
            "response_length": _wish(rng, [512, 1536, 3584]),
            "response_distribution": {"mean": 400, "p99": 1800, "at_cap": rng.choice([0.0, 0.02])},
            "rollout_batch_size": _wish(rng, [4, 8, 16]),
            "n_samples_per_prompt": _wish(rng, [2, 4]),
            "steps_per_rollout": rng.choice([1, 2]),
            "reference_model": rng.random() < 0.5,
            "old_log_probs": rng.choice([None, None, True, False]),
            "rollout": {"gpu_memory_utilization": rng.choice([[0.4, 0.6], 0.5, [0.3, 0.5, 0.7], "any"])},
        }
    else:
        scenario["batch"] |= {
            "global_batch_size": rng.choice([1, 4, 8, 12, 16, 32]),
            "sequence_length": _wish(rng, [512, 1024, 2048, 4096, 8192]),
        }
        if rng.random() < 0.2 and engine != "megatron-core-replicated":
            targets = ["q_proj", "v_proj"] if rng.random() < 0.5 or not model["gated_mlp"] else ["o_proj", "gate_proj"]
            base = rng.choice(["bf16", "nf4"])
            scenario["adapter"] = {"rank": rng.choice([8, 64]), "base_precision": base, "targets": targets}
    if rng.random() < (0.75 if is_rl else 0.5):
        _open_more(rng, scenario)
        if is_rl and "max_tokens_per_gpu" in scenario["batch"]:
            scenario["batch"] = {"max_tokens_per_gpu": rng.choice([1024, [768, 2048], "none"])}
    if rng.random() < 0.3:
        scenario["playbook"] = rng.sample(["optimizer", "sequence_length", "response_length", "rollout_batch_size"], 2)
    return scenario, model


def _open_more(rng: random.Random, scenario: dict[str, Any]) -> None:
    """Leave open one or two of the decisions that change the costs themselves."""
    layout, cluster, engine = scenario["layout"], scenario["cluster"], scenario["engine"]
    megatron = engine in ("megatron-core", "megatron-core-replicated", *RL_ENGINES)
    kinds = ["precision", "pools"] + ["placement", "placement", "pools"] * 10 * (engine in RL_ENGINES)
    kinds += ["schedule"] * 6 * (engine == "torchtitan")
    kinds += ["optimizer_offload"] * (megatron or engine == "deepspeed")
    kinds += ["rank_order", "activation_offload", "recompute_modules", "recompute_modules", "schedule"] * megatron
    kinds += ["rank_order"] * 6 * (engine in RL_ENGINES)
    kinds += ["later_stages_on"] * 3 * (megatron and engine not in RL_ENGINES)
    for kind in dict.fromkeys(rng.choices(kinds, k=3)):
        if kind == "precision":
            scenario["precision"] = rng.choice([["bf16", "fp8"], ["fp16", "bf16"], ["bf16"]])
        elif kind == "pools" and "node" in cluster:
            counts = {name: cluster.pop(name) for name in ("num_gpus", "max_gpus") if name in cluster}
            other = rng.choice([n for n in NODES if n != cluster["node"]])
            cluster["pools"] = [
                {"node": cluster.pop("node"), **counts},
                {"node": other, "num_gpus": rng.choice([1, 2, 4])},
            ]
        elif kind == "later_stages_on":
            sizes = {"hgx-h100-4": 4, "hgx-a100-4": 4, "hgx-h100-8": 8, "a100-pcie-nvbridge-pairs": 4}
            some = rng.sample(sorted(sizes), 2)
            scenario["cluster"] = cluster = {"pools": [{"node": node, "num_gpus": sizes[node]} for node in some]}
            layout["later_stages_on"] = rng.choice(["any", some[0], some[1]])
            layout |= {"tensor_parallel": rng.choice(["any", [1, 2]]), "pipeline_parallel": {"min": 2, "max": 4}}
            layout["data_parallel"] = "any"
        elif kind == "placement":
            every = ["colocated", "disaggregated", "asynchronous"]
            scenario["rl"]["placement"] = rng.choice([*every[1:], "any", rng.sample(every, 2)])
            if rng.random() < 0.4:
                scenario["rl"]["rollout"]["max_concurrency"] = rng.choice([2, [1, 4], "any"])
        elif kind == "schedule":
            layout["schedule"] = rng.choice(["any", ["1f1b", "interleaved"]])
        elif kind == "rank_order":
            cluster["rank_order"] = rng.choice(["any", "tp_pp_dp", ["tp_pp_dp", "default"]])
        elif kind == "recompute_modules":
            layout["recompute_modules"] = rng.choice(["any", ["core_attn"], ["mlp", "layernorm"]])
        else:
            layout[kind] = "any"


def _open_options(rng: random.Random, scenario: dict[str, Any]) -> None:
    """Leave open one or two options of the engine, where it has any that are choices."""
    if scenario["layout"].get("recomputed_layers", 0) in ("any", "all") and rng.random() < 0.6:
        scenario["layout"] |= {"recompute_group": rng.choice(["any", 2, "sqrt", [1, 3]]), "recompute_method": None}
    options = _catalog().find("engines", scenario["engine"]).options
    choices = sorted(name for name, option in options.items() if option.choice is not None)
    if choices:
        scenario["options_to_try"] = rng.sample(choices, min(rng.choice([1, 2, 3]), len(choices)))


def peaks_gib(question: Question, costs: RowCosts) -> list[float]:
    """Some peaks that this space has: every row with none, one, half and all layers recomputed."""
    layers = even_layers(question.first, costs.layouts, costs.stages)
    missing = question.architecture.num_hidden_layers - layers.sum(axis=1)
    layers[:, 0] += np.maximum(missing, 0)
    rows, found = np.arange(len(costs.layouts)), []
    for recomputed in (layers * 0, np.minimum(layers, 1), layers // 2, layers):
        found += list(costs.peak_bytes(rows, layers, recomputed) / 2**30)
    return sorted(found)


def rollout_need(rollouts: RolloutTable | None) -> tuple[float, float] | None:
    """(GiB beside the static fraction, that fraction) of the rollout choice that needs least."""
    if rollouts is None or not len(rollouts.choices):
        return None
    choices, outside = rollouts.choices, np.zeros(len(rollouts.choices))
    for index, variant in enumerate(rollouts.question.problems):
        rows = np.flatnonzero(choices.variant == index)
        costs = RolloutCosts(variant.generating, choices.take(rows))
        outside[rows] = total(costs.ledger("rollout")) - costs.static_bytes
    return float(outside.min() / 2**30), float(rollouts.choices.gpu_memory_utilization.min())


def random_case(seed: int, *, most_points: int) -> Case:
    """The problem of this seed: first draw that is legal input, has rows, and is small enough to enumerate.

    Draws that are on record as rejected are drawn and passed over, since most of the work is to see that they are to be
    rejected; a seed without a record is judged draw by draw. `python tests/random_problems.py` writes the record anew.
    """
    return _first_accepted(seed, most_points, _rejected().get(f"{seed} {most_points}", ""))[0]


def _first_accepted(seed: int, most_points: int, recorded: str) -> tuple[Case, str]:
    """(the problem of this seed, why each draw before it was rejected); `recorded` stands for judging the first."""
    rng, why = random.Random(seed), ""
    while True:
        scenario, model = _draw(rng)
        if seed % 10 == 7:
            _open_options(rng, scenario)
        if len(why) < len(recorded):
            why += recorded[len(why)]
            if why[-1] in DRAWN_AGAIN:
                rng.random()
            continue
        try:
            question = _question(scenario, model)
            space = build_space(question)
        except InputError:
            why += REFUSED
            continue
        if not len(space.layouts):
            if rng.random() < 0.02:
                return Case(seed, scenario, model, 0), why
            why += EMPTY
            continue
        costs = RowCosts(question, space.layouts)
        rollouts = RolloutTable(question, space.rollouts) if space.rollouts is not None else None
        points = count_points(question, costs, rollouts)
        if not 0 < points <= most_points:
            why += LARGE
            continue
        if points < 12 and rng.random() < 0.7:
            why += SMALL
            continue
        _set_capacity(rng, scenario, peaks_gib(question, costs), rollout_need(rollouts))
        try:
            _question(scenario, model)
        except InputError:
            why += FULL
            continue
        return Case(seed, scenario, model, points), why


@cache
def _rejected() -> dict[str, str]:
    """By seed and most points: why each draw before the accepted one was rejected, a letter each."""
    return dict(json.loads(RECORD.read_text()))


def _recordable(why: str) -> str:
    """The reasons up to the first draw whose passing over needs its costs."""
    return why.partition(FULL)[0]


def _set_capacity(
    rng: random.Random, scenario: dict[str, Any], peaks: list[float], rollout: tuple[float, float] | None
) -> None:
    """Usable memory and headroom so that nothing fits, one layout fits, or a share of them does."""
    kind = rng.random()
    if kind < 0.04:
        limit = peaks[0] * 0.98
    elif kind < 0.2:
        limit = peaks[0] * rng.choice([0.999, 1.001, 1.02])
    elif kind < 0.85:
        limit = peaks[int(len(peaks) * rng.choice([0.02, 0.1, 0.25, 0.5]))] * rng.choice([0.999, 1.001, 1.01])
    else:
        limit = peaks[-1] * 1.1
    headroom = rng.choice([0.0, 0.37, 2.0, 0.1 * limit])
    if rollout is not None:
        awake = (rollout[0] + rollout[1] * headroom) / (1 - rollout[1])
        limit = max(limit, awake * rng.choice([0.99, 1.001, 1.05, 1.3]))
    for machines in scenario["cluster"].get("pools", [scenario["cluster"]]):
        machines["usable_gib"] = float((limit + headroom) * rng.choice([1.0, 1.0, 0.97, 1.03]))
    scenario["limits"]["headroom_gib"] = float(headroom)


def record(asked: list[tuple[int, int]]) -> None:
    """Write why each draw is rejected now, of the (seed, most points) asked for."""
    found = {f"{s} {most}": _recordable(_first_accepted(s, most, "")[1]) for s, most in sorted(set(asked))}
    RECORD.write_text(json.dumps(found, indent=0) + "\n")


if __name__ == "__main__":
    record([(int(key.split()[0]), int(key.split()[1])) for key in _rejected()])
