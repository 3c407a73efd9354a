"""Layouts are searched once, whoever asks; another fact, machine or word of the scenario is another question."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from planner.analysis.budget import known_layouts as module
from planner.analysis.budget.asked import budget
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.errors import NoVerdict

ROOT = Path(__file__).resolve().parents[3]
JOB = {"name": "tune", "scenario": "scenarios/llama8b_sft_a100.yaml", "tokens": 1e9, "deadline_days": 9}
PINS = {
    "engine_options": ["sync_each_batch"],
    "layout.tensor_parallel": 1,
    "layout.recomputed_layers": 0,
    "batch.micro_batch_size": 1,
}
FILE = {
    "name": "tuned",
    "jobs": [{**JOB, "set": PINS}, {**JOB, "name": "again", "set": PINS}],
    "offers": [{"price": "lambda-8x-h100", "nodes": [1]}, {"price": "hyperstack-8x-h100", "nodes": [1, 2]}],
}


def test_one_search_serves_jobs_offers_and_later_budgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    ticks = iter(range(100))
    kept = KnownLayouts(now=lambda: float(next(ticks)))
    said: list[str] = []
    first = budget(FILE, layouts=kept, progress=said.append)
    assert (first.searched, kept.searched, kept.seconds) == (2, 2, 2.0), "one and two nodes of the same kind"
    assert len(said) == 3, "two searches and the choice"
    second = budget(FILE, {"confidence": 0.95}, layouts=kept)
    assert (second.searched, kept.searched) == (0, 2)
    assert second.provenance == first.provenance, "an answer names its facts though it searched nothing"
    assert second.bookings[0].option.booked > first.bookings[0].option.booked
    assert str(first).startswith("tuned: ")
    other = budget(FILE, {"jobs[0].set": {**PINS, "batch.micro_batch_size": 2}}, layouts=kept)
    assert other.searched == 2


def test_a_search_without_verdict_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    kept = KnownLayouts()
    real = module.search

    def out_of_time(*arguments: object, **options: object) -> object:
        return replace(real(*arguments, **options), status="unknown", plan=None)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "search", out_of_time)
    with pytest.raises(NoVerdict, match="no verdict on"):
        budget(FILE, layouts=kept)
    assert kept.searched == 0
