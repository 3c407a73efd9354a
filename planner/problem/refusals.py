"""Parts of a scenario that contradict one another or the catalog, whatever the layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.errors import Mistake, Place
from planner.formulas.parameters import lora_parameters
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.problem.critics import refused_critic
from planner.problem.linear_attention import linear_attention
from planner.problem.preference import refused_pairs
from planner.problem.towers import of_tower
from planner.problem.wishes import allowed
from planner.schema.catalog import Architecture, Gpu, Node, Precision
from planner.schema.engine import Engine
from planner.schema.scenario import ClusterSpec, LayoutSpec, Pool, Scenario


@dataclass(frozen=True)
class Asked:
    """What a refusal looks at: a variant of a scenario, its engine and its machines."""

    scenario: Scenario
    engine: Engine
    precision: Precision
    gpu: Gpu

    @property
    def layout(self) -> LayoutSpec:
        """What the scenario says of the layout."""
        return self.scenario.layout

    @property
    def has_units(self) -> bool:
        """Whether the GPU computes in the precision asked for."""
        return self.precision.compute in self.gpu.dense_tflops

    @property
    def usual_precision(self) -> str:
        """A precision that the GPU computes in."""
        return "fp16" if "fp16" in self.gpu.dense_tflops else "fp32"


@dataclass(frozen=True)
class Refusal:
    """One thing that no layout could mend. Texts may name fields of `Asked` in braces."""

    path: tuple[str, ...]
    """What in the scenario asks for it."""
    applies: Callable[[Asked], bool]
    what: str
    because: str
    attempt: str

    def mistake(self, document: Document, asked: Asked) -> Mistake:
        """The message, with its place in the file."""
        words = {
            "engine": asked.engine,
            "precision": asked.precision,
            "gpu": asked.gpu,
            "layout": asked.layout,
            "scenario": asked.scenario,
            "units": ", ".join(sorted(asked.gpu.dense_tflops)),
            "usual_precision": asked.usual_precision,
            "methods": ", ".join(asked.engine.recompute.methods) or "none",
            "precisions": ", ".join(asked.engine.precisions),
            "first_precision": next(iter(asked.engine.precisions), ""),
            "rank_order": asked.scenario.cluster.rank_order,
            "rank_orders": ", ".join(asked.engine.rank_orders),
            "first_rank_order": next(iter(asked.engine.rank_orders), ""),
        }
        what, because, attempt = (text.format(**words) for text in (self.what, self.because, self.attempt))
        return Mistake(what, document.place(self.path), because, attempt)


def _offloads_activations(asked: Asked) -> bool:
    return any(option.decides == "activation_offload" for option in asked.engine.options.values())


def _empty_stages(asked: Asked) -> bool:
    """Stages without a layer, but for last ones where the engine allows these."""
    split = asked.layout.layers_per_stage
    counts = split if isinstance(split, list) else []
    filled = sum(count > 0 for count in counts)
    allowed = asked.engine.pipeline.empty_stages and filled > 0 and all(counts[:filled])
    return 0 in counts and not allowed


def _middle_differs(asked: Asked) -> bool:
    split = asked.layout.layers_per_stage
    return isinstance(split, list) and len(set(split[1:-1])) > 1


REFUSALS = (
    Refusal(
        ("precision",),
        lambda a: not a.precision.trainable,
        "precision {precision.id} cannot be trained in",
        "it only holds frozen weights",
        "precision: bf16 (and adapter.base_precision: {precision.id} to hold a frozen base in it)",
    ),
    Refusal(
        ("precision",),
        lambda a: a.precision.trainable and not a.has_units,
        "{gpu.name} has no {precision.compute} matrix units",
        "the catalog lists {units} for it",
        "precision: {usual_precision}",
    ),
    Refusal(
        ("layout", "optimizer_offload"),
        lambda a: bool(a.layout.optimizer_offload) and not a.engine.optimizer_offload,
        "engine {engine.id} does not offload the optimizer",
        "its catalog file says optimizer_offload: false",
        "optimizer_offload: false",
    ),
    Refusal(
        ("layout", "recompute"),
        lambda a: a.layout.recompute == "per_stage" and not a.engine.recompute.per_stage,
        "engine {engine.id} takes one number of recomputed layers for all stages",
        "its catalog file says recompute.per_stage: false",
        "recompute: uniform",
    ),
    Refusal(
        ("layout", "layers_per_stage"),
        lambda a: a.layout.layers_per_stage not in ("auto", "even") and a.engine.pipeline.uneven == "no",
        "engine {engine.id} only splits layers evenly",
        "its catalog file says pipeline.uneven: no",
        "layers_per_stage: even",
    ),
    Refusal(
        ("layout", "layers_per_stage"),
        _empty_stages,
        "layers_per_stage leaves a stage without a layer",
        "only the last stages may be empty, and only where an engine's catalog file says pipeline.empty_stages",
        "at least 1 layer on every stage",
    ),
    Refusal(
        ("layout", "schedule"),
        lambda a: a.layout.schedule == "zb-h1" and a.engine.pipeline.zero_bubble is None,
        "engine {engine.id} has no zero-bubble schedule",
        "its catalog file gives no pipeline.zero_bubble",
        "schedule: 1f1b",
    ),
    Refusal(
        ("layout", "schedule"),
        lambda a: (
            a.layout.schedule == "zb-h1"
            and a.engine.pipeline.zero_bubble is not None
            and a.scenario.adapter is not None
        ),
        "a zero-bubble schedule has nothing to put off",
        "it fills the bubble with gradients of weights, and those of a frozen base do not exist",
        "schedule: 1f1b",
    ),
    Refusal(
        ("layout", "activation_offload"),
        lambda a: a.layout.activation_offload is True and not _offloads_activations(a),
        "engine {engine.id} does not offload activations",
        "its catalog file has no option that decides activation_offload",
        "activation_offload: false",
    ),
    Refusal(
        ("layout", "recompute_group"),
        lambda a: a.layout.recompute_group != 1 and "uniform" not in a.engine.recompute.methods,
        "engine {engine.id} does not recompute layers in groups",
        "its catalog file has no recompute method uniform",
        "leave recompute_group out",
    ),
    Refusal(
        ("layout", "recompute_group"),
        lambda a: a.layout.recompute_group != 1 and a.layout.recomputed_layers != "all",
        "groups of {layout.recompute_group} layers are recomputed only where every layer is",
        "recomputed_layers, recompute_method: block or recompute_modules say otherwise",
        "recomputed_layers: all, without recompute_modules",
    ),
    Refusal(
        ("layout", "recompute_method"),
        lambda a: a.layout.recompute_method is not None and a.layout.recompute_method not in a.engine.recompute.methods,
        "engine {engine.id} has no recompute method {layout.recompute_method}",
        "it has {methods}",
        "leave recompute_method out",
    ),
    Refusal(
        ("precision",),
        lambda a: bool(a.engine.precisions) and a.scenario.precision not in a.engine.precisions,
        "engine {engine.id} does not train in {scenario.precision}",
        "its catalog file says precisions: {precisions}",
        "precision: {first_precision}",
    ),
    Refusal(
        ("cluster", "rank_order"),
        lambda a: a.scenario.cluster.rank_order not in a.engine.rank_orders,
        "engine {engine.id} has no rank order {rank_order}",
        "its catalog file says rank_orders: {rank_orders}",
        "rank_order: {first_rank_order}",
    ),
    Refusal(
        ("layout", "layers_per_stage"),
        lambda a: a.engine.pipeline.uneven == "first_last" and _middle_differs(a),
        "engine {engine.id} only lets the first and the last stage differ",
        "its catalog file says pipeline.uneven: first_last",
        "layers_per_stage: free, or a list whose stages between the first and the last are equal",
    ),
)
"""What engines and GPUs do not take, whatever the layout: a new one is one more entry."""


def refusals(document: Document, asked: Asked) -> list[Mistake]:
    """Everything in this variant that its engine or its GPUs refuse, with the place that asks for it."""
    scenario, engine = asked.scenario, asked.engine
    options, modules = list(engine.options), list(engine.recompute_modules)
    wrong = _unknown(document, engine, "option", ("engine_options",), scenario.engine_options, options)
    if scenario.options_to_try != "any":
        wrong += _unknown(document, engine, "option", ("options_to_try",), scenario.options_to_try, options)
    path = ("layout", "recompute_modules")
    wrong += _unknown(document, engine, "module to recompute", path, scenario.layout.recompute_modules, modules)
    wrong += no_memory_left(document, scenario, scenario.cluster, engine, asked.gpu)
    return wrong + [refusal.mistake(document, asked) for refusal in REFUSALS if refusal.applies(asked)]


def _unknown(
    document: Document, engine: Engine, what: str, path: tuple[str, ...], names: Sequence[str], known: Sequence[str]
) -> list[Mistake]:
    """Names that the engine's catalog file does not list."""
    return [
        Mistake(
            f"engine {engine.id} has no {what} {name}",
            document.place(path),
            f"it has {', '.join(known) or 'none'}",
            f"leave {name} out of {'.'.join(path)}",
        )
        for name in names
        if name not in known
    ]


