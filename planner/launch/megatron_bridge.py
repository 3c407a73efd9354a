"""Megatron-Bridge: the plan as overrides of a recipe's ConfigContainer. Written only: a recipe is code."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import script
from planner.launch.keyed import key_table, optional, settings
from planner.launch.parallel import machines, one_number
from planner.launch.said import said
from planner.search.search import Outcome

NAME = "megatron-bridge"
FILE = "plan.sh"
TABLE = "megatron_bridge_06.yaml"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The script of a plan. Raises InputError for what the overrides do not say."""
    plan = outcome.plan
    assert plan is not None
    one_number(plan, NAME)
    table = key_table(catalog, TABLE, "overrides")
    values = settings(plan, table, said(plan), NAME, {"uneven_stages"})
    values |= optional(plan, table, NAME)
    hosts, each = machines(plan)
    run = (
        f"scripts/training/train.sh --nodes {hosts} --gpus-per-node {each} \\",
        '  --recipe "${RECIPE:?FIXME: name of the recipe of this model}" --mode "${MODE:-pretrain}" \\',
        '  "${PLAN_ARGS[@]}" "$@"',
    )
    remarks = ("The recipe builds the network and is yours to name; planner lint does not read recipes.",)
    return script(outcome, table.engine, values, run, remarks, assigned=True)
