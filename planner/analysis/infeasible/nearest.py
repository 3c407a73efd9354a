"""What comes nearest where nothing fits: the least-memory legal layout, and the largest headroom that is feasible."""

from __future__ import annotations

import math
from dataclasses import dataclass

from planner.analysis.changes import less_headroom
from planner.analysis.infeasible.host import RULE as HOST
from planner.analysis.infeasible.host import host_sentence
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.defaults import held, held_text
from planner.problem.problem import Question
from planner.problem.stage_choices import is_free
from planner.search.least_memory import least_memory
from planner.search.plan import PHASES, Plan, degrees, spare
from planner.search.search import Outcome, plan
from planner.search.space import build_space
from planner.search.untried import ROLLOUT_DEGREES, untried

LIVE = "Counted is what cannot be given back: tensors, and what lies outside the allocator; no allocator's reserve."
WITH_RESERVE = "The allocator's estimated reserve is counted: it gives nothing back before the card is full."


@dataclass(frozen=True)
class Nearest:
    """The nearest thing that would fit."""

    sentences: tuple[str, ...]
    plan: Plan | None
    """The layout that needs least memory, whether it fits or not."""
    feasible_headroom_gib: float | None
    """Largest limits.headroom_gib, to 0.1 GiB, with which a solved plan exists."""


def nearest(outcome: Outcome, catalog: Catalog, *, time_limit_s: float | None = None) -> Nearest:
    """Say what an infeasible problem lacks. Anything it suggests has been solved, in so many seconds at most."""
    question = outcome.question
    space = build_space(question)
    if not len(space.layouts) or (space.rollouts is not None and not len(space.rollouts)):
        what, of_rollout = ("rollout engine", True) if len(space.layouts) else ("layout", False)
        reasons = [r for r in space.removed if r.rule.startswith("rollout") == of_rollout]
        reasons.sort(key=lambda r: -r.count)
        host = host_sentence(question, catalog) if any(r.rule == HOST for r in reasons[:3]) else None
        said = tuple(f"No {what} is legal: {_count(r.count)} {r.rule} ({r.text})." for r in reasons[:3])
        kept = [e for e in untried(question) if ROLLOUT_DEGREES in e.text] if of_rollout else []
        missing = tuple(f"Not tried: {entry.text}." for entry in kept)
        return Nearest((*((host,) if host is not None else ()), *said, *missing), None, None)
    least = least_memory(question, space)
    if least is None:
        return Nearest(("No layout and rollout engine use the same GPUs and wishes.",), None, None)
    worst = least.tightest
    needed = least.counted_gib(worst)
    counted = WITH_RESERVE if needed > worst.live.total_gib else LIVE
    usable, demanded = least.machines(worst).usable_gib, least.machines(worst).headroom_gib
    items = sorted(worst.items, key=lambda item: -item.amount)[:3]
    largest = ", ".join(f"{item.name} {item.amount:.1f}" for item in items)
    where = f"stage {worst.stage}, {PHASES[worst.phase]}" if worst.stage is not None else PHASES[worst.phase]
    lay = least.layout
    stages = " with stages as even as they get" if lay["pipeline_parallel"] > 1 and is_free(question.first) else ""
    said = (
        f"The layout{stages} that needs least ({_gpus(lay['num_gpus'])}, {degrees(lay)}, micro-batch "
        f"{lay['micro_batch_size']}, {max(least.recomputed)} of {max(least.layers)} layers recomputed) needs "
        f"{needed:.1f} GiB of {usable - demanded:.1f} ({usable:.1f} usable less "
        f"{demanded:.1f} headroom): {needed - usable + demanded:.1f} GiB too much. {counted}",
        f"It is fullest in {where}: {largest} GiB.",
    )
    headroom = max(0.0, math.floor(least.room_gib * 10) / 10)
    if least.live_room_gib < 0 or (headroom == 0 and not demanded):
        missing = tuple(f"Not tried: {entry.text}." for entry in untried(question))
        beside = held_text(held(question))
        missing += (f"Held at defaults: {beside}.",) if beside is not None else ()
        refused = "It does not fit even where no memory is kept free."
        return Nearest((*said, refused, *missing), least, None)
    less = dict(less_headroom(question.first, headroom))
    again = plan(override(question.document, less), catalog, check_points=0, time_limit_s=time_limit_s)
    if again.plan is None:
        return Nearest(said, least, None)
    changed = ", ".join(f"{path}: {str(value).lower() if value is False else value}" for path, value in less.items())
    fits = f"{changed} fits (solved: {spare(again.plan)}, {again.plan.step_seconds:.1f} s a step)."
    return Nearest((*said, fits), least, headroom)


def least_headroom_gib(question: Question) -> float | None:
    """What the layout that needs least memory leaves free, below zero where it does not fit; None without one. [GiB]

    0 where it fits and its allocator's estimated reserve does not.
    """
    space = build_space(question)
    if not len(space.layouts) or (space.rollouts is not None and not len(space.rollouts)):
        return None
    least = least_memory(question, space)
    if least is None:
        return None
    return least.room_gib if least.live_room_gib < 0 else max(0.0, least.room_gib)


def _count(count: int) -> str:
    return "one candidate breaks" if count == 1 else f"{count:,} candidates break"


def _gpus(count: int) -> str:
    return "one GPU" if count == 1 else f"{count} GPUs"
