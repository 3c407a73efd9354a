"""Scenarios in which nothing fits: every sentence of their explanation, tried on the edited file, and every repair.

    python benchmarks/conflicts.py [--only WORD]

Exit 5 when a sentence is not so, or a repair does not work.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from infeasible_rows import INFEASIBLE, MORE, document_of, false_sentences

from planner.inputs.catalog import default_catalog


def main() -> int:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="")
    rows = [row for row in [*INFEASIBLE, *MORE] if parser.parse_args().only in row["name"]]
    catalog, faults, all_tried, repairs = default_catalog(), 0, 0, 0
    for number, row in enumerate(rows, start=1):
        with tempfile.TemporaryDirectory() as folder:
            found, wrong, tried = false_sentences(document_of(row), catalog, Path(folder))
        names = ", ".join(limit.name for limit in found.limits) or "hopeless"
        print(f"{number:3} {row['name'][:52]:52} {tried:3} sentences {len(wrong):2} false  {names}", flush=True)
        for sentence in wrong:
            print(f"      {sentence}")
        faults, all_tried, repairs = faults + len(wrong), all_tried + tried, repairs + len(found.repairs)
    print(f"{len(rows)} scenarios, {all_tried} sentences, {repairs} of them repairs: {faults} false")
    return 5 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
