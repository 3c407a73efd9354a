"""Buffers that stay reserved because the CPU queues collectives ahead of the GPU."""

from __future__ import annotations

import numpy as np

from planner.costs.item_names import ItemName
from planner.costs.ledger import Item
from planner.costs.memory.stage_parameters import StageParameters
from planner.costs.memory.tensor_widths import tokens_per_rank
from planner.formulas.stages import usual_stages


def run_ahead(stage: StageParameters) -> Item | None:
    """Gathered inputs that are freed but wait for a collective's stream. [bytes]

    min(most, per_layer * layers of the first stage * (p - i - 2)), without the last where there is one stage
    """
    ahead, lay = stage.problem.engine.run_ahead, stage.layouts
    if ahead is None:
        return None
    a, balance = stage.problem.architecture, stage.problem.engine.pipeline.balance
    usual = {
        p: usual_stages(architecture=a, stages=p, balance=balance)[0] for p in np.unique(lay.pipeline_parallel).tolist()
    }
    first = np.vectorize(usual.__getitem__, otypes=[float])(lay.pipeline_parallel)
    waiting = np.maximum(0, lay.pipeline_parallel - stage.stage - 2) * first * ahead.buffers_per_layer
    count = np.minimum(np.where(lay.pipeline_parallel > 1, waiting, np.inf), ahead.most_buffers)
    each = ahead.bytes * a.hidden_size * tokens_per_rank(lay)
    sharded = (lay.tensor_parallel > 1) & (lay.sequence_parallel == 1)
    return Item(ItemName.FREED_BUFFERS_AWAITING_ANOTHER_STREAM, count * each * sharded, ahead.source)
