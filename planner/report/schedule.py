"""The simulated schedule as a sentence and as data."""

from __future__ import annotations

from planner.analysis.schedule import AT_RANDOM, schedule_report
from planner.report.blocks import Block, Text
from planner.report.json_text import JsonObject
from planner.search.plan import Plan
from planner.units import percent


def schedule_blocks(plan: Plan) -> list[Block]:
    """One line for people, none without a pipeline."""
    report = schedule_report(plan)
    if report is None:
        return []
    low, high = AT_RANDOM
    text = (
        f"Schedule simulated ({report.name}): {report.difference * 100:+.1f} % on the step above, over which the "
        f"search is proved (legal layouts at random: {low * 100:+.1f} to {high * 100:+.1f} %); stages wait "
        f"{percent(report.bubble)} of forward and backward."
    )
    if report.zero_bubble_seconds is not None:
        saved = report.zero_bubble_seconds / report.step_seconds - 1
        text += f" A zero-bubble schedule (ZB-H1) would change that by {saved * 100:+.1f} %."
    return [Text(text)]


def schedule_document(plan: Plan) -> JsonObject:
    """Keys of `plan.time`; None where there is no pipeline."""
    report = schedule_report(plan)
    if report is None:
        return {"simulated_step_seconds": None, "schedule": None}
    zero_bubble = report.zero_bubble_seconds
    return {
        "simulated_step_seconds": round(report.step_seconds, 9),
        "schedule": {
            "name": report.name,
            "bubble": round(report.bubble, 9),
            "idle_seconds_per_stage": [round(seconds, 9) for seconds in report.idle],
            "zero_bubble_step_seconds": None if zero_bubble is None else round(zero_bubble, 9),
        },
    }
