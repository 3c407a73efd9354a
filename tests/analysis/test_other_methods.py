"""A way out where nothing fits: other methods on the same GPUs, each solved before it is named."""

from __future__ import annotations

import json

from answer_schemas import violations
from run_cli import run

from planner.analysis.infeasible.repairs import playbook
from planner.analysis.other_methods import enough_gpus, other_methods
from planner.inputs.asked import Wanted, template
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load, parse_document, with_overrides
from planner.report import screen
from planner.search.plan import verdict
from planner.search.search import plan

CATALOG = default_catalog()


def test_full_training_of_an_8b_on_24_gb_says_that_qlora_fits() -> None:
    document = parse_document(template(Wanted("llama3.1-8b", "4090", sequence=2048), CATALOG).text, "full")
    outcome = plan(document, CATALOG, check_points=0)
    assert outcome.status == "infeasible"
    found = {each.name: each for each in other_methods(outcome, CATALOG)}
    assert "QLoRA" in found
    for each in found.values():
        again = plan(with_overrides(document, each.arguments), CATALOG, check_points=0).plan
        assert again is not None
        assert again.peak_gib == each.plan.peak_gib < 23.52
    assert other_methods(plan(with_overrides(document, found["QLoRA"].arguments), CATALOG), CATALOG) == ()


def test_a_sequence_that_no_gpu_holds_is_cut_by_another_engine() -> None:
    document = parse_document(template(Wanted("llama3.2-1b", "8xh100", sequence=2**18), CATALOG).text, "long")
    outcome = plan(document, CATALOG, check_points=0)
    assert outcome.status == "infeasible"
    first = other_methods(outcome, CATALOG)[0]
    assert first.name == "Megatron, which cuts layers and sequences"
    assert first.plan.layout["context_parallel"] * first.plan.layout["tensor_parallel"] > 1


def test_gradients_that_stay_whole_are_reduced_each_time_where_that_fits() -> None:
    """27 GiB of a 14B: the option that spares them changes nothing that is trained, and stands first."""
    asked = ["model=qwen2.5-14b", "batch.micro_batch_size=1", "cluster.usable_gib=64"]
    outcome = plan(load("scenarios/llama8b_sft_a100.yaml", asked), CATALOG, check_points=0)
    assert outcome.status == "infeasible"
    first = other_methods(outcome, CATALOG)[0]
    assert first.arguments == ('engine_options=["sync_each_batch"]',)
    cures = [attempt.changes for kind in playbook(outcome.question) for attempt in kind.attempts]
    assert (("engine_options", ("sync_each_batch",)),) in cures


def test_a_70b_on_two_cards_of_24_gb_waits_on_the_host() -> None:
    """answer.ai's fsdp_qlora, whose README asks for just over 128 GB of host memory and a swap file (@05ed9f2)."""
    document = parse_document(template(Wanted("llama3.3-70b", "2x4090", task="qlora"), CATALOG).text, "two cards")
    for host_gib, more in ((128, ""), (96, ", with 128 GiB of host memory a node (of 96)")):
        asked = with_overrides(document, (f"cluster.host_memory_gib={host_gib}",))
        outcome = plan(asked, CATALOG, check_points=0)
        assert outcome.status == "infeasible"
        first = other_methods(outcome, CATALOG)[0]
        assert first.name == f"the option parameter_offload{more}"
        assert first.arguments[0] == 'engine_options=["parameter_offload"]'
        assert ("cluster.host_memory_gib=128" in first.arguments) == bool(more)
        assert first.plan.peak_gib < 20


def test_the_way_out_is_printed_and_saved() -> None:
    words = ("ask", "llama3.1-8b", "--gpus", "4090", "--sequence", "2k")
    shown = run(*words)
    assert shown.code == 1
    assert "fits instead (solved): " in " ".join(shown.out.split())
    assert "QLoRA: 1" in shown.out
    assert len(shown.out.splitlines()) <= 24
    answer = json.loads(run(*words, "--format", "json").out)
    assert violations("solve", answer) == []
    assert "QLoRA" in [each["name"] for each in answer["other_methods"]]


