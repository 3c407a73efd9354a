"""TRL: the configuration of `trl sft`, with accelerate's. Written only: its keys are read as TrainingArguments."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch import hugging_face as family
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.said import said
from planner.search.search import Outcome

NAME = "trl"
FILE = "trl_sft.yaml"


def files(outcome: Outcome, catalog: Catalog) -> dict[str, str]:
    """The files of a plan. Raises InputError for what TRL has no key for."""
    plan = outcome.plan
    assert plan is not None
    family.refuse_untrained(plan, NAME)
    table = key_table(catalog, family.TABLE, "training_arguments")
    words = said(plan)
    values = {
        "model_name_or_path": words["model"],
        "max_length": plan.layout["sequence_length"],
        **settings(plan, table, words, NAME, family.ALSO),
        **optional(plan, table, NAME),
    }
    out = {
        FILE: yaml_document(outcome, f"TRL's SFTConfig over {table.engine}", values),
        family.ACCELERATE: family.accelerate_config(outcome, catalog, NAME),
    }
    return out | ({family.ZERO: family.zero_config(outcome, catalog, NAME)} if family.kind(plan) == "zero" else {})
