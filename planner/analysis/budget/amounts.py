"""How much work a job is, in tokens."""

from __future__ import annotations

from planner.schema.budget import Job
from planner.search.plan import Plan


def job_tokens(job: Job, plan: Plan) -> float:
    """Tokens of a job each time it is done: stated, of its epochs, or of so many steps of a plan."""
    if job.tokens is not None:
        return job.tokens
    if job.epochs is not None and job.data_set_tokens is not None:
        return job.epochs * job.data_set_tokens
    assert job.steps is not None
    return job.steps * plan.tokens_per_second * plan.step_seconds


def amount_text(job: Job) -> str:
    """The amount as the file states it."""
    if job.tokens is not None:
        text = f"{job.tokens / 1e9:,.1f} billion tokens"
    elif job.epochs is not None:
        text = f"{job.epochs:g} epochs of {(job.data_set_tokens or 0) / 1e9:,.2f} billion tokens"
    else:
        text = f"{job.steps:,.0f} steps"
    return text + (f", {job.repeat.times} times every {job.repeat.every_days:g} days" if job.repeat is not None else "")
