"""What lint makes of other people's launch files: read, costed, refused by name, errors by kind, faults.

    python benchmarks/lint_corpus.py [--answers FILE.jsonl] FOLDER...

Every shell script, YAML and JSON file below each FOLDER (a checkout of slime's scripts, verl's examples) is judged as
it is, and once more with `--set cluster.num_gpus=8` where it does not say how many GPUs there are. A fault of ours ends
with exit code 4. Nothing in the files is run. `--answers` writes one line a file. The table in docs/engines.md is this
one.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.launch.lint import GIVE_GPUS, Linted, lint
from planner.launch.reading.opened import UNKNOWN

ENDS = (".sh", ".yaml", ".yml", ".json")
EIGHT = ("cluster.num_gpus=8",)
OWN_WORDS = re.compile(r"'[^']*'|\"[^\"]*\"|\S*[/.]\S*|\d[\d,]*")
"""What one file alone says, which no kind of error is named by."""


@dataclass
class Row:
    """Counts of one folder."""

    files: int = 0
    strangers: int = 0
    """Files of no engine that lint knows."""
    refused: Counter[str] = field(default_factory=Counter)
    """Files that are refused for another reason, by that reason."""
    faults: list[str] = field(default_factory=list)
    costed: int = 0
    costed_at_eight: int = 0
    too_large: int = 0
    """Costed, and they do not fit."""
    misspelt: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    """Findings that are errors, by rule."""
    unread: int = 0
    """Values that only a running shell would know, and places that bash would not read either."""
    open: Counter[str] = field(default_factory=Counter)
    slowest_cpu_seconds: float = 0.0


def files(folder: Path) -> Iterator[Path]:
    """Launch files below a folder, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix in ENDS and path.is_file())


def kind_of(text: str) -> str:
    """A message without what only its own file says."""
    return OWN_WORDS.sub("_", text)[:60].strip()


def judged(folder: Path, answers: TextIO | None = None) -> Row:
    """All files of one folder; `answers` gets a line each."""
    row, catalog = Row(), default_catalog()
    for path in files(folder):
        row.files += 1
        said: dict[str, object] = {"file": str(path.relative_to(folder.parent))}
        started = time.process_time()
        try:
            linted = lint(path, catalog)
            row.slowest_cpu_seconds = max(row.slowest_cpu_seconds, time.process_time() - started)
            row.costed += linted.plan is not None
            if linted.plan is None and any(mistake.attempt == GIVE_GPUS for mistake in linted.open):
                linted = lint(path, catalog, EIGHT)
                said["at"] = EIGHT[0]
            said |= answer(linted)
            count(row, linted)
        except InputError as error:
            first = error.problems[0].what
            said["refused"] = first
            if UNKNOWN in first:
                row.strangers += 1
            else:
                row.refused[kind_of(first)] += 1
        except Exception as error:
            row.faults.append(f"{path}: {type(error).__name__}: {error}")
        if answers is not None:
            print(json.dumps(said), file=answers, flush=True)
    return row


def count(row: Row, linted: Linted) -> None:
    """Count one answer."""
    row.costed_at_eight += linted.plan is not None
    row.too_large += linted.fits is False
    row.unread += len(linted.found.unread)
    for finding in linted.findings:
        if finding.rule == "unknown_setting":
            row.misspelt[finding.rule] += 1
        elif finding.severity == "error":
            row.rules[finding.rule] += 1
    row.open.update({kind_of(mistake.what) for mistake in linted.open})


def answer(linted: Linted) -> dict[str, object]:
    """One answer as data."""
    plan = linted.plan
    return {
        "launcher": linted.found.launcher,
        "engine": linted.found.engine,
        "open": [[mistake.what, mistake.attempt] for mistake in linted.open],
        "findings": [[one.severity, one.rule, one.text] for one in linted.findings],
        "unread": [[place.line, why] for place, why in linted.found.unread],
        "peak_gib": None if plan is None else round(plan.usable_gib - plan.headroom_gib, 1),
        "fits": linted.fits,
        "scenario": linted.scenario,
    }


HEAD = (
    "of", "files", "read", "costed", "with 8 GPUs said", "do not fit", "refused by name", "no engine's", "faults",
    "rules broken", "unknown settings", "not read",
)  # fmt: skip


def main(words: list[str]) -> int:
    """Print the table; 4 where a file made lint fail."""
    if words[:1] == ["--answers"]:
        with Path(words[1]).open("w") as stream:
            return table(words[2:], stream)
    return table(words, None)


def table(folders: list[str], stream: TextIO | None) -> int:
    """The table of these folders, and why files were left open; 4 where one made lint fail."""
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    broken, why = False, Counter[str]()
    for name in folders:
        row = judged(Path(name), stream)
        read = row.files - row.strangers - row.refused.total() - len(row.faults)
        cells = (row.files, read, row.costed, row.costed_at_eight, row.too_large, row.refused.total(), row.strangers,
                 len(row.faults), row.rules.total(), row.misspelt.total(), row.unread)  # fmt: skip
        print(f"| {Path(name).name} | " + " | ".join(f"{cell:,}" for cell in cells) + " |", flush=True)
        for what, counts in (("open", row.open), ("refused", row.refused), ("rules", row.rules)):
            listed = "; ".join(f"{text} {number}" for text, number in counts.most_common(12))
            print(f"{name}: {what}: {listed}", file=sys.stderr, flush=True)
        print(f"{name}: slowest {row.slowest_cpu_seconds:.2f} CPU s", file=sys.stderr)
        why.update(row.open)
        for fault in row.faults:
            print(fault, file=sys.stderr)
        broken = broken or bool(row.faults)
    print("\n| files left open | why |\n|---|---|")
    for text, number in why.most_common(25):
        print(f"| {number} | {text} |")
    return 4 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
