"""Mistakes that Megatron's validators let pass, in scripts of RL engines that start it: found, at their line."""

from __future__ import annotations

from pathlib import Path

import pytest

from planner.inputs.catalog import default_catalog
from planner.launch.lint import lint

SLIME = """#!/bin/bash
MODEL_ARGS=(
  --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 --num-attention-heads 32 --group-query-attention
  --num-query-groups 8 --swiglu --normalization RMSNorm --untie-embeddings-and-output-weights --vocab-size 32000
  --disable-bias-linear --rotary-base 1000000 --norm-epsilon 1e-5 {experts}
)
PERF_ARGS=(
  --use-dynamic-batch-size --max-tokens-per-gpu 8192
  {degrees}
)
ROLLOUT_ARGS=(
  --rollout-batch-size 32 --n-samples-per-prompt 8 --global-batch-size 256 --num-rollout 100
  --rollout-max-response-len 7168 --rollout-max-context-len 8192
  --rollout-num-gpus-per-engine 2 --sglang-mem-fraction-static 0.5
)
ray job submit --address="http://127.0.0.1:8265" -- python3 train.py --colocate \\
  --actor-num-nodes 1 --actor-num-gpus-per-node 8 ${{MODEL_ARGS[@]}} ${{PERF_ARGS[@]}} ${{ROLLOUT_ARGS[@]}}
"""
VERL = """#!/bin/bash
python3 -m verl.trainer.main_ppo --config-path=config --config-name='ppo_megatron_trainer.yaml' \\
  actor_rollout_ref.actor.strategy=megatron actor_rollout_ref.model.path={model} \\
  data.train_batch_size=256 data.max_prompt_length=1024 data.max_response_length=7168 \\
  actor_rollout_ref.actor.ppo_mini_batch_size=256 actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=1 \\
  {degrees} \\
  actor_rollout_ref.rollout.name=vllm actor_rollout_ref.rollout.tensor_model_parallel_size=2 \\
  actor_rollout_ref.rollout.gpu_memory_utilization=0.5 actor_rollout_ref.rollout.n=8 \\
  trainer.n_gpus_per_node=8 trainer.nnodes=1
"""
NEMO_RL = """grpo: {{num_prompts_per_step: 32, num_generations_per_prompt: 8}}
policy:
  model_name: {model}
  train_global_batch_size: 256
  train_micro_batch_size: 1
  max_total_sequence_length: 8192
  precision: bfloat16
  dtensor_cfg: {{enabled: false}}
  megatron_cfg:
    enabled: true
    activation_checkpointing: true
    sequence_parallel: false
{degrees}
  sequence_packing: {{enabled: false}}
  generation:
    backend: vllm
    vllm_cfg: {{tensor_parallel_size: 1, gpu_memory_utilization: 0.6}}
cluster: {{gpus_per_node: 8, num_nodes: 1}}
"""
MS_SWIFT = """NPROC_PER_NODE=8 \\
megatron sft \\
  --model {model} --micro_batch_size 1 --global_batch_size 16 --packing true --max_length 8192 \\
  {degrees}
"""
MISTAKES = {
    "expert_grid": (True, {"pipeline_model_parallel_size": 2, "expert_model_parallel_size": 8}),
    "layers_divide_pipeline": (False, {"pipeline_model_parallel_size": 4, "virtual": 3}),
    "moe_needs_sequence_parallel": (
        True,
        {"tensor_model_parallel_size": 2, "expert_model_parallel_size": 4, "expert_tensor_parallel_size": 1},
    ),
    "recomputed_layers_exist": (False, {"recomputed": 40}),
}
"""Rule -> (a network of experts, degrees). A length that 2 x CP does not divide is none here: all pad each sample.

slime cp_utils.py:307-312, verl models/mcore/util.py:77-83, NeMo-RL data/llm_message_utils.py:355-358, ms-swift
swift/megatron/trainers/base.py:305-307. NeMo-RL has no word for chunks, and none for a number of layers to
recompute: it takes all (models/megatron/setup.py:1072-1086).
"""
SAID = {
    "expert_grid": "expert_model_parallel_size", "layers_divide_pipeline": "virtual",
    "moe_needs_sequence_parallel": "tensor_model_parallel_size", "recomputed_layers_exist": "recompute_num_layers",
}  # fmt: skip
"""Rule -> what is said on the line that the mistake is reported at; OFF where sequence parallelism itself is said."""
OFF = "sequence_parallel"
UNSAID = {("nemo-rl", "layers_divide_pipeline"), ("nemo-rl", "recomputed_layers_exist")}
ASKED = [(engine, rule) for engine in ("slime", "verl", "nemo-rl", "ms-swift") for rule in MISTAKES
         if (engine, rule) not in UNSAID]  # fmt: skip