def no_memory_left(
    document: Document, scenario: Scenario, machines: ClusterSpec | Pool, engine: Engine, gpu: Gpu
) -> list[Mistake]:
    """Headroom that leaves nothing of these GPUs."""
    usable = machines.usable_gib if machines.usable_gib is not None else gpu.usable_gib
    headroom = scenario.limits.headroom_gib
    if headroom is None or headroom < usable:
        return []
    what, because = f"headroom_gib {headroom:g} leaves no memory", f"{gpu.name} has {usable:.2f} GiB usable"
    attempt = f"headroom_gib: {usable * engine.default_headroom_fraction:.1f}"
    return [Mistake(what, document.place(("limits", "headroom_gib")), because, attempt)]


def uneven_groups(machines: ClusterSpec | Pool, node: Node, where: Place) -> list[Mistake]:
    """Numbers of GPUs that are neither whole nodes nor a part of one, or span nodes that nothing links."""
    wrong = []
    because = f"{node.id} has {node.gpus_per_node} GPUs a node"
    counts, per_node = machines.num_gpus, node.gpus_per_node
    for count in counts if isinstance(counts, list) else [counts] if counts is not None else []:
        if count > per_node and count % per_node:
            attempt = f"num_gpus: {count // per_node * per_node}"
            wrong.append(Mistake(f"{count} GPUs are not whole nodes", where, because, attempt))
    asked = counts if isinstance(counts, list) else [counts if counts is not None else machines.max_gpus or 0]
    if max(asked) > per_node and not linked(node):
        because, attempt = "its catalog entry has no network adapters", f"at most {per_node} GPUs, or a node with nics"
        wrong.append(Mistake(f"{max(asked)} GPUs are several nodes of {node.id}", where, because, attempt))
    return wrong


