"""Unit and example of every key of a scenario, and what it means where its class does not say; for editors and shells.

One key a line: class and field, unit (`-` for none), an example in JSON, and the meaning.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

_KEYS = """
Scenario.name | - | "my_run" | Name of the question, printed in every answer.
Scenario.question | - | "How few GPUs are enough?" | The question in words, printed with the answer.
Scenario.task | - | "sft" | pretrain and sft train on sequences, dpo on pairs of answers; rl generates them first.
Scenario.model | - | "qwen2.5-7b"
Scenario.engine | - | "megatron-core" | Training engine of the catalog; in RL the whole stack.
Scenario.engine_options | - | ["cross_entropy_fusion"]
Scenario.options_to_try | - | ["bf16_gradients"]
Scenario.cluster | - | {"node": "hgx-h100-8", "num_gpus": 8} | The machines.
Scenario.precision | - | "bf16" | Precision of training, one or several to choose from.
Scenario.optimizer | - | "adamw" | Optimizer of the catalog, or a wish for one.
Scenario.adapter | - | {"rank": 16} | Train low-rank adapters on a frozen base instead of all weights.
Scenario.frozen | - | ["vision_tower", "projector"]
Scenario.batch | - | {"global_batch_size": 128, "sequence_length": 8192} | Work of one optimizer step.
Scenario.rl | - | null | One step of reinforcement learning; only with task rl.
Scenario.dpo | - | {"reference": "precomputed"}
Dpo.reference | - | "precomputed"
Scenario.layout | - | {"tensor_parallel": [1, 2, 4]} | Decisions of the training layout; what is left out is free.
Scenario.limits | - | {"headroom_gib": 10} | Hard limits.
Scenario.playbook | - | ["n_samples_per_prompt", "sequence_length"]
Scenario.calibration | - | "calibration.json"
Scenario.faults | - | null | What interrupts a run and slows it down; gives a goodput share.
Scenario.compare | - | {"columns": [{"name": "now", "set": {"cluster.num_gpus": 8}}]} | What to print beside the plan.
Scenario.search | - | {"time_limit_s": 120} | How long and how to search.
Scenario.what_if | - | [{"name": "twice the length", "set": {"batch.sequence_length": 16384}}]
NamedVariation.name | - | "twice the length" | Name of the question around the scenario.
NamedVariation.set | - | {"batch.sequence_length": 16384}
Adapter.rank | - | 16 | Rank of the adapters' two matrices.
Adapter.targets | - | ["all-linear"]
Adapter.base_precision | - | "nf4"
Adapter.variant | - | "lora"
Adapter.dropout | share | 0.05
Adapter.modules_to_save | - | ["embed_tokens"]
Batch.global_batch_size | sequences | 128
Batch.sequence_length | tokens | 8192
Batch.micro_batch_size | sequences | [1, 2, 4]
Batch.max_tokens_per_gpu | tokens | 16384
Batch.log_prob_micro_batch_size | samples | 8
Batch.log_prob_max_tokens_per_gpu | tokens | 32768
Batch.image_tokens | tokens | 1024
Batch.mean_sequence_length | tokens | 2048
Change.name | - | "half the batch" | Name of the change in the report.
Change.published | - | true
Change.set | - | {"rl.rollout_batch_size": 16} | Overrides by dotted path.
ClusterSpec.node | - | "hgx-h100-8"
ClusterSpec.gpu | - | "h100-sxm-80gb"
ClusterSpec.pools | - | [{"node": "hgx-h100-8", "num_gpus": 8}, {"node": "hgx-a100-80gb-8", "num_gpus": 16}]
ClusterSpec.num_gpus | GPUs | 8
ClusterSpec.max_gpus | GPUs | 64
ClusterSpec.usable_gib | GiB | 78.5
ClusterSpec.host_memory_gib | GiB | 1024
ClusterSpec.topology | - | "topo.txt"
ClusterSpec.rank_order | - | "default"
ClusterSpec.nccl_tests | - | ["all_reduce_8.txt"]
Column.name | - | "as it is now" | Name of the column.
Column.set | - | {"cluster.num_gpus": 8} | Overrides by dotted path that make this configuration of the scenario.
Column.assumed | - | ["layout.recomputed_layers"]
Column.published | - | null | Figures that somebody published about this configuration.
Column.baseline | - | true
Comparison.columns | - | [{"name": "now", "set": {"cluster.num_gpus": 8}}] | Configurations to print beside the plan.
Comparison.changes_from | - | "as it is now"
Comparison.changes_set | - | {"cluster.num_gpus": 4}
Comparison.changes | - | [{"name": "half the batch", "set": {"rl.rollout_batch_size": 16}}] | Changes priced one by one.
Comparison.remarks | - | ["The article's rows add up to 74, not 80 GB."]
Distribution.mean | tokens | 2000 | Mean length of responses that end by themselves.
Distribution.p99 | tokens | 7000 | Length that 99 of 100 of them stay under; 1 to 14 times the mean.
Distribution.mean_share | share of response_length | 0.25
Distribution.p99_share | share of response_length | 0.85
Distribution.at_cap | share | 0.01
Distribution.workload | - | "math"
Faults.mean_hours_between_failures_per_gpu | h | 50000
Faults.restart_minutes | min | 20
Faults.checkpoint_minutes | min | 0.5
Faults.checkpoint_interval_minutes | min | "optimal"
Faults.straggler_factor | ratio | 1.05
IntRange.min | that of the key | 1 | Least value, itself included.
IntRange.max | that of the key | 8 | Largest value, itself included.
IntWish.want | that of the key | 8192 | The value one wants.
IntWish.allow | that of the key | [8192, 4096] | Values one would take, best first; the wanted one among them.
TokenWish.want | tokens | 16384 | The length one wants; 16k is 16,384.
TokenWish.allow | tokens | [16384, 8192] | Lengths one would take, best first; the wanted one among them.
LayoutSpec.tensor_parallel | GPUs | [1, 2, 4] | GPUs that each layer's matrices are cut over.
LayoutSpec.pipeline_parallel | stages | "any" | Stages that the layers are dealt to.
LayoutSpec.virtual_pipeline | chunks | [1, 2]
LayoutSpec.schedule | - | "1f1b"
LayoutSpec.data_parallel | ranks | "any" | Copies of the model that work on batches of their own.
LayoutSpec.context_parallel | GPUs | {"min": 1, "max": 4} | GPUs that each sequence is cut over.
LayoutSpec.expert_parallel | GPUs | 8 | GPUs that the experts of a layer are dealt to.
LayoutSpec.expert_tensor_parallel | GPUs | 1 | GPUs that each expert's matrices are cut over.
LayoutSpec.zero_stage | - | [1, 3] | What data-parallel ranks shard: 1 optimizer state, 2 gradients too, 3 weights too.
LayoutSpec.sequence_parallel | - | true
LayoutSpec.layers_per_stage | layers | [21, 20, 20, 19]
LayoutSpec.recompute | - | "per_stage"
LayoutSpec.recompute_group | layers | [1, 2, 4]
LayoutSpec.recompute_method | - | "block" | block: the first layers of a stage; uniform: chunks of layers.
LayoutSpec.recomputed_layers | layers of a stage | "all"
LayoutSpec.recompute_modules | - | ["core_attn"]
LayoutSpec.later_stages_on | - | "hgx-a100-80gb-8"
LayoutSpec.optimizer_offload | - | false
LayoutSpec.activation_offload | - | false
Limits.headroom_gib | GiB | 10
Limits.reserved_cliff | - | true
Limits.tensor_parallel_inside_domain | - | true
Limits.host_memory | - | true
Limits.max_sequences_per_micro_batch | sequences | 64 | Largest micro-batch that is tried.
NameWish.want | - | "adamw" | The name one wants.
NameWish.allow | - | ["adamw", "adamw-8bit"] | Names one would take, best first; the wanted one among them.
Pool.node | - | "hgx-a100-80gb-8"
Pool.num_gpus | GPUs | 16 | GPUs used of this pool; a list lets the planner choose.
Pool.max_gpus | GPUs | 64 | Instead of num_gpus: any number up to this that makes even groups.
Pool.usable_gib | GiB | 78.5 | Overrides what the catalog says the driver leaves to torch on one GPU.
Pool.host_memory_gib | GiB | 1024 | Host memory of one node, where it differs from the catalog.
Published.source | - | {"ref": "an article", "date": "2025-09"} | Where the figures were published.
Published.rows_gb | GB | {"weights": 14.0} | Printed rows by name.
Published.total_gb | GB | 80 | The printed sum.
Published.relative_throughput | - | "65-70 %" | As printed.
Published.stability | - | "critical" | As printed.
Rl.algorithm | - | "grpo" | grpo: group-relative policy optimisation and its relatives, no critic.
Rl.critic_model | - | "qwen2.5-1.5b"
Rl.prompt_length | tokens | 1024 | Largest prompt.
Rl.response_length | tokens | 8192
Rl.response_distribution | - | {"mean": 2000, "p99": 7000} | How long responses are.
Rl.rollout_batch_size | prompts | 32
Rl.n_samples_per_prompt | samples | 8 | Responses generated for each prompt.
Rl.steps_per_rollout | steps | 1
Rl.reference_model | - | true
Rl.old_log_probs | - | true
Rl.answer_ms | ms | 50
Rl.placement | - | "colocated"
Rl.weight_sync | - | "whole"
Rl.steps_off_policy | steps | 1
Rl.trainer_on_gpu | - | ["optimizer"]
Rl.partial_rollouts | - | false
Rl.rollout | - | {"tensor_parallel": [1, 2]} | Decisions about the rollout engine.
Rollout.tensor_parallel | GPUs | [1, 2] | GPUs of one rollout engine.
Rollout.gpu_memory_utilization | share | 0.8
Rollout.precision | - | "fp8"
Rollout.max_concurrency | requests | 256
Rollout.speculative_tokens | tokens | 3
Rollout.speculative_accepted | share | 0.8
Rollout.num_gpus | GPUs | 8
Rollout.node | - | "hgx-a100-80gb-8"
Rollout.sleeps | - | true
Rollout.cuda_graphs | - | false
Search.time_limit_s | s | 60 | Longest search; the best plan found until then is the answer, and says so.
Search.seed | - | 0 | Seed of the solver.
Search.near_tie | share | 0.005
Search.workers | threads | 1 | Threads of the solver; the answer does not depend on them.
Source.ref | - | "arXiv:2205.05198"
Source.date | - | "2025-09"
Source.note | - | "read on that date"
"""
CATALOG_NAMES = {
    "Scenario.model": "models",
    "Scenario.engine": "engines",
    "Scenario.precision": "precisions",
    "Scenario.optimizer": "optimizers",
    "Adapter.base_precision": "precisions",
    "ClusterSpec.node": "nodes",
    "ClusterSpec.gpu": "gpus",
    "Pool.node": "nodes",
    "Rollout.precision": "precisions",
    "Rollout.node": "nodes",
    "LayoutSpec.later_stages_on": "nodes",
    "NameWish.want": "optimizers",
}
"""Keys whose values are names of the catalog, with the kind."""


@dataclass(frozen=True)
class KeyFacts:
    """What an editor shows of a key beside its type."""

    unit: str
    """`-` where the value is no quantity."""
    example: object
    meaning: str | None


@cache
def key_facts() -> dict[str, KeyFacts]:
    """Facts by `Class.field`."""
    found = {}
    for line in _KEYS.strip().splitlines():
        name, unit, example, *meaning = (part.strip() for part in line.split(" | ", 3))
        found[name] = KeyFacts(unit, json.loads(example), meaning[0] if meaning else None)
    return found
