"""Parts of a scenario that contradict one another or the catalog, whatever the layout."""

from __future__ import annotations

from planner.errors import Mistake, Place
from planner.formulas.parameters import lora_parameters
from planner.inputs.document import Document
from planner.problem.wishes import allowed
from planner.schema.catalog import Architecture, Gpu, Node, Precision
from planner.schema.engine import Engine
from planner.schema.scenario import ClusterSpec, Pool, Scenario


def contradictions(
    document: Document, scenario: Scenario, engine: Engine, precision: Precision, gpu: Gpu
) -> list[Mistake]:
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
        wrong.append(Mistake(what, document.place(path), because, attempt))

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
    wrong += no_memory_left(document, scenario, scenario.cluster, engine, gpu)
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
    if layout.layers_per_stage not in ("auto", "even") and engine.pipeline.uneven == "no":
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
    offloading = any(option.decides == "activation_offload" for option in engine.options.values())
    if layout.activation_offload is True and not offloading:
        refuse(
            f"engine {engine.id} does not offload activations",
            "its catalog file has no option that decides activation_offload",
            "activation_offload: false",
            "layout",
            "activation_offload",
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
    """Numbers of GPUs that are neither whole nodes nor an even share of one."""
    wrong = []
    because = f"{node.id} has {node.gpus_per_node} GPUs a node"
    counts, per_node = machines.num_gpus, node.gpus_per_node
    for count in counts if isinstance(counts, list) else [counts] if counts is not None else []:
        if count > per_node and count % per_node:
            attempt = f"num_gpus: {count // per_node * per_node}"
            wrong.append(Mistake(f"{count} GPUs are not whole nodes", where, because, attempt))
        elif count < per_node and per_node % count:
            attempt = f"num_gpus: {max(d for d in range(1, count + 1) if per_node % d == 0)}"
            wrong.append(Mistake(f"{count} GPUs are no even share of a node", where, because, attempt))
    return wrong


def work_contradictions(
    document: Document, scenario: Scenario, architecture: Architecture, engine: Engine
) -> list[Mistake]:
    """Adapters on modules that the architecture lacks, and rollouts that do not divide into optimizer steps."""
    wrong = []
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
    rl = scenario.rl
    if rl is not None:
        wrong += _placement(document, scenario, engine)
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
    if rl.placement == "asynchronous" and not engine.separation.asynchronous:
        what = f"engine {engine.id} does not generate while it trains"
        because = "its catalog file says separation.asynchronous: false"
        return [Mistake(what, where, because, "placement: disaggregated")]
    return []


def untaken(document: Document, scenario: Scenario, engine: Engine) -> list[Mistake]:
    """Precisions, rank orders and splits of layers that the engine does not know, with the place that asks for them."""
    wrong = []
    order, split = scenario.cluster.rank_order, scenario.layout.layers_per_stage
    if engine.precisions and scenario.precision not in engine.precisions:
        wrong.append(
            Mistake(
                f"engine {engine.id} does not train in {scenario.precision}",
                document.place(("precision",)),
                f"its catalog file says precisions: {', '.join(engine.precisions)}",
                f"precision: {engine.precisions[0]}",
            )
        )
    if order not in engine.rank_orders:
        wrong.append(
            Mistake(
                f"engine {engine.id} has no rank order {order}",
                document.place(("cluster", "rank_order")),
                f"its catalog file says rank_orders: {', '.join(engine.rank_orders)}",
                f"rank_order: {engine.rank_orders[0]}",
            )
        )
    middle = split[1:-1] if isinstance(split, list) else []
    if engine.pipeline.uneven == "first_last" and len(set(middle)) > 1:
        wrong.append(
            Mistake(
                f"engine {engine.id} only lets the first and the last stage differ",
                document.place(("layout", "layers_per_stage")),
                "its catalog file says pipeline.uneven: first_last",
                "layers_per_stage: free, or a list whose stages between the first and the last are equal",
            )
        )
    return wrong
