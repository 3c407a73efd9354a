"""One pinned layout, costed without a search, as blocks and as data."""

from __future__ import annotations

from planner.report.blocks import Block, Command, Headline
from planner.report.screen import Screen, plan_rows, screen_blocks
from planner.report.summary import launchers_of, plan_blocks, plan_error_blocks, scenario_argument
from planner.search.plan import Plan, spare, verdict


def estimate_screen(plan: Plan) -> list[Block]:
    """A layout on one screen, whether it fits or not."""
    scenario, launchers = scenario_argument(plan.problem.document), launchers_of(plan.problem)
    command = Command(f"planner explain {scenario}", "what would make it fit (-v: its ledgers)")
    if plan.headroom_gib >= 0 and launchers:
        command = Command(f"planner launch {scenario} --to {launchers[0]}", "its launch flags (-v: its ledgers)")
    elif plan.headroom_gib >= 0:
        command = Command(f"planner estimate {scenario} -v", "its ledgers")
    return screen_blocks(Screen(_headline(plan), rows=plan_rows(plan), command=command))


def _headline(plan: Plan) -> Headline:
    answer, count = verdict(plan), plan.num_gpus
    gpus = f"{count} GPUs" if count > 1 else "one GPU"
    text = f"{plan.problem.name}: the pinned layout on {gpus}: {answer}, {spare(plan)}"
    return Headline(text, good=answer in ("safe", "likely"))


def estimate_blocks(plan: Plan) -> list[Block]:
    """The ledgers of a layout, whether it fits or not."""
    scenario = scenario_argument(plan.problem.document)
    return [
        _headline(plan),
        *plan_blocks(plan),
        *plan_error_blocks(plan),
        Command(f"planner estimate {scenario} --format json", "every item of the ledgers with its source"),
    ]
