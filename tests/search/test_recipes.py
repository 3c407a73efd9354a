"""Known-good public recipes are feasible: the engine's rules admit them and the memory model says they fit."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "validation" / "recipes"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe_table", FOLDER / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TABLE = _load()
KNOWN = TABLE.known()
NAMES = TABLE.names()
predicted = cache(TABLE.predicted)
MARKS = {"expert_grid": "expert_grid"}
"""What an error says when this rule refuses a recipe."""


def test_every_known_name_is_a_recipe() -> None:
    named = {*KNOWN["ceilings_gib"], *KNOWN["exceptions"]}
    assert named <= set(NAMES)
    assert len(NAMES) >= 48


@pytest.mark.parametrize("name", [n for n in NAMES if n not in KNOWN["exceptions"]])
def test_a_known_good_recipe_fits(name: str) -> None:
    recipe = predicted(name)
    assert recipe.plan is not None, recipe.broken
    assert recipe.plan.peak_gib <= recipe.plan.problem.usable_gib


@pytest.mark.parametrize("name", sorted(KNOWN["ceilings_gib"]))
def test_a_published_ceiling_is_kept(name: str) -> None:
    plan, ceiling = predicted(name).plan, KNOWN["ceilings_gib"][name]
    assert plan is not None
    low = plan.interval_gib[0] if plan.interval_gib else plan.peak_gib
    assert min(low, plan.peak_gib) <= ceiling


@pytest.mark.parametrize("name", sorted(KNOWN["exceptions"]))
def test_an_exception_still_fails(name: str) -> None:
    recipe, fails = predicted(name), KNOWN["exceptions"][name]["fails"]
    if fails == "memory":
        assert recipe.plan is not None, recipe.broken
        assert recipe.plan.peak_gib > recipe.plan.problem.usable_gib
    else:
        assert recipe.plan is None
        assert any(MARKS[fails] in sentence for sentence in recipe.broken), recipe.broken


def test_the_largest_lora_batches_lie_at_the_edge() -> None:
    """verl's scripts of 14B and 72B note that one sample a GPU more ran out of memory; README.md says 68 to 76."""
    for size in ("14b", "72b"):
        plan = predicted(f"verl-lora-{size}").plan
        assert plan is not None
        assert 68 <= plan.peak_gib <= 76


def test_the_readme_is_current() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert TABLE.readme([predicted(name) for name in NAMES]) == readme, "run python -m validation.recipes.table"
