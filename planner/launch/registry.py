"""Launchers by name: every module of this folder that has a NAME and a `fragment` is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

import planner.launch
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.problem.problem import Problem
from planner.schema.preference import DPO, LAUNCHERS
from planner.search.search import Outcome


def launchers() -> dict[str, ModuleType]:
    """All launchers, by the name a user types."""
    modules = (
        importlib.import_module(f"planner.launch.{found.name}")
        for found in pkgutil.iter_modules(planner.launch.__path__)
        if found.name != "registry"
    )
    return {module.NAME: module for module in modules if hasattr(module, "NAME")}


def find(name: str) -> ModuleType:
    """The launcher of that name. Raises InputError for one that does not exist."""
    known = launchers()
    if name not in known:
        close = difflib.get_close_matches(name, list(known), n=1)
        raise InputError(
            Mistake(
                f"unknown launcher `{name}`",
                Place("--to"),
                f"there are {', '.join(sorted(known))}",
                f"did you mean `{close[0]}`?" if close else None,
            )
        )
    return known[name]


def engines_of(name: str, catalog: Catalog) -> list[str]:
    """Engines whose settings a launcher speaks: those whose catalog file names it."""
    from planner.schema.engine import Engine

    found: list[Engine] = catalog.all("engines")
    return [engine.id for engine in found if name in engine.launch]


def refuse_other_engines(name: str, problem: Problem, catalog: Catalog) -> None:
    """Raise InputError where a launcher does not speak the engine of a scenario."""
    own = problem.engine.launch
    if name in own:
        return
    raise InputError(
        Mistake(
            f"launcher {name} does not speak engine {problem.engine.id}",
            problem.place("engine"),
            f"it speaks {', '.join(engines_of(name, catalog))}",
            f"--to {' or '.join(own)}"
            if own
            else f"no launcher speaks {problem.engine.id} yet: planner solve prints its layout",
        )
    )


def files(name: str, outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """Files of a plan by name, of a launcher: one for most. Raises InputError for what the launcher cannot say."""
    module = find(name)
    task = settled(outcome.plan).task if outcome.plan is not None else None
    if outcome.plan is not None and task == DPO and name not in LAUNCHERS:
        because = f"planner writes the files of {task} for {', '.join(LAUNCHERS)} alone"
        raise refuse(
            outcome.plan, f"no {name} file is written for task {task}", because, f"--to {LAUNCHERS[0]}", "task"
        )
    if hasattr(module, "files"):
        several: dict[str, str] = module.files(outcome, catalog)
        return several
    return {module.FILE: module.fragment(outcome, catalog)}
