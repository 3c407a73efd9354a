"""NeMo-RL: the plan as a configuration that builds on one of NeMo-RL's own, for Megatron training."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.said import said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.search.search import Outcome

NAME = "nemo-rl"
FILE = "nemo_rl.yaml"
TABLE = "nemo_rl_07.yaml"
BASE = "grpo_math_1B_megatron.yaml"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The configuration of a plan. Raises InputError for what NeMo-RL has no key for."""
    plan = outcome.plan
    assert plan is not None
    if settled(plan).rl is None:
        raise refuse(plan, f"{NAME} launches reinforcement learning", "the scenario has no rl:", "task: rl", "task")
    words = said(plan)
    common, own = (key_table(catalog, TABLE, part) for part in ("common", "megatron"))
    also = {"uneven_stages"} | ({"placement"} if not words["colocated"] else set())
    values = settings(plan, common, words, NAME, own.spoken | also)
    values |= settings(plan, own, words, NAME, common.spoken | also)
    values |= optional(plan, common, NAME)
    remarks = ("defaults: names a file of NeMo-RL's examples/configs; put this one beside it, or give its path.",)
    return yaml_document(outcome, common.engine, {"defaults": BASE, **values}, remarks)
