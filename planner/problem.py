"""Scenario + catalog -> Problem: every name looked up, every wish spelt out, nothing left to read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from planner.calibration.overlay import load_calibration
from planner.catalog import Catalog
from planner.errors import InputError, Place
from planner.errors import Problem as Wrong
from planner.formulas.parameters import ArchitectureParameters, count_parameters, lora_parameters
from planner.known_errors import KnownErrors, known_errors
from planner.layouts import Floats
from planner.own_cluster import Own, load_own
from planner.read import Document
from planner.refusals import refusals
from planner.schema.calibration import Calibration, Phase
from planner.schema.catalog import Architecture, Gpu, Node, Optimizer, Precision
from planner.schema.engine import Colocation, Engine, RolloutEngine, configured
from planner.schema.scenario import NameWish, Scenario
from planner.topology import Cluster
from planner.wishes import WishCombination as WishCombination
from planner.wishes import allowed, wish_combinations

RESERVED_CLIFF = 0.88
"""Share of usable memory above which 19 of 19 published nanotron runs on H100 were 3 to 12 times slower: the allocator
flushes and retries. Source: Hugging Face ultra-scale benchmark table, validation/data/README.md."""
CLIFF_TEXT = (
    "limits.reserved_cliff: without expandable segments, runs above 88 % of usable memory were 3 to 12 times slower "
    "(19 of 19 published)"
)
DEFAULT_GRID_GPU = "h100-sxm5-80gb"
"""Whose GEMM grid is scaled for a GPU that names no relative."""


@dataclass(frozen=True)
class Problem:
    """A scenario with all names resolved. Frozen; what-ifs make a new one."""

    scenario: Scenario
    document: Document
    architecture: Architecture
    engine: Engine
    precision: Precision
    base_precision: Precision
    optimizers: tuple[Optimizer, ...]
    node: Node
    gpu: Gpu
    grid_gpu: Gpu
    """The GPU whose measured GEMM grid is used: this one, or a relative that is scaled."""
    num_gpus: tuple[int, ...]
    """GPU counts that may be used, ascending."""
    rollout_engine: RolloutEngine | None
    wishes: tuple[WishCombination, ...]
    """Best first: fewest given up, then in playbook order, then by how much."""
    usable_gib: float
    headroom_gib: float
    """GiB that must stay free."""
    headroom_from: str
    """Where that number comes from."""
    known_errors: KnownErrors
    """How wrong predictions for this engine are known to be."""
    provenance: tuple[tuple[str, str], ...]
    """(file, sha256) of every catalog file used."""
    calibration: Calibration | None = None
    """Factors of the user's own run, where the scenario names a file of them."""
    own: Own | None = None
    """What the user's files say about the machines; `node` already follows them."""

    @cached_property
    def parameters(self) -> ArchitectureParameters:
        """Exact parameter counts by tensor class."""
        return count_parameters(self.architecture)

    @cached_property
    def clusters(self) -> dict[int, Cluster]:
        """A cluster for each GPU count."""
        own = self.own or Own(self.node)
        return {count: own.cluster(self.gpu, count) for count in self.num_gpus}

    def factor(self, phase: Phase) -> float:
        """What the calibration multiplies a phase's time by; 1 without one."""
        return 1.0 if self.calibration is None else self.calibration.factor(phase)

    @property
    def is_rl(self) -> bool:
        """True for reinforcement learning."""
        return self.scenario.rl is not None

    @property
    def colocation(self) -> Colocation:
        """Residuals of the colocated RL stack; only for RL."""
        assert self.engine.colocation is not None
        return self.engine.colocation

    @cached_property
    def optimizer_state_bytes(self) -> Floats:
        """Bytes a trainable parameter of optimizer state and master copy, by optimizer index."""
        moments = [self.moment_bytes(o, o.state_bytes) for o in self.optimizers]
        master = [o.master_bytes * self.engine.states.keeps_master for o in self.optimizers]
        return np.asarray(np.array(moments) + np.array(master))

    def moment_bytes(self, optimizer: Optimizer, state_bytes: float) -> float:
        """Bytes a parameter of moments for which an optimizer states so many, as this engine formats them."""
        states = self.engine.states
        if optimizer.own_format:
            return state_bytes
        if states.moment_bytes is not None:
            return min(states.moment_bytes, state_bytes)
        return state_bytes * (self.weight_bytes / 4 if states.moments_follow_weights else 1.0)

    def adapter_moment_bytes(self, optimizer: Optimizer) -> float:
        """Bytes a parameter of moments of fp32 adapters."""
        follow = self.engine.states.moments_follow_weights and self.engine.states.moment_bytes is None
        return optimizer.state_bytes if follow else self.moment_bytes(optimizer, optimizer.state_bytes)

    @property
    def weight_bytes(self) -> float:
        """Bytes a trainable parameter of the stored weights."""
        stored = self.engine.states.weight_bytes
        return self.precision.weight_bytes if stored == "precision" else stored

    @property
    def gradient_bytes(self) -> float:
        """Bytes a trainable parameter of the gradient."""
        stored = self.engine.states.gradient_bytes
        return self.precision.weight_bytes if stored == "precision" else stored

    def place(self, *path: str | int) -> Place:
        """Where something stands in the scenario."""
        return self.document.place(path)


