"""What would make a plan safe that is not: the fastest layout with room enough, asked for once more.

The question is the scenario's own with more headroom demanded, and with each of a few decisions that cost no results
left open alone: options of the engine and offloads that free memory at the plan's layout, and values that the scenario
pins. How much room is enough is told by the plan: what its engine's published runs showed to be enough, or what its own
least certain phase needs to fit with the chance that is called safe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from planner.analysis.changes import less_headroom
from planner.analysis.option_gains import option_gains, with_options
from planner.analysis.pins import setting_value, stands
from planner.analysis.whatif import compact
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.inputs.memory_spread import spike_fraction
from planner.problem.defaults import held
from planner.problem.option_sets import OPTIONS
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.search.plan import SAFE_CHANCE, Plan, verdict
from planner.search.search import search

OFFLOADS = ("layout.optimizer_offload", "layout.activation_offload")
PINS = (
    *("batch.micro_batch_size", "batch.max_tokens_per_gpu", "layout.recomputed_layers"),
    "rl.rollout.gpu_memory_utilization",
)
"""Values that a scenario may pin and that leave the training as it is; they are freed towards less memory."""
UTILIZATION_STEPS = 20
"""Shares of the card that a rollout engine may be told to take are tried in so many steps."""
MOST_OPTIONS = 3
"""Options of the engine that are left open, those that free most at the plan's layout."""
LEAST_GIB = 0.05
"""Less than this is no room. [GiB]"""
HALVINGS = 40


@dataclass(frozen=True)
class Safer:
    """The fastest layout that is safe, where the plan is not."""

    headroom_gib: float
    """What was demanded of every layout. [GiB]"""
    opened: tuple[str, ...]
    """Decisions that were left open beside the layout, each alone, in words."""
    plan: Plan | None
    """None where no layout with one of them leaves so much free, or time was up."""
    proved: bool
    """That no faster one, or none at all, leaves so much free."""
    changes: tuple[tuple[str, object], ...] = ()
    """What was opened, as the plan has it."""
    options: tuple[str, ...] = ()
    """The option of the engine among it."""
    freed: tuple[str, ...] = ()
    """Pinned values that were free beside each of them, in words."""

    @property
    def arguments(self) -> tuple[str, ...]:
        """The plan's question as `--set` takes it."""
        asked = (("limits.headroom_gib", self.headroom_gib), *self.changes)
        return tuple(f"{path}={compact(value)}" for path, value in asked)

    @property
    def taken(self) -> tuple[str, ...]:
        """What was opened and taken, each in a word or two."""
        turned = (f"{path.rpartition('.')[2]} {value}" for path, value in self.changes if path != OPTIONS)
        return (*self.options, *(text.removesuffix(" True") for text in turned))

    def throughput_change(self, base: Plan) -> float | None:
        """Relative change of tokens a second."""
        return None if self.plan is None else self.plan.tokens_per_second / base.tokens_per_second - 1


def safer(base: Plan, catalog: Catalog, *, time_limit_s: float = math.inf) -> Safer | None:
    """Ask for the fastest layout that is safe; None where the plan is, or there is nothing to try."""
    if verdict(base) == "safe":
        return None
    headroom_gib, pins = enough_gib(base), [path for path in PINS if _pinned(base.problem.document, path)]
    found = _asked(base, catalog, headroom_gib, pins, ([], []), time_limit_s) if pins else None
    if found is None or found.plan is None:
        offloads = [one.path for one in held(base.problem.alone) if one.path in OFFLOADS]
        found = _asked(base, catalog, headroom_gib, pins, (_options(base, catalog), offloads), time_limit_s) or found
    return found


def _asked(
    base: Plan,
    catalog: Catalog,
    headroom_gib: float,
    pins: list[str],
    opened: tuple[list[str], list[str]],
    time_limit_s: float,
    *,
    again: bool = True,
) -> Safer | None:
    """The question with these pins freed and one of the options and offloads at most; None where nothing is left.

    Where the layout found is less certain than the plan, it is asked `again` with the room that one needs.
    """
    options, offloads = opened
    document, limits = base.problem.document, dict(less_headroom(base.problem, headroom_gib))
    changes = limits | {"search.near_tie": 0} | {path: _downwards(path, stands(document, path)) for path in pins}
    changes |= dict.fromkeys(offloads, "any") | ({"options_to_try": [*_tried(base), *options]} if options else {})
    try:
        question = question_of(override(document, changes), catalog)
    except InputError:
        return None
    paths = [*(f"{OPTIONS}.{name}" for name in options), *offloads]
    plain = dict(question.first.settings)
    at_edge = base.usual_gib > base.demanded_gib
    counts = (1,) if at_edge and (paths or not pins) else (0, 1)
    kept = tuple(one for one in question.problems if len(_turned(one, paths, plain)) in counts)
    if not kept:
        return None
    limit = min(question.scenario.search.time_limit_s, time_limit_s)
    outcome = search(Question(kept, question.refused), check_points=0, time_limit_s=limit, soften=False)
    words, freed = (tuple(path.rpartition(".")[2] for path in some) for some in (paths, pins))
    proved, plan = outcome.status in ("optimal", "infeasible") or outcome.proof.throughput_proved, outcome.plan
    if plan is not None and verdict(plan) == "likely" and again and (more := enough_gib(plan)) > headroom_gib:
        return _asked(base, catalog, more, pins, opened, time_limit_s, again=False)
    if plan is None or plan.wish.given_up != base.wish.given_up or verdict(plan) != "safe":
        return Safer(headroom_gib, words, None, proved and plan is None, freed=freed)
    turned = _turned(plan.problem, paths, plain)
    on = tuple(path.removeprefix(f"{OPTIONS}.") for path in turned if path.startswith(f"{OPTIONS}."))
    taken = (*_settings(plan, turned, on), *_values(plan, pins, document))
    return Safer(headroom_gib, words, plan, proved, taken, on, freed)


