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


def of_rl(**changes: object) -> list[str]:
    asked = override(load("scenarios/qwen7b_rl.yaml"), {path.replace("__", "."): v for path, v in changes.items()})
    return [entry.text for entry in untried(question_of(asked, default_catalog()))]


def test_lists_of_candidates_are_named_where_the_choice_is_open() -> None:
    texts = of_rl(batch__max_tokens_per_gpu="any", rl__rollout__max_concurrency="any")
    assert any(t.startswith("batch.max_tokens_per_gpu other than 4,096, 8,192, ") for t in texts)
    assert any(t.startswith("rl.rollout.gpu_memory_utilization other than 0.3, 0.35, ") for t in texts)
    assert any(t.startswith("rl.rollout.max_concurrency other than powers of two and ") for t in texts)


def test_what_the_scenario_names_is_no_list_of_ours() -> None:
    named = {"batch__max_tokens_per_gpu": 9216, "rl__rollout__gpu_memory_utilization": [0.5, 0.6]}
    assert not [t for t in of_rl(**named) if " other than " in t and "chunks" not in t]


def test_groups_and_odd_numbers_of_gpus_are_named() -> None:
    scenario = {"cluster.num_gpus": None, "cluster.max_gpus": 8, "layout.recompute_group": "any"}
    question = question_of(override(load("scenarios/llama70b_64xh100.yaml"), scenario), default_catalog())
    texts = [entry.text for entry in untried(question)]
    assert "layout.recompute_group other than 1, sqrt, 2, 4; tried where it is listed" in texts
    assert any(t.startswith("cluster.num_gpus 3, 5, 6, 7 (neither whole nodes of hgx-h100-8") for t in texts)


def test_numbers_of_gpus_that_cannot_generate_alone_are_named() -> None:
    """Of 16, 1, 2, 4 or 8 may train: a trainer of 12 is neither whole nodes of eight nor an even share of one."""
    apart = {"cluster__max_gpus": None, "cluster__num_gpus": 16, "rl__placement": "any"}
    (named,) = [t for t in of_rl(**apart) if t.startswith("rl.rollout.num_gpus")]
    assert named.startswith("rl.rollout.num_gpus 1, 2, 3, 4, 5, ... 13 (the rest would be neither whole nodes")
    assert not [t for t in of_rl(**apart, rl__rollout__num_gpus=8) if t.startswith("rl.rollout.num_gpus")]
    assert not [t for t in of_rl(cluster__max_gpus=None, cluster__num_gpus=16) if t.startswith("rl.rollout.num_gpus")]


def test_rollout_engines_over_several_nodes_are_named_until_they_are_asked_for() -> None:
    """Up to 64 GPUs on nodes of 8, 64 heads: 16, 32 and 64 ranks are whole nodes and divide both."""
    rollout = {"rl.rollout.tensor_parallel": "any", "cluster.max_gpus": 64, "model": "qwen3-32b"}
    story = load("scenarios/qwen7b_rl.yaml")
    asked = question_of(override(story, rollout), default_catalog())
    said = [each.text for each in untried(asked) if "rollout.tensor" in each.text]
    assert said == ["rl.rollout.tensor_parallel 16, 32, 64 (engines over several nodes); tried where it is listed"]
    listed = override(story, rollout | {"rl.rollout.tensor_parallel": [16]})
    assert not [e for e in untried(question_of(listed, default_catalog())) if "rollout.tensor" in e.text]