def linked(node: Node) -> bool:
    """Whether several such nodes can talk to one another."""
    return node.nics.count > 0 and node.nics.gb_per_s_per_gpu > 0


def work_contradictions(
    document: Document, scenario: Scenario, architecture: Architecture, engine: Engine, catalog: Catalog
) -> list[Mistake]:
    """Parts and modules that the architecture lacks, and rollouts that do not divide into optimizer steps."""
    wrong = linear_attention(document, scenario, architecture, engine, catalog)
    wrong += refused_pairs(document, scenario, engine, catalog)
    wrong += of_tower(document, scenario, architecture)
    if scenario.adapter is not None:
        try:
            lora_parameters(architecture, scenario.adapter.rank, tuple(scenario.adapter.targets))
        except ValueError as error:
            what = f"adapter.targets does not fit {architecture.id}"
            wrong.append(Mistake(what, document.place(("adapter", "targets")), str(error), "targets: [all-linear]"))
        spoken = {word for t in engine.saved_by_adapter for word in ([t.when] if isinstance(t.when, str) else t.when)}
        needed = {"dora": "dora", "lora-fa": "trained_down"}.get(scenario.adapter.variant)
        if needed is not None and (needed not in spoken or (needed == "dora" and engine.magnitude_norm is None)):
            what = f"engine {engine.id} does not say what {scenario.adapter.variant} adapters keep"
            because = f"its catalog file has no tensor of saved_by_adapter with the condition {needed}"
            wrong.append(Mistake(what, document.place(("adapter", "variant")), because, "variant: lora"))
    rl, batch = scenario.rl, scenario.batch
    if batch.max_tokens_per_gpu not in (None, "none"):
        where = document.place(("batch", "max_tokens_per_gpu"))
        if rl is None:
            because = "samples are packed up to a number of tokens in reinforcement learning"
            wrong.append(Mistake("max_tokens_per_gpu needs task: rl", where, because, "leave it out"))
        elif engine.packing is None:
            because = f"the catalog file of {engine.id} says nothing of packing"
            wrong.append(Mistake(f"engine {engine.id} does not pack samples", where, because, "micro_batch_size: 1"))
        if batch.micro_batch_size not in ("any", 1):
            what = "max_tokens_per_gpu and micro_batch_size exclude each other"
            because = "a packed micro-batch has as many samples as the tokens allow"
            wrong.append(Mistake(what, where, because, "leave micro_batch_size out"))
    if rl is not None:
        wrong += _placement(document, scenario, engine)
        wrong += _awake_together(document, scenario, engine) + refused_critic(document, scenario, engine)
        samples = allowed(rl.rollout_batch_size)[0] * allowed(rl.n_samples_per_prompt)[0]
        if samples % rl.steps_per_rollout:
            wrong.append(
                Mistake(
                    f"{samples} samples of a rollout are not {rl.steps_per_rollout} equal optimizer steps",
                    document.place(("rl", "steps_per_rollout")),
                    "rollout_batch_size * n_samples_per_prompt must be a multiple of steps_per_rollout",
                    f"steps_per_rollout: {max(d for d in range(1, rl.steps_per_rollout + 1) if samples % d == 0)}",
                )
            )
    return wrong


