"""One row of a sweep: a variation solved, or why not. Runs in any process that has planner."""

from __future__ import annotations

from typing import Any

from planner.analysis.sweep.variants import GridPoint
from planner.errors import InputError, NoVerdict, PlannerError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, override
from planner.search.decisions import layout_document
from planner.search.plan import Plan
from planner.search.search import plan, why_nothing_fits

Row = dict[str, Any]


def row_of(document: Document, variant: GridPoint) -> Row:
    """The answer as a row; whatever goes wrong is a row too, so that one variant ends nothing."""
    row: Row = {"key": variant.key, "name": variant.name or None, "set": dict(variant.changes)}
    try:
        outcome = plan(override(document, dict(variant.changes)), default_catalog(), check_points=0)
    except InputError as error:
        return {**row, "status": "refused", "because": "; ".join(p.what for p in error.problems), "plan": None}
    except NoVerdict as error:
        return {**row, "status": "unknown", "because": str(error), "plan": None}
    except PlannerError as error:
        return {**row, "status": "failed", "because": f"{type(error).__name__}: {error}", "plan": None}
    except Exception as error:
        return {**row, "status": "failed", "because": f"{type(error).__name__}: {error}", "plan": None}
    if outcome.plan is None:
        because = why_nothing_fits(outcome) if outcome.status == "infeasible" else "time limit"
        return {**row, "status": outcome.status, "because": because, "plan": None}
    return {**row, "status": outcome.status, "because": None, "plan": _figures(outcome.plan)}


def _figures(found: Plan) -> Row:
    return {
        "num_gpus": found.num_gpus,
        "peak_gib": round(found.peak_gib, 6),
        "headroom_gib": round(found.headroom_gib, 6),
        "given_back_gib": round(found.given_back_gib, 6),
        "step_seconds": round(found.step_seconds, 6),
        "tokens_per_second": round(found.tokens_per_second, 3),
        "samples_per_second": round(found.samples_per_second, 6),
        "mfu": round(found.mfu, 6),
        "layout": layout_document(found),
    }
