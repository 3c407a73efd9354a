"""One pinned layout, costed without a search, as blocks and as data."""

from __future__ import annotations

from planner.report.blocks import Block, Command, Headline
from planner.report.summary import plan_blocks, plan_error_blocks, scenario_argument
from planner.search.plan import Plan, spare, verdict


def estimate_blocks(plan: Plan) -> list[Block]:
    """The ledgers of a layout, whether it fits or not."""
    answer = verdict(plan)
    name = plan.problem.name
    text = f"{name}: the pinned layout on {plan.layout['num_gpus']} GPUs: {answer}, {spare(plan)}"
    scenario = scenario_argument(plan.problem.document)
    return [
        Headline(text, good=answer == "safe"),
        *plan_blocks(plan),
        *plan_error_blocks(plan),
        Command(f"planner estimate {scenario} --format json", "every item of the ledgers with its source"),
    ]
