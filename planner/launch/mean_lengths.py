"""Micro-batches of so many samples in reinforcement learning: costed at the longest, and once more at their mean."""

from __future__ import annotations

import json

from planner.errors import InputError, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override, parse_document
from planner.launch.reading.found import Found
from planner.launch.traps import Finding
from planner.problem.resolve import question_of
from planner.search.estimate import estimate_question
from planner.search.plan import Plan

FIXED = "fixed_micro_batches"
"""The engine option of micro-batches of so many samples, which packs by tokens have not."""
SAMPLES, TOKENS = (
    ("micro_batch_size", "log_prob_micro_batch_size"),
    ("max_tokens_per_gpu", "log_prob_max_tokens_per_gpu"),
)
LENGTHS, ASSUMED = "rl.response_distribution", " (assumed)"
PLACES = ("fixed_micro_batch_size", "micro_batch_size", "sequence_length")
"""Words at whose line it is said, the first that is there."""


def at_their_mean(plan: Plan, found: Found, document: Document, catalog: Catalog) -> list[Finding]:
    """A note where a micro-batch of several samples is at the edge with all of them as long as the longest."""
    lay = plan.layout
    samples = lay["micro_batch_size"]
    switches = found.habits.unpadded_unless_off
    padded = not switches or any(name in found.options and not found.has(name) for name in switches)
    roomy = plan.headroom_gib >= 0 and not plan.critical
    if not plan.problem.is_rl or lay["max_tokens"] or samples < 2 or roomy or padded:
        return []
    mean = round(plan.layout["mean_sequence_length"])
    tree = json.loads(json.dumps(override(document, {}).data))
    batch = tree["batch"]
    for name, tokens in zip(SAMPLES, TOKENS, strict=True):
        if batch.pop(name, None) is not None:
            batch[tokens] = samples * mean
    tree["engine_options"] = [name for name in tree.get("engine_options", ()) if name != FIXED]
    try:
        question = question_of(override(parse_document(json.dumps(tree), "at their mean"), {}), catalog)
        peak = estimate_question(question).peak_gib
    except InputError:
        return []
    where = next((found.places[name] for name in PLACES if name in found.places), Place("?"))
    text = (
        f"counted with all {samples} samples of a micro-batch at {lay['sequence_length']:,} tokens; at their mean of "
        f"{mean:,}{ASSUMED if LENGTHS in found.assumed else ''}: {peak:.1f} GiB"
    )
    return [Finding("note", "longest_samples", text, where)]
