"""Options of an engine as decisions: which sets are tried, what each gains, and that the search takes the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.analysis.neighbours import neighbours
from planner.analysis.option_gains import option_gains
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, parse_document
from planner.problem.option_sets import chosen_options, options_off, turned_on
from planner.problem.resolve import question_of
from planner.report.options import option_line
from planner.report.short import short_layout
from planner.search.plan import Plan
from planner.search.search import plan
from planner.search.space import build_space

EXPERTS = """
name: options
task: pretrain
model: qwen3-30b-a3b
engine: megatron-core
cluster: {node: dgx-h100, num_gpus: 16}
batch: {global_batch_size: 64, sequence_length: 4096, micro_batch_size: 1}
layout: {tensor_parallel: 1, pipeline_parallel: 2, virtual_pipeline: 2, expert_parallel: 8, context_parallel: 1,
  layers_per_stage: even}
"""


def asked(**changes: object) -> Document:
    document = parse_document(EXPERTS, "options.yaml")
    return replace(document, data={**document.data, **changes})


def sets_tried(**changes: object) -> list[frozenset[str]]:
    question = question_of(asked(**changes))
    return [frozenset(problem.scenario.engine_options) for problem in question.problems]


def solved(**changes: object) -> Plan:
    found = plan(asked(**changes), check_points=0).plan
    assert found is not None
    return found


def test_every_set_that_may_be_on_together_is_tried_and_no_other() -> None:
    assert sets_tried() == [frozenset()]
    tried = sets_tried(options_to_try=["bf16_gradients", "expert_deduplication", "hybrid_ep"])
    one_of = [frozenset[str](), frozenset({"expert_deduplication"}), frozenset({"hybrid_ep"})]
    assert set(tried) == {some | more for some in one_of for more in (frozenset[str](), frozenset({"bf16_gradients"}))}
    assert tried[0] == frozenset()
    assert sets_tried(engine_options=["hybrid_ep"], options_to_try=["expert_deduplication"]) == [{"hybrid_ep"}]


def test_options_that_would_do_nothing_are_not_tried() -> None:
    assert sets_tried(options_to_try=["fp8_parameters"]) == [frozenset()]
    both = sets_tried(options_to_try=["fp8_parameters"], precision=["bf16", "fp8"])
    assert both == [frozenset(), frozenset(), {"fp8_parameters"}], "in fp8 alone"
    assert sets_tried(model="llama3-8b", options_to_try=["hybrid_ep", "moe_a2a_overlap"]) == [frozenset()]


def test_any_leaves_what_is_computed_as_it_is() -> None:
    tried = frozenset().union(*sets_tried(options_to_try="any"))
    engine = default_catalog().find("engines", "megatron-core")
    assert {"moe_a2a_overlap", "hybrid_ep", "tp_comm_overlap"} <= tried
    assert {engine.options[name].choice for name in tried} == {"speed"}


@pytest.mark.parametrize(
    ("options", "what"),
    [(["no_such"], "has no option no_such"), ("some", "options_to_try"), (["bf16_gradients", 3], "options_to_try")],
)
def test_a_mistake_names_the_field(options: object, what: str) -> None:
    with pytest.raises(InputError) as raised:
        question_of(asked(options_to_try=options))
    assert what in str(raised.value)


def test_the_search_takes_the_best_set_and_says_so() -> None:
    options = ["bf16_gradients", "hybrid_ep"]
    chosen = solved(options_to_try=options)
    each = [solved(engine_options=some) for some in ([], options)]
    best = max(each, key=lambda one: one.tokens_per_second)
    assert chosen.tokens_per_second >= best.tokens_per_second * (1 - 0.005)
    assert chosen.named.engine_options == tuple(chosen.problem.scenario.engine_options)
    assert set(chosen_options(chosen.problem.settings)) == set(chosen.named.engine_options)
    gains = {gain.name: gain for gain in option_gains(chosen, default_catalog())}
    for name in chosen.named.engine_options:
        assert gains[name].is_on
        assert f"{name} (" in option_line(list(gains.values()))


def test_what_an_option_gains_is_what_the_same_layout_gains_with_it() -> None:
    """Against a search in which the layout and the option are pinned."""
    plain = solved()
    gains = {gain.name: gain for gain in option_gains(plain, default_catalog())}
    pins = {"recomputed_layers": plain.recomputed[0], "data_parallel": plain.layout["data_parallel"]}
    layout = {**asked().data["layout"], **pins, "expert_tensor_parallel": plain.layout["expert_tensor_parallel"]}
    for name in ("bf16_gradients", "hybrid_ep"):
        pinned = solved(engine_options=[name], layout=layout)
        change = pinned.tokens_per_second / plain.tokens_per_second - 1
        assert gains[name].throughput_change == pytest.approx(change)
        assert gains[name].free_gib == pytest.approx(pinned.headroom_gib - plain.headroom_gib)
    assert "above 1 with sequence parallelism" in gains["tp_comm_overlap"].refused
    assert set(gains) == {name for name, _ in _off(plain)}


def _off(found: Plan) -> list[tuple[str, tuple[str, ...]]]:
    problem = found.problem
    engine = default_catalog().find("engines", problem.engine.id)
    return list(options_off(problem.scenario, engine, problem.architecture, problem.precision))


def test_an_option_that_was_not_opened_adds_nothing() -> None:
    assert len(build_space(question_of(asked())).layouts) * 2 == len(
        build_space(question_of(asked(options_to_try=["bf16_gradients"]))).layouts
    )


def test_the_next_change_after_a_chosen_option_is_to_drop_it() -> None:
    small = {"model": "llama3.2-1b", "cluster": {"node": "dgx-h100", "num_gpus": 1}}
    layout = {"tensor_parallel": 1, "pipeline_parallel": 1, "recomputed_layers": 0}
    outcome = plan(asked(options_to_try=["bf16_gradients"], **small, layout=layout), check_points=0)
    changes = {each.text: dict(each.changes) for each in neighbours(outcome, default_catalog())}
    name = "engine_options.bf16_gradients true to false"
    assert changes[name] == {"engine_options": [], "options_to_try": []}


ONCE = """
name: once
task: pretrain
model: llama3-8b
engine: fsdp2
options_to_try: [parameter_offload]
cluster: {node: hgx-h100-8, num_gpus: 8, usable_gib: 16}
limits: {headroom_gib: 0}
batch: {global_batch_size: 8, sequence_length: 2048, micro_batch_size: 1}
layout: {recomputed_layers: all}
"""


def test_a_layout_line_names_an_option_that_was_open_once() -> None:
    found = plan(parse_document(ONCE, "once.yaml"), check_points=0).plan
    assert found is not None
    assert chosen_options(found.problem.settings) == ("parameter_offload",)
    assert short_layout(found).count("parameter_offload") == 1


REST = """task: pretrain
model: qwen3-30b-a3b
cluster: {node: dgx-h100, num_gpus: 8}
batch: {global_batch_size: 64, sequence_length: 4096, micro_batch_size: 1}
"""


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        ("transformers", ["autocast", "autocast_16bit_weights"]),
        ("megatron-core", ["hybrid_ep", "expert_deduplication"]),
    ],
)
def test_two_options_that_exclude_each_other_are_refused(engine: str, options: list[str]) -> None:
    """With both names, the line of the second, what each does, and what to leave out; whichever comes first."""
    known = default_catalog().find("engines", engine).options
    for one, other in (options, options[::-1]):
        text = f"name: both\nengine: {engine}\nengine_options:\n  - {one}\n  - {other}\n{REST}"
        with pytest.raises(InputError) as raised:
            question_of(parse_document(text, "both.yaml"))
        (mistake,) = raised.value.problems
        assert mistake.what == f"{one} and {other} cannot both be on"
        assert str(mistake.where).startswith("both.yaml:5:")
        assert mistake.because == f"{one}: {known[one].text}; {other}: {known[other].text}"
        assert mistake.attempt == f"leave {one} or {other} out of engine_options"
        assert turned_on(default_catalog().find("engines", engine), [one], other) == (other,)
