"""A grid of variants solved and stored, as often as it takes: what is stored once is never computed again."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from planner.analysis.sweep.backends import solved
from planner.analysis.sweep.rows import Row
from planner.analysis.sweep.store import store_at
from planner.analysis.sweep.variants import grid
from planner.inputs.document import Document, json_value
from planner.inputs.given import Progress, ScenarioLike, document_given, silent

ValuesByPath = Mapping[str, Sequence[object]]


@dataclass(frozen=True)
class Swept:
    """What a sweep has stored."""

    path: str
    variants: int
    stored_before: int
    """Of these, rows that were there already."""
    counts: Mapping[str, int]
    """Rows solved now, by status: optimal, feasible, infeasible, refused, unknown or failed."""

    def rows(self) -> Iterator[Row]:
        """Every row of the file, in the order in which they came."""
        return store_at(self.path, resume=True).rows()


def run_sweep(
    document: Document,
    arguments: Sequence[str],
    out: str,
    *,
    resume: bool,
    backend: str,
    address: str | None,
    workers: int | None,
    begun: Callable[[int, int], None],
    progress: Callable[[str], None],
) -> Swept:
    """Solve every combination of PATH=VALUE,VALUE texts that is not stored yet, and store each row when it is done.

    `begun` is told how many variants there are, and how many are stored. Raises InputError where a text is wrong, the
    file exists and `resume` is off, another sweep writes there, or the backend cannot be reached.
    """
    variants = list({variant.key: variant for variant in grid(document, arguments)}.values())
    counts: Counter[str] = Counter()
    with store_at(out, resume=resume) as store:
        stored = store.keys()
        left = [variant for variant in variants if variant.key not in stored]
        begun(len(variants), len(variants) - len(left))
        rows = solved(document, left, backend, workers=workers or os.cpu_count() or 1, address=address)
        for place, row in enumerate(rows if left else (), 1):
            store.add(row)
            counts[row["status"]] += 1
            progress(f"{place} of {len(left)} solved")
    return Swept(out, len(variants), len(variants) - len(left), dict(sorted(counts.items())))


def sweep(
    scenario: ScenarioLike,
    values: ValuesByPath,
    out: str | os.PathLike[str],
    *,
    resume: bool = False,
    backend: str = "joblib",
    address: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Swept:
    """Solve a scenario for every combination of values, thousands of them, and store each row as soon as it is done.

    Args:
        scenario: what `load` takes or returned.
        values: a list of values by dotted path; every combination is a variant. Empty: the scenario's `what_if:`.
        out: `FILE.jsonl`, or `FILE.parquet`, a folder of files.
        resume: go on with a file that exists; what is stored is not computed again.
        backend: `joblib` (processes of this machine), `dask` or `ray`.
        address: of the Dask scheduler or the Ray cluster; a local one where it is None.
        workers: processes on this machine; its processors unless given.
        progress: called with one line after each row.

    Returns:
        What was stored: `counts` by status, and `rows()`. A row without a plan says why.

    Raises:
        InputError: a value is wrong, the file exists and `resume` is off, or the backend cannot be reached.

    Example:
        >>> import tempfile
        >>> out = tempfile.mkdtemp() + "/rows.jsonl"
        >>> done = planner.sweep(scenario, {"limits.headroom_gib": [20, 79]}, out, workers=1)
        >>> dict(done.counts)
        {'infeasible': 1, 'optimal': 1}
        >>> planner.sweep(scenario, {"limits.headroom_gib": [20, 79]}, out, workers=1, resume=True).stored_before
        2
    """
    arguments = [f"{path}={','.join(json_value(path, value) for value in tried)}" for path, tried in values.items()]
    return run_sweep(
        document_given(scenario),
        arguments,
        os.fspath(out),
        resume=resume,
        backend=backend,
        address=address,
        workers=workers,
        begun=lambda variants, stored: None,
        progress=progress,
    )
