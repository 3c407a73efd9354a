"""Fused attention of networks that Transformers has no sdpa for: a script must name its kernel, or none is known.

Transformers tries sdpa where nothing is asked for, and falls back on eager attention where the network has none
(transformers 5.23.0 modeling_utils.py:1832, get_correct_attn_implementation). Which networks these are, and what kernel
trains them on which chip, is data: `named_kernels` of catalogs/flags/hf_trainer_523.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from planner.inputs.catalog import Catalog
from planner.schema.catalog import Architecture, Gpu, Precision
from planner.schema.engine import Engine
from planner.schema.tables import STARTS_TRANSFORMERS, TRANSFORMERS

OPTION = "unfused_attention"
"""The engine option that counts eager attention."""
WHOLE = "fp32"
"""The precision that no fused kernel computes in (FlashAttention takes 16 bits alone)."""


@dataclass(frozen=True)
class NamedAttention:
    """The fused attention that a plan counts and that no trainer takes by itself."""

    kernel: str | None
    """What attn_implementation has to name; None where no kernel is known to train the network there."""
    where: str
    """Generation of the chip, or the precision that rules every kernel out."""


def kernels_of(network: Architecture, catalog: Catalog) -> Mapping[str, str] | None:
    """Kernels that train this network, by generation of chip; None where Transformers has sdpa for it."""
    return catalog.flags(TRANSFORMERS).named_kernels.get(network.model_type)


def trained_by(kernels: Mapping[str, str], gpu: Gpu, precision: Precision) -> NamedAttention:
    """Which of these kernels trains on this GPU in this precision, if any."""
    generation = gpu.chip.partition(" ")[0]
    if precision.id == WHOLE:
        return NamedAttention(None, WHOLE)
    return NamedAttention(kernels.get(generation), generation)


def named_attention(
    network: Architecture, engine: Engine, gpu: Gpu, precision: Precision, catalog: Catalog
) -> NamedAttention | None:
    """Of an engine over Transformers that counts fused attention; None where nothing has to be named."""
    if STARTS_TRANSFORMERS not in engine.launch or not engine.fused_attention:
        return None
    kernels = kernels_of(network, catalog)
    return trained_by(kernels, gpu, precision) if kernels is not None else None
