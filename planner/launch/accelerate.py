"""accelerate: its configuration for FSDP2, DeepSpeed or one GPU, with TrainingArguments."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.search.search import Outcome

NAME = "accelerate"


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what accelerate has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME)
    out = {
        family.ACCELERATE: family.accelerate_config(outcome, catalog, NAME),
        family.ARGUMENTS: family.training_arguments(outcome, catalog, NAME),
    }
    return out | ({family.ZERO: family.zero_config(outcome, catalog, NAME)} if family.kind(plan) == "zero" else {})
