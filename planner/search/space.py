"""Every legal combination of degrees, batch and wishes, as rows; for each row dropped, the rule that dropped it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from planner.costs.ledger import total
from planner.costs.memory.host import host_ledger
from planner.costs.micro_batches import packed_micro_batches
from planner.costs.rollout import RolloutCosts
from planner.errors import InputError, Mistake, Place
from planner.problem.alike import as_ruled
from planner.problem.choices import choose
from planner.problem.layouts import Layouts, Rollouts
from planner.problem.problem import Problem, Question, host_memory_gib
from planner.search.axes import context, data, expert, pipeline, recompute, tensor
from planner.search.axes.rule import Rule
from planner.search.deadline import NO_DEADLINE, Deadline
from planner.units import GIB

AXES = (tensor, pipeline, context, data, expert, recompute)
MAX_ROWS = 4_000_000
COLUMNS = (
    "num_gpus",
    "tensor_parallel",
    "pipeline_parallel",
    "virtual_pipeline",
    "context_parallel",
    "expert_parallel",
    "expert_tensor_parallel",
    "micro_batch_size",
    "max_tokens",
    "zero_stage",
    "wish",
)


@dataclass(frozen=True)
class Removed:
    """How many candidates one rule removed."""

    rule: str
    text: str
    count: int
    """0 where nobody counts them: values that a list of candidates does not have."""


@dataclass(frozen=True)
class Space:
    """Legal rows before anything is said about memory or time."""

    layouts: Layouts
    rollouts: Rollouts | None
    candidates: int
    """Combinations of degrees, micro-batch and wishes looked at, legal or not."""
    rollout_candidates: int
    removed: tuple[Removed, ...]
    whole: bool = True
    """False where the time was up before every variant was listed."""


LISTING = 0.3
"""Share of the time limit at which no further variant is listed."""


def build_space(question: Question, deadline: Deadline = NO_DEADLINE) -> Space:
    """List all rows of all variants and drop those that break a rule, each counted.

    Raises InputError when the scenario spans more combinations than can be listed.
    """
    parts: list[Space] = []
    grids: dict[Hashable, np.ndarray] = {}
    known: list[tuple[Problem, Space]] = []
    for index, variant in enumerate(question.problems):
        if parts and deadline.past(LISTING):
            break
        parts.append(_space_of(variant, index, grids, known))
    space, unlisted = _together(question, parts), len(question.problems) - len(parts)
    if not unlisted:
        return space
    text = "combinations of open decisions that the time limit left unlisted"
    return replace(space, removed=(*space.removed, Removed("not_listed", text, unlisted)), whole=False)


def _together(question: Question, parts: Sequence[Space]) -> Space:
    """One space of those of several variants."""
    refused = tuple(Removed("refused", f"{name}: {why}", 1) for name, why in question.refused)
    if len(parts) == 1:
        return replace(parts[0], removed=(*refused, *parts[0].removed))
    kept = sum(len(part.layouts) for part in parts)
    if kept > MAX_ROWS:
        raise _too_many(question.first)
    return Space(
        joined([part.layouts for part in parts]),
        joined([part.rollouts for part in parts]) if parts[0].rollouts is not None else None,
        sum(part.candidates for part in parts),
        sum(part.rollout_candidates for part in parts),
        (*refused, *merged([removed for part in parts for removed in part.removed])),
    )


def joined(parts: Sequence[Any]) -> Any:
    """Columns of several tables of one kind, one below the other."""
    first = parts[0]
    return replace(first, **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(first)})


def merged(removed: Sequence[Removed]) -> tuple[Removed, ...]:
    """Counts of the same rule added up."""
    counts: dict[tuple[str, str], int] = {}
    for each in removed:
        counts[each.rule, each.text] = counts.get((each.rule, each.text), 0) + each.count
    return tuple(Removed(rule, text, count) for (rule, text), count in counts.items())


def with_wish(space: Space, wish: int) -> Space:
    """The part of a space in which these wishes are granted."""
    rollouts = space.rollouts
    chosen = rollouts.take(rollouts.wish == wish) if rollouts is not None else None
    return replace(space, layouts=space.layouts.take(space.layouts.wish == wish), rollouts=chosen)


def _space_of(
    problem: Problem, variant: int, grids: dict[Hashable, np.ndarray], known: list[tuple[Problem, Space]]
) -> Space:
    """The space of one variant; `known` keeps the layouts of those that differ in their rollouts alone."""
    seen = as_ruled(problem)
    same = next((space for each, space in known if each == seen), None)
    if same is None:
        same = _layouts_of(problem, variant, grids)
        known.append((seen, same))
    removed = list(same.removed)
    layouts = replace(same.layouts, variant=np.full(len(same.layouts), variant, dtype=np.int64))
    rollouts = _rollouts(problem, variant)
    tried = len(rollouts) if rollouts is not None else 0
    if rollouts is not None:
        rollouts = _legal_rollouts(problem, rollouts, removed)
    return Space(layouts, rollouts, same.candidates, tried, tuple(removed))


def _layouts_of(problem: Problem, variant: int, grids: dict[Hashable, np.ndarray]) -> Space:
    """The legal layouts of one variant."""
    layouts = all_rows(problem, variant, grids)
    candidates = len(layouts)
    removed: list[Removed] = []
    for rule in rules_of(problem):
        keep = np.broadcast_to(rule.keeps(problem, layouts), (len(layouts),))
        if problem.later is not None:
            keep = keep & rule.keeps(problem.later, layouts)
        if not keep.all():
            removed.append(Removed(rule.name, rule.text, int((~keep).sum())))
            layouts = layouts.take(keep)
    return Space(layouts, None, candidates, 0, tuple(removed))


def rules_of(problem: Problem) -> list[Rule]:
    """Every rule that binds the layouts of one variant."""
    rules = [Rule("gpus_divide", "the degrees multiply to the GPU count", lambda _, lay: lay.data_parallel >= 1)]
    rules += [rule for axis in AXES for rule in axis.RULES]
    named = {rule.name: rule for axis in AXES for rule in axis.ENGINE_RULES}
    known = {rule.name for rule in rules} | set(named)
    mine = problem.engine.rules
    rules = [rule.of(problem.engine) if rule.by_engine or rule.name in mine else rule for rule in rules]
    for name in problem.engine.rules:
        if name not in known:
            raise InputError(
                Mistake(
                    f"engine {problem.engine.id} names an unknown rule {name!r}",
                    where=Place(f"engines/{problem.engine.id}.yaml"),
                    attempt=f"one of {sorted(known)}",
                )
            )
        if name in named:
            rules.append(named[name].of(problem.engine))
    if problem.scenario.limits.host_memory and problem.node.host_memory_gib is not None:
        rules.append(Rule("host_memory", "copies and offloaded state fit the host (limits.host_memory)", _host_fits))
    return rules


def _host_fits(problem: Problem, layouts: Layouts) -> np.ndarray:
    limit = host_memory_gib(problem)
    if limit is None or not len(layouts):
        return np.ones(len(layouts), dtype=bool)
    return np.asarray(total(host_ledger(problem, layouts)) <= limit * GIB)


def _too_many(problem: Problem) -> InputError:
    return InputError(
        Mistake(
            f"more than {MAX_ROWS} combinations of degrees, micro-batch and wishes",
            problem.place("layout"),
            "the scenario leaves too much open to list every candidate",
            "give lists or ranges, for instance layout.context_parallel: [1, 2, 4]",
        )
    )


def all_rows(problem: Problem, variant: int, known: dict[Hashable, np.ndarray] | None = None) -> Layouts:
    """Every combination of degrees, micro-batch and wishes of one variant, legal or not.

    `known` keeps grids: most variants of a question have the same one.
    """
    batches = [_global_batch(problem, index) for index in range(len(problem.wishes))]
    axes = _axes(problem, batches)
    grids = known if known is not None else {}
    if axes not in grids:
        grids[axes] = _grid(problem, axes)
    column = dict(zip(COLUMNS, grids[axes], strict=True))
    world = column["tensor_parallel"] * column["pipeline_parallel"] * column["context_parallel"]
    dp = np.where(column["num_gpus"] % world == 0, column["num_gpus"] // world, 0)
    wishes = problem.wishes
    batch_size = np.array(batches, dtype=np.int64)[column["wish"]]
    cut = np.maximum(dp * column["micro_batch_size"], 1)
    micro_batches = np.where((dp > 0) & (batch_size % cut == 0), batch_size // cut, 0)
    if np.any(column["max_tokens"]):
        counted = packed_micro_batches(problem, {**column, "data_parallel": dp, "global_batch_size": batch_size})
        micro_batches = np.where(column["max_tokens"] > 0, counted, micro_batches)
    by_wish = {
        name: np.array([getattr(w, name) for w in wishes], dtype=np.int64)[column["wish"]]
        for name in ("sequence_length", "mean_sequence_length", "optimizer")
    }
    return Layouts(
        **column,
        data_parallel=dp,
        num_micro_batches=micro_batches,
        global_batch_size=batch_size,
        sequence_parallel=_sequence_parallel(problem, column["tensor_parallel"]),
        variant=np.full(len(dp), variant, dtype=np.int64),
        **by_wish,
    )


_Axes = tuple[tuple[int, int, tuple[tuple[int, ...] | tuple[tuple[int, int], ...], ...]], ...]
"""(GPUs, wish, values of each axis), for each GPU count and wish."""


def _axes(problem: Problem, batches: Sequence[int]) -> _Axes:
    """What is crossed: (tensor, expert tensor), stages, chunks, context, experts, micro-batches, ZeRO stages."""
    virtual, zero = tuple(pipeline.virtual_candidates(problem)), tuple(data.zero_candidates(problem))
    micro = [tuple(data.micro_batch_candidates(problem, batch, index)) for index, batch in enumerate(batches)]
    found = []
    for gpus in problem.num_gpus:
        pairs = tuple(itertools.product(tensor.candidates(problem, gpus), expert.tensor_candidates(problem, gpus)))
        stages, cuts = tuple(pipeline.candidates(problem, gpus)), tuple(context.candidates(problem, gpus))
        experts = tuple(expert.candidates(problem, gpus))
        for index, sizes in enumerate(micro):
            found.append((gpus, index, (pairs, stages, virtual, cuts, experts, sizes, zero)))
    return tuple(found)


def _grid(problem: Problem, axes: _Axes) -> np.ndarray:
    """All combinations, shape [columns, rows]: whole columns lie together in memory."""
    parts: list[np.ndarray] = []
    for gpus, index, (pairs, stages, virtual, cuts, experts, sizes, zero) in axes:
        lists = (range(len(pairs)), stages, virtual, cuts, experts, range(len(sizes)), zero)
        if sum(part.shape[1] for part in parts) + math.prod(map(len, lists)) > MAX_ROWS:
            raise _too_many(problem)
        crossed = np.meshgrid(*(np.array(each, dtype=np.int64) for each in lists), indexing="ij")
        pick, pp, vp, cp, ep, chosen, zs = (grid.ravel() for grid in crossed)
        mbs, most = np.array(sizes, dtype=np.int64).reshape(-1, 2)[chosen].T
        tp, etp = np.array(pairs, dtype=np.int64).reshape(-1, 2)[pick].T
        same = np.ones_like(pp)
        parts.append(np.stack([gpus * same, tp, pp, vp, cp, ep, etp, mbs, most, zs, index * same]))
    return np.concatenate(parts, axis=1)


def _sequence_parallel(problem: Problem, tensor_parallel: np.ndarray) -> np.ndarray:
    """On wherever the engine has it and tensor parallelism is used, unless the scenario turns it off."""
    offered = problem.engine.sequence_parallel
    asked = problem.scenario.layout.sequence_parallel
    on = offered == "always" or (offered == "choice" and asked is not False)
    return ((tensor_parallel > 1) & on).astype(np.int64)


def _global_batch(problem: Problem, wish: int) -> int:
    rl = problem.scenario.rl
    if rl is None:
        return problem.scenario.batch.global_batch_size or 1
    return max(1, problem.wishes[wish].samples // rl.steps_per_rollout)


def _rollouts(problem: Problem, variant: int) -> Rollouts | None:
    rl, engine = problem.scenario.rl, problem.rollout_engine
    if rl is None or engine is None:
        return None
    asked = rl.rollout.gpu_memory_utilization
    fractions = engine.fractions if asked == "any" else asked if isinstance(asked, list) else [asked]
    most, powers = [engine.max_concurrency], [2**k for k in range(engine.max_concurrency.bit_length())]
    if rl.rollout.max_concurrency is not None:
        most = choose(rl.rollout.max_concurrency, sorted({*powers, engine.max_concurrency}))
    rows = []
    for training, gpus in problem.splits or [(count, count) for count in problem.num_gpus]:
        usual = [d for d in range(1, gpus + 1) if gpus % d == 0]
        grid = itertools.product(
            choose(rl.rollout.tensor_parallel, usual),
            sorted({float(f) for f in fractions}),
            range(len(problem.wishes)),
            sorted(set(most), reverse=True),
        )
        rows += [(gpus, wish, tp, share, at_once, training, variant) for tp, share, wish, at_once in grid]
    columns = [np.array(c) for c in zip(*rows, strict=True)] if rows else [np.zeros(0, dtype=np.int64)] * 7
    return Rollouts(*columns)


def _legal_rollouts(problem: Problem, rollouts: Rollouts, removed: list[Removed]) -> Rollouts:
    a, tp = problem.architecture, rollouts.tensor_parallel
    per_node = problem.generating.node.gpus_per_node
    rl = problem.scenario.rl
    asked = rl is not None and rl.rollout.tensor_parallel != "any"
    rules = [
        (
            "rollout_tensor_parallel",
            "rollout tensor_parallel divides the GPUs and the heads, and stays inside a node (or asks for whole nodes)",
            (rollouts.num_gpus % tp == 0)
            & (a.num_attention_heads % tp == 0)
            & ((tp <= per_node) | (asked & (tp % per_node == 0))),
        ),
    ]
    for name, text, keep in rules:
        if not keep.all():
            removed.append(Removed(name, text, int((~keep).sum())))
        rollouts = rollouts.take(keep)
    fits = RolloutCosts(problem.generating, rollouts).longest_fits > 0
    if not fits.all():
        text = "the key-value pool holds the longest request"
        removed.append(Removed("rollout_pool", text, int((~fits).sum())))
    return rollouts.take(fits)