ACTOR = "actor_rollout_ref.actor.megatron."
RECOMPUTED = {"recompute_granularity": "full", "recompute_method": "block"}


def of_slime(degrees: dict[str, int]) -> str:
    words = {"virtual": "num_virtual_stages_per_pipeline_rank", "recomputed": "recompute_num_layers"}
    options = {words.get(name, name): str(value) for name, value in degrees.items()}
    options |= RECOMPUTED if "recomputed" in degrees else {}
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())


def of_verl(degrees: dict[str, int]) -> str:
    words = {"virtual": "virtual_pipeline_model_parallel_size"}
    layers = {"recompute_num_layers": degrees.get("recomputed", 0), **RECOMPUTED} if "recomputed" in degrees else {}
    said = [f"+{ACTOR}override_transformer_config.{name}={value}" for name, value in layers.items()]
    said += [f"{ACTOR}{words.get(name, name)}={value}" for name, value in degrees.items() if name != "recomputed"]
    said += [f"{ACTOR}sequence_parallel=False"] if "expert_tensor_parallel_size" in degrees else []
    return " ".join(said)


def of_nemo_rl(degrees: dict[str, int]) -> str:
    return "\n".join(f"    {name}: {value}" for name, value in degrees.items())


def of_ms_swift(degrees: dict[str, int]) -> str:
    words = {"virtual": "virtual_pipeline_model_parallel_size", "recomputed": "recompute_num_layers"}
    options = {words.get(name, name): str(value) for name, value in degrees.items()}
    options |= RECOMPUTED if "recomputed" in degrees else {}
    return " ".join(f"--{name} {value}" for name, value in options.items())


@pytest.mark.parametrize(("engine", "rule"), ASKED)
def test_a_mistake_is_found_at_its_line(engine: str, rule: str, tmp_path: Path) -> None:
    experts, degrees = MISTAKES[rule]
    model = "mistralai/Mixtral-8x7B-v0.1" if experts else "meta-llama/Llama-3.1-8B"
    if engine == "slime":
        some = "--num-experts 8 --moe-grouped-gemm --moe-router-topk 2" if experts else ""
        text = SLIME.format(experts=some, degrees=of_slime(degrees))
    elif engine == "verl":
        text = VERL.format(model=model, degrees=of_verl(degrees))
    elif engine == "nemo-rl":
        text = NEMO_RL.format(model=model, degrees=of_nemo_rl(degrees))
    else:
        text = MS_SWIFT.format(model="Qwen/Qwen3-30B-A3B" if experts else model, degrees=of_ms_swift(degrees))
    path = tmp_path / ("run.yaml" if engine == "nemo-rl" else "run.sh")
    path.write_text(text)
    found = {finding.rule: finding for finding in lint(path, default_catalog()).findings}
    assert rule in found, found
    words = SAID[rule] if rule != "moe_needs_sequence_parallel" or "sequence_parallel" not in text else OFF
    line = next(at for at, said in enumerate(text.splitlines(), 1) if words in said.replace("-", "_"))
    assert (found[rule].where.line, found[rule].severity) == (line, "error")
