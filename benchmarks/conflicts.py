"""Scenarios in which nothing fits: every sentence of their explanation, tried on the edited file, and every repair.

    python benchmarks/conflicts.py [--only WORD] [--log FILE] [--cpu-seconds N]

With --log every scenario tried is a line of JSON: a second run with the same log goes on where the first one ended,
and counts only what was tried on the same tree. Exit 5 when a sentence is not so, or a repair does not work; exit 3
when the CPU seconds did not suffice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from resumed import ROOT, Line, keep, lines_of, tree

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from infeasible_rows import INFEASIBLE, MORE, document_of, false_sentences  # noqa: E402

from planner.inputs.catalog import Catalog, default_catalog  # noqa: E402


def tried(row: dict[str, Any], catalog: Catalog) -> Line:
    """Every sentence of one scenario's explanation."""
    began = process_time()
    with tempfile.TemporaryDirectory() as folder:
        found, wrong, sentences = false_sentences(document_of(row), catalog, Path(folder))
    return {
        "name": row["name"],
        "sentences": sentences,
        "false": wrong,
        "repairs": len(found.repairs),
        "conflict": [limit.name for limit in found.limits],
        "cpu_s": round(process_time() - began, 1),
    }


def said(number: int, line: Line) -> str:
    """One scenario as it is printed."""
    names = ", ".join(line["conflict"]) or "hopeless"
    counts = f"{line['sentences']:3} sentences {len(line['false']):2} false {line['cpu_s']:6.1f} CPU s"
    return "\n".join([f"{number:3} {line['name'][:52]:52} {counts}  {names}", *(f"      {s}" for s in line["false"])])


def main() -> int:
    """Print a line for each scenario."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only scenarios with this word in their name")
    parser.add_argument("--log", type=Path, help="JSON lines of what was tried; a run goes on from them")
    parser.add_argument("--cpu-seconds", type=float, default=float("inf"), help="end after so many, with exit code 3")
    args = parser.parse_args()
    rows = [row for row in [*INFEASIBLE, *MORE] if args.only in row["name"]]
    same: Line = {"benchmark": "conflicts", "tree": tree()}
    done = {line["name"]: line for line in lines_of(args.log, same)}
    print(f"tree {same['tree']}, {len(done)} scenarios of it in the log", flush=True)
    catalog, lines = default_catalog(), []
    for number, row in enumerate(rows, start=1):
        line = done.get(row["name"])
        if line is None:
            if process_time() > args.cpu_seconds:
                continue
            line = {**same, **tried(row, catalog)}
            keep(line, args.log)
        lines.append(line)
        print(said(number, line), flush=True)
    sentences, repairs = (sum(line[key] for line in lines) for key in ("sentences", "repairs"))
    faults, seconds = sum(len(line["false"]) for line in lines), sum(line["cpu_s"] for line in lines)
    print(
        f"{len(lines)} of {len(rows)} scenarios, {sentences} sentences, {repairs} of them repairs: {faults} false; "
        f"{seconds:.0f} CPU s"
    )
    return 5 if faults else 3 if len(lines) < len(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