def resolve(document: Document, scenario: Scenario, catalog: Catalog) -> Problem:
    """Look up every name of a scenario and spell out its wishes.

    Raises InputError for an unknown name or for parts that contradict each other.
    """
    wrong: list[Wrong] = []

    def find(kind: str, name: str, *path: str | int) -> Any:
        try:
            return catalog.find(kind, name, where=document.place(path))
        except InputError as error:
            wrong.extend(error.problems)
            return None

    architecture = find("models", scenario.model, "model")
    engine = find("engines", scenario.engine, "engine")
    node = find("nodes", scenario.cluster.node, "cluster", "node")
    precision = find("precisions", scenario.precision, "precision")
    base = precision
    if scenario.adapter is not None:
        base = find("precisions", scenario.adapter.base_precision, "adapter", "base_precision")
    names = scenario.optimizer.allow if isinstance(scenario.optimizer, NameWish) else [scenario.optimizer]
    if isinstance(scenario.optimizer, NameWish):
        names = [scenario.optimizer.want, *(n for n in names if n != scenario.optimizer.want)]
    optimizers = [find("optimizers", name, "optimizer") for name in names]
    gpu: Any = find("gpus", node.gpu, "cluster", "node") if node is not None else None
    rollout = None
    if scenario.rl is not None and engine is not None:
        if engine.colocation is None:
            wrong.append(
                Wrong(
                    f"engine {engine.id} has no rollout engine",
                    document.place(("engine",)),
                    "task: rl needs an engine that also generates samples",
                    "engine: slime",
                )
            )
        else:
            rollout = find("rollouts", engine.colocation.rollout_engine, "engine")
    if wrong:
        raise InputError(wrong)
    own = load_own(document, scenario, node, gpu)
    node = own.node
    grid_gpu = gpu if gpu.gemm_grid is not None else catalog.find("gpus", gpu.gemm_grid_from or DEFAULT_GRID_GPU)
    wrong = _contradictions(document, scenario, engine, precision, node, gpu)
    wrong += _work_contradictions(document, scenario, architecture, engine)
    wrong += refusals(document, scenario, engine)
    if wrong:
        raise InputError(wrong)
    for measured in (f"measured/gemm_{grid_gpu.gemm_grid}.json", "measured/nccl.json"):
        catalog.data_file(measured)

    engine = configured(engine, [*scenario.engine_options, precision.id], scenario.layout.recompute_modules)

    usable = scenario.cluster.usable_gib if scenario.cluster.usable_gib is not None else gpu.usable_gib
    if scenario.limits.headroom_gib is not None:
        headroom, headroom_from = scenario.limits.headroom_gib, "limits.headroom_gib of the scenario"
    else:
        headroom = usable * engine.default_headroom_fraction
        headroom_from = f"default of engine {engine.id}: {engine.headroom_source}"
    cliff = usable * (1 - RESERVED_CLIFF)
    if scenario.limits.reserved_cliff and not engine.expandable_segments and headroom < cliff:
        headroom, headroom_from = cliff, CLIFF_TEXT
    calibration, calibrated_by = load_calibration(document.name, scenario.calibration)
    return Problem(
        scenario=scenario,
        document=document,
        architecture=architecture,
        engine=engine,
        precision=precision,
        base_precision=base,
        optimizers=tuple(optimizers),
        node=node,
        gpu=gpu,
        grid_gpu=grid_gpu,
        num_gpus=_gpu_counts(scenario, node),
        rollout_engine=rollout,
        wishes=wish_combinations(scenario, len(optimizers)),
        usable_gib=usable,
        headroom_gib=headroom,
        headroom_from=headroom_from,
        known_errors=known_errors(engine, catalog),
        provenance=tuple(sorted([*catalog.used().items(), *calibrated_by, *own.files])),
        calibration=calibration,
        own=own,
    )


