"""Degrees that an open choice leaves out stand beside the proof, and are tried where the scenario names them."""

from __future__ import annotations

from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, override
from planner.problem.resolve import question_of
from planner.search.axes import context, pipeline
from planner.search.untried import untried


def texts(**layout: object) -> list[str]:
    changes = {f"layout.{name}": value for name, value in layout.items()}
    question = question_of(override(load("scenarios/llama70b_64xh100.yaml"), changes), default_catalog())
    return [entry.text for entry in untried(question)]


def test_context_degrees_and_chunks_that_are_left_out_are_named() -> None:
    """8,192 tokens: 16, 32 and 64 ranks have fewer than 1,024 each. 80 layers: 1 to 5, 8, 10 and 16 chunks."""
    of_context, of_chunks, of_ends = texts(context_parallel="any")
    assert of_ends.startswith(
        "layout.layers_per_stage whose ends have a chunk of embedding or loss alone, for 2, 3, 4,"
    )
    assert of_context.startswith("layout.context_parallel 16, 32, 64 (fewer than 1,024 tokens a rank)")
    assert of_chunks.startswith("layout.virtual_pipeline 6, 7, 9, 11, 12, ... 40 (")


def test_what_a_scenario_lists_is_tried() -> None:
    listed = {"context_parallel": [1, 16], "virtual_pipeline": [1, 20]}
    assert texts(**listed, layers_per_stage="even") == []
    changes = {f"layout.{name}": value for name, value in listed.items()}
    question = question_of(override(load("scenarios/llama70b_64xh100.yaml"), changes), default_catalog())
    assert 16 in context.candidates(question.first, 64)
    assert 20 in pipeline.virtual_candidates(question.first)


def test_a_range_names_only_what_lies_in_it() -> None:
    (of_context,) = texts(context_parallel={"min": 2, "max": 32}, virtual_pipeline=1)
    assert of_context.startswith("layout.context_parallel 16, 32 (")
