"""A sweep of a thousand variants, killed three times and gone on with; the same rows on Dask and on Ray.

python benchmarks/sweep.py kills --variants 1000
python benchmarks/sweep.py backend dask --variants 200
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = "scenarios/llama8b_sft_a100.yaml"
PINS = ("--set", "layout.tensor_parallel=1", "--set", "batch.micro_batch_size=1")


def command(out: Path, variants: int, *more: str) -> list[str]:
    """Headroom in steps of 0.01 GiB by five numbers of recomputed layers, so that every variant is another one."""
    steps = ",".join(f"{place * 0.01:.2f}" for place in range(variants // 5))
    values = ["--set", f"limits.headroom_gib={steps}", "--set", "layout.recomputed_layers=0,8,16,24,32", *PINS]
    return [sys.executable, "-m", "planner", "sweep", SCENARIO, *values, "--out", str(out), "--resume", *more]


def stored(out: Path) -> int:
    return out.read_bytes().count(b"\n") if out.exists() else 0


def read(out: Path) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = {row["key"]: row for row in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found


def kills(variants: int, workers: int) -> None:
    out = Path(tempfile.mkdtemp()) / "rows.jsonl"
    solved, before = [], 0
    for share in (0.2, 0.45, 0.7, None):
        call = command(out, variants, "--workers", str(workers))
        process = subprocess.Popen(call, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while share is not None and stored(out) < share * variants and process.poll() is None:
            time.sleep(0.05)
        if share is not None:
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate()[1]
        there = int(re.findall(r"(\d+) stored already", said)[0])
        assert there == before, (there, before)
        before = stored(out)
        solved.append(before - there)
        print(
            f"{there} stored already, {before - there} stored then, " + ("killed" if share is not None else "finished")
        )
    rows = read(out)
    print(
        f"{len(rows)} distinct rows of {variants}; stored by run: {solved}, in all {sum(solved)}; none torn, none twice"
    )
    assert len(rows) == sum(solved) == variants


def backend(name: str, variants: int) -> None:
    folder = Path(tempfile.mkdtemp())
    found = {}
    for each in ("joblib", name):
        out = folder / f"{each}.jsonl"
        subprocess.run(command(out, variants, "--workers", "2", "--backend", each), cwd=ROOT, check=True)
        found[each] = read(out)
    assert found["joblib"] == found[name]
    print(f"{name}: {len(found[name])} rows, the same as joblib's")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "backend"])
    parser.add_argument("name", nargs="?", choices=["dask", "ray"], default="dask")
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "kills":
        kills(given.variants, given.workers)
    else:
        backend(given.name, given.variants)


if __name__ == "__main__":
    main()
