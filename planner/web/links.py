"""Addresses and command lines: how a view is reached again, on the page and in a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import parse_qsl

from planner.errors import InputError, Mistake, Place
from planner.inputs.examples import EXAMPLE
from planner.web.state import State, state_of

SAVED = "scenario.yaml"
"""What the scenario of a view is called once it is taken away."""


def side_state(text: str, beside: State) -> State:
    """The plan that a line of the comparison means: changes of this one, `example:NAME` with changes, or a link.

    Raises InputError for a line that cannot be read.
    """
    if "?" in text.partition(" ")[0]:
        return state_of(parse_qsl(text.strip().partition("?")[2], keep_blank_values=True))
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(Mistake(f"{text}: cannot be read", Place("?side="), str(error))) from None
    if words and words[0].startswith(EXAMPLE):
        return State(example=words[0].removeprefix(EXAMPLE)).changed(words[1:])
    wrong = [word for word in words if "=" not in word]
    if wrong:
        attempt = "cluster.num_gpus=8 engine=fsdp2, example:NAME, or the link of another plan"
        raise InputError(Mistake(f"{wrong[0]} changes nothing", Place("?side="), "a change is PATH=VALUE", attempt))
    return beside.changed(words)


def command(view: str, state: State, extra: Sequence[tuple[str, str]] = ()) -> str:
    """A view as one would type it; a scenario that stands in no shipped file is taken away first."""
    if view in SOLVED and state.text is None and state.task is not None:
        words = ["ask", state.model, "--gpus", state.gpus, "--task", state.task, *_sets(state)]
        return shlex.join(["planner", *words])
    file, sets = _file(state)
    if view == "compare":
        return shlex.join(["planner", "compare", file, *_also(state, sets, extra)])
    words = {"front": ["pareto"], "why": ["explain"], "near": ["near"], "budget": ["budget"]}.get(view, ["solve"])
    words = [*words, file, *sets]
    for name, option in (("over", "--over"), ("offer", "--price"), ("why", "--why-not")):
        words += [part for key, value in extra if key == name and value for part in (option, value)]
    return shlex.join(["planner", *words])


SOLVED = frozenset({"plan", "timeline", "topology"})
"""Views of one plan."""


def _file(state: State) -> tuple[str, list[str]]:
    """The file that holds a state, and what is typed after it."""
    if state.text is not None or state.task is not None or state.config is not None:
        return SAVED, []
    return f"{EXAMPLE}{state.example}", _sets(state)


def _sets(state: State) -> list[str]:
    return [part for text in state.overrides for part in ("--set", text)]


def _also(state: State, sets: list[str], extra: Sequence[tuple[str, str]]) -> list[str]:
    """Sides that change this scenario as options; others as files, taken away as B.yaml and so on."""
    files, options = [], ["--set-a" if part == "--set" else part for part in sets]
    for letter, other in zip("BCD", sides(state, extra), strict=False):
        alike = replace(other, changes=()) == replace(state, changes=())
        if alike and (sets or {path for path, _ in other.changes} >= {path for path, _ in state.changes}):
            options += ["--also", shlex.join(other.overrides)]
        else:
            file, changed = _file(other)
            files.append(f"{letter}.yaml" if changed or file == SAVED else file)
    return [*files, *options]


def sides(state: State, extra: Sequence[tuple[str, str]]) -> list[State]:
    """The plans beside the first one of a comparison. Raises InputError as `side_state` does."""
    return [side_state(line, state) for name, line in extra if name == "side" and line.strip()]
