"""Rules the other way: a layout that one rule of ours alone refuses is refused by Megatron too.

Megatron checks in three places: its arguments, its process groups, and in what is built or run later; a rule of the
last kind is named with where.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from typing import Any
from unittest import mock

import pytest
from drawn import MODELS, PLAIN, PLANS, catalog, proof_of_anything, words_of, written
from test_parsers import OF_THE_USER, megatron

from planner.errors import PlannerError
from planner.inputs.document import override, parse_document
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search import space as spaces
from planner.search.plan import make_plan
from planner.search.search import Outcome

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("default")]
LATER = {
    "projections_divide_tensor": "Transformer Engine's LayerNormLinear, divide(out_features, tp_size)",
    "positions_divide_context": "the yarn cache, cut over context ranks in its first forward pass",
}
"""Rules that no argument check has: where Megatron stops instead."""


def draw(rng: random.Random) -> dict[str, Any]:
    """A scenario whose degrees need not divide anything."""
    pins: dict[str, Any] = {
        "model": rng.choice(MODELS),
        "cluster.node": "gb200-nvl72",
        "cluster.num_gpus": rng.choice([4, 8, 12, 16, 24, 36, 48]),
        "batch.global_batch_size": rng.choice([48, 96, 100, 144]),
        "batch.micro_batch_size": rng.choice([1, 2]),
        "batch.sequence_length": rng.choice([1024, 1020, 2048, 4100]),
        "layout.tensor_parallel": rng.choice([1, 2, 3, 4, 6, 8, 12]),
        "layout.pipeline_parallel": rng.choice([1, 1, 2, 3, 4]),
        "layout.context_parallel": rng.choice([1, 1, 2, 3]),
        "layout.virtual_pipeline": rng.choice([1, 1, 2, 3]),
        "layout.layers_per_stage": "even",
        "layout.recomputed_layers": 0,
        "layout.sequence_parallel": rng.choice([True, True, False]),
        "limits.tensor_parallel_inside_domain": False,
        "limits.host_memory": False,
    }
    if rng.random() < 0.4:
        modules = rng.sample(["mla_up_proj", "moe_act", "layernorm", "mlp", "core_attn"], 1)
        pins |= {"layout.recompute_modules": modules, "precision": rng.choice(["bf16", "fp8"])}
    if rng.random() < 0.4:
        pins |= {
            "layout.expert_parallel": rng.choice([1, 2, 3, 5, 8]),
            "layout.expert_tensor_parallel": rng.choice([1, 2]),
        }
    return pins


def refused_by_one(rng: random.Random) -> tuple[str, Outcome] | None:
    """(rule, a plan that it alone refuses); none where the draw breaks no rule, or several."""
    document = override(parse_document(json.dumps(PLAIN), "asked.yaml"), draw(rng))
    try:
        question = question_of(document, catalog())
    except PlannerError:
        return None
    rules = spaces.rules_of(question.first)
    for rule in rng.sample(rules, len(rules)):
        if rule.name not in question.first.engine.rules:
            continue
        others = [other for other in rules if other is not rule]
        with mock.patch.object(spaces, "rules_of", return_value=others):
            try:
                found = spaces.build_space(question)
            except PlannerError:
                continue
        if not len(found.layouts):
            continue
        keeps = rule.keeps(question.first, found.layouts)
        broken = [row for row in range(len(found.layouts)) if not keeps[row]]
        if broken:
            row = rng.choice(broken)
            stages = found.layouts.row(row)["pipeline_parallel"]
            whole, rest = divmod(question.architecture.num_hidden_layers, stages)
            layers = tuple(whole + (stage < rest) for stage in range(stages))
            try:
                plan = make_plan(question, found.layouts, row, layers, (0,) * stages, None, None)
            except (ValueError, PlannerError):  # ranks that fall on no machines cannot be costed
                continue
            return rule.name, Outcome(question, "optimal", plan, proof_of_anything(), ())
    return None


ENDS = ("--decoder-first-pipeline-num-layers", "--decoder-last-pipeline-num-layers", "--pipeline-model-parallel-layout")
"""Flags of uneven stages, each with a value: stages that were asked to be even are asked without them."""


def evenly(words: list[str]) -> list[str]:
    """The command without what would make its stages uneven."""
    return [word for at, word in enumerate(words) if word not in ENDS and (at == 0 or words[at - 1] not in ENDS)]


def answer(text: str, gpus: int) -> str | None:
    """Why Megatron's arguments, its configuration, micro-batches or process groups refuse a script; none if nothing."""
    arguments = megatron()
    words, exports = words_of(text)
    world = {"WORLD_SIZE": str(gpus), "RANK": "0", "LOCAL_RANK": "0", **exports}
    try:
        with mock.patch.dict(os.environ, world), mock.patch.object(sys, "argv", ["x", *evenly(words), *OF_THE_USER]):
            args = arguments.parse_args()
            args = arguments.validate_args(args) or args
            arguments.core_transformer_config_from_args(args)
            batches(args)
            groups(args)
    except (AssertionError, ValueError, RuntimeError, SystemExit, ZeroDivisionError, TypeError) as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    return None


