"""Damaged files of every kind, and what the command that reads each makes of it.

    python benchmarks/hostile.py [COUNT] [--seed N] [--kind WORD] [--log FILE] [--cpu-seconds N] [--show N]

COUNT files in all (20,000), dealt to the kinds by what a case costs and taken in turns, so that a run that ends early
has tried all kinds. With --log every file tried is a line of JSON: a second run with the same log goes on where the
first one ended, and counts only what was tried on the same tree. Exit 5 when a file is answered by an internal error,
by a number that is none, without a place, or after more than 10 CPU seconds; exit 3 when the CPU seconds did not
suffice.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

from resumed import ROOT, Line, keep, lines_of, tree

sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile_inputs import KINDS, Kind, attack, edits  # noqa: E402

DEAR = ("scenario, solved", "scenario, explained", "budget", "log of pretraining", "what-if")
"""Kinds whose every case may be a search, or thirty estimates: fewer of them."""
SHARE = {True: 9, False: 15}
"""Weight of a dear kind and of any other."""
FAULTS = ("internal error", "prints", "over the deadline", "no place", "no line")


def shares(count: int, kinds: Sequence[Kind]) -> dict[str, int]:
    """How many files of each kind."""
    weights = {kind.name: SHARE[kind.name in DEAR] for kind in kinds}
    whole = sum(weights.values())
    dealt = {name: count * weight // whole for name, weight in weights.items()}
    for name in list(dealt)[: count - sum(dealt.values())]:
        dealt[name] += 1
    return dealt


def turns(dealt: dict[str, int]) -> Iterator[tuple[str, int]]:
    """(kind, index) of every file, each kind evenly over the whole."""
    places = [((index + 0.5) / count, name, index) for name, count in dealt.items() for index in range(count)]
    return ((name, index) for _, name, index in sorted(places))


def tried(kind: Kind, seed: int, index: int) -> Line:
    """Damage one file and read it."""
    rng, texts = random.Random(f"{seed} {kind.name} {index}"), kind.texts()
    which, changes = rng.randrange(len(texts)), edits(rng)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        before = process_time()
        code, found = attack(kind, texts[which], changes, Path(folder))
        spent = process_time() - before
    line = {"kind": kind.name, "index": index, "code": code, "cpu_s": round(spent, 4), "faults": found}
    return {**line, "text": which, "edits": changes} if found else line


def table(lines: Sequence[Line], dealt: dict[str, int]) -> str:
    """Faults by kind, how many of the files were answered, and what they cost."""
    out = [
        f"{'kind':24} {'files':>6} {'internal':>9} {'nan, inf':>9} {'late':>5} {'no place':>9} {'no line':>8} "
        f"{'answered':>9} {'CPU s':>7} {'most':>6}"
    ]
    for name in [*dealt, "all"]:
        of = [line for line in lines if name in (line["kind"], "all")]
        seen = Counter("prints" if fault.startswith("prints") else fault for line in of for fault in line["faults"])
        faults = " ".join(f"{seen[word]:>{width}}" for word, width in zip(FAULTS, (9, 9, 5, 9, 8), strict=True))
        answered = sum(line["code"] in (0, 1, 5) for line in of)
        cost = [line["cpu_s"] for line in of]
        out.append(f"{name:24} {len(of):6,} {faults} {answered:9,} {sum(cost):7.0f} {max(cost, default=0):6.2f}")
    return "\n".join(out)


def main() -> int:
    """Print a table by kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds with this word in their name")
    parser.add_argument("--log", type=Path, help="JSON lines of what was tried; a run goes on from them")
    parser.add_argument("--cpu-seconds", type=float, default=float("inf"), help="end after so many, with exit code 3")
    parser.add_argument("--show", type=int, default=3, help="faults printed of each kind")
    args = parser.parse_args()
    kinds = {kind.name: kind for kind in KINDS if args.kind in kind.name}
    dealt = shares(args.count, list(kinds.values()))
    same: Line = {"tree": tree(), "seed": args.seed}
    done = {(line["kind"], line["index"]): line for line in lines_of(args.log, same)}
    shown = Counter[str]()
    print(f"tree {same['tree']}, seed {args.seed}, {len(done):,} files of it in the log", flush=True)
    lines = [done[turn] for turn in turns(dealt) if turn in done]
    for name, index in turns(dealt):
        if (name, index) in done:
            continue
        if process_time() > args.cpu_seconds:
            break
        line = {**same, **tried(kinds[name], args.seed, index)}
        lines.append(line)
        keep(line, args.log)
        if line["faults"] and shown[name] < args.show:
            shown[name] += 1
            print(f"  {name} {index}: {', '.join(line['faults'])}: text {line['text']}, {line['edits']}", flush=True)
    print(table(lines, dealt))
    faults = sum(len(line["faults"]) for line in lines)
    print(f"{len(lines):,} of {args.count:,} files, {faults} faults")
    return 5 if faults else 3 if len(lines) < args.count else 0


if __name__ == "__main__":
    sys.exit(main())
