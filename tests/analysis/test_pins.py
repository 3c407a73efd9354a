"""A plan that was found among others opens exactly, also where it takes several pools of machines."""

from __future__ import annotations

from planner.analysis.near import near_plans
from planner.analysis.pins import pins
from planner.inputs.catalog import default_catalog
from planner.inputs.document import document_of, with_overrides
from planner.problem.resolve import question_of
from planner.search.plan import Plan
from planner.search.search import plan

TWO_POOLS = {
    "name": "two", "task": "rl", "model": "qwen2.5-0.5b", "engine": "slime",
    "cluster": {"pools": [{"node": "hgx-h100-8", "num_gpus": [2, 4]}, {"node": "hgx-a100-8", "num_gpus": [2, 4]}]},
    "rl": {"prompt_length": 512, "response_length": 2048, "response_distribution": {"mean": 800, "p99": 2000},
           "rollout_batch_size": 32, "n_samples_per_prompt": 8, "placement": ["disaggregated", "asynchronous"]},
    "layout": {"pipeline_parallel": 1, "context_parallel": 1}, "limits": {"headroom_gib": 5},
}  # fmt: skip


def decided(found: Plan) -> tuple[object, ...]:
    """Layout, placement, and which machines train and generate, how many of each."""
    problem, rollout = found.problem, found.rollout
    assert rollout is not None
    return (found.named, problem.placement, problem.node.id, problem.generating.node.id, rollout.num_gpus,
            rollout.tensor_parallel, found.num_gpus)  # fmt: skip


def test_a_plan_over_several_pools_opens_exactly() -> None:
    catalog, document = default_catalog(), document_of(TWO_POOLS, "two.yaml")
    for outcome in near_plans(question_of(document, catalog), count=4, within=0.5):
        assert outcome.plan is not None
        opened = plan(with_overrides(document, pins(outcome.plan, document)), catalog, check_points=0)
        assert opened.plan is not None
        assert decided(opened.plan) == decided(outcome.plan)
