"""DeepSpeed: its JSON, with the TrainingArguments of a Trainer that reads it."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.search.search import Outcome

NAME = "deepspeed"


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what DeepSpeed has no key for."""
    assert outcome.plan is not None
    family.refuse_untrained(outcome.plan, NAME)
    return {
        family.ZERO: family.zero_config(outcome, catalog, NAME),
        family.ARGUMENTS: family.training_arguments(outcome, catalog, NAME),
    }
