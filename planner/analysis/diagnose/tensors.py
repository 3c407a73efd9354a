"""Which tensors of a scenario could have had a given size: tokens times a width, or a fixed shape.

Sizes come from the scenario's architecture, engine and legal layouts; nothing here knows a published case.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.analysis.diagnose.message import Site
from planner.costs.memory.stage_memory import StageMemory
from planner.costs.memory.tensor_widths import padded_vocab_size
from planner.costs.rollout import RolloutCosts
from planner.problem.layouts import Layouts, Rollouts
from planner.problem.problem import Problem
from planner.search.space import build_space
from planner.units import GIB

LIKELY, POSSIBLE = 0.6, 0.3
"""Scores from which a candidate is called likely or possible."""
NEAR = 0.01
"""A fixed shape this close to the requested size is still shown: allocators pad and gather a little more."""
PRIOR = {"logits": 1.0, "logits, 16 bit": 0.8, "weights": 0.7, "state": 0.7, "rollout": 0.7, "activations": 0.55}
"""How often a group, or one tensor of it, is what failed in published reports, relative to logits (judged)."""


@dataclass(frozen=True)
class Candidate:
    """One reading of the requested bytes."""

    name: str
    group: str
    phase: str
    formula: str
    """The product with its numbers, `tokens` open."""
    unit_bytes: float
    """Bytes a token, or of the whole tensor where tokens is None."""
    tokens: tuple[int, int] | None
    """Fewest and most tokens that give the requested size."""
    expected_tokens: float
    """Tokens of the scenario's micro-batch on one rank."""
    score: float

    @property
    def plausibility(self) -> str:
        """In words."""
        return "likely" if self.score >= LIKELY else "possible" if self.score >= POSSIBLE else "unlikely"

    @property
    def excess(self) -> float:
        """Tokens relative to the scenario's micro-batch."""
        return 1.0 if self.tokens is None else (self.tokens[0] + self.tokens[1]) / 2 / self.expected_tokens


@dataclass(frozen=True)
class Setting:
    """What legal layouts of the scenario agree or differ in, as far as sizes go."""

    layouts: Layouts
    row: int
    sequence: int
    """Longest sequence on one context-parallel rank. [tokens]"""
    micro_batch: float
    """Tokens of one micro-batch on one rank."""
    most: float
    """All tokens that one rank sees in a step: no micro-batch can be larger."""

    def value(self, name: str) -> int:
        """A column of this row."""
        return int(getattr(self.layouts, name)[self.row])

    @property
    def label(self) -> str:
        """The degrees that shape tensors."""
        names = (("tensor_parallel", "TP"), ("context_parallel", "CP"), ("expert_tensor_parallel", "ETP"))
        parts = [f"{short}{self.value(name)}" for name, short in names if self.value(name) > 1]
        return " ".join(parts) or "one rank"