def _contradictions(
    document: Document, scenario: Scenario, engine: Engine, precision: Precision, node: Node, gpu: Gpu
) -> list[Wrong]:
    """Things that no layout could mend, with the place that says so."""
    wrong = []
    layout = scenario.layout
    named = (
        ("option", "engine_options", scenario.engine_options, list(engine.options), ("engine_options",)),
        (
            "module to recompute",
            "layout.recompute_modules",
            layout.recompute_modules,
            engine.recompute_modules,
            ("layout", "recompute_modules"),
        ),
    )

    def refuse(what: str, because: str, attempt: str, *path: str | int) -> None:
        wrong.append(Wrong(what, document.place(path), because, attempt))

    for what, key, asked, known, path in named:
        for name in asked:
            if name not in known:
                refuse(
                    f"engine {engine.id} has no {what} {name}",
                    f"it has {', '.join(known) or 'none'}",
                    f"leave {name} out of {key}",
                    *path,
                )
    if not precision.trainable:
        refuse(
            f"precision {precision.id} cannot be trained in",
            "it only holds frozen weights",
            "precision: bf16 (and adapter.base_precision: " + precision.id + " to hold a frozen base in it)",
            "precision",
        )
    elif precision.compute not in gpu.dense_tflops:
        refuse(
            f"{gpu.name} has no {precision.compute} matrix units",
            f"the catalog lists {', '.join(sorted(gpu.dense_tflops))} for it",
            "precision: " + ("fp16" if "fp16" in gpu.dense_tflops else "fp32"),
            "precision",
        )
    if scenario.limits.headroom_gib is not None and scenario.limits.headroom_gib >= gpu.usable_gib:
        refuse(
            f"headroom_gib {scenario.limits.headroom_gib} leaves no memory",
            f"{gpu.name} has {gpu.usable_gib:.2f} GiB usable",
            f"headroom_gib: {gpu.usable_gib * engine.default_headroom_fraction:.1f}",
            "limits",
            "headroom_gib",
        )
    counts = scenario.cluster.num_gpus
    for count in counts if isinstance(counts, list) else [counts] if counts is not None else []:
        if count > node.gpus_per_node and count % node.gpus_per_node:
            refuse(
                f"{count} GPUs are not whole nodes",
                f"{node.id} has {node.gpus_per_node} GPUs a node",
                f"num_gpus: {count // node.gpus_per_node * node.gpus_per_node}",
                "cluster",
                "num_gpus",
            )
        elif count < node.gpus_per_node and node.gpus_per_node % count:
            refuse(
                f"{count} GPUs are no even share of a node",
                f"{node.id} has {node.gpus_per_node} GPUs a node",
                f"num_gpus: {max(d for d in range(1, count + 1) if node.gpus_per_node % d == 0)}",
                "cluster",
                "num_gpus",
            )
    if layout.optimizer_offload and not engine.optimizer_offload:
        refuse(
            f"engine {engine.id} does not offload the optimizer",
            "its catalog file says optimizer_offload: false",
            "optimizer_offload: false",
            "layout",
            "optimizer_offload",
        )
    if layout.recompute == "per_stage" and not engine.recompute.per_stage:
        refuse(
            f"engine {engine.id} takes one number of recomputed layers for all stages",
            "its catalog file says recompute.per_stage: false",
            "recompute: uniform",
            "layout",
            "recompute",
        )
    if layout.layers_per_stage != "even" and engine.pipeline.uneven == "no":
        refuse(
            f"engine {engine.id} only splits layers evenly",
            "its catalog file says pipeline.uneven: no",
            "layers_per_stage: even",
            "layout",
            "layers_per_stage",
        )
    if layout.schedule == "zb-h1" and engine.pipeline.zero_bubble is None:
        refuse(
            f"engine {engine.id} has no zero-bubble schedule",
            "its catalog file gives no pipeline.zero_bubble",
            "schedule: 1f1b",
            "layout",
            "schedule",
        )
    elif layout.schedule == "zb-h1" and scenario.adapter is not None:
        refuse(
            "a zero-bubble schedule has nothing to put off",
            "it fills the bubble with gradients of weights, and those of a frozen base do not exist",
            "schedule: 1f1b",
            "layout",
            "schedule",
        )
    if layout.recompute_method is not None and layout.recompute_method not in engine.recompute.methods:
        refuse(
            f"engine {engine.id} has no recompute method {layout.recompute_method}",
            f"it has {', '.join(engine.recompute.methods) or 'none'}",
            "leave recompute_method out",
            "layout",
            "recompute_method",
        )
    return wrong


