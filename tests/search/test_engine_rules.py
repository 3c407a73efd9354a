"""Every rule of planner/axes is by itself the cause of one infeasible layout, on every engine whose file names it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_cli import run

from planner.errors import InputError
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, override, parse_document
from planner.problem.problem import Problem
from planner.problem.resolve import question_of
from planner.schema.engine import Engine
from planner.search.axes.rule import Rule
from planner.search.estimate import estimate_question
from planner.search.space import AXES, build_space

ROOT = Path(__file__).resolve().parents[2]
MEGATRON = "megatron-core"
SCENARIO = """
name: one rule
task: pretrain
model: llama3.1-8b
engine: megatron-core
cluster: {node: hgx-h100-8, num_gpus: 8}
batch: {global_batch_size: 64, sequence_length: 4096, micro_batch_size: 1}
layout: {tensor_parallel: 1, pipeline_parallel: 1, context_parallel: 1, expert_parallel: 1,
  expert_tensor_parallel: 1, recomputed_layers: 0}
limits: {host_memory: false}
"""
RL = """
name: one rule
task: rl
model: qwen2.5-7b
engine: slime
cluster: {node: hgx-h100-8, num_gpus: 8}
batch: {micro_batch_size: 1}
rl:
  prompt_length: 512
  response_length: 1024
  response_distribution: {mean: 400, p99: 1200}
  rollout_batch_size: 64
  n_samples_per_prompt: 8
  rollout: {tensor_parallel: 1, gpu_memory_utilization: 0.5}
layout: {tensor_parallel: 1, pipeline_parallel: 1, context_parallel: 1, expert_parallel: 1,
  expert_tensor_parallel: 1, recomputed_layers: 0}
