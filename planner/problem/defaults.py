"""Decisions that a scenario does not name and that a default holds at one value: named beside every proof.

Only what leaves the training as it is counts: another precision, optimizer, adapter or batch is other work, and nobody
asked for it. Decisions whose default is `any` or `auto` are no limits, unless the engine takes more than `auto` tries.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from planner.problem.choices import divisors
from planner.problem.conditions import modules_that_free
from planner.problem.option_sets import options_left_open
from planner.problem.problem import Question
from planner.problem.stage_choices import wider_splits
from planner.problem.variants import DECISIONS, module_sets
from planner.schema.scenario import Scenario

IN_THE_PROOF = " (-vv)"
"""Where on a terminal the defaults that have no room are listed."""
MOST_TOGETHER = 16
"""More values of one decision than these are named, and not searched beside a plan unasked."""
LESS_MEMORY = (
    "layout.layers_per_stage",
    "layout.later_stages_on",
    "layout.recompute_group",
    "layout.activation_offload",
)
"""Where every layer may be recomputed anyway, other sets of modules or numbers for each stage need no less. What the
optimizer needs, and how wide tensor parallelism is, are repairs of their own."""
BESIDE = {("rl", "rollout", name) for name in ("tensor_parallel", "gpu_memory_utilization", "max_concurrency")}
SETTLED = BESIDE | {("cluster", "node"), ("precision",), ("rl", "rollout", "node"), ("layout", "recomputed_layers")}
"""Decisions that are the user's to name, or open by default."""


@dataclass(frozen=True)
class KeptDefault:
    """One decision at its default."""

    path: str
    """In the scenario."""
    at: str
    """What the default says, in a word."""
    opened: str | bool | int
    """A value that leaves the decision to the search."""
    values: int = 2
    """How many the search would then try, at most."""

    @property
    def text(self) -> str:
        """`virtual_pipeline 1`"""
        return f"{self.path.split('.')[-1]} {self.at}"

    @property
    def change(self) -> str:
        """`virtual_pipeline 1 to any`"""
        return f"{self.text} to {'no' if self.opened is False else self.opened}"


def held(question: Question) -> tuple[KeptDefault, ...]:
    """Every default that narrows this question's space, those that gain most as a rule first."""
    found = [
        *_chunks(question),
        *_choices(question),
        *_recomputation(question),
        *_rollout(question),
        *_limits(question),
    ]
    return tuple(one for one in found if not _named(question.document.data, one.path))


def roomier(question: Question) -> tuple[KeptDefault, ...]:
    """Those of which another value may need less memory than every layout that was tried."""
    return tuple(one for one in held(question) if one.path in LESS_MEMORY)


def held_text(found: Sequence[KeptDefault]) -> str | None:
    """`virtual_pipeline 1, recompute uniform (the scenario does not name them ...)`; None where nothing is held."""
    if not found:
        return None
    return f"{', '.join(one.text for one in found)} (the scenario does not name them, and nothing else was tried)"


def held_line(found: Sequence[KeptDefault], width: int) -> str | None:
    """The same in so many characters: `virtual_pipeline 1, recompute uniform and 7 more by default (-vv)`."""
    for shown in range(len(found), 0, -1):
        text = ", ".join(one.text for one in found[:shown])
        text += f" and {len(found) - shown} more by default{IN_THE_PROOF}" if shown < len(found) else " by default"
        if len(text) <= width or shown == 1:
            return text
    return None


def _named(data: object, path: str) -> bool:
    """Does the file say something at this path."""
    for step in path.split("."):
        if not isinstance(data, dict) or step not in data:
            return False
        data = data[step]
    return data is not None


def _pipelined(question: Question) -> bool:
    """May there be several stages."""
    stages, offered = question.scenario.layout.pipeline_parallel, question.first.engine.pipeline.supported
    return offered and stages != 1 and max(question.first.num_gpus) > 1


def _chunks(question: Question) -> Iterator[KeptDefault]:
    if _pipelined(question) and question.first.engine.pipeline.virtual:
        yield KeptDefault("layout.virtual_pipeline", "1", "any")
    wider = wider_splits(question.first)
    if _pipelined(question) and wider is not None:
        yield KeptDefault("layout.layers_per_stage", "even", wider)


