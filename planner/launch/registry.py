"""Launchers by name: every module of this folder that has a NAME and a `fragment` is one."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from types import ModuleType

import planner.launch
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.problem.problem import Problem


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
    """Engines whose flags a launcher speaks: those whose catalog file names it."""
    from planner.schema.engine import Engine

    found: list[Engine] = catalog.all("engines")
    return [engine.id for engine in found if engine.launch == name]


def refuse_other_engines(name: str, problem: Problem, catalog: Catalog) -> None:
    """Raise InputError where a launcher does not speak the engine of a scenario."""
    if problem.engine.launch == name:
        return
    own = problem.engine.launch
    raise InputError(
        Mistake(
            f"launcher {name} does not speak engine {problem.engine.id}",
            problem.place("engine"),
            f"it speaks {', '.join(engines_of(name, catalog))}",
            f"--to {own}" if own else f"no launcher speaks {problem.engine.id} yet: planner solve prints its layout",
        )
    )
