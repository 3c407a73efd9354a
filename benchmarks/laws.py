"""Random restrictions of random problems: none may make the optimum better, and the plan's own values none worse.

    python benchmarks/laws.py [COUNT] [--seed N]

Exit 5 when a law is broken; each breach is printed with the texts that reproduce it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from restrictions import breaches


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100)
    parser.add_argument("--seed", type=int, default=50_000)
    asked = parser.parse_args()
    tried = broken = 0
    for seed in range(asked.seed, asked.seed + asked.count):
        restrictions, found = breaches(seed)
        tried, broken = tried + restrictions, broken + len(found)
        for text in found:
            print(text, flush=True)
    print(f"{asked.count} problems from seed {asked.seed}, {tried:,} restrictions, {broken} breaches")
    return 5 if broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
