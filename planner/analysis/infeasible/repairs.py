"""Changes that make an infeasible scenario feasible, in playbook order, each solved again before it is named."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from planner.analysis.changes import less_headroom, machine_counts, machine_path, machines_of, networked, round_batch
from planner.analysis.infeasible.feasible import Checks
from planner.analysis.infeasible.limits import (
    LAYOUT_PINS,
    SMALL_BASE,
    SMALLER_OPTIMIZERS,
    Limit,
    gpus_text,
    overrides,
    shown,
)
from planner.analysis.infeasible.nearest import least_headroom_gib
from planner.analysis.whatif import compact
from planner.errors import InputError
from planner.inputs.document import Document, override
from planner.problem.defaults import roomier
from planner.problem.option_sets import reduce_each, to_the_host
from planner.problem.problem import Problem, Question, host_memory_gib
from planner.problem.stage_choices import wider_splits
from planner.schema.choices import IntWish, NameWish
from planner.schema.engine import can_name
from planner.search.plan import Plan
from planner.search.search import plan

Progress = Callable[[str], None]
Changes = tuple[tuple[str, Any], ...]
SHORTER = 16
"""A length is cut by whole sixteenths."""
GPU_TIMES = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""How many times the GPUs are tried."""
DEGREES = tuple(name for name in LAYOUT_PINS if name.endswith("_parallel"))


@dataclass(frozen=True)
class Repair:
    """A change that makes the scenario feasible, proved by solving it again."""

    text: str
    """What changes, with the numbers before and after."""
    changes: Changes
    plan: Plan

    @property
    def arguments(self) -> tuple[str, ...]:
        """The change as `--set` takes it."""
        return tuple(f"{path}={compact(value)}" for path, value in self.changes)


@dataclass(frozen=True)
class Attempt:
    """One value of a kind of change."""

    text: str
    changes: Changes


@dataclass(frozen=True)
class Kind:
    """One entry of the playbook: attempts from the least change to the largest."""

    attempts: tuple[Attempt, ...]
    rising: bool = True
    """A larger change fits wherever a smaller one does: the least is found by halving."""
    price: Literal["time", "work", "machines"] = "time"
    """What it costs: time alone, other data or another training too, or machines and safety."""


def find_repairs(
    document: Document,
    question: Question,
    every: Sequence[Limit],
    checks: Checks,
    *,
    most: int,
    progress: Progress,
) -> list[Repair]:
    """The cheapest change of each kind; where none alone helps, the cheapest of two kinds; else all that must go."""
    kinds = [kind for kind in playbook(question) if kind.attempts]
    found: list[tuple[Kind, Repair]] = []
    for kind in kinds:
        if len(found) >= most:
            break
        progress(f"would {kind.attempts[0].text} or more help?")
        repair = _cheapest(document, kind, (), checks)
        if repair is not None and not any(all(c in repair.changes for c in other.changes) for _, other in found):
            found.append((kind, repair))
    repairs = [repair for _, repair in found]
    for prices in (("time",), ("time", "work"), ("time", "work", "machines")):
        if any(kind.price in prices for kind, _ in found):
            break
        progress("would two changes together help?")
        two = _pair(document, [kind for kind in kinds if kind.price in prices], checks)
        if two is not None:
            repairs.insert(0, two)
            break
    return repairs or _all_that_must_go(document, every, checks)


def _pair(document: Document, kinds: Sequence[Kind], checks: Checks) -> Repair | None:
    """The first two kinds that help together, each by as little as it can."""
    for one, other in itertools.combinations(kinds, 2):
        for largest in {one.attempts[-1].changes, one.attempts[0].changes}:
            second = _least(document, other, largest, checks)
            if second is None:
                continue
            repair = _cheapest(document, one, second.changes, checks, f", and {second.text}")
            if repair is not None:
                return repair
    return None


def _least(document: Document, kind: Kind, beside: Changes, checks: Checks) -> Attempt | None:
    """The least change of a kind that fits."""
    return next(_fitting(document, kind, beside, checks), None)


def _fitting(document: Document, kind: Kind, beside: Changes, checks: Checks) -> Iterator[Attempt]:
    """Attempts that fit, the least change first."""
    attempts = kind.attempts

    def fits(index: int) -> bool:
        return checks.fits(document, dict((*attempts[index].changes, *beside)))

    first = 0
    if kind.rising and len(attempts) > 3:
        if not fits(len(attempts) - 1):
            return
        below, above = -1, len(attempts) - 1
        while above - below > 1:
            middle = (below + above) // 2
            below, above = (below, middle) if fits(middle) else (middle, above)
        first = above
    for index in range(first, len(attempts)):
        if fits(index):
            yield attempts[index]


