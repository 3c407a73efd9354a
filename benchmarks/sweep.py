"""A sweep of a thousand variants, killed three times and gone on with; the same rows on Dask and on Ray.

python benchmarks/sweep.py kills dask ray
python benchmarks/sweep.py backends dask --variants 200
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
    """Headroom in steps of 0.01 GiB by five numbers of recomputed layers: every variant is another one, and cheap."""
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


def torn(out: Path) -> int:
    """Bytes after the last whole line."""
    content = out.read_bytes() if out.exists() else b""
    return len(content) - content.rfind(b"\n") - 1


def kills(variants: int, workers: int) -> dict[str, dict[str, object]]:
    """The rows of a sweep that was killed three times and gone on with."""
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
        ended = f"killed, {torn(out)} bytes of a torn line left" if share is not None else "finished"
        print(f"{there} stored already, {before - there} stored then, {ended}", flush=True)
    rows = read(out)
    assert len(rows) == sum(solved) == variants
    print(
        f"{len(rows)} distinct rows of {variants}; stored by run: {solved}, in all {sum(solved)}; none torn, none twice"
    )
    return rows


def on(backend: str, variants: int, workers: int) -> dict[str, dict[str, object]]:
    """The rows of the same sweep on a cluster of its own."""
    out = Path(tempfile.mkdtemp()) / f"{backend}.jsonl"
    started = time.monotonic()
    subprocess.run(
        command(out, variants, "--workers", str(workers), "--backend", backend),
        cwd=ROOT,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    rows = read(out)
    print(f"{backend}: {len(rows)} distinct rows in {time.monotonic() - started:.0f} s", flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["kills", "backends"])
    parser.add_argument("names", nargs="*", choices=["dask", "ray", []], default=[])
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    if given.what == "kills":
        rows = kills(given.variants, given.workers)
    else:
        rows = on("joblib", given.variants, given.workers)
    differing = 0
    for name in given.names:
        same = on(name, given.variants, given.workers) == rows
        differing += not same
        print(f"{name}: {'the same rows' if same else 'OTHER ROWS'}", flush=True)
    return 5 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
