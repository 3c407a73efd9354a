"""What each option of the engine would do to a plan: its layout costed again with the option the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.layouts import Layouts, Rollouts
from planner.problem.option_sets import OPTIONS, chosen_options, options_off
from planner.problem.problem import Problem, Question
from planner.problem.resolve import question_of
from planner.schema.engine import Engine
from planner.search.plan import Plan, make_plan
from planner.search.search import Outcome
from planner.search.space import rules_of


@dataclass(frozen=True)
class OptionGain:
    """One option turned the other way round, all else of the plan as it is."""

    name: str
    text: str
    """What it does."""
    is_on: bool
    """In the plan."""
    changes_numbers: bool
    """It changes what is computed, so that the search tries it only where the scenario names it."""
    others_off: tuple[str, ...]
    """Options of the plan that cannot be on beside it."""
    throughput_change: float | None
    """Of the plan with it against the plan without it, positive where the option is faster; None where refused."""
    free_gib: float | None
    """GiB more that stay free with it."""
    refused: str = ""
    """The rule or the reason that stands against it at this layout."""


def option_gains(plan: Plan, catalog: Catalog) -> tuple[OptionGain, ...]:
    """Options that are choices, would do something here, and are off or were chosen; those that gain most first.

    Layers, recomputation and degrees are those of the plan: the search may find more where it is told to try them.
    """
    problem = plan.problem
    engine: Engine = catalog.find("engines", problem.engine.id)
    found = [_gain(plan, engine, catalog, *each) for each in _turned(problem, engine)]
    return tuple(sorted(found, key=lambda gain: (gain.throughput_change is None, -(gain.throughput_change or 0.0))))


def opened_options(outcome: Outcome, catalog: Catalog) -> tuple[OptionGain, ...]:
    """The same where the scenario leaves some to the search; nothing where it leaves none."""
    opened = any(path.startswith(OPTIONS) for variant in outcome.question.problems for path, _ in variant.settings)
    return option_gains(outcome.plan, catalog) if opened and outcome.plan is not None else ()


def _turned(problem: Problem, engine: Engine) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(option, what is on once it is turned the other way round)."""
    scenario = problem.scenario
    for name in chosen_options(problem.settings):
        yield name, tuple(other for other in scenario.engine_options if other != name)
    yield from options_off(scenario, engine, problem.architecture, problem.precision)


def _gain(plan: Plan, engine: Engine, catalog: Catalog, name: str, on: tuple[str, ...]) -> OptionGain:
    option, before = engine.options[name], plan.problem.scenario.engine_options
    is_on = name in before
    dropped = () if is_on else tuple(other for other in before if other not in on)
    other, refused = with_options(plan, on, catalog)
    faster = free = None
    if other is not None:
        with_it, without = (plan, other) if is_on else (other, plan)
        faster = with_it.tokens_per_second / without.tokens_per_second - 1
        free = with_it.headroom_gib - without.headroom_gib
    return OptionGain(name, option.text, is_on, option.choice == "numbers", dropped, faster, free, refused)


def with_options(plan: Plan, on: tuple[str, ...], catalog: Catalog) -> tuple[Plan | None, str]:
    """(the layout of `plan` with these options on, why there is none)."""
    problem = plan.problem
    try:
        question = question_of(override(problem.document, {OPTIONS: list(on), "options_to_try": []}), catalog)
    except InputError as error:
        return None, "; ".join(mistake.what for mistake in error.problems)
    settings = [setting for setting in problem.settings if not setting[0].startswith(OPTIONS)]
    wanted = [i for i, variant in enumerate(question.problems) if set(settings) <= set(variant.settings)]
    if len(wanted) != 1:
        return None, "; ".join(why for _, why in question.refused) or "its variant is not one of the scenario's"
    layout = plan.layout | {"variant": wanted[0]}
    row = Layouts(**{name: np.array([value], dtype=np.int64) for name, value in layout.items()})
    turned = question.problems[wanted[0]]
    broken = [rule.text for rule in rules_of(turned) if not np.all(rule.keeps(turned, row))]
    if any(plan.recomputed) and "full" not in turned.engine.recompute.granularities:
        broken.append("no layer is recomputed whole beside it")
    if broken:
        return None, broken[0]
    rollouts = _rollouts(plan, question, wanted[0])
    choice = None if rollouts is None else 0
    return make_plan(question, row, 0, plan.layers, plan.recomputed, rollouts, choice), ""


def _rollouts(plan: Plan, question: Question, variant: int) -> Rollouts | None:
    """The rollout engine's settings of a plan as the only row of their table."""
    chosen, engine = plan.rollout, question.problems[variant].rollout_engine
    if chosen is None or engine is None:
        return None
    at_once = chosen.max_concurrency or engine.max_concurrency
    values = (chosen.num_gpus, plan.layout["wish"], chosen.tensor_parallel, chosen.gpu_memory_utilization)
    return Rollouts(*(np.array([value]) for value in (*values, at_once, plan.layout["num_gpus"], variant)))
