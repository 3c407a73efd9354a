"""Files that the Hugging Face family shares: TrainingArguments, and configurations of DeepSpeed and accelerate."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import json_document, yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.said import said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.search.plan import Plan
from planner.search.search import Outcome

TABLE = "hf_trainer_523.yaml"
ARGUMENTS, ZERO, ACCELERATE = "training_arguments.yaml", "ds_config.json", "accelerate.yaml"
ALSO = {"recompute_granularity", "optimizer_offload", "optimizer"}
"""Said by TrainingArguments, or by a trainer's own file, beside the file at hand."""


def kind(plan: Plan) -> str:
    """zero (DeepSpeed), fsdp, ddp (copies on several GPUs) or alone: how the plan's engine shards."""
    engine = plan.problem.engine
    whole = "ddp" if engine.data_parallel else "alone"
    return "zero" if {1, 2} & set(engine.zero_stages) else "fsdp" if 3 in engine.zero_stages else whole


def refuse_untrained(plan: Plan, launcher: str) -> None:
    """Raise InputError for adapters and for layers of which only some are recomputed."""
    if settled(plan).adapts:
        raise refuse(
            plan, f"{launcher} files are written for full training", "the scenario trains an adapter",
            "planner solve prints the layout; add the adapter's own keys by hand", "adapter",
        )  # fmt: skip
    if any(plan.recomputed) and plan.recomputed != plan.layers:
        raise refuse(
            plan, f"{launcher} recomputes every layer or none", f"recomputed layers: {plan.recomputed}",
            "layout.recomputed_layers: all", "layout", "recomputed_layers",
        )  # fmt: skip


def training_arguments(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """TrainingArguments as YAML, which HfArgumentParser reads."""
    plan = _plan(outcome)
    table = key_table(catalog, TABLE, "training_arguments")
    values = settings(plan, table, said(plan), launcher, ALSO) | optional(plan, table, launcher)
    if kind(plan) == "zero":
        values["deepspeed"] = ZERO
    remarks = (
        f"The length of {plan.layout['sequence_length']} tokens is the data's: TrainingArguments have no key for it.",
    )
    return yaml_document(outcome, table.engine, values, remarks)


def zero_config(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """A DeepSpeed configuration. train_batch_size is left out: DeepSpeed multiplies it from the world it finds."""
    plan = _plan(outcome)
    return json_document(settings(plan, key_table(catalog, TABLE, "deepspeed"), said(plan), launcher, ALSO))


def accelerate_config(outcome: Outcome, catalog: Catalog, launcher: str) -> str:
    """An accelerate configuration for this plan's sharding."""
    plan = _plan(outcome)
    table = key_table(catalog, TABLE, "accelerate")
    own = key_table(catalog, TABLE, kind(plan))
    words = said(plan)
    values = settings(plan, own, words, launcher, ALSO | table.spoken)
    if kind(plan) == "zero":
        del words["precision"]  # the DeepSpeed file says it, and accelerate refuses it twice
    values |= settings(plan, table, words, launcher, ALSO | own.spoken)
    remarks = ("machine_rank, main_process_ip and main_process_port are each machine's own.",)
    values = {"compute_environment": "LOCAL_MACHINE", **values}
    return yaml_document(outcome, table.engine, values, remarks if words["training_nodes"] != 1 else ())


def _plan(outcome: Outcome) -> Plan:
    assert outcome.plan is not None
    return outcome.plan
