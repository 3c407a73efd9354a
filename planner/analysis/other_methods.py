"""Where nothing fits: other methods of training the same network, or more GPUs, each solved before it is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.analysis.changes import machine_counts, machine_path, machines_of, networked
from planner.analysis.whatif import compact
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.option_sets import reduce_each, to_the_host
from planner.problem.preference import scored_by
from planner.problem.problem import Problem, host_memory_gib
from planner.problem.resolve import question_of
from planner.schema.engine import can_name
from planner.schema.preference import DPO
from planner.search.plan import Plan, host_total_gib
from planner.search.search import Outcome, search

Changes = dict[str, object]
SMALLER = (("an 8-bit optimizer", "adamw-8bit"), ("a paged 8-bit optimizer", "paged-adamw-8bit"))
ADAPTERS = (("LoRA", "bf16"), ("QLoRA", "nf4"))
SHARDING = ("fsdp2", "fsdp1")
"""Engine that shards weights: of full training, and the one with published runs of adapters."""
CUTTING = "megatron-core"
"""Engine that cuts layers and sequences over GPUs."""
PRECOMPUTED = "the reference's log-probabilities taken before training"
FSDP, MEGATRON = "FSDP, which shards weights", "Megatron, which cuts layers and sequences"
RANK = 16
MOST_DOUBLINGS = 7
"""Up to 128 times the GPUs are asked about."""


@dataclass(frozen=True)
class Method:
    """Another way to train, with which a layout fits."""

    name: str
    changes: tuple[tuple[str, object], ...]
    plan: Plan

    @property
    def arguments(self) -> tuple[str, ...]:
        """The change as `--set` takes it."""
        return tuple(f"{path}={compact(value)}" for path, value in self.changes)


def other_methods(
    outcome: Outcome,
    catalog: Catalog,
    progress: Callable[[str], None] = lambda text: None,
    left: Callable[[], float] = lambda: math.inf,
) -> tuple[Method, ...]:
    """Methods that fit where the scenario's own does not: options of the engine, a smaller optimizer, state on the
    host, another engine, adapters. Empty where a plan was found, and for what adapters cannot do. Methods are asked as
    long as seconds are `left`.
    """
    if outcome.status != "infeasible":
        return ()
    found = []
    for name, changes in _methods(outcome):
        if left() <= 0:
            break
        method = _tried(outcome, catalog, name, changes, progress, left)
        if method is None and _waits_on_the_host(outcome, changes):
            method = _on_a_larger_host(outcome, catalog, name, changes, progress, left)
        if method is not None:
            found.append(method)
    return tuple(found)


def _waits_on_the_host(outcome: Outcome, changes: Changes) -> bool:
    options = changes.get("engine_options")
    return isinstance(options, list) and any(name in options for name in to_the_host(outcome.question))


def _on_a_larger_host(
    outcome: Outcome,
    catalog: Catalog,
    name: str,
    changes: Changes,
    progress: Callable[[str], None],
    left: Callable[[], float],
) -> Method | None:
    """The method where it is the host's memory alone that it does not fit, with so much of it as it takes."""
    endless = _tried(outcome, catalog, name, {**changes, "limits.host_memory": False}, progress, left)
    if endless is None:
        return None
    gib = math.ceil(host_total_gib(endless.plan)[0])
    there = host_memory_gib(endless.plan.problem)
    text = f"{name}, with {gib} GiB of host memory a node" + (f" (of {there:.0f})" if there is not None else "")
    larger = {**changes, f"{machine_path(outcome.question.first)}.host_memory_gib": gib}
    return _tried(outcome, catalog, text, larger, progress, left)


