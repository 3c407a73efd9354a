"""Layers recomputed in groups: fewer inputs are kept, more is rebuilt at once, and the step takes as long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.errors import InputError
from planner.inputs.document import Document, parse_document
from planner.problem.resolve import question_of
from planner.search.decisions import recompute_flags
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan

SCENARIO = """
name: groups
task: pretrain
model: llama3-8b
engine: megatron-core
cluster: {node: dgx-h100, num_gpus: 8}
batch: {global_batch_size: 32, sequence_length: 8192, micro_batch_size: 1}
"""
PINS = {"tensor_parallel": 4, "pipeline_parallel": 2, "context_parallel": 1, "virtual_pipeline": 1}


def asked(**layout: object) -> Document:
    document = parse_document(SCENARIO, "groups.yaml")
    return replace(document, data={**document.data, "layout": {**PINS, "layers_per_stage": "even", **layout}})


def grouped(size: object) -> Plan:
    return estimate(asked(recompute_group=size, recomputed_layers="all", recompute_method="uniform"))


def gib(found: Plan, name: str) -> float:
    """Of the first stage, while a layer is recomputed."""
    moment = next(phase for phase in found.memory if phase.phase == "recomputation" and phase.stage == 0)
    return next(item.amount for item in moment.items if item.name == name)


def test_inputs_are_kept_by_group_and_a_group_is_rebuilt_at_once() -> None:
    one = grouped(1)
    for size in (2, 4, 16):
        found = grouped(size)
        assert gib(found, "activations, recomputed layers") == pytest.approx(
            gib(one, "activations, recomputed layers") / size
        )
        assert gib(found, "activations, layer being recomputed") == pytest.approx(
            gib(one, "activations, layer being recomputed") * size
        )
        assert found.step_seconds == pytest.approx(one.step_seconds)
        flags = recompute_flags(found)
        assert (flags.granularity, flags.method, flags.num_layers) == ("full", "uniform", size)


def test_the_root_is_that_of_the_layers_of_a_chunk() -> None:
    assert grouped("sqrt").named.recompute_group == 4
    assert (
        estimate(
            asked(recompute_group="sqrt", recomputed_layers="all", virtual_pipeline=4, recompute_method="uniform")
        ).named.recompute_group
        == 2
    )


def test_a_group_that_does_not_divide_counts_one_more_input_at_most() -> None:
    whole, rest = grouped(4), grouped(3)
    exact = gib(grouped(1), "activations, recomputed layers") / 16  # one input, of all micro-batches in flight
    kept = gib(rest, "activations, recomputed layers") / exact
    assert 16 / 3 <= kept <= 6 + 1e-9, "six groups of at most three layers"
    assert kept > gib(whole, "activations, recomputed layers") / exact


def test_both_readings_of_the_flag_are_tried_where_left_open() -> None:
    question = question_of(asked(recompute_group="any"))
    groups = [(one.scenario.layout.recompute_group, one.scenario.layout.recomputed_layers) for one in question.problems]
    assert groups == [(1, "any"), ("sqrt", "all"), (2, "all"), (4, "all")]
    best = plan(asked(recompute_group="any"), check_points=0).plan
    plain = plan(asked(), check_points=0).plan
    assert best is not None
    assert plain is not None
    assert best.tokens_per_second >= plain.tokens_per_second * (1 - 0.005)


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        ({"recompute_group": 2, "recomputed_layers": 4}, "only where every layer is"),
        ({"recompute_group": 2, "recompute_method": "block"}, "only where every layer is"),
        ({"recompute_group": 2, "recompute_modules": ["mlp"]}, "only where every layer is"),
    ],
)
def test_what_stands_against_groups_is_said(layout: dict[str, object], what: str) -> None:
    with pytest.raises(InputError) as raised:
        question_of(asked(**layout))
    assert what in str(raised.value)
