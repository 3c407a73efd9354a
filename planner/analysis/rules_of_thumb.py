"""Each rule of thumb beside our own figure for the same model, so that a user sees how far a rule carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.rollout import RolloutCosts
from planner.errors import InputError, Place
from planner.formulas import rules_of_thumb as rules
from planner.formulas.activations import korthikanti_layer_bytes, rule_activation_bytes, square_root_checkpoint_layers
from planner.formulas.parameters import count_parameters, lora_parameters
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override, parse_document
from planner.problem.layouts import Rollouts
from planner.problem.resolve import question_of
from planner.schema.catalog import Architecture
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.units import GB, gib_to_gb

NODE = "hgx-h100-8"
SHARDS = 8
LORA_RANK = 16
STATE = (ItemName.WEIGHTS, ItemName.GRADIENTS, ItemName.OPTIMIZER, ItemName.FROZEN_BASE_WEIGHTS)
TRAINING = f"""
name: rules of thumb
task: pretrain
model: unset
engine: megatron-core
cluster: {{node: {NODE}, num_gpus: 1}}
batch: {{global_batch_size: 1, sequence_length: 1, micro_batch_size: 1}}
layout: {{tensor_parallel: 1, pipeline_parallel: 1, data_parallel: 1, context_parallel: 1, expert_parallel: 1,
  expert_tensor_parallel: 1, recomputed_layers: 0}}
limits: {{host_memory: false}}
"""
SERVED = {16: "bf16", 8: "int8", 4: "int4"}
"""Precision in which a rollout engine holds weights, by bits of the rule."""
SERVING = f"""
name: rules of thumb, serving
task: rl
model: unset
engine: slime
cluster: {{node: {NODE}, num_gpus: 1}}
rl:
  prompt_length: 1
  response_length: 1
  response_distribution: {{mean: 10, p99: 20}}
  rollout_batch_size: 1
  n_samples_per_prompt: 1

