"""The frozen reference of training on pairs of answers (DPO): its weights, and the moment at which it runs.

A step's micro-batch is one policy forward pass, one pass of the reference without gradients, then the policy's backward
pass, so that all that the policy keeps lies beside the running reference. Source: trl 1.16.0 trainer/dpo_trainer.py
lines 1300 to 1338, DPOTrainer._compute_loss; LLaMA-Factory 0.9.5 train/dpo/trainer.py, get_batch_loss_metrics.
"""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.gathered import gathered_bytes, sharded_ends
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.stage_tensors import StageTensors
from planner.problem.reference import REFERENCE, keeps_copy, preference, whole_copies


def reference_running(stage: StageTensors) -> tuple[Item, ...]:
    """One layer of a pass without gradients, as large as all that a layer keeps; or its head, if that is larger."""
    engine = stage.problem.engine
    layer = stage.layer_activations[0] + 0.0 * stage.layers
    head = stage.is_last * stage.sizes.of(engine.log_prob, moe_layer=False)
    source = "; ".join(dict.fromkeys(tensor.source for tensor in (engine.saved[0], *engine.log_prob[:1])))
    return (Item(ItemName.REFERENCE_RUNNING, np.maximum(layer, head), source),)


def reference_beside(stage: StageParameters, moment: str) -> tuple[Item, ...]:
    """Weights of the reference, in the format in which the policy's are stored, and what of them lies gathered. [bytes]

    Below ZeRO-3 each rank has all of them. Where shards wait on the host, so do the reference's.
    """
    problem, how = stage.problem, preference(stage.problem)
    if how is None or not keeps_copy(problem):
        return ()
    held = stage.sharded(stage.parameters, 3) * problem.weight_bytes
    away = (stage.layouts.zero_stage >= 3) & bool(problem.weights_on_host)
    items = [Item(ItemName.REFERENCE_WEIGHTS, np.where(away, 0.0, held), how.source)]
    dense, expert = stage.parameters
    if moment == REFERENCE and (copies := whole_copies(problem)):
        items.append(Item(ItemName.REFERENCE_GATHERED, copies * gathered_bytes(stage, dense + expert), how.source))
    if how.reference_ends_stay:
        # As the reference runs the policy's are gathered, and its own are among the gathered layers; else its own are.
        items.append(Item(ItemName.REFERENCE_GATHERED, gathered_bytes(stage, sharded_ends(stage)), how.source))
    return tuple(items)
