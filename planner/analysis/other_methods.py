"""Where nothing fits: other methods of training the same network on the same GPUs, each solved before it is named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from planner.analysis.whatif import compact
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.option_sets import to_the_host
from planner.problem.resolve import question_of
from planner.schema.engine import can_name
from planner.search.plan import Plan
from planner.search.search import Outcome, search

Changes = dict[str, object]
SMALLER = (("an 8-bit optimizer", "adamw-8bit"), ("a paged 8-bit optimizer", "paged-adamw-8bit"))
ADAPTERS = (("LoRA", "bf16"), ("QLoRA", "nf4"))
SHARDING = ("fsdp2", "fsdp1")
"""Engine that shards weights: of full training, and the one with published runs of adapters."""
RANK = 16


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
    host, adapters, another engine. Empty where a plan was found, and for what adapters cannot do. Methods are asked as
    long as seconds are `left`.
    """
    if outcome.status != "infeasible":
        return ()
    found = []
    for name, changes in _methods(outcome):
        if left() <= 0:
            break
        progress(f"would {name} fit?")
        try:
            question = question_of(override(outcome.question.document, changes), catalog)
            limit = min(question.scenario.search.time_limit_s, left())
            plan = search(question, check_points=0, time_limit_s=limit).plan
        except InputError:
            continue
        if plan is not None:
            found.append(Method(name, tuple(changes.items()), plan))
    return tuple(found)


def _methods(outcome: Outcome) -> Iterator[tuple[str, Changes]]:
    """What may be tried, what changes the training least first."""
    problem = outcome.question.first
    scenario, engine = problem.scenario, problem.engine
    for option in to_the_host(outcome.question):
        yield f"the option {option}", {"engine_options": [*scenario.engine_options, option]}
    if scenario.layout.optimizer_offload is False and engine.optimizer_offload:
        yield "the optimizer on the host", {"layout.optimizer_offload": True}
    if scenario.layout.activation_offload is False:
        yield "activations on the host", {"layout.activation_offload": True}
    if scenario.rl is None and not engine.tensor_parallel and 3 not in engine.zero_stages:
        yield "FSDP, which shards weights", {"engine": SHARDING[scenario.adapter is not None]}
    if scenario.adapter is None:
        for name, optimizer in SMALLER:
            if can_name(engine, optimizer):
                yield name, {"optimizer": optimizer}
        if scenario.task == "sft":
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