def enough_gib(base: Plan) -> float:
    """Headroom with which a plan like this one is called safe, in tenths. [GiB]"""
    usual, engine = base.usual_gib, base.problem.engine
    enough = [_by_chance(base)]
    if not engine.headroom_standing:
        enough.append(base.usable_gib * engine.default_headroom_fraction)
    return math.ceil(max(usual, min(enough)) * 10 - 1e-6) / 10


def _by_chance(base: Plan) -> float:
    """Headroom with which the phase that is least sure to fit does so with SAFE_CHANCE. [GiB]"""
    spread = base.problem.known_errors.memory
    if spread is None:
        return base.usable_gib
    most = 0.0
    for phase in base.memory:
        usable = base.machines(phase).usable_gib
        limit, low, high = (1 - spike_fraction(base.machines(phase).engine)) * usable, 0.0, usable
        given = min(phase.assumed_gib, usable), phase.set_aside_gib
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            room = max(usable - middle, given[1] + LEAST_GIB)
            low, high = (low, middle) if spread.fit_probability(room, limit, *given) >= SAFE_CHANCE else (middle, high)
        if spread.fit_probability(phase.wanted_gib, limit, *given) < SAFE_CHANCE:
            most = max(most, high)
    return most


def _tried(base: Plan) -> list[str]:
    """Options that the scenario leaves to the search by name."""
    asked = stands(base.problem.document, "options_to_try")
    return [str(name) for name in asked] if isinstance(asked, list) else []


def _options(base: Plan, catalog: Catalog) -> list[str]:
    """Options that are off, leave results as they are, need no other option gone, and free memory here."""
    if stands(base.problem.document, "options_to_try") == "any":
        return []
    names = _that_free(base, catalog)[:MOST_OPTIONS]
    apart = _accumulating(base, catalog)
    names += [name for name in (_that_free(apart, catalog) if apart else ()) if name not in names][:MOST_OPTIONS]
    return names


def _that_free(plan: Plan, catalog: Catalog) -> list[str]:
    """Options that may be turned on and free memory at this layout, those that free most first."""
    tried = _tried(plan)
    gains = [
        gain
        for gain in option_gains(plan, catalog)
        if not (gain.is_on or gain.changes_numbers or gain.refused or gain.others_off)
        and (gain.free_gib or 0.0) > LEAST_GIB
        and gain.name not in tried
    ]
    gains.sort(key=lambda gain: -(gain.free_gib or 0.0))
    return [gain.name for gain in gains]


def _accumulating(base: Plan, catalog: Catalog) -> Plan | None:
    """The layout with its only micro-batch cut into single sequences, where what keeps no sums of gradients tells."""
    size = base.layout["micro_batch_size"]
    if base.layout["num_micro_batches"] > 1 or size == 1:
        return None
    cut = replace(base, layout=base.layout | {"micro_batch_size": 1, "num_micro_batches": size})
    return with_options(cut, tuple(base.problem.scenario.engine_options), catalog)[0]


def _pinned(document: Document, path: str) -> bool:
    """Is there a number, and one that can take less memory."""
    value = stands(document, path)
    least = 1 if path == "batch.micro_batch_size" else None
    return isinstance(value, int | float) and not isinstance(value, bool) and value != least


def _downwards(path: str, value: object) -> object:
    """The pinned value and those that take less memory, as a scenario says them."""
    assert isinstance(value, int | float)
    if path == "rl.rollout.gpu_memory_utilization":
        lower = (step / UTILIZATION_STEPS for step in range(1, UTILIZATION_STEPS))
        return [*(share for share in lower if share < value), value]
    if path == "layout.recomputed_layers":
        return {"min": value} if value else "any"
    return {"max": value}


def _turned(problem: Problem, opened: list[str], plain: dict[str, str]) -> list[str]:
    """Which of the opened decisions are not as the plain variant has them."""
    return [path for path, value in problem.settings if path in opened and value != plain[path]]


def _settings(plan: Plan, turned: list[str], on: tuple[str, ...]) -> tuple[tuple[str, object], ...]:
    """The opened decision that the plan took, as the scenario says it."""
    before = stands(plan.problem.document, OPTIONS)
    asked = [*(before if isinstance(before, list) else ()), *on]
    rest = [setting for setting in plan.problem.settings if setting[0] in turned and setting[0] in OFFLOADS]
    return (*(((OPTIONS, asked),) if on else ()), *((path, setting_value((path, value))) for path, value in rest))


def _values(plan: Plan, pins: list[str], document: Document) -> tuple[tuple[str, object], ...]:
    """Pinned values that the plan has otherwise."""
    rollout = plan.rollout
    now: dict[str, object] = {
        "batch.micro_batch_size": plan.layout["micro_batch_size"],
        "batch.max_tokens_per_gpu": plan.layout["max_tokens"],
        "layout.recomputed_layers": max(plan.recomputed),
        "rl.rollout.gpu_memory_utilization": None if rollout is None else rollout.gpu_memory_utilization,
    }
    return tuple((path, now[path]) for path in pins if now[path] != stands(document, path))