def _cheapest(document: Document, kind: Kind, beside: Changes, checks: Checks, more: str = "") -> Repair | None:
    """The least change of a kind with which the scenario has a plan."""
    for attempt in _fitting(document, kind, beside, checks):
        changes = (*attempt.changes, *beside)
        try:
            found = plan(override(document, dict(changes)), checks.catalog, check_points=0).plan
        except InputError:
            continue
        if found is not None:
            return Repair(_granted(attempt, found) + more, changes, found)
    return None


def _granted(attempt: Attempt, found: Plan) -> str:
    """The attempt, with what the plan makes of a value left open."""
    if attempt.changes == (("layout.recomputed_layers", "any"),):
        counts = sorted(set(found.recomputed))
        text = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return f"{attempt.text} {text} of {max(found.layers)} layers a stage"
    return attempt.text


def _all_that_must_go(document: Document, every: Sequence[Limit], checks: Checks) -> list[Repair]:
    """A smallest set of limits to drop: starting from all, each is taken back that can be."""
    gone = list(every)
    for limit in every[::-1]:
        fewer = [other for other in gone if other is not limit]
        if checks.fits(document, overrides(fewer)):
            gone = fewer
    changes = tuple(overrides(gone).items())
    found = plan(override(document, dict(changes)), checks.catalog, check_points=0).plan
    return [Repair("drop " + " and ".join(limit.name for limit in gone), changes, found)] if found else []


def playbook(question: Question) -> Iterator[Kind]:
    """Kinds of change in playbook order, each from the least change to the largest."""
    problem = question.first
    yield Kind(tuple(Attempt(one.change, ((one.path, one.opened),)) for one in roomier(question)), rising=False)
    yield from _same_work(problem)
    on = problem.scenario.engine_options
    for name in reduce_each(question):
        yield Kind((Attempt("gradients reduced after each micro-batch", (("engine_options", (*on, name)),)),))
    for name in to_the_host(question):
        yield Kind((Attempt("shards of the weights to the host", (("engine_options", (*on, name)),)),))
    yield from _degrees(problem)
    yield from _rollout(problem)
    for kind in (*_shorter(problem), *_other_work(problem)):
        yield replace(kind, price="work")
    for kind in _machines(question):
        yield replace(kind, price="machines")