limits: {host_memory: false}
"""
EXPERTS = {"model": "mixtral-8x7b"}


@dataclass(frozen=True)
class Case:
    """What to change in the scenario so that one rule, and no other, refuses it."""

    changes: dict[str, Any]
    engine: str = MEGATRON
    text: str = SCENARIO


def pins(**degrees: Any) -> dict[str, Any]:
    return {f"layout.{name}": value for name, value in degrees.items()}


def switch(*names: str) -> dict[str, Any]:
    return {"engine_options": list(names)}


CASES = {
    "tensor_parallel_supported": Case(pins(tensor_parallel=2), "fsdp2"),
    "sequence_parallel_chosen": Case(pins(tensor_parallel=2, sequence_parallel=False), "nanotron"),
    "tensor_parallel_inside_domain": Case({"cluster.num_gpus": 16, **pins(tensor_parallel=16)}),
    "heads_divide_tensor": Case({"model": "qwen2.5-7b", **pins(tensor_parallel=8)}),
    "linear_heads_divide": Case(
        {"model": "qwen3.5-27b", "cluster.num_gpus": 32, **pins(tensor_parallel=8, context_parallel=4)}
    ),
    "fp8_projection_divides": Case({"model": "qwen3.5-27b", "precision": "fp8", **pins(tensor_parallel=8)}),
    "kv_heads_divide_tensor": Case({"model": "phi-4", **pins(tensor_parallel=4)}),
    "kv_heads_multiple_of_tensor": Case({"model": "phi-4", **pins(tensor_parallel=4)}),
    "sequence_divides_tensor": Case({"batch.sequence_length": 4100, **pins(tensor_parallel=8)}),
    "overlap_needs_sequence_parallel": Case(
        {**switch("tp_comm_overlap"), **pins(tensor_parallel=2, sequence_parallel=False)}
    ),
    "context_parallel_supported": Case(pins(context_parallel=2), "fsdp2"),
    "positions_hold_sequence": Case({"model": "gpt2-xl", "batch.sequence_length": 2048}),
    "sequence_divides_context": Case({"batch.sequence_length": 4100, **pins(context_parallel=4)}),
    "sequence_divides_tensor_context": Case({"batch.sequence_length": 4100, **pins(tensor_parallel=8)}),
    "positions_divide_context": Case(
        {
            "model": "deepseek-v2-lite",
            "cluster.node": "gb200-nvl72",
            "cluster.num_gpus": 12,
            "batch.sequence_length": 6144,
            **pins(context_parallel=3),
        }
    ),
    "projections_divide_tensor": Case(
        {
            "model": "llama3.2-3b",
            "cluster.node": "gb200-nvl72",
            "cluster.num_gpus": 24,
            "batch.sequence_length": 6144,
            **pins(tensor_parallel=24),
        }
    ),
    "vocabulary_divides_tensor": Case(
        {
            "model": "gpt2",
            "rl.prompt_length": 256,
            "rl.response_length": 512,
            "rl.response_distribution": {"mean": 200, "p99": 400},
            **pins(tensor_parallel=2),
        },
        "verl-megatron",
        RL,
    ),
    "heads_divide_context": Case({"model": "phi-4", **switch("a2a_context_parallel"), **pins(context_parallel=4)}),
    "heads_divide_ulysses": Case({"model": "phi-4", **pins(context_parallel=4)}),
    "data_parallel_supported": Case({}, "transformers"),
    "data_parallel_chosen": Case(pins(data_parallel=2)),
    "zero_stage_offered": Case(pins(zero_stage=1), "fsdp2"),
    "cap_holds_longest": Case({"batch.max_tokens_per_gpu": 1024}, "verl-megatron", RL),
    "pairs_stay_together": Case({"task": "dpo"}, "deepspeed"),
    "batch_divides": Case({"cluster.num_gpus": 1, "batch.micro_batch_size": 8, "batch.global_batch_size": 60}),
    "optimizer_instances_divide": Case({**switch("two_optimizer_instances"), **pins(tensor_parallel=8)}),
    "precision_aware_needs_sharding": Case(pins(optimizer_offload=True)),
    "host_optimizer_has_kernel": Case({"optimizer": "adafactor", **pins(optimizer_offload=True)}, "deepspeed"),
    "muon_refuses_zero3": Case({"optimizer": "muon", **pins(zero_stage=3)}, "openrlhf", RL),
    "precision_aware_needs_adam": Case({"optimizer": "sgd-momentum", **pins(optimizer_offload=True)}),
    "offloaded_parameters_need_zero3": Case({**switch("parameter_offload"), **pins(zero_stage=2)}, "deepspeed"),
    "samples_divide_gpus": Case(
        {
            "rl.rollout_batch_size": 10,
            "rl.n_samples_per_prompt": 2,
            **pins(context_parallel=2),
        },
        "verl-fsdp2",
        RL,
    ),
    "groups_need_samples": Case({"rl.n_samples_per_prompt": 1}, text=RL),
    "expert_parallel_supported": Case(pins(expert_parallel=2)),
    "rank_order_keeps_stages": Case(
        {**EXPERTS, "cluster.rank_order": "tp_pp_dp", **pins(pipeline_parallel=2, expert_parallel=2)}
    ),
    "expert_width_divides": Case(
        {
            "model": "deepseek-v2-lite",
            "cluster.node": "gb200-nvl72",
            "cluster.num_gpus": 12,
            "batch.global_batch_size": 60,
            **pins(expert_tensor_parallel=3),
        }
    ),
    "expert_tensor_inside_domain": Case({**EXPERTS, "cluster.num_gpus": 16, **pins(expert_tensor_parallel=16)}),
    "experts_divide": Case({**EXPERTS, "cluster.num_gpus": 16, **pins(expert_parallel=16)}),
    "expert_grid": Case({**EXPERTS, "cluster.num_gpus": 4, **pins(expert_parallel=8)}),
    "moe_needs_sequence_parallel": Case({**EXPERTS, **pins(tensor_parallel=2, sequence_parallel=False)}),
    "biased_experts_are_whole": Case({"model": "gpt-oss-20b", **pins(tensor_parallel=2, expert_tensor_parallel=2)}),
    "experts_cut_as_tensor": Case({**EXPERTS, **pins(expert_tensor_parallel=2)}),
    "dispatcher_needs_ranks": Case({**EXPERTS, **switch("expert_deduplication")}),
    "expert_overlap_needs_experts": Case({**EXPERTS, **switch("moe_a2a_overlap")}),
    "expert_overlap_needs_chunks": Case(
        {**EXPERTS, **switch("moe_a2a_overlap"), **pins(expert_parallel=2, pipeline_parallel=2)}
    ),
    "fp8_parameters_need_fp8": Case(switch("fp8_parameters")),
    "expert_overlap_needs_16bit": Case(
        {**EXPERTS, **switch("moe_a2a_overlap"), "precision": "fp32", **pins(expert_parallel=2)}
    ),
    "stages_fill_pools": Case(
        {
            "cluster.node": None,
            "cluster.num_gpus": None,
            "cluster.pools": [{"node": "hgx-h100-8", "num_gpus": 8}, {"node": "hgx-a100-8", "num_gpus": 24}],
            **pins(pipeline_parallel=2, later_stages_on="hgx-a100-8"),
        }
    ),
    "pipeline_supported": Case(pins(pipeline_parallel=2), "fsdp2"),
    "schedule_chosen": Case(pins(pipeline_parallel=2, schedule="interleaved")),
    "enough_layers": Case(pins(pipeline_parallel=2, virtual_pipeline=32, layers_per_stage="free")),
    "leading_dense_layers": Case({"model": "deepseek-v3", **pins(pipeline_parallel=2, layers_per_stage=[2, 59])}),
    "layers_divide_pipeline": Case({"model": "qwen2.5-7b", **pins(pipeline_parallel=8, layers_per_stage="even")}),
    "virtual_pipeline_schedule": Case({"batch.global_batch_size": 12, **pins(pipeline_parallel=2, virtual_pipeline=2)}),
    "micro_batches_divide_rounds": Case(
        {"batch.global_batch_size": 20, **pins(pipeline_parallel=2, virtual_pipeline=2)}
    ),
    "two_directions": Case({"batch.global_batch_size": 4, **pins(pipeline_parallel=4)}),
    "micro_batches_fill_pipeline": Case({"batch.global_batch_size": 4, **pins(pipeline_parallel=4)}),
    "micro_batches_fill_warmup": Case({"batch.global_batch_size": 4, **pins(pipeline_parallel=4)}),
    "tied_weights_refuse_pipeline": Case({"model": "llama3.2-1b", **pins(pipeline_parallel=2)}),
    "deferral_needs_pipeline": Case(switch("deferred_embedding_gradient")),
    "deferral_needs_fusion": Case(
        {**switch("deferred_embedding_gradient", "unfused_gradient_accumulation"), **pins(pipeline_parallel=2)}
    ),
    "recomputed_layers_exist": Case(pins(recomputed_layers=40)),
    "recompute_needs_latents": Case(pins(recompute_modules=["mla_up_proj"])),
    "recompute_needs_grouped_experts": Case(pins(recompute_modules=["moe_act"])),
    "recompute_of_experts_alone": Case(
        {"model": "mixtral-8x7b", **switch("scoped_cuda_graphs"), **pins(recompute_modules=["moe"])}
    ),
    "recompute_needs_block_scales": Case({"precision": "fp8", **pins(recompute_modules=["layernorm"])}),
}
RULES = {rule.name: rule for axis in AXES for rule in (*axis.RULES, *axis.ENGINE_RULES)}
OF_ENGINES = {rule.name for axis in AXES for rule in axis.ENGINE_RULES}


@cache
def catalog() -> Catalog:
    return default_catalog()


def engines() -> Iterator[Engine]:
    for name in catalog().ids("engines"):
        yield catalog().find("engines", name)


def named_by(rule: str) -> list[tuple[str, str | None]]:
    """(engine, option that brings the rule, or None) of every engine with this rule."""
    found: list[tuple[str, str | None]] = []
    for engine in engines():
        if rule in engine.rules:
            found.append((engine.id, None))
        for name, option in engine.options.items():
            if rule in option.rules:
                found.append((engine.id, name))
    return found


def pairs() -> Iterator[tuple[str, str]]:
    """(rule, engine): all engines that name the rule; of those that inherit an option, the one that defines it."""
    for name, case in CASES.items():
        found = [engine for engine, option in named_by(name) if option is None or engine == MEGATRON]
        for engine in found or [case.engine]:
            yield name, engine


def document(case: Case, engine: str) -> Document:
    changes = {"engine": engine, **case.changes}
    changes.setdefault("layout.zero_stage", catalog().find("engines", engine).zero_stages[0])
    return override(parse_document(case.text, "rule.yaml"), changes)


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let one rule keep every row."""

    def all_rows(problem: Problem, layouts: Any) -> Any:
        return np.ones(len(layouts), dtype=bool)

    def loosened(rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        return tuple(replace(rule, keeps=all_rows) if rule.name == name else rule for rule in rules)

    for axis in AXES:
        monkeypatch.setattr(axis, "RULES", loosened(axis.RULES))
        monkeypatch.setattr(axis, "ENGINE_RULES", loosened(axis.ENGINE_RULES))


def test_every_rule_has_a_case_and_its_words() -> None:
    assert set(CASES) == set(RULES)
    assert len(RULES) == sum(len(axis.RULES) + len(axis.ENGINE_RULES) for axis in AXES), "two rules of one name"
    for rule in RULES.values():
        assert rule.text
        assert rule.source


def test_engines_name_rules_that_exist_and_every_engine_rule_has_an_engine() -> None:
    for engine in engines():
        assert set(engine.rules) <= set(RULES), engine.id
        assert len(engine.rules) == len(set(engine.rules)), engine.id
        for name, option in engine.options.items():
            assert set(option.rules) <= OF_ENGINES, (engine.id, name)
    for name in OF_ENGINES:
        assert named_by(name), f"no engine has the rule {name}"
        assert RULES[name].source != "definition"


@pytest.mark.parametrize(("name", "engine"), list(pairs()))
def test_a_rule_alone_refuses_a_layout(name: str, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = question_of(document(CASES[name], engine), catalog())
    space = build_space(problem)
    assert len(space.layouts) == 0
    (removed,) = space.removed
    assert removed.rule == name
    if name in problem.first.engine.rules or RULES[name].by_engine:
        assert removed.text == f"{problem.first.engine.name}: {RULES[name].text}"
    with pytest.raises(InputError, match=f"breaks the rule {name}"):
        estimate_question(problem)
    without(monkeypatch, name)
    again = build_space(problem)
    assert len(again.layouts) >= 1
    assert not again.removed


@pytest.mark.parametrize("name", ["kv_heads_multiple_of_tensor", "tied_weights_refuse_pipeline"])
def test_solve_names_the_rule_and_its_engine(name: str, tmp_path: Path) -> None:
    path = tmp_path / "rule.yaml"
    path.write_text(json.dumps(document(CASES[name], "torchtitan").data))
    result = run("solve", str(path))
    assert result.code == 1
    said = " ".join((result.out + result.err).split())
    assert name in said
    assert f"torchtitan (FSDP2): {RULES[name].text}" in said


LEGAL = {
    "group of five, ten micro-batches": ({**switch("interleaved_groups_of_five"), **pins(
        pipeline_parallel=4, virtual_pipeline=2), "batch.global_batch_size": 20}, MEGATRON),
    "three micro-batches in one round": (
        {"batch.global_batch_size": 12, **pins(pipeline_parallel=2, virtual_pipeline=2)}, "torchtitan"),
    "stages less one": ({"batch.global_batch_size": 6, **pins(pipeline_parallel=4)}, "nanotron"),
    "heads copied over Ulysses ranks": ({"model": "qwen2.5-14b", **pins(context_parallel=4)}, "verl-fsdp2"),
    "recomputation in fp8 with block scales": (
        {"precision": "fp8", **switch("block_scaled_fp8"), **pins(recompute_modules=["layernorm"])}, MEGATRON),
    "first and last stage differ": ({**pins(pipeline_parallel=4, layers_per_stage=[7, 9, 9, 7])}, "nemo-rl"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "engine"), list(LEGAL.values()), ids=list(LEGAL))
def test_what_the_engine_takes_is_not_refused(changes: dict[str, Any], engine: str) -> None:
    assert len(build_space(question_of(document(Case(changes), engine), catalog())).layouts) == 1


def test_a_group_of_five_is_too_small_for_eight_stages() -> None:
    changes = {**switch("interleaved_groups_of_five"), **pins(pipeline_parallel=8, virtual_pipeline=2)}
    (removed,) = build_space(question_of(document(Case(changes), MEGATRON), catalog())).removed
    assert removed.rule == "virtual_pipeline_schedule"


@pytest.mark.parametrize(
    ("changes", "engine", "levels"),
    [
        ({}, MEGATRON, [0, 16, 32]),
        (pins(recompute_modules=["layernorm"]), MEGATRON, [0]),
        ({**EXPERTS, **switch("moe_a2a_overlap"), **pins(expert_parallel=2)}, MEGATRON, [0]),
        (pins(recompute_modules=["op"]), "torchtitan", [0]),
    ],
)
def test_whole_layers_are_not_recomputed_beside_modules(
    changes: dict[str, Any], engine: str, levels: list[int]
) -> None:
    from planner.problem.stage_choices import recompute_levels

    question = question_of(document(Case({**changes, **pins(recomputed_layers=[0, 16, 32])}), engine), catalog())
    assert recompute_levels(question.first, 32) == levels
    asked = document(Case({**changes, **pins(recomputed_layers="all")}), engine)
    assert len(build_space(question_of(asked, catalog())).layouts) == (1 if len(levels) > 1 else 0)


REFUSED = {
    "precision": ({"precision": "fp32"}, "slime", "does not train in fp32"),
    "rank order": ({"cluster.rank_order": "tp_pp_dp"}, "torchtitan", "has no rank order tp_pp_dp"),
    "uneven middle": (
        pins(pipeline_parallel=4, layers_per_stage=[7, 8, 9, 8]), "nemo-rl", "only lets the first and the last"),
    "offload": (pins(optimizer_offload=True), "fsdp2", "does not offload the optimizer"),
    "zero bubble": (pins(pipeline_parallel=2, schedule="zb-h1"), MEGATRON, "has no zero-bubble schedule"),
    "per stage": (pins(recompute="per_stage"), "torchtitan", "takes one number of recomputed layers"),
    "method": (pins(recompute_method="uniform"), "torchtitan", "has no recompute method uniform"),
    "module": (pins(recompute_modules=["layernorm"]), "torchtitan", "has no module to recompute layernorm"),
}  # fmt: skip
ACCEPTED = {"zero bubble": "torchtitan"}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_contradiction_is_the_only_fault_and_names_the_engine(name: str) -> None:
    changes, engine, words = REFUSED[name]
    with pytest.raises(InputError) as refused:
        question_of(document(Case(changes), engine), catalog())
    (fault,) = refused.value.problems
    assert fault.what.startswith(f"engine {engine} ")
    assert words in fault.what
    question_of(document(Case(changes), ACCEPTED.get(name, MEGATRON)), catalog())


def test_an_engine_of_a_users_own_that_only_splits_evenly_refuses_other_stages(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    own = 'id: own\nextends: megatron-deepspeed\npipeline: {supported: true, virtual: false, uneven: "no"}\n'
    (tmp_path / "engines/own.yaml").write_text(own)
    case = Case(pins(pipeline_parallel=2, layers_per_stage=[15, 17], zero_stage=1))
    asked = override(parse_document(case.text, "rule.yaml"), {"engine": "own", **case.changes})
    with pytest.raises(InputError) as refused:
        question_of(asked, default_catalog([tmp_path]))
    assert [fault.what for fault in refused.value.problems] == ["engine own only splits layers evenly"]


def rule_rows() -> Iterator[str]:
    """Rows of the table in docs/engine-rules.md."""
    for name, rule in RULES.items():
        found = named_by(name)
        listed = sorted({engine for engine, option in found if option is None})
        options = sorted({f"option {option}" for _, option in found if option is not None})
        who = ", ".join([*listed, *options]) if name in OF_ENGINES else "all"
        yield f"| `{name}` | {rule.text} | {who} | {rule.source} |"


def test_the_page_of_rules_is_what_the_code_says() -> None:
    page = (ROOT / "docs" / "engine-rules.md").read_text().splitlines()
    assert [line for line in page if line.startswith("| `")] == list(rule_rows())
