"""The ledger of a step: items of the slowest stage times the micro-batches, the pipeline's fill and drain on top."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.time.affine import Affine
from planner.costs.time.step_time import ONCE, VISITS
from planner.problem.layouts import Floats, Ints


class Visits(Protocol):
    """What a step consists of: `StepTime`, or that of two pools."""

    def visit(self, name: str) -> tuple[Affine, ...]:
        """The items of a visit by its name."""

    def weights(self, name: str) -> tuple[Floats, Floats]:
        """(weight of the slowest stage, weight of the sum over stages) of a visit, per row."""

    def waits(self, name: str) -> Floats:
        """Times as long as with micro-batches of equal length, per row."""

    @property
    def slower(self) -> Floats:
        """Times as long as on few GPUs, per row."""


def step_items(
    time: Visits, *, layers: Ints, recomputed: Ints, stages: Floats
) -> dict[str, tuple[tuple[Item, ...], Floats]]:
    """(items, seconds) of each visit for rows of layouts; `stages` is 1 where a row has that stage.

    Items are those of the slowest stage times the micro-batches, and the pipeline's fill and drain on top; they add up.
    """
    out = {}
    for name in VISITS:
        rows = time.visit(name)
        if not rows:
            continue
        each = [row.seconds(layers, recomputed) * stages for row in rows]
        whole = np.sum(each, axis=0)
        slowest = np.argmax(whole, axis=-1)[..., None]
        heavy, light = (w[..., 0] for w in time.weights(name))
        top = np.take_along_axis(whole, slowest, axis=-1)[..., 0]
        items = [
            Item(row.name, np.take_along_axis(part, slowest, axis=-1)[..., 0] * (heavy + light), row.source)
            for row, part in zip(rows, each, strict=True)
        ]
        if name not in ONCE:
            rest = light * (whole.sum(axis=-1) - top)
            items.append(
                Item(
                    ItemName.PIPELINE_BUBBLE, rest, "arXiv:2104.04473, (p - 1) / v micro-batches, unequal stages summed"
                )
            )
        seconds = heavy * top + light * whole.sum(axis=-1)
        longer = (time.waits(name)[..., 0] - 1) * seconds
        if np.any(longer):
            source = "planner/formulas/packing.py: drawn lengths"
            items.append(Item(ItemName.WAITING_FOR_LONGER_SAMPLES, longer, source))
        seconds = seconds + longer
        at_scale = (time.slower[..., 0] - 1) * seconds
        if np.any(at_scale):
            items.append(Item(ItemName.SLOW_NODES_AND_JITTER, at_scale, "engine file: slower_per_doubling"))
        out[name] = (tuple(items), seconds + at_scale)
    return out
