"""What a vision tower that trains keeps for its backward pass, of images whose tokens a scenario states."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.tensor_widths import tokens_per_rank
from planner.problem.layouts import Floats


def tower_activations(stage: StageParameters, in_flight: Floats) -> tuple[Item, ...]:
    """On the first stage, of each micro-batch in flight, whole on every rank: its patches are not cut. [bytes]

    A frozen tower keeps nothing, and behind it a trained projector its own inputs. The tower's blocks are recomputed
    where the engine's file says that they go with the layers, else counted as kept (the safe side).
    """
    problem = stage.problem
    kept, tokens = problem.architecture.vision_kept, problem.work.image_tokens
    frozen = problem.work.frozen
    if kept is None or tokens is None or not problem.trains_all_weights or {"vision_tower", "projector"} <= {*frozen}:
        return ()
    lay = stage.layouts
    each: float | Floats = kept.projector_bytes
    if "vision_tower" not in frozen:
        together = problem.engine.recompute.tower_too
        again = stage.recomputed / problem.architecture.num_hidden_layers * together
        each = kept.trained_bytes - (kept.trained_bytes - kept.recomputed_bytes) * again
    share = tokens / np.maximum(lay.sequence_length, tokens)
    patches = tokens_per_rank(lay) * lay.context_parallel * share * kept.patches_per_token
    amount = stage.is_first * in_flight * patches * each * problem.precision.activation_bytes / 2
    return (Item(ItemName.ACTIVATIONS_TOWER, amount + 0.0 * stage.layers, kept.source),)