def batches(args: Any) -> None:
    from megatron.core.num_microbatches_calculator import ConstantNumMicroBatchesCalculator

    ConstantNumMicroBatchesCalculator(args.global_batch_size, args.micro_batch_size, args.data_parallel_size, False, 0)


def groups(args: Any) -> None:
    """Its process groups over ranks that are only said to be there."""
    dist = pytest.importorskip("torch.distributed")
    from megatron.core import parallel_state

    store = pytest.importorskip("torch.testing._internal.distributed.fake_pg").FakeStore

    dist.init_process_group("fake", store=store(), rank=0, world_size=args.world_size)
    try:
        parallel_state.initialize_model_parallel(
            args.tensor_model_parallel_size,
            args.pipeline_model_parallel_size,
            args.virtual_pipeline_model_parallel_size,
            context_parallel_size=args.context_parallel_size,
            expert_model_parallel_size=args.expert_model_parallel_size,
            expert_tensor_parallel_size=args.expert_tensor_parallel_size,
            order="tp-cp-ep-pp-dp" if args.use_tp_pp_dp_mapping else "tp-cp-ep-dp-pp",
            create_gloo_process_groups=False,
        )
    finally:
        parallel_state.destroy_model_parallel()
        dist.destroy_process_group()


def test_what_a_rule_alone_refuses_megatron_refuses_too() -> None:
    rng, asked, silent = random.Random(12), Counter[str](), Counter[str]()
    unwritten: Counter[str] = Counter()
    while sum(asked.values()) < PLANS:
        found = refused_by_one(rng)
        if found is None:
            continue
        rule, outcome = found
        assert outcome.plan is not None
        try:
            text = registry.files("megatron", outcome, catalog())["plan.sh"]
        except PlannerError as error:
            unwritten[f"{rule}: {str(error).splitlines()[0][:60]}"] += 1
            continue
        asked[rule] += 1
        why = answer(text, outcome.plan.layout["num_gpus"])
        if why is None:
            silent[rule] += 1
            if rule not in LATER:
                print(f"not refused: {rule}, {outcome.plan.problem.architecture.id}, {outcome.plan}")
    print(f"asked {dict(asked)}; not refused by arguments or groups {dict(silent)}; not written {dict(unwritten)}")
    assert set(silent) <= set(LATER), silent


def test_what_no_rule_refuses_is_not_refused() -> None:
    """The control of the test above: the same questions let legal plans pass."""
    for plan, files in written("megatron-core", "megatron", max(PLANS // 5, 1)):
        if plan.problem.scenario.cluster.rank_order == "default" and not any(plan.recomputed):
            split = len(set(plan.layers)) > 1
            assert split or answer(files["plan.sh"], plan.layout["num_gpus"]) is None, files["plan.sh"]
