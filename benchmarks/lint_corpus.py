"""What lint makes of other people's launch files: read, refused, faults, and the values that it could not read.

    python benchmarks/lint_corpus.py FOLDER...

Every shell script, YAML and JSON file below each FOLDER (a checkout of slime's scripts, verl's examples) is judged;
a fault of ours ends with exit code 4. Nothing in the files is run. The table in docs/engines.md is this one.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.launch.lint import lint

ENDS = (".sh", ".yaml", ".yml", ".json")


@dataclass
class Row:
    """Counts of one folder."""

    files: int = 0
    refused: int = 0
    """Files of no engine that lint knows."""
    faults: list[str] = field(default_factory=list)
    costed: int = 0
    misspelt: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    unread: int = 0
    """Values that only a running shell would know, and places that bash would not read either."""
    open: Counter[str] = field(default_factory=Counter)
    slowest_cpu_seconds: float = 0.0


def files(folder: Path) -> Iterator[Path]:
    """Launch files below a folder, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix in ENDS and path.is_file())


def judged(folder: Path) -> Row:
    """All files of one folder."""
    row, catalog = Row(), default_catalog()
    for path in files(folder):
        row.files += 1
        started = time.process_time()
        try:
            linted = lint(path, catalog)
        except InputError:
            row.refused += 1
            continue
        except Exception as error:
            row.faults.append(f"{path}: {type(error).__name__}: {error}")
            continue
        row.slowest_cpu_seconds = max(row.slowest_cpu_seconds, time.process_time() - started)
        row.costed += linted.plan is not None
        row.unread += len(linted.found.unread)
        for finding in linted.findings:
            (row.misspelt if finding.rule == "unknown_setting" else row.rules)[finding.rule] += 1
        row.open.update(mistake.what[:40] for mistake in linted.open)
    return row


def main(folders: list[str]) -> int:
    """Print the table; 4 where a file made lint fail."""
    head = ("of", "files", "read", "costed", "no engine's", "faults", "unknown settings", "rules, traps", "not read")
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    broken = False
    for name in folders:
        row = judged(Path(name))
        read = row.files - row.refused - len(row.faults)
        cells = (row.files, read, row.costed, row.refused, len(row.faults), row.misspelt.total(), row.rules.total())
        print(f"| {Path(name).name} | " + " | ".join(f"{cell:,}" for cell in (*cells, row.unread)) + " |", flush=True)
        opened = "; ".join(f"{what} {count}" for what, count in row.open.most_common(3))
        print(f"{name}: slowest {row.slowest_cpu_seconds:.2f} CPU s; open: {opened}", file=sys.stderr)
        for fault in row.faults:
            print(fault, file=sys.stderr)
        broken = broken or bool(row.faults)
    return 4 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
