"""What engines say of networks whose layers have linear attention or are Mamba-2, and what of them is not counted."""

from __future__ import annotations

from planner.errors import Mistake
from planner.formulas.matrices import linear_matrices, mlp_matrices
from planner.formulas.parameters import target_names
from planner.inputs.asked import trains_beside_attention
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.schema.beside_attention import beside_attention
from planner.schema.catalog import Architecture
from planner.schema.engine import Engine
from planner.schema.scenario import Scenario

OPTIMIZERS = (
    *("adamw", "adamw-no-master", "adamw-foreach", "adamw-8bit", "sgd", "sgd-momentum", "lion"),
    *("paged-adamw-8bit", "paged-adamw-32bit"),
)
"""Optimizers whose state is so many bytes a parameter, whatever its matrix."""
ATTENDING = ("q_proj", "k_proj", "v_proj", "o_proj")
"""Matrices of the layers that attend."""
MODULES = frozenset(("core_attn", "layernorm", "mlp", "moe", "moe_act", "shared_experts"))
"""Modules that can be recomputed alone and are the same in both kinds of layers, or stand in those that attend."""
UNCOUNTED = frozenset(("fine_grained_offloading", "fp8_attention", "fp8_activation_inputs", "unfused_attention"))
"""Options whose tensors were counted for layers that attend alone."""
LIGER = frozenset(("fused_kernels", "fused_kernels_upcast", "fused_head", "fused_head_upcast", "fused_layers"))
"""Kernels that nobody put into networks whose layers are one block alone: linkedin/Liger-Kernel @ead96b61
src/liger_kernel/transformers/monkey_patch.py knows no nemotron_h."""


def linear_attention(
    document: Document, scenario: Scenario, architecture: Architecture, engine: Engine, catalog: Catalog
) -> list[Mistake]:
    """Engines not known to build layers with linear attention or Mamba-2, and what of such layers is not counted."""
    if not architecture.several_kinds:
        return []
    said, name, have = beside_attention(engine, architecture), "linear attention", "have linear attention"
    if architecture.is_hybrid:
        name, have = "Mamba-2", "are Mamba-2, attention or an MLP alone"
    if said is None or not said.supported:
        what = f"engine {engine.id} is not known to train {architecture.id}, whose layers {have}"
        because = "its catalog file says nothing of such layers" if said is None else said.source
        able = trains_beside_attention(catalog, architecture, rl=scenario.rl is not None)
        attempt = f"engine: {' or '.join(able)}" if able else "no engine of this kind trains it here"
        return [Mistake(what, document.place(("model",)), because, attempt)]
    asked = (
        (
            ("adapter",),
            scenario.adapter is not None and not said.adapters,
            "adapters",
            "leave adapter out (ask: --task sft)",
        ),
        (
            ("adapter", "targets"),
            said.adapters
            and scenario.adapter is not None
            and architecture.is_moe
            and _on_experts(scenario, architecture),
            "adapters on experts",
            f"targets of attention: {', '.join([*ATTENDING, *linear_matrices(architecture)])}",
        ),
        (
            ("precision",),
            scenario.precision not in said.precisions,
            f"precision {scenario.precision}",
            "precision: bf16",
        ),
        (
            ("layout", "layers_per_stage"),
            scenario.layout.layers_per_stage == "free",
            "stages left free",
            "even, or a list",
        ),
        (("layout", "recompute_group"), scenario.layout.recompute_group != 1, "recomputed groups", "leave it out"),
        (
            ("model",),
            architecture.is_hybrid and engine.trains_further_tokens and architecture.num_nextn_predict_layers > 0,
            "layers that predict further tokens",
            "num_nextn_predict_layers: 0",
        ),
        (("layout", "schedule"), scenario.layout.schedule == "zb-h1", "the schedule zb-h1", "schedule: 1f1b"),
        (
            ("layout", "recompute_modules"),
            not {*scenario.layout.recompute_modules} <= MODULES,
            "recomputation of these modules",
            f"of {', '.join(sorted(MODULES))}",
        ),
        (
            ("engine_options",),
            bool((UNCOUNTED | (LIGER if architecture.is_hybrid else set())) & {*scenario.engine_options})
            or _other_lists(engine, scenario.engine_options, "mamba" if architecture.is_hybrid else "linear_attention"),
            "some of these options",
            "leave them out",
        ),
        (
            ("layout", "activation_offload"),
            scenario.layout.activation_offload is True,
            "offloaded activations",
            "false",
        ),
        *(
            (("optimizer",), name not in OPTIMIZERS, f"optimizer {name}", "optimizer: adamw")
            for name in ([scenario.optimizer] if isinstance(scenario.optimizer, str) else scenario.optimizer.allow)
        ),
    )
    because = f"much of what {architecture.id} keeps is that of {name}, and there it is not known"
    return [
        Mistake(f"{words} beside {name} cannot be counted", document.place(path), because, attempt)
        for path, wrong, words, attempt in asked
        if wrong
    ]


def _on_experts(scenario: Scenario, architecture: Architecture) -> bool:
    """Whether adapters go on matrices of the MLP: which of them peft reaches differs from network to network."""
    names = target_names(architecture, scenario.adapter.targets) if scenario.adapter is not None else ()
    return not {*mlp_matrices(architecture)}.isdisjoint(names)


def _other_lists(engine: Engine, options: list[str], layers: str) -> bool:
    """Whether an option puts a list in the place of the engine's that does not know what such layers keep."""
    lists = [engine.options[name].set.get("saved") for name in options if name in engine.options]
    return any(tensors is not None and layers not in str(tensors) for tensors in lists)
