"""The page under load: the first answer, warm answers, and people who ask in parallel.

    python benchmarks/web_load.py [SECONDS] [PEOPLE]

Starts `planner serve` on a free port; needs the extra `web` and httpx2. Exits 5 where an answer is wrong or missing.
The first start is thrown away: it compiles what pip would have compiled. Then, three times, a fresh interpreter imports
the solver and a fresh server answers its first question, in turn, so that both see the same machine; the least of each
counts. Seconds of a first answer run from the start of the server's process to the last byte of the answer.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2 as httpx

CACHE = tempfile.mkdtemp(prefix="planner-compiled-")
LLAMA = {
    "name": "llama70b",
    "task": "pretrain",
    "model": "llama3.1-70b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 64},
    "batch": {"sequence_length": 8192, "global_batch_size": 1024},
}


def solver_import_seconds() -> float:
    """Of a fresh interpreter. [s]"""
    code = "import time; t = time.monotonic(); from ortools.sat.python import cp_model; print(time.monotonic() - t)"
    return float(subprocess.check_output([sys.executable, "-c", code]))


def memory_mib(parent: int) -> float:
    """Resident memory of a process and all that came from it; pages shared by forked processes count in each. [MiB]"""
    kinds, used = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        process = int(fields["Pid"])
        kinds[process], used[process] = int(fields["PPid"]), int(fields.get("VmRSS", "0 kB").split()[0]) / 1024
    family = {parent}
    while more := {process for process, above in kinds.items() if above in family} - family:
        family |= more
    return sum(used.get(process, 0.0) for process in family)


def started() -> tuple[subprocess.Popen[str], str, float]:
    """A server, its address, and seconds from its start to its first answer."""
    env = {**os.environ, "PYTHONPYCACHEPREFIX": CACHE}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    at = time.monotonic()
    serving = subprocess.Popen(
        [sys.executable, "-m", "planner", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True, env=env
    )
    assert serving.stdout is not None
    address = serving.stdout.readline().strip()
    with httpx.Client(base_url=address, timeout=120, trust_env=False) as client:
        while True:
            try:
                client.post("/api/v1/solve", json={"scenario": LLAMA}).raise_for_status()
                return serving, address, time.monotonic() - at
            except httpx.ConnectError:
                time.sleep(0.02)


class People:
    """Threads that ask until the time is up; each answer is compared with the first one to the same question."""

    def __init__(self, address: str, seconds: float, count: int) -> None:
        self.address, self.until = address, time.monotonic() + seconds
        self.took: list[float] = []
        self.wrong: list[str] = []
        self.busy = 0
        self.known: dict[str, str] = {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.ask, args=(seed,)) for seed in range(count)]

    def run(self) -> None:
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()

    def ask(self, seed: int) -> None:
        rng = random.Random(seed)
        with httpx.Client(base_url=self.address, timeout=60, trust_env=False) as client:
            while time.monotonic() < self.until:
                overrides = [f"cluster.num_gpus={rng.choice([16, 32, 64, 128])}",
                             f"batch.sequence_length={1024 * rng.randint(2, 24)}", "limits.headroom_gib=0"]  # fmt: skip
                started = time.monotonic()
                try:
                    found = client.post("/api/v1/solve", json={"scenario": LLAMA, "overrides": overrides})
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))
                    continue
                with self.lock:
                    self.took.append(time.monotonic() - started)
                    self.judge(" ".join(overrides), found)

    def judge(self, asked: str, found: httpx.Response) -> None:
        if found.status_code == 503:
            self.busy += 1
        elif found.status_code != 200:
            self.wrong.append(f"{found.status_code} {found.text[:100]}")
        elif found.json()["provenance"]["inputs"][0]["overrides"] != asked.split(" "):
            self.wrong.append(f"another question's answer: {asked}")
        elif self.known.setdefault(asked, found.text) != found.text:
            self.wrong.append(f"two answers to {asked}")


def main(seconds: float, people: int) -> int:
    units, firsts = [], []
    for turn in range(4):
        if turn:
            units.append(solver_import_seconds())
        serving, address, first = started()
        firsts += [first] if turn else []
        if turn < 3:
            serving.terminate()
            serving.wait()
    unit, first = min(units), min(firsts)
    try:
        with httpx.Client(base_url=address, timeout=120, trust_env=False) as client:
            warm = []
            for length in range(5, 15):
                at = time.monotonic()
                overrides = [f"batch.sequence_length={1024 * length}"]
                client.post("/api/v1/solve", json={"scenario": LLAMA, "overrides": overrides}).raise_for_status()
                warm.append(time.monotonic() - at)
        before = memory_mib(serving.pid)
        crowd = People(address, seconds, people)
        crowd.run()
        after = memory_mib(serving.pid)
    finally:
        serving.terminate()
        serving.wait()
    print(f"importing the solver            {unit:6.2f} s")
    print(f"start to first answer           {first:6.2f} s = {first / unit:.1f} imports (bar 4)")
    print(f"another question, warm, median  {statistics.median(warm):6.2f} s, worst {max(warm):.2f} (bar 0.5)")
    took = sorted(crowd.took)
    print(f"{people} people for {seconds:g} s: {len(took)} answers, median {statistics.median(took):.2f} s, "
          f"90th percentile {took[len(took) * 9 // 10]:.2f} s, {crowd.busy} times told to wait, "
          f"{len(crowd.wrong)} wrong")  # fmt: skip
    print(f"resident memory {before:.0f} MiB before, {after:.0f} MiB after")
    for one in crowd.wrong[:10]:
        print("wrong:", one)
    return 5 if crowd.wrong else 0


if __name__ == "__main__":
    arguments = sys.argv[1:]
    sys.exit(main(float(arguments[0]) if arguments else 60.0, int(arguments[1]) if len(arguments) > 1 else 20))
