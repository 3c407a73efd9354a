"""Rows looked at together are never refused a time in which a split was found, with memory held back or not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hand_rows import hand_rows

from planner.costs.coefficients import RowCosts
from planner.inputs.document import document_of
from planner.problem.resolve import question_of
from planner.search.bounds.free_stages import Splitter
from planner.search.grid import Rounded
from planner.search.space import build_space

ROWS = 40
"""Of each space, evenly picked."""


@pytest.mark.parametrize(
    ("model", "gpus", "layout"),
    [
        ("llama3.1-70b", 64, {"virtual_pipeline": "any"}),
        ("llama3.1-70b", 64, {"recompute": "per_stage"}),
        ("llama3.1-70b", 64, {"recompute_method": "uniform"}),
        ("glm-4.5", 256, {"recomputed_layers": [0, 4, 8], "expert_parallel": 16}),
    ],
)
def test_a_split_that_was_found_is_never_refused(model: str, gpus: int, layout: dict[str, object]) -> None:
    scenario = {
        "name": "tight",
        "task": "pretrain",
        "model": model,
        "engine": "megatron-core",
        "cluster": {"node": "hgx-h100-8", "num_gpus": gpus},
        "batch": {"global_batch_size": 512, "sequence_length": 8192, "micro_batch_size": 1},
        "layout": {"context_parallel": 1, "tensor_parallel": [4, 8], **layout},
    }
    question = question_of(document_of(scenario))
    layouts = build_space(question).layouts
    picked = np.flatnonzero(layouts.pipeline_parallel <= 8)
    rounded = Rounded(RowCosts(question, layouts.take(picked[:: max(1, len(picked) // ROWS)])), None, 1.0, 1024.0)
    splitter, rows = Splitter(question, rounded), np.arange(len(rounded.costs.layouts))
    refused = found = 0
    for held_back in (0, rounded.limit // 5):
        seconds = np.array([splitter.split(row, held_back).seconds for row in rows.tolist()])
        fits = np.isfinite(seconds)
        assert splitter.may(rows[fits], seconds[fits], held_back).all()
        assert splitter.may(rows[fits], seconds[fits], exact=True).all()
        refused += int((~splitter.may(rows, np.full(len(rows), math.inf), held_back)).sum())
        refused += int((~splitter.may(rows[fits], seconds[fits] * 0.9, held_back)).sum())
        found += int(fits.sum())
    assert min(found, refused) >= 5, (found, refused)


@pytest.mark.parametrize("seconds", [6.9, 7.0, 7.5])
def test_as_many_recomputed_layers_on_every_stage(seconds: float) -> None:
    """Stage 0 holds 2 eighths more and needs 2 of 6 layers recomputed, and the other then recomputes 2 as well: 7 s."""
    row = hand_rows(
        stages=2,
        time=(1.0, 0.5, 0.0),
        memory=(1.25, -1.0, [2.0, 0.0]),
        layers_per_stage="free",
        recomputed_layers="any",
    )
    splitter = Splitter(*row)
    assert splitter.split(0).seconds == 7.0
    assert splitter.may(np.array([0]), np.array([seconds])).tolist() == [seconds >= 7.0]


def test_a_row_without_room_is_refused_whatever_the_time() -> None:
    def may(memory: tuple[float, float, float], recomputed: object) -> bool:
        row = hand_rows(
            stages=2, time=(1.0, 0.5, 0.0), memory=memory, layers_per_stage="free", recomputed_layers=recomputed
        )
        return bool(Splitter(*row).may(np.array([0]), np.array([math.inf])).all())

    assert not may((2.0, -0.5, 0.0), "any")
    assert not may((1.4, -1.0, 0.0), 0)
    assert may((1.4, -1.0, 0.0), "any")
