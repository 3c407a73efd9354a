"""verl: the plan as Hydra overrides of verl.trainer.main_ppo, for FSDP of both kinds and for Megatron training."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import script
from planner.launch.keyed import key_table, optional, settings
from planner.launch.parallel import joined_by_ray, one_number
from planner.launch.reading.tables import KINDS, TABLES
from planner.launch.said import Words, said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.launch.verl_critic import like_the_policy
from planner.problem.problem import ASYNCHRONOUS
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "verl"
FILE = "plan.sh"
TABLE = "verl_091.yaml"
FSDP, MEGATRON = "fsdp", "megatron"
"""Trainers, as parts of the table and branches of a critic's settings."""
ONLY_READ = frozenset(("megatron_overrides", "megatron_adapter", "fsdp_adapter"))
FIXED = "fixed_micro_batches"
"""Engine option of micro-batches that are not packed."""


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The script of a plan. Raises InputError for what verl has no key for."""
    plan = outcome.plan
    assert plan is not None
    _refuse(plan)
    words = said(plan)
    part = FSDP if _shards_weights(plan) else MEGATRON
    tables = [key_table(catalog, TABLE, name) for _, name in TABLES[NAME] if name in _parts(plan)]
    also = {"uneven_stages"} if part == MEGATRON else {"recompute_granularity"}
    also |= {"placement"} if words["asynchronous"] else set()
    also |= {"trainer_stays", "log_prob_samples", "log_prob_tokens", "critic_model"}
    also |= {word for table in tables for word in table.spoken}
    values: Words = {}
    for table in tables:
        values |= settings(plan, table, words, NAME, also)
    values |= optional(plan, tables[0], NAME)
    passes, cap = ("rollout", "ref"), words["log_prob_tokens"] or words["tokens_per_gpu"]
    if words["dynamic"]:
        values |= {f"actor_rollout_ref.{who}.log_prob_use_dynamic_bsz": True for who in passes}
        values |= {f"actor_rollout_ref.{who}.log_prob_max_token_len_per_gpu": cap for who in passes}
    else:
        fixed = words["log_prob_samples"] or words["fixed_micro_batch_size"]
        values |= {f"actor_rollout_ref.{who}.log_prob_micro_batch_size_per_gpu": fixed for who in passes}
    rl = settled(plan).rl
    if part == MEGATRON and rl is not None and ("reference" in rl.trainer_on_gpu) != ("weights" in rl.trainer_on_gpu):
        # Where no line says it, the reference goes where the actor's weights go.
        values["actor_rollout_ref.ref.megatron.param_offload"] = "reference" not in rl.trainer_on_gpu
    if settled(plan).optimizer_offload:
        optimizer = "+actor_rollout_ref.actor.optim.override_optimizer_config."
        values |= {optimizer + "optimizer_cpu_offload": True, optimizer + "optimizer_offload_fraction": 1.0}
        values |= {
            optimizer + "overlap_cpu_optimizer_d2h_h2d": True,
            optimizer + "use_precision_aware_optimizer": True,
        }
    if rl is not None and rl.algorithm == "ppo":
        del values["algorithm.adv_estimator"]  # its default, gae, is what has a critic
        values |= like_the_policy(values) | _critic(plan, part, words)
    run = ('python3 -m verl.trainer.main_ppo "${PLAN_ARGS[@]}" \\', *_data(), '  "$@"')
    return script(outcome, tables[0].engine, values, run, _remarks(plan), assigned=True)


def _critic(plan: Plan, part: str, words: Words) -> Words:
    """What a critic's own defaults have otherwise: its token budget, and what of it stays on the GPU."""
    own = f"critic.{part}"
    away = not plan.problem.stays("critic")
    out: Words = {f"{own}.param_offload": True, f"{own}.optimizer_offload": True} if away else {}
    if words["critic_model"] is not None:
        out["critic.model.path"] = words["critic_model"]
    if words["dynamic"]:
        return out | {"critic.ppo_max_token_len_per_gpu": words["tokens_per_gpu"]}
    return out | {"critic.ppo_micro_batch_size_per_gpu": words["fixed_micro_batch_size"]}


def _parts(plan: Plan) -> set[str]:
    """Parts of the table that the plan's engine is told by, but for those that are only read."""
    return KINDS[plan.problem.engine.id] - ONLY_READ


def _shards_weights(plan: Plan) -> bool:
    """Trains with FSDP: its engine has ZeRO-3, which Megatron's has not."""
    return 3 in plan.problem.engine.zero_stages


def _data() -> tuple[str, ...]:
    return (
        '  "data.train_files=${TRAIN_FILES:?FIXME: parquet file of prompts}" \\',
        '  "data.val_files=${VAL_FILES:?FIXME: parquet file of prompts to validate on}" \\',
    )


def _refuse(plan: Plan) -> None:
    """Raise InputError for parts of a plan that verl has no key for, beyond what its tables lack."""
    rl, problem = settled(plan).rl, plan.problem
    if rl is None:
        raise refuse(plan, f"{NAME} launches reinforcement learning", "the scenario has no rl:", "task: rl", "task")
    if not problem.colocated and problem.placement != ASYNCHRONOUS:
        raise refuse(
            plan,
            f"{NAME} has no word for placement {problem.placement}",
            "its trainer_mode is sync on shared GPUs, or separate_async on GPUs of its own",
            "rl.placement: colocated or asynchronous",
            "rl",
            "placement",
        )
    if plan.wish.rollout_batch_size % rl.steps_per_rollout:
        raise refuse(
            plan,
            f"{NAME} counts the mini-batch in prompts",
            f"{plan.wish.rollout_batch_size} prompts are not {rl.steps_per_rollout} equal steps",
            "rl.steps_per_rollout: 1",
            "rl",
            "steps_per_rollout",
        )
    if FIXED in settled(plan).engine_options and plan.layout["max_tokens"]:
        raise refuse(
            plan,
            f"{NAME} packs samples or takes a fixed number of them",
            f"engine option {FIXED} is use_dynamic_bsz false, and the plan packs {plan.layout['max_tokens']} tokens",
            f"leave {FIXED} out, or batch.max_tokens_per_gpu: none",
            "engine_options",
        )
    one_number(plan, NAME)
    if max(plan.recomputed) > 0 and _shards_weights(plan) and plan.recomputed != plan.layers:
        raise refuse(
            plan, f"{NAME} recomputes every layer or none", "FSDP has one switch", "layout.recomputed_layers: all",
            "layout", "recomputed_layers",
        )  # fmt: skip


def _remarks(plan: Plan) -> list[str]:
    out = ["Token budgets are a GPU's; verl multiplies them by Ulysses or context parallelism.", *joined_by_ray(plan)]
    rl = settled(plan).rl
    if rl is not None and rl.reference_model:
        out.append("The plan counts a frozen reference: actor.use_kl_loss; its coefficient is yours.")
    return out
