"""Variants of a question that one part of the costs cannot tell apart: it is worked out once for all of them.

What a part of the costs does not look at is erased, and the costs are those of the problem that is left: whatever they
read there is the same in all variants that are left alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from planner.inputs.known_errors import KnownErrors
from planner.problem.machines import Machines
from planner.problem.problem import ASYNCHRONOUS, COLOCATED, Problem
from planner.schema.scenario import LayoutSpec, Rollout

DISAGGREGATED = "disaggregated"
UNKNOWN = KnownErrors(None, None)


def as_trained(problem: Problem) -> Problem:
    """The problem as its passes and optimizer steps see it: whatever generates, and wherever."""
    return _without(problem, COLOCATED, Rollout())


def as_held(problem: Problem) -> Problem:
    """The problem as the memory of its trainer sees it: on GPUs of its own, whatever generates elsewhere."""
    if problem.colocated:
        return replace(problem, machines=_on_any_number(problem.machines), settings=())
    return _without(problem, DISAGGREGATED, Rollout())


def as_ruled(problem: Problem) -> Problem:
    """The problem as rules of layouts see it: the trainer's memory, its GPU counts, and what else was left open."""
    held = as_held(problem)
    kept = tuple(each for each in problem.settings if each[0].partition(".")[0] not in ("rl", "cluster"))
    return replace(held, machines=replace(held.machines, num_gpus=problem.num_gpus), settings=kept)


def as_generated(problem: Problem) -> Problem:
    """The problem as its generation sees it, on the machines that generate: whatever trains, and wherever."""
    own, rl = problem.generating, problem.scenario.rl
    assert rl is not None
    rollout = rl.rollout.model_copy(update={"node": None})
    placement = ASYNCHRONOUS if problem.placement == ASYNCHRONOUS else DISAGGREGATED
    own = _without(own, placement, rollout)
    return replace(own, scenario=own.scenario.model_copy(update={"layout": LayoutSpec()}), trains_on=None)


def _without(problem: Problem, placement: str, rollout: Rollout) -> Problem:
    """The problem with another rollout side, and nothing said of how it is told from others or how far it is known."""
    scenario = problem.scenario
    if scenario.rl is not None:
        rl = scenario.rl.model_copy(update={"placement": placement, "rollout": rollout})
        scenario = scenario.model_copy(update={"rl": rl})
    machines = _on_any_number(problem.machines)
    return replace(
        problem,
        scenario=scenario,
        machines=machines,
        splits=(),
        rollout_machines=None,
        settings=(),
        known_errors=UNKNOWN,
    )


def _on_any_number(machines: Machines) -> Machines:
    """These machines, of whatever counts are tried."""
    own = None if machines.own is not None and machines.own.nothing else machines.own
    return replace(machines, num_gpus=(), own=own)


def alike(problems: Sequence[Problem], seen: Callable[[Problem], Problem]) -> list[tuple[Problem, list[int]]]:
    """(a problem as it is seen, the variants that are seen as it), in order of the first one of each."""
    groups: list[tuple[Problem, list[int]]] = []
    for index, problem in enumerate(problems):
        as_seen = seen(problem)
        for first, members in groups:
            if first == as_seen:
                members.append(index)
                break
        else:
            groups.append((as_seen, [index]))
    return [(problems[of[0]] if len(of) == 1 else first, of) for first, of in groups]
