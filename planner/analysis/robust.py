"""The layout with the best worst case: most memory free among those that the known error cannot tell apart."""

from __future__ import annotations

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, override
from planner.problem.resolve import question_of
from planner.problem.stage_choices import prefers_even
from planner.search.near_ties import known_share

LARGEST = 0.199
"""What `search.near_tie` takes at most."""


def robust_document(document: Document, catalog: Catalog) -> Document:
    """The scenario with near ties as wide as the known error of its step.

    Inside that band a step's prediction does not say which layout is faster, and all of them take the same spread of
    real steps; what differs is how near the worst case of their memory comes to the card, so that headroom decides.
    A step longer by e is throughput lower by e / (1 + e). Stages that are even where that is a near tie (`auto`) are
    left free: an even split would go before headroom. Raises InputError where no published step was scored.
    """
    question = question_of(document, catalog)
    share = known_share(question)
    if share is None:
        because = "no published step of such a run was scored, so that no error is known"
        raise InputError(
            Mistake(
                "--robust has no band to choose in",
                where=Place("--robust"),
                because=because,
                attempt="--set search.near_tie=0.05",
            )
        )
    changes: dict[str, object] = {"search.near_tie": round(min(LARGEST, share / (1 + share)), 4)}
    if prefers_even(question.first):
        changes["layout.layers_per_stage"] = "free"
    return override(document, changes)