def _choices(question: Question) -> Iterator[KeptDefault]:
    """Decisions that are problems of their own."""
    problem, engine = question.first, question.offered or question.first.engine
    for decision in DECISIONS:
        if decision.path in SETTLED or not _applies(question, decision.path[-1]):
            continue
        opened = _asked_any(problem.scenario, decision.path)
        if opened is not None and (count := len(decision.options(opened, engine))) > 1:
            yield KeptDefault(".".join(decision.path), _word(problem.scenario, decision.path), "any", count)


def _applies(question: Question, name: str) -> bool:
    """Does the decision change anything here."""
    problem = question.first
    if name in ("schedule", "later_stages_on"):
        return _pipelined(question)
    if name == "rank_order":
        return _pipelined(question) and max(problem.num_gpus) > problem.node.gpus_per_node
    if name in ("optimizer_offload", "activation_offload"):
        return problem.scenario.adapter is None
    if name == "sequence_parallel":
        return problem.scenario.layout.tensor_parallel != 1 and max(problem.num_gpus) > 1
    return True


def _asked_any(scenario: Scenario, path: tuple[str, ...]) -> Scenario | None:
    """The scenario with `any` at a path; None where the block is not there."""
    if len(path) == 1:
        return scenario.model_copy(update={path[0]: "any"})
    block = getattr(scenario, path[0])
    if block is None:
        return None
    return scenario.model_copy(update={path[0]: block.model_copy(update={path[1]: "any"})})


def _word(scenario: Scenario, path: tuple[str, ...]) -> str:
    value: object = functools.reduce(getattr, path, scenario)
    if path[-1] == "schedule":
        return "1f1b" if scenario.layout.virtual_pipeline == 1 else "1f1b or interleaved"
    return "no" if value is False else "as the engine has it" if value is None else str(value)


def _recomputation(question: Question) -> Iterator[KeptDefault]:
    problem = question.first
    layout, offered = problem.scenario.layout, problem.engine.recompute
    if _pipelined(question) and offered.per_stage and offered.partial and layout.recomputed_layers != "all":
        yield KeptDefault("layout.recompute", "uniform", "per_stage", 1)
    modules = modules_that_free(problem)
    if modules and layout.recompute_group == 1 and layout.recomputed_layers != "all":
        yield KeptDefault("layout.recompute_modules", "none", "any", len(module_sets(modules)))
    scenario = problem.scenario.model_copy(update={"options_to_try": "any"})
    options = options_left_open(scenario, question.offered or problem.engine, problem.architecture, problem.precision)
    if options:
        yield KeptDefault("options_to_try", f"none of {len(options)}", "any", 2 ** len(options))


def _rollout(question: Question) -> Iterator[KeptDefault]:
    problem, rl = question.first, question.scenario.rl
    if rl is None:
        return
    apart = problem.engine.separation
    if any(not each.colocated for each in question.problems) and apart is not None and apart.shards is not None:
        yield KeptDefault("rl.weight_sync", "whole", "shards", 1)
    yield KeptDefault("rl.rollout.max_concurrency", "as many as the engine takes", "any", 1)
    if problem.engine.packing is not None and problem.scenario.batch.micro_batch_size == "any":
        packs = problem.engine.packing.usual
        at, other = ("packed", "none") if packs else ("none", "any")
        yield KeptDefault("batch.max_tokens_per_gpu", at, other, 1)


def _limits(question: Question) -> Iterator[KeptDefault]:
    problem, bounds = question.first, question.scenario.limits
    gpus = max(problem.num_gpus)
    degrees = divisors(gpus, problem.architecture.num_attention_heads) if problem.engine.tensor_parallel else []
    wider = any(not problem.clusters[gpus].group(degree, 1).inside_domain for degree in degrees)
    if wider and not isinstance(question.scenario.layout.tensor_parallel, int | list):
        yield KeptDefault("limits.tensor_parallel_inside_domain", "yes", False, 1)
    most, micro = bounds.max_sequences_per_micro_batch, problem.scenario.batch.micro_batch_size
    batch = problem.scenario.batch.global_batch_size or 0
    if not isinstance(micro, int | list) and batch > most:
        yield KeptDefault("limits.max_sequences_per_micro_batch", str(most), batch, 1)
