"""The rollout engine of an RL step: its memory while awake, and how long it generates.

Colocated, it shares GPUs with the trainer and one sleeps while the other works. With GPUs of its own it never sleeps;
asynchronous, it generates while the trainer works on the samples before.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.time.kernels import Kernels
from planner.costs.weight_sync import calibrated, switch_items, under_way_bytes
from planner.formulas.attention import LAUNCH_SECONDS
from planner.formulas.lengths import Z99
from planner.problem.awake_together import sleeping_critic_gib
from planner.problem.layouts import Floats, Ints, Rollouts
from planner.problem.problem import ASYNCHRONOUS, Problem
from planner.schema.catalog import Precision
from planner.schema.engine import RolloutEngine
from planner.schema.scenario import Rl
from planner.units import GB, GIB, MS_PER_S, US_PER_S

STEPS = 48
"""Points at which the decaying batch is evaluated between the first and the longest token."""
GEMM_SHARE = 0.6
"""Share of the dense peak that decode products reach once compute binds (large batches; assumed)."""
EAGER_SECONDS = 8e-6
"""Host time of launching one kernel without a CUDA graph (assumed)."""
WEIGHT_SYNC = "weight_sync"
ROLLOUT_MOMENTS = ("rollout", WEIGHT_SYNC)


def decode_kernels(problem: Problem) -> float:
    """Kernels of one decode step with fused norms, counted over the layers; each waits for the one before.

    Attention: 2 norms with their residuals, rotary embedding with the cache's write, attention and the merge of its
    parts, projections in and out (latent: down, its norm, up, absorbed keys and values, out). MLP: 2 products and the
    activation. Experts: router, choice, sorting in 2, 2 grouped products, activation, sum; shared experts as an MLP.
    """
    a = problem.architecture
    attention: float = 5 + (6 if a.is_mla else 2) + (a.qk_norm != "none")
    if a.is_linear:
        # 2 norms, projections in (two products) and out, convolution, rule, norm with its gate; gate behind attention.
        full = a.full_attention_layers / a.num_hidden_layers
        attention = full * (attention + a.attn_output_gate) + (1 - full) * 8
    experts = 8 + (3 if a.shared_expert_intermediate_size else 0)
    if a.is_hybrid:
        # A norm with its residual each; Mamba-2: projections in and out, convolution, state, norm with its gate.
        mlp = (experts if a.is_moe else 3) + 1
        return a.full_attention_layers * (attention - 1) + a.mamba_layers * 6 + a.mlp_layers * mlp
    dense = problem.parameters.num_dense_layers if a.is_moe else a.num_hidden_layers
    return a.num_hidden_layers * attention + dense * 3 + (a.num_hidden_layers - dense) * experts


def tokens_of_a_check(drafted: int, accepted: float) -> float:
    """Tokens that one decode step makes of a sequence when it checks so many drafted ones.

        1 + a + a^2 + ... + a^drafted        (a: chance of a draft whose predecessors were accepted)

    Source: Leviathan et al. 2022, arXiv:2211.17192, equation 1.
    """
    return sum(accepted**position for position in range(drafted + 1))


@dataclass(frozen=True)
class RolloutCosts:
    """Memory and time of every rollout choice."""

    problem: Problem
    choices: Rollouts

    @property
    def _rl(self) -> Rl:
        assert self.problem.scenario.rl is not None
        return self.problem.scenario.rl

    @property
    def _engine(self) -> RolloutEngine:
        assert self.problem.rollout_engine is not None
        return self.problem.rollout_engine

    def _by_wish(self, name: str) -> Floats:
        return np.array([float(getattr(w, name)) for w in self.problem.wishes])[self.choices.wish]

    @cached_property
    def _precision(self) -> Precision:
        """In which the engine holds weights."""
        return self.problem.rollout_precision or self.problem.precision

    def _held(self, parameters: float) -> float:
        """So many parameters, the tables among them, as the engine holds them. [bytes]

        Quantised, the tables stay in 16 bit, as in the FP8 checkpoints of DeepSeek-V3, Kimi-K2 and Qwen3.
        """
        p, held = self.problem.parameters, self._precision
        if self.problem.rollout_precision is None or not held.quantised:
            return parameters * held.weight_bytes
        tables = p.embedding + p.beside_embedding + p.lm_head
        return (parameters - tables) * (held.served_bytes or held.weight_bytes) + tables * 2.0

    @cached_property
    def weights_bytes(self) -> Floats:
        """Weights of the rollout engine on one GPU. [bytes]"""
        return self._held(self.problem.parameters.total) / self.choices.tensor_parallel

    @cached_property
    def _peak_flop_per_s(self) -> float:
        """Dense rate of the products in what the engine holds; where the GPU lacks it, in 16 bit. [FLOP/s]"""
        rates, held = self.problem.gpu.dense_tflops, self._precision
        narrow = self.problem.rollout_precision is None and held.quantised  # trained in fp8, but held in 16 bit
        known = [key for key in ("" if narrow else held.compute, "bf16", "fp16", "fp32") if key in rates]
        return rates[known[0]] * 1e12

    @cached_property
    def kv_bytes_per_token(self) -> Floats:
        """Key-value cache of one token on one GPU, exact for grouped-query attention. [bytes]

            2 * layers * max(kv_heads / tp, 1) * head_dim * bytes     (latent: layers * (kv_lora + rope) * bytes)

        Layers with linear attention cache no tokens (`state_bytes`).
        Source: vLLM and SGLang cache layouts; heads are replicated beyond kv_heads ranks.
        """
        a, each = self.problem.architecture, self._engine.kv_bytes
        if a.is_mla:
            width = (a.kv_lora_rank or 0) + (a.qk_rope_head_dim or 0)
            return np.full(len(self.choices), a.num_hidden_layers * width * each)
        heads = np.maximum(a.num_key_value_heads / self.choices.tensor_parallel, 1.0)
        return 2 * a.full_attention_layers * heads * a.head_dim * each

    @cached_property
    def state_bytes(self) -> Floats:
        """What layers with linear attention or Mamba-2 keep of one sequence, however long, on one GPU. [bytes]

            layers * (heads * key * value * 4 + (kernel - 1) * (2 keys + values) * 2) / tp
            layers * (width * state * 4 + (kernel - 1) * mixed * 2) / tp                       (Mamba-2)

        A state in fp32 (mamba_ssm_dtype, mamba_ssm_cache_dtype of the networks' config.json) and the inputs of the
        convolution. Source: transformers 5.23.0 Qwen3NextGatedDeltaNet, NemotronHMamba2Mixer; sglang and vLLM keep the
        same, cut by heads.
        """
        a = self.problem.architecture
        if a.is_hybrid:
            kept = (
                a.mamba_width * (a.ssm_state_size or 0) * 4.0 + ((a.mamba_conv_kernel or 1) - 1) * a.mamba_mixed * 2.0
            )
            return np.asarray(a.mamba_layers * kept / self.choices.tensor_parallel)
        state = (a.linear_key_head_dim or 0) * a.linear_value_width * 4.0
        inputs = ((a.linear_conv_kernel_dim or 1) - 1) * (2 * a.linear_key_width + a.linear_value_width) * 2.0
        return np.asarray(a.linear_layers * (state + inputs) / self.choices.tensor_parallel)

    @cached_property
    def static_bytes(self) -> Floats:
        """The memory fraction in bytes: weights and key-value pool. [bytes]"""
        return self.choices.gpu_memory_utilization * self.problem.usable_gib * GIB

    @cached_property
    def pool_tokens(self) -> Floats:
        """Tokens of one sequence that the key-value pool of one engine holds."""
        held = self.static_bytes - self.weights_bytes - self.state_bytes
        return np.asarray(np.maximum(0.0, held) / self.kv_bytes_per_token)

    def demanded_tokens(self, choice: int) -> tuple[float, float, float]:
        """Tokens of the samples that one engine decodes at once, all at their end: (mean, in 99 of 100, at worst).

        n mean, n mean + 2.326 sqrt(n) deviation, n longest
        """
        law = self.problem.wishes[int(self.choices.wish[choice])].law
        assert law is not None
        many, mean = float(self.concurrency[choice]), law.mean_tokens
        spread = (many * mean * max(0.0, law.attention_tokens - mean)) ** 0.5
        worst = many * (law.prompt + law.maximum)
        return many * mean, min(worst, many * mean + Z99 * spread), worst

    @cached_property
    def longest_fits(self) -> Floats:
        """1 where the pool can hold the longest request; otherwise it can never finish."""
        return (self.pool_tokens >= self._by_wish("sequence_length")).astype(float)

    @cached_property
    def _cluster_gpus(self) -> Ints:
        """GPUs of a legal cluster that holds the generating ones."""
        return np.array([self.problem.machines.covering(n) for n in self.choices.num_gpus.tolist()], dtype=np.int64)

    def ledger(self, moment: str) -> tuple[Item, ...]:
        """GPU memory while the engine generates, or while it takes new weights. [bytes]

        What of the trainer's weights lies beside them is its layout's affair (`memory/awake_together.py`).
        """
        engine, tp = self._engine, self.choices.tensor_parallel
        same = np.ones(len(self.choices))
        source = f"catalogs/rollouts/{engine.id}.yaml"
        weights = Item(ItemName.ROLLOUT_WEIGHTS, self.weights_bytes, "parameters * bytes / rollout tensor_parallel")
        outside: tuple[Item, ...] = (
            Item(ItemName.CUDA_CONTEXT, same * engine.cuda_context_gib * GIB, source),
            Item(ItemName.NCCL_BUFFERS, (tp > 1) * engine.nccl_gib_per_group * GIB, source),
        )
        if self.problem.colocated:
            coloc = self.problem.colocation
            outside += (Item(ItemName.SLEEPING_TRAINER, same * coloc.trainer_residual_gib * GIB, coloc.source),)
            if critic := sleeping_critic_gib(self.problem):
                outside += (Item(ItemName.SLEEPING_CRITIC, same * critic * GIB, coloc.source),)
        if moment == WEIGHT_SYNC and self.problem.colocated:
            buckets, tensor = (same * each for each in under_way_bytes(self.problem))
            sent = (
                Item(ItemName.SYNC_BUCKETS, buckets, coloc.source),
                Item(ItemName.WHOLE_TENSOR_BEING_SENT, tensor, coloc.source),
            )
            return (weights, *sent, *outside)
        pool = np.maximum(0.0, self.static_bytes - self.weights_bytes)
        if moment == WEIGHT_SYNC:
            # With GPUs of its own the engine stays awake: the key-value pool lies beside what arrives.
            apart = self.problem.separation
            bucket = Item(ItemName.SYNC_BUCKETS, same * apart.sync_bucket_gib * GIB, apart.source)
            return (
                weights,
                Item(ItemName.KEY_VALUE_POOL, pool, f"{engine.fraction_flag} * usable memory"),
                bucket,
                *outside,
            )
        runtime = engine.runtime_reserve_gib + engine.runtime_reserve_gib_per_tensor_parallel * tp
        working = runtime * GIB + self._graph_bytes + self._working_bytes
        return (
            weights,
            Item(ItemName.KEY_VALUE_POOL, pool, f"{engine.fraction_flag} * usable memory - weights"),
            Item(ItemName.ROLLOUT_ACTIVATIONS_AND_CUDA_GRAPHS, working, source),
            *outside,
        )

    @property
    def _graph_bytes(self) -> Floats:
        """CUDA graphs of decoding: `graphs + graphs a GPU of the engine * tp + graphs a layer * layers`. [bytes]"""
        engine, tp = self._engine, self.choices.tensor_parallel
        each = engine.graph_gib_per_layer * self.problem.architecture.num_hidden_layers
        held = (engine.graph_gib + engine.graph_gib_per_tensor_parallel * tp + each) * GIB
        return np.asarray(held * self._rl.rollout.cuda_graphs)

    @property
    def _working_bytes(self) -> Floats:
        """Activations of a chunk being prefilled and logits of a full batch, beside the pool. [bytes]

            chunk (4 hidden + 3 ffn / tp) 2 B + sequences * vocabulary * 10 B

        Source of the tensors: a layer's residual, norm, attention in and out; gate, up and their product. Logits in
        16 bit, their fp32 copy and probabilities.
        """
        a, engine, tp = self.problem.architecture, self._engine, self.choices.tensor_parallel
        if not engine.prefill_tokens:
            return np.asarray(0.0 * tp)
        wide = a.intermediate_size
        if a.is_moe:
            wide = (a.num_experts_per_tok or 1) * (a.moe_intermediate_size or 0) + a.shared_expert_intermediate_size
        prefill = engine.prefill_tokens * (4.0 * a.hidden_size + 3.0 * wide / tp) * 2.0
        logits = np.minimum(self.concurrency, engine.graph_batch) * a.vocab_size * 10.0
        return np.asarray(prefill + logits)

    @cached_property
    def engines(self) -> Floats:
        """Rollout engines on the cluster."""
        return self.choices.num_gpus / self.choices.tensor_parallel

    @cached_property
    def samples_per_engine(self) -> Floats:
        """Samples that one engine generates in a rollout."""
        return np.ceil(self._by_wish("samples") / self.engines)

    @cached_property
    def concurrency(self) -> Floats:
        """Samples that one engine decodes at once, bound by requests and by the key-value pool."""
        mean_tokens = self._by_wish("mean_sequence_length")
        state = self.state_bytes / self.kv_bytes_per_token  # in tokens; the first sequence's is not in pool_tokens
        fits = np.floor((self.pool_tokens + state) / (mean_tokens + state))
        ready = self.samples_per_engine * (self._rl.steps_off_policy if self._goes_on else 1)
        most = np.minimum(np.minimum(self.choices.max_concurrency, fits), ready)
        return np.asarray(np.maximum(1.0, most))

    def _decode_step(self, batch: Floats, context: Floats) -> Floats:
        """Seconds of one decode step of `batch` sequences with `context` tokens each; shape [rows, points]. [s]

        max(weights / bandwidth, 2 P batch / (0.6 peak)) + batch * context * kv / bandwidth + all-reduces
            + kernels * 3 us + overhead

        The input embedding is looked up, not read; beyond the largest CUDA graph the host launches each kernel. Without
        graphs it runs the network's own code for each, ahead of the GPU: the longer of the two counts. With
        drafted tokens a step checks 1 + drafted of each sequence, in products, experts and messages alike, and each
        draft takes one more layer (a layer that predicts further tokens, or EAGLE's).
        """
        problem, engine, tp = self.problem, self._engine, self.choices.tensor_parallel[:, None]
        bandwidth = engine.bandwidth_fraction * problem.gpu.memory_bandwidth_gb_per_s * GB
        kernels = Kernels(problem)
        p = problem.parameters
        looked_up = p.beside_embedding + (0 if problem.architecture.tie_word_embeddings else p.embedding)
        read, active = self._held(p.total) - 2.0 * looked_up, p.active_per_token - looked_up
        rollout = self._rl.rollout
        drafted = rollout.speculative_tokens
        checked = batch * (1 + drafted)
        touched = np.minimum(read, (self._held(p.active_per_token) - 2.0 * looked_up) * np.maximum(checked, 1.0)) / tp
        if not problem.architecture.is_moe:
            touched = read / tp * np.ones_like(batch)
        products = 2.0 * active * checked / tp / (GEMM_SHARE * self._peak_flop_per_s)
        states = 2.0 * self.state_bytes[:, None]  # read and written
        cache = batch * (context * self.kv_bytes_per_token[:, None] + states) / bandwidth
        message = checked * problem.architecture.hidden_size * problem.precision.activation_bytes
        reduced = kernels.collective(
            "all_reduce",
            num_gpus=self._cluster_gpus[:, None],
            size=self.choices.tensor_parallel[:, None],
            stride=np.ones_like(self.choices.tensor_parallel)[:, None],
            size_bytes=message,
        )
        each = np.where(checked > engine.graph_batch, EAGER_SECONDS, LAUNCH_SECONDS)
        fixed = engine.step_overhead_us / US_PER_S + decode_kernels(problem) * each
        spans = tp > (problem.node.gpus_per_host or problem.node.gpus_per_node)
        fixed = fixed + spans * (problem.node.gpus_per_host is not None) * engine.across_hosts_us / US_PER_S
        layers = problem.architecture.num_hidden_layers
        whole = np.maximum(touched / bandwidth, products) + cache + 2 * layers * reduced + fixed
        if not rollout.cuda_graphs:
            whole = np.maximum(whole, (decode_kernels(problem) * engine.eager_us + engine.step_overhead_us) / US_PER_S)
        made = tokens_of_a_check(drafted, rollout.speculative_accepted)
        return np.asarray(whole * (1 + drafted / layers) / made)

    @property
    def _goes_on(self) -> bool:
        """A step takes the samples that are ready; the others go on."""
        several = self._rl.steps_off_policy > 1 and self.problem.placement == ASYNCHRONOUS
        return self._rl.partial_rollouts or several

    @cached_property
    def time(self) -> tuple[Item, ...]:
        """Seconds of generation by cause, until the longest of all samples of all engines has ended.

        Requests wait while an engine's batch is full; the last batch then decays to the longest sample. In each decode
        step the host schedules, samples and detokenises every sequence.
        """
        rl, choices = self._rl, self.choices
        maximum = self._by_wish("response_length")[:, None]
        mean_tokens = (self._by_wish("mean_sequence_length") - rl.prompt_length)[:, None]
        samples, batch = self.samples_per_engine[:, None], self.concurrency[:, None]
        edges = maximum * np.linspace(0.0, 1.0, STEPS + 1)[None, :]
        middle, width = (edges[:, 1:] + edges[:, :-1]) / 2, np.diff(edges, axis=1)
        alive = np.zeros_like(middle)
        for index in np.unique(choices.wish).tolist():
            law, rows = self.problem.wishes[index].law, choices.wish == index
            assert law is not None
            alive[rows] = law.alive(middle[rows][0])
        context = rl.prompt_length + middle
        any_alive = 1.0 - (1.0 - alive) ** self._by_wish("samples")[:, None]
        decode = self._decode_step(np.maximum(batch * alive, 1.0), context)
        tail = (any_alive * width * decode).sum(axis=1) * (not self._goes_on)
        # Where unfinished samples go on in the next step, the batch never decays.
        waiting = (samples if self._goes_on else np.maximum(0.0, samples - batch)) * mean_tokens / batch
        steady = self._decode_step(batch, rl.prompt_length + mean_tokens / 2)
        queue = (waiting * steady)[:, 0]
        prompts = self._by_wish("rollout_batch_size") if self._engine.shares_prompt_prefix else self._by_wish("samples")
        flop = 2.0 * self.problem.parameters.active_per_token * rl.prompt_length * prompts / self.engines
        rate = GEMM_SHARE * self._peak_flop_per_s * choices.tensor_parallel
        source = f"catalogs/rollouts/{self._engine.id}.yaml; planner/costs/rollout.py"
        asked = self.problem.generation
        each_us = self._engine.sequence_us + asked.log_probs * self._engine.log_prob_sequence_us
        host = (samples * mean_tokens)[:, 0] * each_us / US_PER_S
        answer_ms = asked.answer_ms if rl.answer_ms is None else rl.answer_ms
        answers = self._by_wish("samples") * answer_ms / MS_PER_S * (not self._goes_on)
        items = (
            Item(ItemName.PREFILL, flop / rate, source),
            Item(ItemName.DECODE_REQUESTS_WAITING, queue, source),
            Item(ItemName.DECODE_LAST_BATCH_TO_ITS_LONGEST_SAMPLE, tail, source),
            Item(ItemName.HOST_OF_SEQUENCES, host, source),
            Item(ItemName.ANSWERS_CHECKED, answers, asked.source),
        )
        return tuple(calibrated(self.problem, "rollout", item) for item in items)

    @cached_property
    def switch_time(self) -> tuple[Item, ...]:
        """Seconds of weight sync, of putting one side to sleep and waking the other, and what a log adds to them."""
        return switch_items(self.problem, self.choices)
