"""Rules of thumb as their articles state them, kept apart from our own accounting so that both can be printed.

Articles, by title: "Train Big, Plan Smart" (S. Dhankhar, 2025-05-06); "How much memory do you need to work with LLMs?"
(2025-09-25); "A Practical Guide to LLM GPU Memory Estimation" (no date); "The Complete Guide to GPU Requirements for
Training and Inference of LLM" (D. Pradhan, 2024-08-31); "Lesson Notes: LLM Memory Requirements" (Ready Tensor).
Results are bytes; the articles speak of decimal GB.
"""

from __future__ import annotations

GUIDE = "A Practical Guide to LLM GPU Memory Estimation"
TRAIN_BIG = "Train Big, Plan Smart - How to Calculate Memory and Estimate GPUs for LLMs"
HOW_MUCH = "How much memory do you need to work with LLMs?"
COMPLETE = "The Complete Guide to GPU Requirements for Training and Inference of LLM"
LESSON = "Lesson Notes: LLM Memory Requirements"

QUICK_ESTIMATE_COMMENT_GB = 73.6
"""What the comment beside the quick estimate claims for 7 billion parameters. [GB]"""
BYTES_PER_PARAMETER = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "int4": 0.5}
"""Weights by precision. Source: all five articles agree."""
OPTIMIZER_BYTES = {"sgd": 0.0, "sgd-momentum": 4.0, "adamw-no-master": 8.0, "adamw": 12.0}
"""State a parameter in fp32: none, one moment, two moments, two moments and a master copy."""
INFERENCE_FACTOR = 1.2
LORA_SHARE_PERCENT = 0.524
"""Adapters of rank 16 on Llama-3-8B over its parameters; exactly 0.5223. Source: HOW_MUCH."""
LORA_SAVES_PERCENT = 70.0
"""Memory that adapters save against full training. Source: HOW_MUCH, after Unsloth's tutorial."""
CHECKPOINTING_PERCENT = 30.0
"""More computation where every layer is recomputed. Source: GUIDE."""


def training_state_bytes(*, parameters: float) -> float:
    """All state of mixed-precision training with Adam. [bytes]

        16 P  =  (2 weights + 2 gradients + 12 optimizer) P

    1 billion parameters: 16 GB. Source: "Train Big, Plan Smart", which calls the third fp32 state gradients (it is the
    master copy of the weights); "How much memory do you need to work with LLMs?".
    """
    return 16.0 * parameters


def weight_rule_bytes(*, parameters: float, precision: str) -> float:
    """Weights, and by the same rule gradients. [bytes]

    P * (4, 2, 1 or 0.5). 7 billion in bf16: 14 GB. Source: "A Practical Guide to LLM GPU Memory Estimation".
    """
    return parameters * BYTES_PER_PARAMETER[precision]


def optimizer_rule_bytes(*, parameters: float, optimizer: str) -> float:
    """Optimizer state in fp32. [bytes]

    P * 8 for Adam, 56 GB for 7 billion; 12 with a master copy.
    Source: "A Practical Guide to LLM GPU Memory Estimation", "Train Big, Plan Smart".
    """
    return parameters * OPTIMIZER_BYTES[optimizer]


def key_value_bytes(
    *,
    num_hidden_layers: float,
    width: float,
    sequence_length: float,
    batch: float,
    bytes_each: float,
) -> float:
    """Key-value cache. [bytes]

        2 * layers * width * seq * batch * bytes

    `width` is hidden_size in the rule (true for multi-head attention only) and num_key_value_heads * head_dim in truth.
    28 layers, 3584, 8192 tokens, batch 8, 2 bytes: 26.3 GB = 24.5 GiB. Source: "A Practical Guide to LLM GPU Memory
    Estimation".
    """
    return 2.0 * num_hidden_layers * width * sequence_length * batch * bytes_each


def inference_bytes(*, parameters: float, bits: float) -> float:
    """Memory to serve a model. [bytes]

        P * bits / 8 * 1.2

    Llama-70B in 16 bit: 168 GB. Source: "The Complete Guide to GPU Requirements for Training and Inference of LLM".
    """
    return parameters * bits / 8 * INFERENCE_FACTOR


def quick_estimate_gb(
    *, parameters_billion: float, precision_bytes: float = 2.0, optimizer_bytes: float = 8.0
) -> float:
    """The one-line quick estimate. [GB]

        (weights + gradients + optimizer + 1.5 weights) * 1.15

    7 billion, bf16, Adam: 120.75 GB; the article's comment says 73.6, which its own code does not give.
    Source: "A Practical Guide to LLM GPU Memory Estimation".
    """
    weights = parameters_billion * precision_bytes
    return (weights + weights + parameters_billion * optimizer_bytes + 1.5 * weights) * 1.15


def checkpointed_bytes(
    *, all_layers_bytes: float, least_share: float = 0.3, most_share: float = 0.5
) -> tuple[float, float]:
    """Activations with every layer checkpointed: (least, most). [bytes]

    50 to 70 % less, for about 30 % more computation. Source: "A Practical Guide to LLM GPU Memory Estimation".
    """
    return all_layers_bytes * least_share, all_layers_bytes * most_share


def frozen_training_bytes(
    *, parameters: float, adapter_parameters: float, base_bytes: float, adapter_bytes: float = 16.0
) -> float:
    """State of training low-rank adapters on a frozen base. [bytes]

        base bytes * P + 16 P_adapter

    Gradients and optimizer of frozen parameters are nil. Llama-3-8B, rank 16, all linear layers: 41,943,040 trainable
    parameters (0.042 billion; the article prints 0.42B). Source: "How much memory do you need to work with LLMs?",
    "Lesson Notes: LLM Memory Requirements".
    """
    return base_bytes * parameters + adapter_bytes * adapter_parameters


def fp32_training_bytes(*, parameters: float) -> float:
    """Training with Adam in fp32 at a small batch. [bytes]

        (4 + 4 + 8) P + 1 GB of activations

    1 billion parameters: 17 GB. Source: "Lesson Notes: LLM Memory Requirements".
    """
    return 16.0 * parameters + 1e9


def square_root_neurons_bytes(*, parameters: float, batch: float) -> float:
    """Activations of one layer, by "neurons a layer". [bytes]

        batch sqrt(P) 2

    10 billion parameters, batch 32: 6.4 MB. Source: "The Complete Guide to GPU Requirements", which takes the square
    root of the whole model for the width of a layer and no length at all.
    """
    return float(batch * parameters**0.5 * 2.0)


def spread_bytes(*, parameters: float, ranks: float) -> float:
    """Weights, gradients and Adam's moments divided over GPUs. [bytes]

        (2 + 2 + 8) P / n

    10 billion on 2 GPUs: 60 GB, and with 20 to 40 GB of undivided activations 80 to 100. Source: "The Complete Guide to
    GPU Requirements"; n is TP, or TP x PP, in "A Practical Guide to LLM GPU Memory Estimation".
    """
    return 12.0 * parameters / ranks


def fully_sharded_bytes(*, parameters: float, ranks: float) -> float:
    """State on each rank when weights, gradients and optimizer are all sharded (FSDP, ZeRO-3). [bytes]

        16 P / ranks;  activations do not shrink

    Source: "Lesson Notes: LLM Memory Requirements", "The Complete Guide to GPU Requirements".
    """
    return training_state_bytes(parameters=parameters) / ranks
