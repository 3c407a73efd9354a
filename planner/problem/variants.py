"""Decisions that change the cost of every layout: each combination of them is a problem of its own, searched together.

Degrees, micro-batches and layers are columns of one table. Kinds of machines, placement, precision, schedule, offload,
rank order and selective recomputation change the cost functions themselves, so each combination has its own table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from planner.schema.choices import IntRange
from planner.schema.engine import Engine
from planner.schema.rl_stack import Colocation
from planner.schema.scenario import Scenario

MOST_VARIANTS = 1024
IN_EXPERTS = {"moe_act", "shared_experts"}
"""Modules inside `moe`, the whole expert layer."""
"""Combinations that are searched together."""

USUAL_GROUPS: tuple[int | str, ...] = ("sqrt", 2, 4)
"""Layers recomputed together that are tried where a scenario says `any`."""
MOST_IN_A_GROUP = 16

USUAL = "usual"
"""The word for a field that is left out."""
Setting = tuple[str, str]
"""(dotted path in the scenario, value as one would write it)"""


@dataclass(frozen=True)
class Variant:
    """A scenario in which every decision of this page is taken."""

    settings: tuple[Setting, ...]
    """Those that were open."""
    scenario: Scenario


@dataclass(frozen=True)
class Decision:
    """A choice at a path of the scenario."""

    path: tuple[str, ...]
    options: Callable[[Scenario, Engine], Sequence[Any]]
    """Values to try, the plain one first; one value where nothing is open."""
    pin: Callable[[Scenario, Any], Scenario] | None = None
    """How a value is set, where it is more than one field."""

    def pinned(self, scenario: Scenario, value: Any) -> Scenario:
        """The scenario with this value."""
        return self.pin(scenario, value) if self.pin is not None else _with(scenario, self.path, value)


def variants(scenario: Scenario, engine: Engine) -> tuple[Variant, ...]:
    """Every combination of decisions that the scenario leaves open, the plain ones first.

    Raises ValueError for more than `MOST_VARIANTS` of them.
    """
    found = [Variant((), scenario)]
    for decision in DECISIONS:
        found = [more for variant in found for more in _taken(decision, variant, engine)]
        if len(found) > MOST_VARIANTS:
            raise ValueError(f"more than {MOST_VARIANTS} combinations of machines, precision, schedule and offload")
    return tuple(found)


def module_sets(modules: Sequence[str]) -> list[list[str]]:
    """Sets of modules to recompute out of these, smaller ones first.

    The whole expert layer beside a part of it frees nothing more and runs the part twice: such sets are left out.
    """
    sets = [list(some) for size in range(len(modules) + 1) for some in combinations(modules, size)]
    return [some for some in sets if "moe" not in some or not IN_EXPERTS & set(some)]


def with_modules(variant: Variant, modules: Sequence[str]) -> tuple[Variant, ...]:
    """The variant with each of `module_sets`.

    Raises ValueError for more than `MOST_VARIANTS` of them.
    """
    if 2 ** len(modules) > MOST_VARIANTS:
        raise ValueError(f"{len(modules)} modules to recompute make more than {MOST_VARIANTS} sets")
    sets = module_sets(modules)
    path = ("layout", "recompute_modules")
    named = [((".".join(path), ", ".join(some) or "none"),) if len(sets) > 1 else () for some in sets]
    return tuple(
        Variant((*variant.settings, *name), _with(variant.scenario, path, some))
        for name, some in zip(named, sets, strict=True)
    )


def open_settings(settings: Sequence[Sequence[Setting]]) -> tuple[str, ...]:
    """`path (value, value)` of each decision that these variants leave open."""
    values: dict[str, list[str]] = {}
    for path, value in (setting for variant in settings for setting in variant):
        values.setdefault(path, []).append(value)
    return tuple(f"{path} ({', '.join(dict.fromkeys(each))})" for path, each in values.items())


def _taken(decision: Decision, variant: Variant, engine: Engine) -> Iterator[Variant]:
    options = list(decision.options(variant.scenario, engine))
    for value in options:
        named = ((".".join(decision.path), _word(value)),) if len(options) > 1 else ()
        yield Variant((*variant.settings, *named), decision.pinned(variant.scenario, value))


def _with(record: Any, path: tuple[str, ...], value: Any) -> Any:
    """A frozen record with another value at a path."""
    first, *rest = path
    inner = _with(getattr(record, first), tuple(rest), value) if rest else value
    return record.model_copy(update={first: inner})


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, IntRange):
        ends = [f"at least {value.min}"] * (value.min is not None) + [f"at most {value.max}"] * (value.max is not None)
        return " and ".join(ends) or "any"
    return str(value) if value is not None else USUAL


def _pools(scenario: Scenario, engine: Engine) -> Sequence[Any]:
    return [pool.node for pool in scenario.cluster.pools or ()] or [scenario.cluster.node]


def on_pool(scenario: Scenario, node: str) -> Scenario:
    """The scenario on one of its pools; the list stays, for rollouts on another one."""
    pool = next((pool for pool in scenario.cluster.pools or () if pool.node == node), None)
    if pool is None:
        return scenario
    return scenario.model_copy(update={"cluster": scenario.cluster.model_copy(update=dict(pool))})


def _precisions(scenario: Scenario, engine: Engine) -> Sequence[str]:
    asked = scenario.precision
    return list(dict.fromkeys(asked)) if isinstance(asked, list) else [asked]


def _rank_orders(scenario: Scenario, engine: Engine) -> Sequence[str]:
    return _listed(scenario.cluster.rank_order, list(engine.rank_orders))


def _schedules(scenario: Scenario, engine: Engine) -> Sequence[str | None]:
    waits = engine.pipeline.zero_bubble is not None and scenario.adapter is None
    return _listed(scenario.layout.schedule, [None, *(["zb-h1"] if waits else [])])


def _sequence_parallel(scenario: Scenario, engine: Engine) -> Sequence[bool | None]:
    return _listed(scenario.layout.sequence_parallel, [True, False] if engine.sequence_parallel == "choice" else [None])


def _optimizer_offload(scenario: Scenario, engine: Engine) -> Sequence[bool]:
    return _listed(scenario.layout.optimizer_offload, [False, *([True] if engine.optimizer_offload else [])])


def _activation_offload(scenario: Scenario, engine: Engine) -> Sequence[bool]:
    offered = any(option.decides == "activation_offload" for option in engine.options.values())
    return _listed(scenario.layout.activation_offload, [False, *([True] if offered else [])])


def _recomputed_layers(scenario: Scenario, engine: Engine) -> Sequence[Any]:
    """No recomputed layer, some, or all, where a step's bubble or what waits on the host is another one for each."""
    layout = scenario.layout
    asked = layout.recomputed_layers
    alike = layout.schedule != "zb-h1" and layout.activation_offload is not True
    if alike or isinstance(asked, int) or asked == "all" or "full" not in engine.recompute.granularities:
        return [asked]
    if isinstance(asked, list):
        return [part for part in (0, [n for n in asked if n]) if part in asked or part not in (0, [])]
    least, most = (None, None) if asked == "any" else (asked.min, asked.max)
    none = [0] if not least and "none" in engine.recompute.granularities else []
    every = ["all"] if asked == "any" and layout.activation_offload is True else []
    return [*none, IntRange(min=max(1, least or 1), max=most), *every]