def test_an_optimizer_that_the_engine_cannot_be_told_is_not_offered_and_is_marked() -> None:
    narrow = "layout.tensor_parallel=8"
    document = load("scenarios/llama70b_64xh100.yaml", ["optimizer=adamw-8bit", narrow])
    on = screen.machines_text(plan(document, CATALOG, check_points=0).plan)
    assert "adamw-8bit (no setting of megatron-core names it)" in on
    tight = load("scenarios/llama70b_64xh100.yaml", ["cluster.usable_gib=14", narrow])
    outcome = plan(tight, CATALOG, check_points=0)
    assert outcome.status == "infeasible"
    named = [dict(each.changes).get("optimizer") for each in other_methods(outcome, CATALOG)]
    assert not {"adamw-8bit", "paged-adamw-8bit"} & set(named)


def test_a_base_that_no_gpu_holds_alone_is_sharded() -> None:
    wanted = Wanted("llama3.1-70b", "8xh100", task="lora", sequence=4096, engine="transformers-ddp")
    document = parse_document(template(wanted, CATALOG).text, "lora")
    found = {each.name: each for each in other_methods(plan(document, CATALOG, check_points=0), CATALOG)}
    assert found["FSDP, which shards weights"].plan.problem.engine.id == "fsdp1"


def test_a_rollout_engine_that_cannot_hold_16_bit_weights_is_offered_fp8() -> None:
    """A share of memory that 16-bit weights fill alone; GPUs without fp8 are not told so."""
    pins = ["rl.rollout.tensor_parallel=1", "rl.rollout.gpu_memory_utilization=0.18"]
    outcome = plan(load("scenarios/qwen7b_rl_8gpu.yaml", pins), CATALOG, check_points=0)
    assert outcome.status == "infeasible"
    offered = "a rollout engine with weights in fp8"
    assert offered in [each.name for each in other_methods(outcome, CATALOG)]
    old = plan(load("scenarios/qwen7b_rl_8gpu.yaml", [*pins, "cluster.node=hgx-a100-8"]), CATALOG, check_points=0)
    assert offered not in [each.name for each in other_methods(old, CATALOG)]


def test_so_many_gpus_as_would_do_are_named_and_half_of_them_would_not() -> None:
    document = parse_document(
        template(Wanted("llama3.1-8b", "1xh100", engine="fsdp2", sequence=2048), CATALOG).text, ""
    )
    (found,) = enough_gpus(plan(document, CATALOG, check_points=0), CATALOG)
    count = found.plan.layout["num_gpus"]
    assert found.arguments == (f"cluster.num_gpus={count}",)
    assert count in (2, 4, 8)
    half = with_overrides(document, [f"cluster.num_gpus={count // 2}"])
    assert plan(half, CATALOG, check_points=0).status == "infeasible"
    assert enough_gpus(plan(with_overrides(document, found.arguments), CATALOG, check_points=0), CATALOG) == ()


def test_cards_without_a_network_are_asked_up_to_one_node() -> None:
    asked = Wanted("llama3.1-70b", "rtx-pro-6000-server", engine="fsdp2", sequence=2048)
    document = parse_document(template(asked, CATALOG).text, "")
    assert enough_gpus(plan(document, CATALOG, check_points=0), CATALOG) == ()


def test_an_engine_that_shards_nothing_is_left_for_one_that_does_and_so_many_gpus_are_named() -> None:
    document = parse_document(template(Wanted("llama3.1-70b", "h100", sequence=2048), CATALOG).text, "")
    assert document.data["engine"] == "transformers"
    least, better = enough_gpus(plan(document, CATALOG, check_points=0), CATALOG)
    count = least.plan.layout["num_gpus"]
    assert dict(least.changes) == {"engine": "fsdp2", "cluster.num_gpus": count}
    assert dict(better.changes) == {"engine": "fsdp2", "cluster.num_gpus": 2 * count}
    assert (verdict(least.plan), better.plan.critical) == ("critical", False)
    half = with_overrides(document, ["engine=fsdp2", f"cluster.num_gpus={count // 2}"])
    assert plan(half, CATALOG, check_points=0).status == "infeasible"


def test_where_sharding_is_not_enough_the_engine_that_cuts_layers_is_named() -> None:
    pins = ["layout.recomputed_layers=32", "cluster.usable_gib=16", "batch.sequence_length=16384"]
    asked = Wanted("llama3.1-8b", "8xh100", engine="fsdp2", batch=8)
    document = with_overrides(parse_document(template(asked, CATALOG).text, ""), pins)
    (found,) = enough_gpus(plan(document, CATALOG, check_points=0), CATALOG)
    assert dict(found.changes)["engine"] == "megatron-core"
    assert plan(with_overrides(document, found.arguments), CATALOG, check_points=0).status == "optimal"