"""


def adapting(base_precision: str) -> dict[str, object]:
    """Changes to the fixed scenario that train adapters on all linear layers of a frozen base."""
    adapter = {"rank": LORA_RANK, "base_precision": base_precision, "targets": ["all-linear"]}
    return {"engine": "transformers", "precision": "bf16", "adapter": adapter}


@dataclass(frozen=True)
class RuleOfThumb:
    """One rule beside our figure."""

    name: str
    formula: str
    rule: float | None
    """[unit]; None where the source names the item without a figure."""
    ours: float | None
    """[unit]; None where we have no such figure."""
    ours_is: str
    """What our figure is, or why there is none."""
    source: str
    unit: str = "GB"
    """GB (decimal, as the articles print), % or x (a ratio)."""

    @property
    def share(self) -> float | None:
        """The rule over our figure: how far off it is."""
        return self.rule / self.ours if self.rule is not None and self.ours else None


@dataclass(frozen=True)
class RuleBook:
    """One model at one batch, length and precision."""

    model: str
    catalog: Catalog
    batch: int = 1
    sequence_length: int = 4096
    precision: str = "bf16"

    @cached_property
    def architecture(self) -> Architecture:
        """The model; InputError where the catalog has none of that name."""
        found = self.catalog.find("models", self.model, Place("--rules"))
        assert isinstance(found, Architecture)
        return found

    @cached_property
    def parameters(self) -> int:
        """Exact count."""
        return count_parameters(self.architecture).total

    @cached_property
    def _document(self) -> Document:
        return override(
            parse_document(TRAINING, "rules of thumb"),
            {
                "model": self.model,
                "precision": self.precision,
                "batch.global_batch_size": self.batch,
                "batch.micro_batch_size": self.batch,
                "batch.sequence_length": self.sequence_length,
            },
        )

    @cached_property
    def _plans(self) -> dict[str, Plan | str]:
        """Those that were asked for, by what they change."""
        return {}

    def plan(self, changes: Mapping[str, object]) -> Plan | str:
        """Our ledger, or why there is none."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._plans:
            try:
                self._plans[key] = estimate(override(self._document, changes), self.catalog)
            except InputError as error:
                self._plans[key] = error.problems[0].because or error.problems[0].what
        return self._plans[key]

    @cached_property
    def whole(self) -> Plan | str:
        """Training on one GPU as the fixed scenario above has it."""
        return self.plan({})

    def ours(self, plan: Plan | str, names: tuple[str, ...], what: str) -> tuple[float | None, str]:
        """Sum of items in the phase of the logits, where all of training's state and activations are alive. [GB]"""
        if isinstance(plan, str):
            return None, plan
        phase = next(p for p in plan.memory if p.phase == "loss")
        return gib_to_gb(sum(i.amount for i in phase.items if i.name in names)), what

    def serving(self, precision: str) -> tuple[float, float]:
        """(weights and runtime, key-value cache of the batch), a rollout engine on one GPU. [bytes]"""
        changes = {"model": self.model, "rl.rollout.precision": precision}
        problem = question_of(override(parse_document(SERVING, "rules of thumb"), changes), self.catalog)
        one = np.ones(1, dtype=np.int64)
        costs = RolloutCosts(problem.first, Rollouts(one, one * 0, one, one * 0.5, one, one, one * 0))
        fixed = [
            item
            for item in costs.ledger("rollout")
            if item.name not in (ItemName.KEY_VALUE_POOL, ItemName.SLEEPING_TRAINER)
        ]
        cache = float(costs.kv_bytes_per_token[0]) * self.batch * self.sequence_length
        return sum(float(np.ravel(item.amount)[0]) for item in fixed), cache

    def rows(self) -> list[RuleOfThumb]:
        """Every rule."""
        return [*self._state_rows(), *self._activation_rows(), *self._inference_rows(), *self._total_rows()]

    def _state_rows(self) -> list[RuleOfThumb]:
        count, precision, whole = float(self.parameters), self.precision, self.whole
        each = rules.BYTES_PER_PARAMETER[precision]
        kept = "weights, fp32 gradients, moments, master copy"
        if precision == "fp32":
            kept = "weights, gradients, moments; fp32 weights are their own master copy"
        weights = rules.weight_rule_bytes(parameters=count, precision=precision)
        moments = self.catalog.find("optimizers", "adamw").state_bytes
        momentum = self.catalog.find("optimizers", "sgd-momentum").state_bytes
        out = [
            ("weights", f"P x {each:g}", weights, self.ours(whole, (ItemName.WEIGHTS,), "ledger"), rules.GUIDE),
            (
                "gradients",
                f"P x {each:g}",
                weights,
                self.ours(whole, (ItemName.GRADIENTS,), "Megatron keeps gradients in fp32"),
                rules.GUIDE,
            ),
            (
                "Adam moments",
                "P x 8",
                rules.optimizer_rule_bytes(parameters=count, optimizer="adamw-no-master"),
                (count * moments / GB, "catalog: two fp32 moments"),
                rules.GUIDE,
            ),
            (
                "Adam with fp32 master copy",
                "P x 12",
                rules.optimizer_rule_bytes(parameters=count, optimizer="adamw"),
                self.ours(whole, (ItemName.OPTIMIZER,), "ledger"),
                rules.TRAIN_BIG,
            ),
            (
                "SGD with momentum",
                "P x 4",
                rules.optimizer_rule_bytes(parameters=count, optimizer="sgd-momentum"),
                (count * momentum / GB, "catalog: one fp32 moment"),
                rules.GUIDE,
            ),
            (
                "16 bytes a parameter",
                "P x 16",
                rules.training_state_bytes(parameters=count),
                self.ours(whole, STATE, kept),
                rules.HOW_MUCH,
            ),
        ]
        return [_rule(*row) for row in out]

    def _activation_rows(self) -> list[RuleOfThumb]:
        a, whole = self.architecture, self.whole
        shape: dict[str, float] = {
            "batch": self.batch,
            "sequence_length": self.sequence_length,
            "hidden_size": a.hidden_size,
            "num_hidden_layers": a.num_hidden_layers,
            "bytes_each": rules.BYTES_PER_PARAMETER[self.precision],
        }
        kept = self.ours(whole, (ItemName.ACTIVATIONS_KEPT_LAYERS,), "counted tensor by tensor, FlashAttention")
        unit = rule_activation_bytes(k=1, **shape) / GB
        if kept[0] is not None:
            kept = (kept[0], f"{kept[1]}: k = {kept[0] / unit:.1f}")
        out = [
            _rule(f"activations, k = {k}", "k b s h L bytes", unit * k * GB, kept, source)
            for k, source in ((1, rules.HOW_MUCH), (2, rules.GUIDE), (10, rules.GUIDE))
        ]
        scores = self._layer_bytes("none") - self._layer_bytes("selective")
        source = "Korthikanti et al. 2022, arXiv:2205.05198"
        none: tuple[float | None, str] = (0.0, "FlashAttention never writes them")
        out.append(_rule("attention scores", "5 a s^2 b L", scores * a.num_hidden_layers, none, source))
        again = self.plan({"layout.recomputed_layers": "all"})
        names = (ItemName.ACTIVATIONS_RECOMPUTED_LAYERS, ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED)
        stubs = self._recomputed(again, names)
        base = unit * 10 * GB if kept[0] is None else kept[0] * GB
        least, most = rules.checkpointed_bytes(all_layers_bytes=base)
        name = "every layer checkpointed"
        out.append(_rule(name, "30 % of the above, at best", least, stubs, rules.GUIDE))
        out.append(_rule(name, "50 % of the above, at worst", most, stubs, rules.GUIDE))
        share = square_root_checkpoint_layers(num_hidden_layers=a.num_hidden_layers) / a.num_hidden_layers
        text = "Chen et al. 2016, arXiv:1604.06174; " + rules.HOW_MUCH
        out.append(_rule("square-root checkpointing", "sqrt(L) / L of the above", base * share, stubs, text))
        return out

    def _layer_bytes(self, recompute_granularity: str) -> float:
        """One layer by the formula of Korthikanti et al. [bytes]"""
        return korthikanti_layer_bytes(
            sequence_length=self.sequence_length,
            micro_batch_size=self.batch,
            hidden_size=self.architecture.hidden_size,
            num_attention_heads=self.architecture.num_attention_heads,
            tensor_parallel=1,
            sequence_parallel=False,
            recompute_granularity=recompute_granularity,
        )

    def _recomputed(self, plan: Plan | str, names: tuple[str, ...]) -> tuple[float | None, str]:
        if isinstance(plan, str):
            return None, plan
        phase = next(p for p in plan.memory if p.phase == "recomputation")
        held = sum(item.amount for item in phase.items if item.name in names)
        return gib_to_gb(held), "layer inputs and the layer being recomputed"

    def _inference_rows(self) -> list[RuleOfThumb]:
        a, count = self.architecture, float(self.parameters)
        fixed, cache = self.serving("bf16")
        rule = rules.key_value_bytes(
            num_hidden_layers=a.num_hidden_layers,
            width=a.hidden_size,
            sequence_length=self.sequence_length,
            batch=self.batch,
            bytes_each=2,
        )
        heads = f"{a.num_key_value_heads} of {a.num_attention_heads} heads hold keys and values"
        exact = (cache / GB, "latent attention" if a.is_mla else heads)
        out = [_rule("key-value cache, multi-head", "2 L h s b bytes", rule, exact, rules.GUIDE)]
        for bits in (16, 8, 4):
            fixed, cache = self.serving(SERVED[bits])
            held = "weights" if bits == 16 else f"{SERVED[bits]} weights, tables in 16 bit"
            ours = ((fixed + cache) / GB, f"{held}, cache of the batch, runtime reserve, CUDA context")
            served = rules.inference_bytes(parameters=count, bits=bits)
            out.append(_rule(f"inference x 1.2, {bits} bit", "P x bits / 8 x 1.2", served, ours, rules.COMPLETE))
        return out

    def _total_rows(self) -> list[RuleOfThumb]:
        count, whole = float(self.parameters), self.whole
        if isinstance(whole, str):
            peak: tuple[float | None, str] = (None, whole)
        else:
            text = f"peak on one GPU, batch {self.batch} x {self.sequence_length} tokens, no recomputation"
            peak = (gib_to_gb(whole.peak_gib), text)
        quick = rules.quick_estimate_gb(
            parameters_billion=count / 1e9, precision_bytes=rules.BYTES_PER_PARAMETER[self.precision]
        )
        sharded = self.plan(
            {
                "engine": "fsdp2",
                "cluster.num_gpus": SHARDS,
                "layout.data_parallel": SHARDS,
                "layout.zero_stage": 3,
                "batch.global_batch_size": SHARDS * self.batch,
            }
        )
        spread = self.ours(sharded, (*STATE, ItemName.GATHERED_LAYERS), "FSDP2: fp32 weights, gathered layers included")
        adapters = lora_parameters(self.architecture, LORA_RANK)
        out = [
            _rule("quick estimate", "(w + g + o + 1.5 w) x 1.15", quick * GB, peak, rules.GUIDE),
            _rule(
                f"FSDP over {SHARDS} GPUs",
                f"P x 16 / {SHARDS}",
                rules.fully_sharded_bytes(parameters=count, ranks=SHARDS),
                spread,
                rules.LESSON,
            ),
        ]
        for name, precision, held in (("LoRA", "bf16", 2.0), ("QLoRA", "nf4", 0.5)):
            plan = self.plan(adapting(precision))
            tuned = rules.frozen_training_bytes(parameters=count, adapter_parameters=adapters, base_bytes=held)
            ours = self.ours(plan, STATE, f"{adapters:,} trainable parameters in fp32")
            out.append(
                _rule(f"{name}, rank {LORA_RANK}", f"P x {held:g} + P_adapter x 16", tuned, ours, rules.HOW_MUCH)
            )
        return out


def _rule(name: str, formula: str, size_bytes: float, ours: tuple[float | None, str], source: str) -> RuleOfThumb:
    return RuleOfThumb(name, formula, size_bytes / GB, ours[0], ours[1], source)
