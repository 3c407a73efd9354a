"""The simulated schedule as a sentence and as data."""

from __future__ import annotations

from planner.analysis.schedule import schedule_report
from planner.report.blocks import Block, Text
from planner.report.json_text import JsonObject
from planner.search.plan import Plan
from planner.units import number, percent


def schedule_blocks(plan: Plan) -> list[Block]:
    """One line for people, none without a pipeline."""
    report = schedule_report(plan)
    if report is None:
        return []
    text = (
        f"Schedule simulated ({report.name}): {_seconds(report.step_seconds)} s, closed form "
        f"{_seconds(report.closed_form_seconds)} s, {report.difference * 100:+.1f} %; "
        f"stages wait {percent(report.bubble)} of forward and backward."
    )
    if report.zero_bubble_seconds is not None:
        text += f" A zero-bubble schedule (ZB-H1) would take {_seconds(report.zero_bubble_seconds)} s."
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


def _seconds(value: float) -> str:
    return number(value, 3 if value < 10 else 2)
