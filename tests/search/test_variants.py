"""Decisions that change the costs themselves: searched together, they give the best of all pinned answers."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from run_cli import run

from planner.costs.time.selective import MODULES
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, load, override, parse_document
from planner.problem.resolve import question_of
from planner.search.estimate import estimate
from planner.search.plan import WAITING, Plan
from planner.search.search import Outcome, plan
from planner.search.space import build_space

SMALL: dict[str, Any] = {
    "name": "small",
    "task": "pretrain",
    "model": "llama3.1-8b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16},
    "batch": {"global_batch_size": 64, "sequence_length": 8192, "micro_batch_size": [1, 2]},
    "layout": {"context_parallel": [1, 2]},
}
RL = "scenarios/qwen7b_rl.yaml"


def small(**changes: Any) -> Document:
    return override(
        parse_document(json.dumps(SMALL), "small.yaml"), {k.replace("__", "."): v for k, v in changes.items()}
    )


def solved(document: Document) -> Outcome:
    return plan(document, check_points=0)


def rl_plan(*changes: str) -> Plan:
    found = plan(load(RL, ["cluster.max_gpus=8", *changes]), check_points=0).plan
    assert found is not None
    return found


OPEN = {
    "precision": ["bf16", "fp8"],
    "layout.optimizer_offload": [False, True],
    "layout.activation_offload": [False, True],
    "cluster.rank_order": ["default", "tp_pp_dp"],
}


@pytest.mark.parametrize("pair", list(itertools.combinations(OPEN, 2)), ids=lambda p: " and ".join(p))
def test_together_is_the_best_of_all_pinned(pair: tuple[str, str]) -> None:
    open_ = {path: OPEN[path] if path == "precision" else "any" for path in pair}
    together = solved(small(**{k.replace(".", "__"): v for k, v in open_.items()}))
    assert together.status == "optimal"
    assert together.plan is not None
    values = [dict(zip(pair, choice, strict=True)) for choice in itertools.product(*(OPEN[path] for path in pair))]
    pinned = [solved(small(**{k.replace(".", "__"): v for k, v in choice.items()})).plan for choice in values]
    fastest = min(p.step_seconds for p in pinned if p is not None)
    band = together.question.scenario.search.near_tie
    assert fastest * (1 - 1e-9) <= together.plan.step_seconds <= fastest / (1 - band) * (1 + 1e-6)
    settings = {
        path: json.loads(value) if value in ("true", "false") else value
        for path, value in together.plan.problem.settings
    }
    assert set(settings) - {"layout.recomputed_layers"} == set(pair), "which offloading splits by itself"
    again = pinned[values.index({path: settings[path] for path in pair})]
    assert again is not None
    assert again.step_seconds <= together.plan.step_seconds * (1 + 1e-9)


def test_schedules_of_an_engine_that_has_several() -> None:
    document = small(engine="torchtitan", layout__schedule="any", layout__pipeline_parallel=2, layout__zero_stage="any")
    names = {dict(v.settings)["layout.schedule"] for v in question_of(document).problems}
    assert names == {"usual", "zb-h1"}
    found = solved(document).plan
    assert found is not None
    assert len({dict(v.settings)["layout.schedule"] for v in question_of(document).problems}) == 2


def test_any_leaves_what_the_engine_has() -> None:
    assert len(question_of(small(layout__schedule="any")).problems) == 1, "Megatron has no zero-bubble schedule here"
    assert len(question_of(small(engine="fsdp2", layout__optimizer_offload="any")).problems) == 1
    with pytest.raises(InputError, match="does not offload the optimizer"):
        question_of(small(engine="fsdp2", layout__optimizer_offload=True))


def test_selective_recomputation_tries_what_the_architecture_has() -> None:
    each = question_of(small(layout__recompute_modules="any")).problems
    sets = [tuple(v.scenario.layout.recompute_modules) for v in each]
    assert sets[0] == ()
    assert len(set(sets)) == len(sets)
    assert {m for some in sets for m in some} == {"layernorm", "mlp"}, "no experts, and flash attention keeps no scores"
    mixed = question_of(small(layout__recompute_modules=["mlp"]))
    found = solved(mixed.document).plan
    assert found is not None
    assert max(found.recomputed) == 0, "Megatron recomputes modules or whole layers, not both"
    both = solved(small(layout__recompute_modules=["mlp"], layout__recomputed_layers="all"))
    assert both.status == "infeasible"
    assert "recomputed_layers_exist" in {r.rule for r in both.proof.removed}


def test_what_machines_rule_out_is_counted_with_its_reason() -> None:
    document = small(cluster__node="hgx-a100-8", precision=["bf16", "fp8"])
    outcome = solved(document)
    assert outcome.plan is not None
    assert outcome.plan.problem.precision.id == "bf16"
    (refused,) = [r for r in outcome.proof.removed if r.rule == "refused"]
    assert "no fp8 matrix units" in refused.text
    with pytest.raises(InputError, match="fp8"):
        question_of(small(cluster__node="hgx-a100-8", precision=["fp8"]))


def pools(**changes: Any) -> Document:
    each = [{"node": "hgx-h100-8", "num_gpus": 8}, {"node": "hgx-a100-8", "num_gpus": 16}]
    return small(**{"cluster": {"pools": each}, **changes})


def test_a_run_trains_on_the_pool_that_is_faster() -> None:
    found = {
        node: solved(small(cluster__node=node, cluster__num_gpus=count)).plan
        for node, count in (("hgx-h100-8", 8), ("hgx-a100-8", 16))
    }
    chosen = solved(pools())
    assert chosen.plan is not None
    best = min((p for p in found.values() if p is not None), key=lambda p: p.step_seconds)
    assert chosen.plan.problem.node.id == best.problem.node.id
    assert chosen.plan.step_seconds == pytest.approx(best.step_seconds)
    assert chosen.plan.usable_gib == chosen.plan.problem.usable_gib
    assert {v.node.id for v in build_space(chosen.question) and chosen.question.problems} == set(found)


def test_memory_of_a_small_pool_binds_by_its_own_limit() -> None:
    """With 30 GiB on the H100 the search goes to the A100, and keeps what must stay free there."""
    each = [{"node": "hgx-h100-8", "num_gpus": 8, "usable_gib": 8.0}, {"node": "hgx-a100-8", "num_gpus": 16}]
    found = solved(small(cluster={"pools": each})).plan
    assert found is not None
    assert found.problem.node.id == "hgx-a100-8"
    assert found.headroom_gib >= found.problem.headroom_gib
    tight = solved(small(cluster={"pools": [pool | {"usable_gib": 8.0} for pool in each]}))
    assert tight.status == "infeasible"


def test_rollouts_on_gpus_of_their_own() -> None:
    """In turn, times add up; at once, the longer one sets the step; nobody sleeps, and nothing is woken."""
    apart, at_once = rl_plan("rl.placement=disaggregated"), rl_plan("rl.placement=asynchronous")
    for found in (apart, at_once):
        assert found.rollout is not None
        assert found.num_gpus == found.layout["num_gpus"] + found.rollout.num_gpus <= 8
        names = {item.name for phase in found.memory for item in phase.items} | {entry.name for entry in found.time}
        assert not {"sleeping trainer", "sleeping rollout engine", "sleep and wake"} & names
        assert "sync buckets" in names
    phases = dict(apart.phases)
    assert apart.rollout is not None
    assert phases["rollout"] == pytest.approx(apart.rollout.seconds)
    assert apart.step_seconds == pytest.approx(sum(phases.values()))
    phases = dict(at_once.phases)
    assert at_once.rollout is not None
    trained = phases["training"] + phases["log-probabilities"] + phases["update"]
    longer = max(trained, at_once.rollout.seconds)
    assert at_once.step_seconds == pytest.approx(longer + phases["weight sync and switching"])
    waits = sum(entry.amount for entry in at_once.time if entry.name == WAITING)
    assert waits == pytest.approx(max(0.0, at_once.rollout.seconds - trained))


def test_placement_is_the_best_of_three() -> None:
    steps = {name: rl_plan(f"rl.placement={name}") for name in ("colocated", "disaggregated", "asynchronous")}
    any_ = rl_plan("rl.placement=any")
    fewest = min(len(p.wish.given_up) for p in steps.values())
    best = max(p.samples_per_second for p in steps.values() if len(p.wish.given_up) == fewest)
    assert any_.samples_per_second >= best * (1 - 0.005) * (1 - 1e-6)


def test_rollouts_may_have_a_pool_of_their_own() -> None:
    document = load("scenarios/qwen7b_rl_two_pools.yaml", ["rl.placement=disaggregated", "rl.rollout.node=hgx-a100-8"])
    found = plan(document, check_points=0).plan
    assert found is not None
    assert found.rollout is not None
    assert found.problem.generating.node.id == "hgx-a100-8"
    document = override(document, {"cluster.pools[1].usable_gib": 6.0})
    assert plan(document, check_points=0).status == "infeasible", "rollout weights and pool do not fit 6 GiB"


def test_a_pool_that_cannot_compute_in_the_precision_does_not_generate() -> None:
    pools = [{"node": "hgx-a100-8", "num_gpus": 8}, {"node": "dgx1-v100", "num_gpus": 8}]
    document = load(RL, ["cluster.max_gpus=null", "rl.placement=[colocated, disaggregated]"])
    document = override(document, {"cluster.pools": pools, "cluster.node": None})
    outcome = solved(document)
    assert outcome.plan is not None
    why = [removed.text for removed in outcome.proof.removed if removed.rule == "refused"]
    assert any("no bf16 matrix units to generate with" in text for text in why)


def test_a_smaller_concurrency_is_never_faster() -> None:
    one, many = rl_plan("rl.rollout.max_concurrency=32"), rl_plan()
    assert one.rollout is not None
    assert many.rollout is not None
    assert one.rollout.concurrency <= 32
    assert one.rollout.max_concurrency == 32
    assert many.rollout.max_concurrency is None
    assert one.samples_per_second <= many.samples_per_second * (1 + 1e-9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["rl.rollout.num_gpus=4"], "placement is colocated"),
        (["rl.placement=disaggregated", "rl.rollout.num_gpus=64"], "no GPUs are left to train"),
        (["rl.rollout.node=hgx-a100-8"], "no pool of the cluster"),
        (["cluster.pools=[{node: hgx-h100-8, num_gpus: 8}]"], "exclude each other"),
        (["precision=[bf16, fp12]"], "fp12"),
        (["rl.placement=beside"], "placement"),
    ],
)
def test_errors_say_what_is_wrong(changes: list[str], said: str) -> None:
    done = run("solve", RL, *(part for change in changes for part in ("--set", change)))
    assert done.code == 2
    assert said in done.err
    assert "try" in done.err or "where" in done.err


def test_estimate_names_what_is_open() -> None:
    with pytest.raises(InputError, match=r"precision \(bf16, fp8\)"):
        estimate(small(precision=["bf16", "fp8"]))


def test_too_many_variants_are_refused() -> None:
    nodes = ("hgx-h100-8", "dgx-h100", "oci-h200", "dgx-h200", "dgx-b200", "aws-p6-b200")
    cluster = {"pools": [{"node": node, "num_gpus": 2048} for node in nodes], "rank_order": "any"}
    document = small(
        model="deepseek-v3", layout__recompute_modules="any", precision=["bf16", "fp8"], cluster=cluster,
        layout__optimizer_offload="any", layout__activation_offload="any",
    )  # fmt: skip
    with pytest.raises(InputError, match="combinations of machines"):
        question_of(document)


def test_launch_flags_follow_the_placement() -> None:
    at_once = run("launch", RL, "--to", "slime", "--set", "cluster.max_gpus=8", "--set", "rl.placement=asynchronous")
    assert at_once.code == 0
    assert "train_async.py" in at_once.out
    assert "--rollout-num-gpus " in at_once.out
    assert "--colocate" not in at_once.out
    chosen = ["--set", "layout.recompute_modules=[mlp]", "--set", "layout.activation_offload=true"]
    flags = run("launch", "scenarios/llama70b_64xh100.yaml", "--to", "megatron", *chosen).out
    assert "--recompute-granularity selective" in flags
    assert "--recompute-modules mlp" in flags
    assert "--fine-grained-activation-offloading" in flags


def test_every_module_that_can_be_recomputed_takes_time() -> None:
    catalog = default_catalog()
    named = {m for name in catalog.ids("engines") for m in catalog.find("engines", name).recompute_modules}
    assert named == set(MODULES)
    pinned = {"layout__tensor_parallel": 2, "layout__pipeline_parallel": 1, "layout__context_parallel": 1}
    pinned |= {"layout__data_parallel": 8, "layout__recomputed_layers": 0, "batch__micro_batch_size": 1}
    steps = {}
    for modules in ([], ["layernorm"], ["mlp"], ["layernorm", "mlp"]):
        found = estimate(small(**pinned, layout__recompute_modules=modules))
        steps[tuple(modules)] = found.step_seconds
        again = sum(entry.amount for entry in found.time if entry.name == "recomputed modules")
        assert (again > 0) == bool(modules)
    assert steps[()] < steps["layernorm",] < steps["mlp",] < steps["layernorm", "mlp"]
    both = steps["layernorm",] + steps["mlp",] - steps[()]
    assert steps["layernorm", "mlp"] == pytest.approx(both), "modules are recomputed one after the other"


MIXED = "scenarios/llama70b_h100_and_a100.yaml"


def test_one_pipeline_over_two_pools() -> None:
    """The slow pool gets fewer layers, both pools stay within their own memory, and more GPUs are not slower."""
    both = plan(load(MIXED), check_points=0).plan
    alone = plan(load(MIXED, ["layout.later_stages_on=null"]), check_points=0).plan
    assert both is not None
    assert alone is not None
    assert both.problem.later is not None
    assert both.num_gpus == 128
    assert both.samples_per_second > alone.samples_per_second
    first = both.first_stages
    by_gpu = {both.problem.gpu.id: both.layers[:first], both.problem.later.gpu.id: both.layers[first:]}
    slow, fast = by_gpu["a100-sxm4-80gb"], by_gpu["h100-sxm5-80gb"]
    assert sum(slow) + sum(fast) == 80
    assert max(slow) < min(fast)
    for phase in both.memory:
        assert phase.total_gib <= both.machines(phase).limit_gib
    assert sum(entry.amount for entry in both.time) == pytest.approx(both.step_seconds)


def test_a_pool_beside_itself_is_that_pool() -> None:
    """Stages split over two pools of the same machines cost what one pool of them all costs."""
    node, layout = "hgx-h100-8", {"tensor_parallel": 2, "pipeline_parallel": 4, "data_parallel": 2}
    layout |= {"context_parallel": 1, "recomputed_layers": 4, "layers_per_stage": "even"}
    one = estimate(small(cluster={"node": node, "num_gpus": 16}, layout=layout, batch__micro_batch_size=1))
    pools = [{"node": node, "num_gpus": 8}, {"node": "dgx-h100", "num_gpus": 8}]
    document = small(
        cluster={"pools": pools}, layout=layout | {"later_stages_on": "dgx-h100"}, batch__micro_batch_size=1
    )
    two = plan(document, check_points=0).plan
    assert two is not None
    assert two.problem.later is not None
    assert two.peak_gib == pytest.approx(one.peak_gib)
    assert two.step_seconds == pytest.approx(one.step_seconds, rel=0.02), "the two nodes differ in their adapters alone"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["layout.later_stages_on=hgx-h200-8"], "no pool beside the run's own"),
        (["cluster.pools[1].num_gpus=[32, 64]", "layout.later_stages_on=hgx-a100-8"], "one GPU count of each"),
        (["cluster.pools[1].num_gpus=4", "layout.later_stages_on=hgx-a100-8"], "whole nodes"),
        (["precision=fp8", "layout.later_stages_on=hgx-a100-8"], "no fp8 matrix units"),
    ],
)
def test_pipelines_over_two_pools_say_what_is_wrong(changes: list[str], said: str) -> None:
    done = run("solve", MIXED, *(part for change in changes for part in ("--set", change)))
    assert done.code == 2
    assert said in done.err


def test_every_report_says_what_is_not_scored() -> None:
    one = ("--set", "layout.later_stages_on=hgx-a100-8", "--set", "layout.tensor_parallel=8")
    pools = run("whatif", MIXED, *one, "-vv").out
    assert "pipelines over two kinds of GPUs: no published run has been scored" in " ".join(pools.split())
    two = "scenarios/qwen7b_rl_two_pools.yaml"
    narrow = ("rl.placement=asynchronous", "layout.tensor_parallel=2", "layout.optimizer_offload=false")
    apart = run("compare", two, RL, *(f"--set-a={change}" for change in narrow), "-vv").out
    assert "what separate GPUs gain is off by" in " ".join(apart.split())
