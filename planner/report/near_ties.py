"""Layouts that the known error cannot tell from the best one, in one line and as data."""

from __future__ import annotations

from planner.report.json_text import JsonObject
from planner.search.near_ties import NearTies, Tie
from planner.search.plan import degrees
from planner.units import number, percent

SHORT = {
    "micro_batch_size": "mbs",
    "max_tokens": "cap",
    "virtual_pipeline": "VP",
    "zero_stage": "ZeRO-",
    "sequence_parallel": "SP",
}


def near_tie_text(found: NearTies) -> str:
    """`16 layouts lie within the known error of 6.7 %; simplest TP4 PP1, roomiest TP8 PP2 (31.2 GiB free)`."""
    count, share = len(found.ties), f"within the known error of {percent(found.share)}"
    if count == 1:
        return f"no other layout {'was found' if found.at_least else 'lies'} {share}"
    layouts = f"at least {count} layouts lie" if found.at_least else f"{count} layouts lie"
    roomiest = f"roomiest {tie_degrees(found.roomiest)} ({number(found.roomiest_gib, 1)} GiB free)"
    if found.simplest == found.roomiest:
        return f"{layouts} {share}; simplest and {roomiest}"
    return f"{layouts} {share}; simplest {tie_degrees(found.simplest)}, {roomiest}"


def tie_degrees(tie: Tie) -> str:
    """The degrees, without data parallelism, which follows, and chunks, which are a variant."""
    said = degrees({**tie.layout, "virtual_pipeline": 1}).split()
    return " ".join(part for part in said if not part.startswith("DP"))


def variants_text(tie: Tie) -> str:
    """`8: mbs 1 2, VP 1 2 4`: how many variants of a layout lie in the band, and in what they differ."""
    said = ", ".join(f"{SHORT[name]} {' '.join(map(str, values))}" for name, values in tie.spread)
    return f"{tie.variants}: {said}" if said else str(tie.variants)


def near_ties_document(found: NearTies | None) -> JsonObject | None:
    """The same for programs; null where nothing is known of the error, or nobody asked."""
    if found is None:
        return None
    return {
        "share": found.share,
        "count": len(found.ties),
        "at_least": found.at_least,
        "layouts": [_tie(tie) for tie in found.ties],
        "simplest": _tie(found.simplest),
        "roomiest": _tie(found.roomiest),
        "roomiest_headroom_gib": round(found.roomiest_gib, 9),
    }


def _tie(tie: Tie) -> JsonObject:
    names = ("num_gpus", "tensor_parallel", "pipeline_parallel", "data_parallel", "context_parallel")
    kept = (*names, "expert_parallel", "expert_tensor_parallel")
    return {**{name: tie.layout[name] for name in kept}, "variants": tie.variants}
