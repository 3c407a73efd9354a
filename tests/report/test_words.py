"""Fits, critical, tight, likely, safe, proved: one definition each, the glossary's, held at the figures themselves."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import load
from planner.report.screen import risk_text
from planner.search.estimate import estimate
from planner.search.plan import Plan, verdict
from planner.search.search import plan

ROOT = Path(__file__).resolve().parents[2]
PINNED = ["batch.global_batch_size=64", "batch.micro_batch_size=1", "cluster.num_gpus=8", "layout.tensor_parallel=4",
          "layout.pipeline_parallel=1", "layout.data_parallel=2", "layout.context_parallel=1",
          "layout.recomputed_layers=0", "engine=megatron-core", "limits.reserved_cliff=false"]  # fmt: skip
SCENARIO = "scenarios/llama8b_sft_a100.yaml"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


def costed(catalog: Catalog, *more: str) -> Plan:
    return estimate(load(SCENARIO, [*PINNED, *more]), catalog)


def test_each_word_begins_where_the_glossary_says(catalog: Catalog) -> None:
    peak = costed(catalog).peak_gib
    live = peak - sum(i.amount for i in costed(catalog).binding.items if i.name == "allocator reserve")
    assert live < peak
    share = costed(catalog).problem.engine.critical_headroom_fraction
    asked = 4 * share * peak / (1 - share)
    edges = (
        ("does not fit", live * 0.9999),
        ("critical", live * 1.0001),
        ("critical", peak * 0.9999),
        ("critical", peak * 1.0001),
        ("critical", peak / (1 - share) * 0.9999),
        ("tight", peak / (1 - share) * 1.0001),
        ("tight", peak + asked - 0.01),
        ("safe", peak + asked + 0.01),
    )
    for word, usable in edges:
        found = costed(catalog, f"cluster.usable_gib={usable}", f"limits.headroom_gib={asked}")
        assert found.peak_gib + found.given_back_gib == pytest.approx(peak)
        assert verdict(found) == word, usable


def test_safe_is_backed_by_published_runs_or_by_the_chance(catalog: Catalog) -> None:
    """Megatron's headroom is made of published runs: below it the chance decides."""
    peak, said, lower = costed(catalog).peak_gib, set(), False
    share = costed(catalog).problem.engine.default_headroom_fraction
    for more in (2.6, 3.2, 3.8, 4.4, 5.0, 5.6, 6.6, 8.0):
        found = costed(catalog, f"cluster.usable_gib={peak + more}", "limits.headroom_gib=2.5")
        kept, chance = found.headroom_gib >= share * found.usable_gib, found.fit_probability
        assert chance is not None
        said.add((verdict(found), kept or chance >= 0.95))
        by_runs = "published runs with this room fitted" in risk_text(found)
        assert by_runs == (verdict(found) == "safe" and chance < 0.95)
        lower |= by_runs
    assert said == {("likely", False), ("safe", True)}
    assert lower


def test_something_fits_exactly_where_the_pinned_layout_leaves_what_is_demanded(catalog: Catalog) -> None:
    found = costed(catalog)
    free = math.floor(found.headroom_gib * 10) / 10 - 0.1
    for headroom, status in ((free, "optimal"), (free + 0.3, "infeasible")):
        said = plan(load(SCENARIO, [*PINNED, f"limits.headroom_gib={headroom}"]), catalog)
        assert said.status == status
        assert (said.plan is not None) is (status == "optimal")


def test_the_glossary_defines_each_word_once() -> None:
    rows = [line for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    terms = [term.strip() for row in rows for term in row.split("|")[1].split(",")]
    words = ("fits", "does not fit", "critical", "tight", "likely", "safe", "proved", "optimal", "no layout fits")
    for word in words:
        assert terms.count(word) == 1, word
