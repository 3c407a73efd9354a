"""What the recipes of a source state of a row's layout that the row itself does not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from planner.validation.throughput.cases import Speed


def as_recipes_state(speed: Speed, source: Mapping[str, Any]) -> Speed:
    """The row with the tensor parallelism of its experts and the layers of its chunks, where these are known."""
    return _with_chunks(_with_expert_ranks(speed, source), source)


def _with_expert_ranks(speed: Speed, source: Mapping[str, Any]) -> Speed:
    """The row with the tensor parallelism of its experts that the source's configurations state, where it has none."""
    stated = source.get("expert_tensor_parallel")
    if stated is None or not speed.moe or speed.run.layout.get("etp"):
        return speed
    return replace(speed, run=replace(speed.run, layout={**speed.run.layout, "etp": stated}))


def _with_chunks(speed: Speed, source: Mapping[str, Any]) -> Speed:
    """The row with the layers of each chunk that the source's recipes state for its network, GPU and pipeline."""
    c, lay = speed.run, speed.run.layout
    for told in source.get("pipeline_layouts", []):
        known = c.model.split(" ")[0] in told["models"] and c.gpu in told.get("gpus", [c.gpu])
        if known and [lay.get("pp") or 1, lay.get("vpp") or 1] in told["pipelines"]:
            return replace(speed, run=replace(c, layout={**lay, "chunk_layers": told["layers"]}))
    return speed
