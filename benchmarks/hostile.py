"""Damaged files of every kind, and what the command that reads each makes of it.

    python benchmarks/hostile.py [COUNT] [--seed N] [--kind WORD] [--show N]

COUNT files in all (20,000), dealt to the kinds by what a case costs. Exit 5 when one of them is answered by an internal
error, by a number that is none, without a place, or after more than 10 CPU seconds.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hostile_inputs import KINDS, Kind, attack, edits

DEAR = ("scenario, solved", "scenario, explained", "budget")
"""Kinds whose every case may be a search: a fifth as many."""


def shares(count: int, kinds: list[Kind]) -> dict[str, int]:
    """How many files of each kind."""
    weights = {kind.name: 1 if kind.name in DEAR else 5 for kind in kinds}
    whole = sum(weights.values())
    dealt = {name: count * weight // whole for name, weight in weights.items()}
    first = next(iter(dealt))
    dealt[first] += count - sum(dealt.values())
    return dealt


def main() -> int:
    """Print a table by kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds with this word in their name")
    parser.add_argument("--show", type=int, default=3, help="faults printed of each kind")
    args = parser.parse_args()
    kinds = [kind for kind in KINDS if args.kind in kind.name]
    total: Counter[str] = Counter()
    print(f"{'kind':24} {'files':>6} {'internal':>9} {'nan, inf':>9} {'late':>5} {'no place':>9} {'no line':>8}")
    for kind in kinds:
        count, seen = shares(args.count, kinds)[kind.name], Counter[str]()
        rng, shown = random.Random(f"{args.seed} {kind.name}"), 0
        texts = kind.texts()
        for index in range(count):
            which, changes = rng.randrange(len(texts)), edits(rng)
            with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
                found = attack(kind, texts[which], changes, Path(folder))
            seen.update("prints" if fault.startswith("prints") else fault for fault in found)
            if found and shown < args.show:
                shown += 1
                print(f"  {kind.name} {index}: {', '.join(found)}: text {which}, {changes}", file=sys.stderr)
        names = ("internal error", "prints", "over the deadline", "no place", "no line")
        print(f"{kind.name:24} {count:6,} " + " ".join(
            f"{seen[name]:>{width}}" for name, width in zip(names, (9, 9, 5, 9, 8), strict=True)
        ), flush=True)  # fmt: skip
        total.update(seen)
        total["files"] += count
    print(f"{total['files']:,} files, {sum(total.values()) - total['files']} faults")
    return 5 if sum(total.values()) > total["files"] else 0


if __name__ == "__main__":
    sys.exit(main())