def settings(problem: Problem) -> list[Setting]:
    """One setting for each combination of degrees and micro-batch that shapes tensors, wanted lengths only."""
    lay = build_space(problem.alone).layouts
    lay = lay.take(np.flatnonzero(lay.wish == 0)) if len(lay) else lay
    if not len(lay):
        return []
    columns = ("tensor_parallel", "pipeline_parallel", "context_parallel", "expert_parallel", "expert_tensor_parallel")
    keys = np.stack([getattr(lay, name) for name in (*columns, "data_parallel", "micro_batch_size")], axis=1)
    _, rows = np.unique(keys, axis=0, return_index=True)
    steps = problem.scenario.rl.steps_per_rollout if problem.scenario.rl else 1
    out = []
    for row in rows.tolist():
        sequence = -(-int(lay.sequence_length[row]) // int(lay.context_parallel[row]))
        micro = float(lay.micro_batch_size[row]) * sequence
        most = float(lay.global_batch_size[row]) * steps * sequence / float(lay.data_parallel[row])
        out.append(Setting(lay, row, sequence, micro, max(most, micro)))
    return out


def candidates(problem: Problem, requested: tuple[float, float], site: Site | None) -> list[Candidate]:
    """Every reading of a requested size, best first; at most one for each name."""
    best: dict[str, Candidate] = {}
    for setting in settings(problem):
        for found in (*_of_tokens(problem, setting, requested, site), *_fixed(problem, setting, requested, site)):
            if found.name not in best or found.score > best[found.name].score:
                best[found.name] = found
    return sorted(best.values(), key=lambda c: (-c.score, c.name))


def logits_bytes_per_token(problem: Problem, setting: Setting, each: float) -> tuple[float, int]:
    """(bytes a token of the logits on one rank, width of the vocabulary shard)."""
    tp = setting.value("tensor_parallel")
    padded = padded_vocab_size(
        vocab_size=problem.architecture.vocab_size,
        divisible_by=problem.engine.vocab_divisible_by,
        tensor_parallel=np.asarray(tp),
    )
    return int(padded) // tp * each, int(padded) // tp


def _weight(site: Site | None, group: str) -> float:
    """How well a group of tensors agrees with where the message arose."""
    return 1.0 if site is None or group in site.about else 0.4


def _of_tokens(
    problem: Problem, setting: Setting, requested: tuple[float, float], site: Site | None
) -> Iterator[Candidate]:
    for name, group, width, each, words in _widths(problem, setting):
        unit = width * each
        low, high = math.ceil(requested[0] / unit), math.floor(requested[1] / unit)
        if low > high or low < 1 or low > setting.most * 1.001:
            continue
        score = PRIOR.get(name, PRIOR[group]) * _weight(site, group) * _closeness(setting, low, high)
        phase = site.phase if site is not None and group in site.about else PHASE[group]
        formula = f"tokens x {width:,} x {each:g} B ({words}, {setting.label})"
        yield Candidate(name, group, phase, formula, unit, (low, high), setting.micro_batch, score)


PHASE = {
    "logits": "training, logits and loss",
    "activations": "training, forward or backward",
    "weights": "training, gathering weights",
    "state": "optimizer step",
    "rollout": "rollout",
}


def _closeness(setting: Setting, low: int, high: int) -> float:
    """1 where the tokens are the micro-batch, or whole sequences up to it; less the further they are away."""
    sequences = range(1, round(setting.micro_batch / setting.sequence) + 1)
    if any(low * 0.999 <= n * setting.sequence <= high * 1.001 for n in sequences):
        return 1.0
    away = abs(math.log((low + high) / 2 / setting.micro_batch))
    # More tokens than the cap happen (one long sample, packing); far fewer rarely fail.
    return 1.0 / (1.0 + (0.15 if low > setting.micro_batch else 0.5) * away)


def _widths(problem: Problem, setting: Setting) -> Iterator[tuple[str, str, int, float, str]]:
    """(name, group, elements a token on one rank, bytes an element, words) of tensors that grow with tokens."""
    a, tp, etp = problem.architecture, setting.value("tensor_parallel"), setting.value("expert_tensor_parallel")
    _, vocab = logits_bytes_per_token(problem, setting, 1)
    yield "logits, fp32", "logits", vocab, 4, "vocabulary shard"
    yield "logits, 16 bit", "logits", vocab, 2, "vocabulary shard"
    for degree in sorted({int(costs.choices.tensor_parallel[0]) for costs in rollouts(problem)}):
        words = f"vocabulary / rollout TP{degree}"
        yield "logits of the rollout engine, fp32", "rollout", a.vocab_size // degree, 4, words
    yield "hidden states, 16 bit", "activations", a.hidden_size, 2, "hidden size"
    yield "hidden states, fp32", "activations", a.hidden_size, 4, "hidden size"
    ffn = a.intermediate_size // tp
    if not a.is_moe or a.first_k_dense_replace:
        yield "MLP activation, 16 bit", "activations", ffn, 2, "intermediate size / TP"
        yield "gate and up of the MLP, 16 bit", "activations", 2 * ffn, 2, "2 x intermediate size / TP"
    if a.is_moe:
        top_k = a.num_experts_per_tok or 1
        expert = top_k * (a.moe_intermediate_size or 0) // etp
        yield "expert activations, 16 bit", "activations", expert, 2, "chosen experts x their width"
        yield "gate and up of the experts, 16 bit", "activations", 2 * expert, 2, "2 x chosen experts x their width"
        yield "tokens sent to experts, 16 bit", "activations", top_k * a.hidden_size, 2, "chosen experts x hidden size"
    qkv = (a.query_width + 2 * a.key_value_width) // tp
    yield "query, key and value, 16 bit", "activations", qkv, 2, "all projections / TP"
    scores = a.num_attention_heads // tp * setting.sequence
    if not problem.engine.fused_attention:
        yield "attention scores, 16 bit", "activations", scores, 2, "heads / TP x sequence"


def _fixed(
    problem: Problem, setting: Setting, requested: tuple[float, float], site: Site | None
) -> Iterator[Candidate]:
    middle = sum(requested) / 2
    for name, group, size, formula in _shapes(problem, setting):
        inside = requested[0] <= size <= requested[1]
        if size <= 0 or (not inside and abs(size / middle - 1) > NEAR):
            continue
        score = PRIOR[group] * _weight(site, group) * (1.0 if inside else 0.5)
        phase = site.phase if site is not None and group in site.about else PHASE[group]
        text = f"{formula} ({setting.label})"
        yield Candidate(name, group, phase, text, size, None, setting.micro_batch, score)


def _shapes(problem: Problem, setting: Setting) -> Iterator[tuple[str, str, float, str]]:
    """(name, group, bytes, formula) of tensors whose size no token changes, on the fullest stage."""
    one, a = setting.layouts.take(setting.row), problem.architecture
    stages = setting.value("pipeline_parallel")
    layers = np.asarray([-(-a.num_hidden_layers // stages)])
    memory = StageMemory(problem, one, np.asarray([0]), layers, layers * 0)
    _, vocab = logits_bytes_per_token(problem, setting, 1)
    table = float(vocab * a.hidden_size)
    for each, words in ((2, "16 bit"), (4, "fp32")):
        shape = f"{vocab:,} x {a.hidden_size:,} x {each} B"
        yield f"embedding or head, {words}", "weights", table * each, shape
    held = float(sum(np.sum(part) for part in memory.parameters))
    state = float(sum(np.sum(p / s) for p, s in zip(memory.trainable, memory.shards, strict=True)))
    layer = held and (held - 2 * table) / float(layers[0])
    for each, words in ((2, "16 bit"), (4, "fp32")):
        yield f"one layer, {words}", "weights", layer * each, f"{layer:,.0f} parameters x {each} B"
        yield f"weights of a rank, {words}", "weights", held * each, f"{held:,.0f} parameters x {each} B"
        yield f"shard of one optimizer moment, {words}", "state", state * each, f"{state:,.0f} parameters x {each} B"
    yield "gradient buffer", "state", held * problem.gradient_bytes, f"{held:,.0f} x {problem.gradient_bytes:g} B"
    if problem.is_rl:
        bucket = problem.colocation.sync_bucket_gib * GIB
        yield "weight-sync bucket", "rollout", bucket, "update-weight buffer"
        for costs in rollouts(problem):
            tp = int(costs.choices.tensor_parallel[0])
            pool = float(np.sum(costs.static_bytes - costs.weights_bytes))
            for parts, words in ((1, "all layers"), (a.num_hidden_layers, "one layer"), (2 * a.num_hidden_layers, "K")):
                yield f"key-value pool, {words}", "rollout", pool / parts, f"pool of rollout TP{tp} / {parts}"
            yield "rollout weights", "rollout", float(costs.weights_bytes[0]), f"all parameters / rollout TP{tp}"


def rollouts(problem: Problem) -> list[RolloutCosts]:
    """The rollout engine at each tensor-parallel degree and memory fraction the scenario leaves, fit or not."""
    rl, engine = problem.scenario.rl, problem.rollout_engine
    if rl is None or engine is None:
        return []
    gpus, heads = min(max(problem.num_gpus), problem.node.gpus_per_node), problem.architecture.num_attention_heads
    asked = rl.rollout.tensor_parallel
    degrees = [d for d in range(1, gpus + 1) if gpus % d == 0 and heads % d == 0]
    if isinstance(asked, int):
        degrees = [asked]
    elif isinstance(asked, list):
        degrees = asked
    fraction = rl.rollout.gpu_memory_utilization
    shares = [fraction] if isinstance(fraction, float) else fraction if isinstance(fraction, list) else engine.fractions
    made = []
    for tp in degrees:
        for share in shares:
            one, most = np.asarray([gpus]), np.asarray([engine.max_concurrency])
            columns = (one, one * 0, np.asarray([tp]), np.asarray([float(share)]), most, one, one * 0)
            made.append(RolloutCosts(problem, Rollouts(*columns)))
    return made