def _recompute_groups(scenario: Scenario, engine: Engine) -> Sequence[int | str]:
    """Sizes of groups of recomputed layers: where these may be open, the root of a chunk's layers and small powers."""
    asked = scenario.layout.recompute_group
    if isinstance(asked, IntRange):
        return range(asked.min or 1, min(asked.max or MOST_IN_A_GROUP, MOST_IN_A_GROUP) + 1)
    grouped = "uniform" in engine.recompute.methods and _may_group(scenario)
    return _listed(asked, [1, *(USUAL_GROUPS if grouped else [])])


def _may_group(scenario: Scenario) -> bool:
    """Whether nothing in the scenario stands against recomputing every layer by the uniform method."""
    layout = scenario.layout
    free = layout.recomputed_layers in ("any", "all") and not layout.recompute_modules
    return free and layout.recompute_method != "block"


def _grouped(scenario: Scenario, size: int | str) -> Scenario:
    """The scenario with this group; above 1 all layers are recomputed, by the uniform method."""
    update: dict[str, object] = {"recompute_group": size}
    if size != 1 and _may_group(scenario):
        update |= {"recomputed_layers": "all", "recompute_method": "uniform"}
    return scenario.model_copy(update={"layout": scenario.layout.model_copy(update=update)})


def _placements(scenario: Scenario, engine: Engine) -> Sequence[str | None]:
    if scenario.rl is None:
        return [None]
    usual = ["colocated"] if engine.colocation is not None else []
    if engine.separation is not None:
        usual += ["disaggregated", *(["asynchronous"] if engine.separation.asynchronous else [])]
    return _listed(scenario.rl.placement, usual or ["colocated"])