def enough_gpus(
    outcome: Outcome,
    catalog: Catalog,
    progress: Callable[[str], None] = lambda text: None,
    left: Callable[[], float] = lambda: math.inf,
) -> tuple[Method, ...]:
    """The same training on more of these GPUs: the count is doubled until a layout fits, and that one is named; where
    it is critical, the next count too. Where the engine has none, those are asked that shard the weights, or cut layers
    and sequences as well.

    Empty where a plan was found, where none of the counts has one, and for pools of several kinds.
    """
    problem = outcome.question.first
    if outcome.status != "infeasible" or len(problem.scenario.cluster.pools or ()) > 1:
        return ()
    path, per_node, most = machine_path(problem), problem.node.gpus_per_node, max(machine_counts(problem))
    freed: Changes = {} if machines_of(problem).max_gpus is None else {f"{path}.max_gpus": None}
    if isinstance(problem.scenario.layout.data_parallel, int):
        freed["layout.data_parallel"] = "any"
    counts = [most * 2**i for i in range(1, MOST_DOUBLINGS + 1)]
    whole = [n for n in counts if (n % per_node == 0 and networked(problem) if n > per_node else per_node % n == 0)]
    for words, engine in _spreading(problem):
        found: list[Method] = []
        for count in whole:
            if left() <= 0:
                break
            changes = {**engine, **freed, f"{path}.num_gpus": count}
            method = _tried(outcome, catalog, f"{words}{count} GPUs", changes, progress, left)
            found += [method] if method is not None else []
            if found and (len(found) > 1 or not found[0].plan.critical):
                break
        if found or left() <= 0:
            return tuple(found)
    return ()


def _spreading(problem: Problem) -> Iterator[tuple[str, Changes]]:
    """Engines that more GPUs may help, with the words before their number: the scenario's own first."""
    scenario, engine = problem.scenario, problem.engine
    yield "", {}
    if _shards_nothing(problem):
        yield f"{FSDP}, on ", {"engine": SHARDING[scenario.adapter is not None]}
    if scenario.rl is None and scenario.adapter is None and not (engine.context_parallel or engine.tensor_parallel):
        yield f"{MEGATRON}, on ", {"engine": CUTTING}


def _shards_nothing(problem: Problem) -> bool:
    """True where each GPU of this engine holds all weights."""
    engine = problem.engine
    return problem.scenario.rl is None and not engine.tensor_parallel and 3 not in engine.zero_stages


def _tried(
    outcome: Outcome,
    catalog: Catalog,
    name: str,
    changes: Changes,
    progress: Callable[[str], None],
    left: Callable[[], float],
) -> Method | None:
    """The method, where it is one that can be asked for and a layout fits."""
    progress(f"would {name} fit?")
    try:
        question = question_of(override(outcome.question.document, changes), catalog)
        limit = min(question.scenario.search.time_limit_s, left())
        plan = search(question, check_points=0, time_limit_s=limit).plan
    except InputError:
        return None
    return None if plan is None else Method(name, tuple(changes.items()), plan)


def _methods(outcome: Outcome) -> Iterator[tuple[str, Changes]]:
    """What may be tried, what changes the training least first."""
    problem = outcome.question.first
    scenario, engine = problem.scenario, problem.engine
    for option in (*reduce_each(outcome.question), *to_the_host(outcome.question)):
        yield f"the option {option}", {"engine_options": [*scenario.engine_options, option]}
    if any(scored_by(scenario)):
        yield PRECOMPUTED, {"dpo": {"reference": "precomputed"}}
    if scenario.layout.optimizer_offload is False and engine.optimizer_offload:
        yield "the optimizer on the host", {"layout.optimizer_offload": True}
    if scenario.layout.activation_offload is False:
        yield "activations on the host", {"layout.activation_offload": True}
    if _shards_nothing(problem):
        yield FSDP, {"engine": SHARDING[scenario.adapter is not None]}
    plain = scenario.rl is None and scenario.adapter is None
    if plain and not (engine.context_parallel or engine.tensor_parallel) and max(machine_counts(problem)) > 1:
        yield MEGATRON, {"engine": CUTTING}
    if scenario.adapter is None:
        for name, optimizer in SMALLER:
            if can_name(engine, optimizer):
                yield name, {"optimizer": optimizer}
        if scenario.task in ("sft", DPO):
            for name, base in ADAPTERS:
                adapter = {"rank": RANK, "base_precision": base}
                yield name, {"adapter": adapter, "optimizer": "adamw-no-master"}
    elif scenario.adapter.base_precision != ADAPTERS[1][1]:
        yield ADAPTERS[1][0], {"adapter.base_precision": ADAPTERS[1][1]}
    has_fp8 = "fp8" in problem.generating.gpu.dense_tflops
    if scenario.rl is not None and scenario.rl.rollout.precision is None and has_fp8:
        yield "a rollout engine with weights in fp8", {"rl.rollout.precision": "fp8"}
    if scenario.rl is None:
        yield "DeepSpeed with its optimizer on the host", {"engine": "deepspeed", "layout.optimizer_offload": True}