def _work_contradictions(
    document: Document, scenario: Scenario, architecture: Architecture, engine: Engine
) -> list[Wrong]:
    """Adapters on modules that the architecture lacks, and rollouts that do not divide into optimizer steps."""
    wrong = []
    if scenario.adapter is not None:
        try:
            lora_parameters(architecture, scenario.adapter.rank, tuple(scenario.adapter.targets))
        except ValueError as error:
            what = f"adapter.targets does not fit {architecture.id}"
            wrong.append(Wrong(what, document.place(("adapter", "targets")), str(error), "targets: [all-linear]"))
        spoken = {word for t in engine.saved_by_adapter for word in ([t.when] if isinstance(t.when, str) else t.when)}
        needed = {"dora": "dora", "lora-fa": "trained_down"}.get(scenario.adapter.variant)
        if needed is not None and (needed not in spoken or (needed == "dora" and engine.magnitude_norm is None)):
            what = f"engine {engine.id} does not say what {scenario.adapter.variant} adapters keep"
            because = f"its catalog file has no tensor of saved_by_adapter with the condition {needed}"
            wrong.append(Wrong(what, document.place(("adapter", "variant")), because, "variant: lora"))
    rl = scenario.rl
    if rl is not None:
        samples = allowed(rl.rollout_batch_size)[0] * allowed(rl.n_samples_per_prompt)[0]
        if samples % rl.steps_per_rollout:
            wrong.append(
                Wrong(
                    f"{samples} samples of a rollout are not {rl.steps_per_rollout} equal optimizer steps",
                    document.place(("rl", "steps_per_rollout")),
                    "rollout_batch_size * n_samples_per_prompt must be a multiple of steps_per_rollout",
                    f"steps_per_rollout: {max(d for d in range(1, rl.steps_per_rollout + 1) if samples % d == 0)}",
                )
            )
    return wrong


def _gpu_counts(scenario: Scenario, node: Node) -> tuple[int, ...]:
    """GPU counts that may be used: shares of one node, or whole nodes."""
    counts = scenario.cluster.num_gpus
    if isinstance(counts, list):
        return tuple(sorted(set(counts)))
    if counts is not None:
        return (counts,)
    limit = scenario.cluster.max_gpus or 0
    per_node = node.gpus_per_node
    shares = [n for n in range(1, min(limit, per_node) + 1) if per_node % n == 0]
    return tuple(shares + list(range(2 * per_node, limit + 1, per_node)))
