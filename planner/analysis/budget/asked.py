"""A budget as a program asks for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from planner.analysis.budget.budget import CHOICE_SECONDS, BudgetAnswer, answer_budget
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.inputs.document import override
from planner.inputs.given import CatalogLike, Progress, catalog_given, document_given, silent


def budget(
    asked: str | os.PathLike[str] | Mapping[str, object],
    overrides: Mapping[str, object] | None = None,
    *,
    catalog: CatalogLike = None,
    layouts: KnownLayouts | None = None,
    time_limit_s: float = CHOICE_SECONDS,
    progress: Progress = silent,
) -> BudgetAnswer:
    """Choose an offer, a node count and a start for each job, so that every deadline holds with its confidence.

    Args:
        asked: path of a budget file (docs/commands.md, budget), or its content as a dict; the scenarios of its jobs
            are looked for beside the file, those of a dict in the working folder.
        overrides: values by dotted path, such as `{"confidence": 0.95}`.
        catalog: facts about GPUs, models, engines and prices; a folder adds to those shipped.
        layouts: `planner.KnownLayouts()` kept over budgets: what one has searched the next does not.
        time_limit_s: longest choice among offers, layout searches apart. [s]
        progress: called with one line before each search.

    Returns:
        The answer: `bookings` (empty where nothing keeps every limit, then `conflict` and `remedies`), `usd`,
        `most_usd`, `front`, `sensitivities`, and `options`, each with its plan.

    Raises:
        InputError: the budget, one of its scenarios or prices is wrong.
        NoVerdict: a time limit came first.

    Example:
        >>> job = {"name": "tune", "scenario": "scenarios/llama8b_sft_a100.yaml", "tokens": 1e9, "deadline_days": 9}
        >>> offers = [{"price": "lambda-8x-h100", "nodes": [1]}]
        >>> answer = planner.budget({"name": "tuned", "jobs": [job], "offers": offers})
        >>> print(answer)
        tuned: ... USD, done by day ..., in time with ...; proved optimal
    """
    document = override(document_given(asked), overrides or {})
    known = layouts if layouts is not None else KnownLayouts()
    return answer_budget(document, catalog_given(catalog), known, progress=progress, time_limit_s=time_limit_s)