def _same_work(problem: Problem) -> Iterator[Kind]:
    """Recomputation, micro-batch, offload, ZeRO: nothing that the training sees."""
    scenario, layout = problem.scenario, problem.scenario.layout
    if layout.recomputed_layers not in ("any", "all"):
        asked = shown(layout.recomputed_layers)
        yield Kind((Attempt(f"recomputed_layers: {asked} to", (("layout.recomputed_layers", "any"),)),))
    if layout.recompute_method == "uniform":
        yield Kind((Attempt("recompute_method: uniform to block", (("layout.recompute_method", None),)),))
    micro = scenario.batch.micro_batch_size
    if micro != "any":
        least = micro if isinstance(micro, int) else min(micro) if isinstance(micro, list) else micro.min or 1
        smaller = [size for size in (least // 2**i for i in range(1, 12)) if size >= 1]
        if micro != 1:
            smaller = smaller or [1]
        text = f"micro_batch_size: {shown(micro)} to"
        yield Kind(tuple(Attempt(f"{text} {n}", (("batch.micro_batch_size", n),)) for n in smaller))
    if problem.engine.optimizer_offload and not layout.optimizer_offload and scenario.adapter is None:
        yield Kind((Attempt("optimizer state to the host", (("layout.optimizer_offload", True),)),))
    if scenario.rl is not None and scenario.rl.trainer_on_gpu:
        yield Kind((Attempt("trainer to the host while samples are generated", (("rl.trainer_on_gpu", []),)),))
    if scenario.rl is not None and not scenario.rl.rollout.sleeps:
        yield Kind((Attempt("rollout engine asleep while the trainer works", (("rl.rollout.sleeps", True),)),))
    if layout.optimizer_offload:
        yield Kind((Attempt("optimizer state back to the GPU", (("layout.optimizer_offload", False),)),))
    if isinstance(layout.zero_stage, int):
        stages = [s for s in sorted(problem.engine.zero_stages) if s > layout.zero_stage]
        stages += [s for s in sorted(problem.engine.zero_stages) if s < layout.zero_stage]
        text = f"zero_stage: {layout.zero_stage} to"
        yield Kind(tuple(Attempt(f"{text} {s}", (("layout.zero_stage", s),)) for s in stages), rising=False)


def _degrees(problem: Problem) -> Iterator[Kind]:
    """Pins of parallel degrees let go of: one, one with data_parallel, then all."""
    layout = problem.scenario.layout
    pinned = [name for name in DEGREES if getattr(layout, name) != "any"]
    groups: list[tuple[str, ...]] = [(name,) for name in pinned]
    if "data_parallel" in pinned:
        groups += [(name, "data_parallel") for name in pinned if name != "data_parallel"]
    if len(pinned) > 2 or (len(pinned) == 2 and "data_parallel" not in pinned):
        groups.append(tuple(pinned))
    attempts = []
    for group in groups:
        asked = ", ".join(f"{name} {shown(getattr(layout, name))}" for name in group)
        attempts.append(Attempt(f"free {asked}", tuple((f"layout.{name}", "any") for name in group)))
    yield Kind(tuple(attempts), rising=False)
    split = []
    if layout.virtual_pipeline not in (1, "any"):
        text = f"virtual_pipeline: {shown(layout.virtual_pipeline)} to any"
        split.append(Attempt(text, (("layout.virtual_pipeline", "any"),)))
    if layout.schedule == "interleaved":
        split.append(Attempt("schedule: interleaved to 1f1b", (("layout.schedule", "1f1b"),)))
    wider = wider_splits(problem)
    if wider is not None:
        text = f"layers_per_stage: {shown(layout.layers_per_stage)} to {wider}"
        split.insert(0, Attempt(text, (("layout.layers_per_stage", wider),)))
    if layout.sequence_parallel is False:
        split.append(Attempt("sequence_parallel: off to on", (("layout.sequence_parallel", True),)))
    yield Kind(tuple(split), rising=False)


def _rollout(problem: Problem) -> Iterator[Kind]:
    """Memory fraction and tensor parallelism of the rollout engine, the nearest values first."""
    rl, engine = problem.scenario.rl, problem.rollout_engine
    if rl is None or engine is None:
        return
    fraction, tensor = rl.rollout.gpu_memory_utilization, rl.rollout.tensor_parallel
    if fraction != "any":
        asked = fraction if isinstance(fraction, list) else [fraction]
        path = "rl.rollout.gpu_memory_utilization"
        near = sorted(engine.fractions, key=lambda f: (min(abs(f - a) for a in asked), f))
        text = f"gpu_memory_utilization: {shown(fraction)} to"
        yield Kind(tuple(Attempt(f"{text} {f:g}", ((path, f),)) for f in near if f not in asked), rising=False)
    if isinstance(tensor, int):
        legal = [t for t in range(1, problem.node.gpus_per_node + 1) if problem.node.gpus_per_node % t == 0]
        near = sorted(legal, key=lambda t: (abs(t - tensor), -t))
        text = f"rollout tensor_parallel: {tensor} to"
        attempts = [Attempt(f"{text} {t}", (("rl.rollout.tensor_parallel", int(t)),)) for t in near if t != tensor]
        yield Kind(tuple(attempts), rising=False)


def _shorter(problem: Problem) -> Iterator[Kind]:
    """Shorter sequences or responses, by sixteenths."""
    rl = problem.scenario.rl
    value = problem.scenario.batch.sequence_length if rl is None else rl.response_length
    path = "batch.sequence_length" if rl is None else "rl.response_length"
    tokens = min(value.allow) if isinstance(value, IntWish) else value or 0
    step = tokens // SHORTER
    if step >= 32 and tokens % SHORTER == 0:
        lengths = [step * i for i in range(SHORTER - 1, 0, -1)]
    else:
        lengths = [tokens // 2**i for i in range(1, 6) if tokens // 2**i >= 32]
    text = f"{path.split('.')[1]}: {tokens} to"
    yield Kind(tuple(Attempt(f"{text} {n} tokens", ((path, n),)) for n in lengths))


def _other_work(problem: Problem) -> Iterator[Kind]:
    """Another batch, optimizer or base precision: the training changes, its data do not."""
    scenario = problem.scenario
    rl = scenario.rl
    size: object = scenario.batch.global_batch_size if rl is None else rl.rollout_batch_size
    if isinstance(size, int):
        path = "batch.global_batch_size" if rl is None else "rl.rollout_batch_size"
        larger = round_batch(problem, size, 1 if rl is None else rl.steps_per_rollout)
        near = [larger // i for i in range(larger // size - 1, 0, -1) if larger % i == 0 and larger // i > size][:12]
        text = f"{path.split('.')[1]}: {size} to"
        yield Kind(tuple(Attempt(f"{text} {n}", ((path, n),)) for n in near), rising=False)
    if not isinstance(scenario.optimizer, NameWish) and scenario.adapter is None:
        others = [n for n in SMALLER_OPTIMIZERS if n != scenario.optimizer and can_name(problem.engine, n)]
        text = f"optimizer: {scenario.optimizer} to"
        yield Kind(tuple(Attempt(f"{text} {name}", (("optimizer", name),)) for name in others), rising=False)
    if scenario.adapter is not None and scenario.adapter.base_precision != SMALL_BASE:
        text = f"base_precision: {scenario.adapter.base_precision} to {SMALL_BASE}"
        yield Kind((Attempt(text, (("adapter.base_precision", SMALL_BASE),)),))


def _machines(question: Question) -> Iterator[Kind]:
    """More GPUs, larger ones, and limits that the scenario or the planner set."""
    problem = question.first
    scenario, per_node, most = problem.scenario, problem.node.gpus_per_node, max(machine_counts(problem))
    machines = machine_path(problem)
    counts = [most * times for times in GPU_TIMES]
    counts = [n for n in counts if n % per_node == 0 or (n < per_node and per_node % n == 0)]
    counts = [n for n in counts if n <= per_node or networked(problem)]
    from_max: Changes = () if machines_of(problem).max_gpus is None else ((f"{machines}.max_gpus", None),)
    of_pool = f" of {problem.node.id}" if scenario.cluster.pools is not None else ""
    text = f"{gpus_text(most)}{of_pool} to"
    attempts = [Attempt(f"{text} {n} GPUs", (*from_max, (f"{machines}.num_gpus", n))) for n in counts]
    if isinstance(scenario.layout.data_parallel, int):
        freed = (("layout.data_parallel", "any"),)
        copies = f"with data_parallel {scenario.layout.data_parallel} free"
        attempts += [Attempt(f"{each.text}, {copies}", (*each.changes, *freed)) for each in attempts]
    yield Kind(tuple(attempts), rising=False)
    least = least_headroom_gib(question)
    if least is not None:
        yield from _memory(problem, least)
    bounds = scenario.limits
    host = host_memory_gib(problem)
    if bounds.host_memory and host is not None:
        sizes = [host * times for times in (1.25, 1.5, 2, 3, 4, 6, 8)]
        text = f"host memory of a node: {host:.0f} to"
        yield Kind(tuple(Attempt(f"{text} {g:.0f} GiB", ((f"{machines}.host_memory_gib", g),)) for g in sizes))
    if bounds.tensor_parallel_inside_domain and problem.engine.tensor_parallel:
        text = "tensor-parallel groups may leave the NVLink domain"
        yield Kind((Attempt(text, (("limits.tensor_parallel_inside_domain", False),)),))
    sizes = [bounds.max_sequences_per_micro_batch * 2**i for i in range(1, 7)]
    text = f"max_sequences_per_micro_batch: {bounds.max_sequences_per_micro_batch} to"
    path = "limits.max_sequences_per_micro_batch"
    yield Kind(tuple(Attempt(f"{text} {n}", ((path, n),)) for n in sizes))


def _memory(problem: Problem, least_gib: float) -> Iterator[Kind]:
    """A larger GPU, then less headroom: exactly as much as the layout that needs least asks for."""
    missing = problem.headroom_gib - least_gib
    if missing <= 0:
        return
    usable = problem.usable_gib
    sizes = [usable + missing * times for times in (1.01, 1.15, 1.3, 1.6, 2.0, 3.0, 5.0)]
    text = f"a GPU with {usable:.1f} to"
    path = f"{machine_path(problem)}.usable_gib"
    attempts = [Attempt(f"{text} {g:.1f} GiB usable", ((path, round(g + 0.05, 1)),)) for g in sizes]
    yield Kind(tuple(attempts))
    if least_gib >= 0:
        spare = [*([round(least_gib - 0.05, 1)] if least_gib >= 0.1 else []), 0.0]
        text = f"headroom_gib: {problem.headroom_gib:.1f} to"
        yield Kind(tuple(Attempt(f"{text} {g:.1f} GiB", less_headroom(problem, g)) for g in spare), rising=False)
