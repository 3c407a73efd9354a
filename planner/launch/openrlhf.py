"""OpenRLHF: the plan as options of openrlhf.cli.train_ppo_ray."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import script
from planner.launch.keyed import key_table, optional, settings
from planner.launch.parallel import joined_by_ray
from planner.launch.said import said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.search.search import Outcome

NAME = "openrlhf"
FILE = "plan.sh"
TABLE = "openrlhf_0112.yaml"


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The script of a plan. Raises InputError for what OpenRLHF has no option for."""
    plan = outcome.plan
    assert plan is not None
    if settled(plan).rl is None:
        raise refuse(plan, f"{NAME} launches reinforcement learning", "the scenario has no rl:", "task: rl", "task")
    words = said(plan)
    table = key_table(catalog, TABLE, "flags")
    values = settings(plan, table, words, NAME, {"recompute_granularity", "placement", "split_node", "critic_model"})
    values |= optional(plan, table, NAME)
    if words["algorithm"] == "ppo":
        values |= settings(plan, key_table(catalog, TABLE, "critic"), words, NAME, set(words))
        values["--critic.model_name_or_path"] = words["critic_model"] or words["model"]
    run = (
        'python3 -m openrlhf.cli.train_ppo_ray "${PLAN_ARGS[@]}" \\',
        '  --data.prompt_dataset "${PROMPT_DATA:?FIXME: dataset of prompts}" \\',
        '  --reward.remote_url "${REWARD:?FIXME: file or address of the reward}" "$@"',
    )
    remarks = ("One optimizer step takes train.batch_size samples.", *joined_by_ray(plan))
    return script(outcome, table.engine, values, run, remarks)
