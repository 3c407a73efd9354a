"""What the search finds for the work of each published layout: validation/layouts/solved.json, and seconds on stdout.

    python benchmarks/layouts.py [NAME ...] [--time-limit SECONDS]

Names given are solved again, the others keep their entries; a name without one is always solved.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from planner.inputs.catalog import default_catalog
from planner.report.short import short_layout
from planner.search.search import plan
from validation.layouts.table import SOLVED, Published, published, solved


def answer(one: Published, limit_s: float) -> dict[str, Any]:
    """Status, layout and figures of the search."""
    outcome = plan(one.document(pinned=False), default_catalog(), check_points=0, time_limit_s=limit_s)
    found, gap = outcome.plan, outcome.proof.gap
    if found is None:
        return {"status": outcome.status}
    status = (
        outcome.status if gap is None or outcome.status == "optimal" else f"at most {gap * 100:.1f} % from the best"
    )
    return {
        "status": status,
        "layout": short_layout(found),
        "seconds": round(found.step_seconds, 4),
        "tokens_per_second": round(found.tokens_per_second),
        "free_gib": round(found.headroom_gib, 2),
    }


def main() -> None:
    """Solve what is asked for or missing, one after the other, and keep each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--time-limit", type=float, default=60.0)
    asked = parser.parse_args()
    found = solved()
    for one in published():
        if one.name in found and one.name not in asked.names:
            continue
        started = time.monotonic()
        found[one.name] = answer(one, asked.time_limit)
        print(f"{one.name}: {found[one.name]} ({time.monotonic() - started:.1f} s)", flush=True)
        SOLVED.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
