"""Published layouts pass the rules of their engines with their networks' real layers, and their page is current."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from planner.inputs.catalog import default_catalog
from planner.search.witness.witness import broken

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layouts_table", ROOT / "validation" / "layouts" / "table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current_and_no_layout_is_refused(table: ModuleType) -> None:
    page = table.render()
    assert page == table.PAGE.read_text(encoding="utf-8"), "run python -m validation.layouts.table"
    assert "None: every layout of this table passes the rules of its engine." in page


def test_layers_are_the_networks_own_and_every_run_was_searched(table: ModuleType) -> None:
    layouts, found = table.published(), table.solved()
    assert len(layouts) >= 25
    for one in layouts:
        layers = one.scenario(pinned=True)["layout"]["layers_per_stage"]
        model = default_catalog().find("models", one.entry["model"])
        assert layers == "even" or sum(layers) == model.num_hidden_layers, one.name
        assert "2024" <= str(one.entry["source"]["date"]) < "2027", one.name
    assert set(found) == {one.name for one in layouts}


def test_the_405b_is_within_a_tenth_of_what_its_paper_says(table: ModuleType) -> None:
    """400 TFLOP/s a GPU on 16,384 H100 with TP8 PP16, and one layer fewer at both ends: seen by no fit."""
    one = next(each for each in table.published() if each.name == "meta-405b-16384")
    plan = table.estimated(one).plan
    assert plan.layers == (7, *[8] * 14, 7)
    assert plan.step_seconds == pytest.approx(one.seconds, rel=0.1)
    assert broken(plan.problem, plan.layout, plan.layers, plan.recomputed) == ()
    fewer = (6, *[8] * 14, 8)
    assert broken(plan.problem, plan.layout, fewer, plan.recomputed), "a chunk between others has a layer"
