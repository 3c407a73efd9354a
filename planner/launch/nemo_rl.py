"""NeMo-RL: the plan as a configuration that builds on one of NeMo-RL's own, for Megatron training."""

from __future__ import annotations

from planner.inputs.catalog import Catalog
from planner.launch.documents import yaml_document
from planner.launch.keyed import key_table, optional, settings
from planner.launch.nemo_rl_value import like_the_policy
from planner.launch.said import Words, said
from planner.launch.script import refuse
from planner.launch.settled import settled
from planner.search.plan import Plan
from planner.search.search import Outcome

NAME = "nemo-rl"
FILE = "nemo_rl.yaml"
TABLE = "nemo_rl_07.yaml"
BASES = {"grpo": "grpo_math_1B_megatron.yaml", "ppo": "ppo_math_1B_megatron.yaml"}
"""Files of examples/configs by the algorithm, and the part of the table that has its keys."""
SHAPED = "ppo.reward_shaping.max_response_length"
"""Length from which on PPO's base takes rewards away: the responses' own."""
SAMPLES_OF_THE_BASE = 4
"""train_micro_batch_size of that file, from which it takes the sizes of both passes where none is said."""
NARROW_TENSOR = 4
"""Tensor ranks from which on NeMo-RL wants one size for training and scoring (models/policy/lm_policy.py:212)."""


def fragment(outcome: Outcome, catalog: Catalog) -> str:
    """The configuration of a plan. Raises InputError for what NeMo-RL has no key for."""
    plan = outcome.plan
    assert plan is not None
    if settled(plan).rl is None:
        raise refuse(plan, f"{NAME} launches reinforcement learning", "the scenario has no rl:", "task: rl", "task")
    words = _scored(plan, _in_packs(plan, _in_pieces(plan, _on_one_cluster(plan, said(plan)))))
    algorithm = "ppo" if words["algorithm"] == "ppo" else "grpo"
    tables = [key_table(catalog, TABLE, part) for part in ("common", algorithm, "megatron")]
    also = {"uneven_stages", "log_prob_tokens"} | ({"placement"} if not words["colocated"] else set())
    spoken: set[str] = set().union(*(table.spoken for table in tables))
    critic = key_table(catalog, TABLE, "value") if algorithm == "ppo" else None
    values: Words = {}
    for table in tables:
        values |= settings(plan, table, words, NAME, spoken | also | (critic.spoken if critic is not None else set()))
    values |= optional(plan, tables[0], NAME)
    if critic is not None:
        values |= {SHAPED: words["response_length"]} | like_the_policy(values)
        values |= settings(plan, critic, words, NAME, set(words))
    remarks = ("defaults: names a file of NeMo-RL's examples/configs; put this one beside it, or give its path.",)
    return yaml_document(outcome, tables[0].engine, {"defaults": BASES[algorithm], **values}, remarks)


def _in_pieces(plan: Plan, words: Words) -> Words:
    """Words with what sequences are padded to, so that context and tensor ranks get pieces of one length.

    Raises InputError for sequences cut over context ranks that are not packed (nemo_rl/models/megatron/setup.py:880).
    """
    cp = plan.layout["context_parallel"]
    if cp == 1:
        return words
    if not words["dynamic"]:
        raise refuse(
            plan,
            f"{NAME} cuts sequences over context ranks only where it packs them",
            f"context_parallel {cp} with micro-batches of {plan.layout['micro_batch_size']}",
            "batch.max_tokens_per_gpu: any, or layout.context_parallel: 1",
            "batch",
            "max_tokens_per_gpu",
        )
    return words | {"sequence_multiple": 2 * cp * plan.layout["tensor_parallel"]}


def _in_packs(plan: Plan, words: Words) -> Words:
    """Words with the tokens of whole micro-batches, which context ranks share, to train and to score.

    Raises InputError for packs that do not hold the longest sequence as it is padded.
    """
    lay, packing = plan.layout, plan.problem.engine.packing
    if not words["dynamic"]:
        return words
    assert packing is not None
    ranks, longest = lay["context_parallel"], lay["sequence_length"]
    multiple = words.get("sequence_multiple") or lay["tensor_parallel"]
    assert isinstance(multiple, int)
    pack, padded = lay["max_tokens"] * ranks, -(-longest // multiple) * multiple
    if padded > pack:
        raise refuse(
            plan,
            f"{NAME} packs up to {pack} tokens, and pads its longest sequence from {longest} to {padded}",
            f"sequences are padded to multiples of {multiple}",
            f"batch.max_tokens_per_gpu: {-(-padded // ranks)}",
            "batch",
            "max_tokens_per_gpu",
        )
    scored = ranks * (settled(plan).log_prob_tokens or lay["max_tokens"] * packing.log_prob_times)
    usual = scored == longest * SAMPLES_OF_THE_BASE
    return words | {"tokens_of_a_pack": pack, "log_prob_tokens_of_a_pack": None if usual else scored}


def _scored(plan: Plan, words: Words) -> Words:
    """Words in which packs have no number of samples to score.

    Raises InputError for fixed micro-batches of two sizes over many tensor ranks.
    """
    if words["dynamic"]:
        return words | {"log_prob_samples": None}
    samples, trained, wide = words["log_prob_samples"], words["fixed_micro_batch_size"], plan.layout["tensor_parallel"]
    if wide >= NARROW_TENSOR and samples not in (None, trained):
        raise refuse(
            plan,
            f"{NAME} wants one micro-batch to train and to score over {NARROW_TENSOR} tensor ranks or more",
            f"{trained} and {samples} samples over {wide} tensor ranks: log-probabilities would differ by the batch",
            "leave batch.log_prob_micro_batch_size out",
            "batch",
            "log_prob_micro_batch_size",
        )
    return words


def _on_one_cluster(plan: Plan, words: Words) -> Words:
    """Words of a cluster whose nodes are alike: one node whose GPUs are shared out, or whole nodes for each part.

    Raises InputError for parts that are neither (nemo_rl/algorithms/grpo.py:860-914 @7ea279ab).
    """
    trains, generates = plan.layout["num_gpus"], words.get("generating_gpus")
    if words["colocated"] or not isinstance(generates, int):
        return words
    node, other = plan.problem.node, plan.problem.generating.node
    if node.id == other.id and trains + generates <= (node.gpus_per_host or node.gpus_per_node):
        shared = {"all_nodes": 1, "gpus_per_node": trains + generates}
        return words | shared | {"generating_nodes": 1, "generating_gpus_per_node": generates, "split_node": None}
    if words["gpus_per_node"] != words["generating_gpus_per_node"]:
        raise refuse(
            plan,
            f"{NAME} shares out one node, or gives whole nodes of one size to each part",
            f"the plan trains on {trains} GPUs and generates on {generates}",
            "rl.placement: colocated, or as many GPUs a node for both",
            "rl",
            "placement",
        )
    return words