def _place(scenario: Scenario, name: str | None) -> Scenario:
    return scenario if name is None else _with(scenario, ("rl", "placement"), name)


def _rollout_nodes(scenario: Scenario, engine: Engine) -> Sequence[str | None]:
    pools = scenario.cluster.pools
    if scenario.rl is None or pools is None or scenario.rl.placement == "colocated":
        return [None]
    asked = scenario.rl.rollout.node
    return [asked] if asked is not None else [pool.node for pool in pools]


def _rollout_on(scenario: Scenario, node: str | None) -> Scenario:
    return scenario if node is None else _with(scenario, ("rl", "rollout", "node"), node)


def awake_together(scenario: Scenario) -> bool:
    """Whether trainer and rollout engine share GPUs, and part of one stays there while the other works."""
    rl = scenario.rl
    return rl is not None and rl.placement == "colocated" and (bool(rl.trainer_on_gpu) or not rl.rollout.sleeps)


def may_be_awake_together(scenario: Scenario, engine: Engine) -> bool:
    """Whether one of the placements left open has both awake on the same GPUs."""
    return any(awake_together(_place(scenario, name)) for name in _placements(scenario, engine))


def syncs_beside_weights(scenario: Scenario, engine: Engine) -> bool:
    """Whether a colocated trainer's own weights, as its layout holds them, lie beside those that wake."""
    rl = scenario.rl
    shared = rl is not None and "colocated" in _placements(scenario, engine)
    return shared and engine.colocation is not None and sends_from_gpu(scenario, engine.colocation)


def sends_from_gpu(scenario: Scenario, colocation: Colocation) -> bool:
    """Whether a stack's weights leave from the GPU: all of them, on some stacks the base of adapters alone."""
    where = colocation.trainer_on_gpu_during_sync
    return where is True or (where == "with adapters" and scenario.adapter is not None)


def _beside_the_trainer(field: str) -> Decision:
    """A choice of the rollout engine, which is one of each problem where what it takes is missing to the trainer."""
    path = ("rl", "rollout", field)
    by_layout = field == "tensor_parallel"

    def options(scenario: Scenario, engine: Engine) -> Sequence[object]:
        if scenario.rl is None:
            return [None]
        asked = getattr(scenario.rl.rollout, field)
        apart = awake_together(scenario) or (by_layout and syncs_beside_weights(scenario, engine))
        return list(dict.fromkeys(asked)) if isinstance(asked, list) and apart else [asked]

    def pin(scenario: Scenario, value: object) -> Scenario:
        return scenario if scenario.rl is None else _with(scenario, path, value)

    return Decision(path, options, pin)


def _later_stages(scenario: Scenario, engine: Engine) -> Sequence[str | None]:
    asked, own = scenario.layout.later_stages_on, scenario.cluster.node
    others = [pool.node for pool in scenario.cluster.pools or () if pool.node != own]
    if asked == "any":
        return [None, *(others if engine.pipeline.supported and scenario.rl is None else [])]
    return [asked] if asked is None or asked in others else []


def _listed(asked: Any, usual: list[Any]) -> Sequence[Any]:
    """Values that a scenario names, or what the engine offers where it says `any`."""
    if asked == "any":
        return usual
    return list(dict.fromkeys(asked)) if isinstance(asked, list) else [asked]


DECISIONS = (
    Decision(("cluster", "node"), _pools, on_pool),
    Decision(("layout", "later_stages_on"), _later_stages),
    Decision(("rl", "placement"), _placements, _place),
    Decision(("rl", "rollout", "node"), _rollout_nodes, _rollout_on),
    *map(_beside_the_trainer, ("tensor_parallel", "gpu_memory_utilization", "max_concurrency")),
    Decision(("cluster", "rank_order"), _rank_orders),
    Decision(("precision",), _precisions),
    Decision(("layout", "schedule"), _schedules),
    Decision(("layout", "sequence_parallel"), _sequence_parallel),
    Decision(("layout", "optimizer_offload"), _optimizer_offload),
    Decision(("layout", "activation_offload"), _activation_offload),
    Decision(("layout", "recompute_group"), _recompute_groups, _grouped),
    Decision(("layout", "recomputed_layers"), _recomputed_layers),
)
"""In this order, the last one varying fastest; later ones see what earlier ones set."""
