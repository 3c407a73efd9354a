"""What to change after a run was held against its plan: the item that is larger than predicted, growth, and room."""

from __future__ import annotations

from planner.analysis.check.check import HELD, SMALL_GIB, Checked
from planner.analysis.diagnose.diagnose import LOOSE_SHARE
from planner.costs.item_names import ItemName
from planner.units import GIB, number

LARGER = 1.1
"""An item this many times its prediction is remarked upon."""
ADVICE: dict[str, str] = {
    ItemName.WEIGHTS: "more copies of weights than planned: look for fp32 copies or a second model on the card",
    ItemName.GRADIENTS: "gradients wider or less sharded than planned: engine_options and layout.zero_stage say how",
    ItemName.OPTIMIZER: "state wider or less sharded than planned: check the optimizer's format and layout.zero_stage",
    ItemName.OPTIMIZER_TEMPORARIES: "a fused optimizer makes no temporaries (AdamW(fused=True))",
    ItemName.ACTIVATIONS_KEPT_LAYERS: "more is kept a layer than planned: recompute more layers, or find what keeps it",
    ItemName.ACTIVATIONS_RECOMPUTED_LAYERS: "recomputed layers keep more than their input: is checkpointing on in all?",
    ItemName.LAYER_RUNNING_BACKWARD: "a smaller micro-batch: one layer's backward pass sets this",
    ItemName.LOGITS_AND_LOSS: "a fused or chunked cross-entropy, or a smaller micro-batch: logits grow with its tokens",
    ItemName.LOG_PROBABILITY_LOGITS: "score in chunks (slime --log-probs-chunk-size, NeMo-RL logprob_chunk_size)",
    ItemName.GATHERED_LAYERS: "more layers lie gathered than planned: prefetching, or no resharding after forward",
    ItemName.COPIES_OF_WEIGHTS: "autocast's copies of weights live through the step: load the weights in 16 bits",
    ItemName.LIBRARY_WORKSPACES: "CUBLAS_WORKSPACE_CONFIG=:4096:2 bounds cuBLAS' workspace",
}


def changes(checked: Checked) -> tuple[str, ...]:
    """Sentences, the most urgent first; empty where the run is as planned and has room."""
    out: list[str] = []
    plan, room = checked.plan, checked.room_gib
    if room is not None and room < 0:
        out.append(
            f"the card is over what is usable by {number(-room, 1)} GiB: it runs, if it does, without its reserve"
        )
    elif room is not None and room < plan.demanded_gib:
        out.append(f"{number(room, 1)} GiB are left where {number(plan.demanded_gib, 1)} were demanded")
    if (grows := checked.growth) is not None:
        words = f"{grows.kind} memory grows by {number(grows.gib_per_step * 1024, 1)} MiB a step"
        if room is not None and room > 0 and grows.kind != "host":
            words += f": what is left is full in {number(room / grows.gib_per_step, 0)} steps"
        out.append(
            f"{words}; tensors kept with their graph (a loss that is summed without .item()) or lengths that grow"
        )
    for held in checked.held:
        for row in held.rows:
            more = row.measured_gib - row.predicted_gib
            if more > SMALL_GIB and row.measured_gib > LARGER * row.predicted_gib:
                text = ADVICE.get(row.name, "the plan does not count this so large")
                out.append(f"{row.name}: {number(more)} GiB more than predicted; {text}")
        loose = held.snapshot.reserved_bytes - held.snapshot.peak_bytes
        spare = sum(entry.amount for entry in held.ledger.items if entry.name in HELD) * GIB
        if plan.problem.engine.colocation is None and loose > max(2 * spare, LOOSE_SHARE * held.snapshot.peak_bytes):
            words = "are reserved and hold no tensor: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"
            out.append(f"{number(loose / GIB)} GiB {words}")
    for quantity in checked.outside:
        over = "more" if quantity.measured > quantity.predicted else "less"
        helps = "--contribute writes a row that others can learn from"
        if quantity.unit == "s":
            helps = "planner calibrate fits the phases to this log"
        out.append(f"{quantity.name} is {over} than the 90 % interval: {helps}")
    return tuple(dict.fromkeys(out))