def _placement(document: Document, scenario: Scenario, engine: Engine) -> list[Mistake]:
    """A placement that the RL stack does not have, or GPUs of a rollout engine that has none of its own."""
    rl = scenario.rl
    assert rl is not None
    where = document.place(("rl", "placement"))
    if rl.placement == "colocated":
        asked = {"num_gpus": "how many GPUs only generate", "node": "which GPUs only generate"}
        because, attempt = "colocated, trainer and rollout engine share all GPUs", "placement: disaggregated"
        return [
            Mistake(f"rl.rollout.{name} says {meaning}, and placement is colocated", place, because, attempt)
            for name, meaning in asked.items()
            if getattr(rl.rollout, name) not in ("any", None)
            for place in [document.place(("rl", "rollout", name))]
        ]
    if engine.separation is None:
        what = f"engine {engine.id} only trains and generates on the same GPUs"
        because = "its catalog file gives no separation"
        return [Mistake(what, where, because, "placement: colocated")]
    if rl.weight_sync == "shards" and engine.separation.shards is None:
        because, attempt = "its catalog file has no separation.shards", "weight_sync: whole"
        place = document.place(("rl", "weight_sync"))
        return [Mistake(f"{engine.name} sends whole weights to its rollout engines", place, because, attempt)]
    if rl.placement == "asynchronous" and not engine.separation.asynchronous:
        what = f"engine {engine.id} does not generate while it trains"
        because = "its catalog file says separation.asynchronous: false"
        return [Mistake(what, where, because, "placement: disaggregated")]
    return []


def _awake_together(document: Document, scenario: Scenario, engine: Engine) -> list[Mistake]:
    """Parts of a trainer that its stack does not leave on the GPU, or GPUs that are not shared."""
    rl = scenario.rl
    assert rl is not None
    apart = rl.placement != "colocated"
    wrong: list[Mistake] = []
    for path, said in (
        (("rl", "trainer_on_gpu"), rl.trainer_on_gpu),
        (("rl", "rollout", "sleeps"), not rl.rollout.sleeps),
    ):
        if said and apart:
            because, attempt = f"placement is {rl.placement}: each has GPUs of its own", "leave it out"
            wrong.append(Mistake(f"{'.'.join(path)} is for shared GPUs", document.place(path), because, attempt))
    offered = engine.colocation.may_stay if engine.colocation is not None else []
    for part in (part for part in rl.trainer_on_gpu if part not in offered):
        what = f"engine {engine.id} does not leave its trainer's {part} on the GPU"
        attempt = f"one of {', '.join(offered)}" if offered else "leave it out"
        wrong.append(
            Mistake(
                what,
                document.place(("rl", "trainer_on_gpu")),
                "its catalog file lists what may in colocation.may_stay",
                attempt,
            )
        )
    return wrong
