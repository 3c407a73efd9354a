"""Mutated requests against the page: no traceback, no answer of 500 or above but a stated limit.

    python benchmarks/web_hostile.py 2000

Needs the extra `web` and httpx2. Prints the answers by kind of attack and status; exits 5 where one is not allowed.
"""

from __future__ import annotations

import collections
import json
import random
import sys
from collections.abc import Callable
from urllib.parse import quote

from starlette.testclient import TestClient

from planner.web.app import application
from planner.web.limits import ServerLimits
from planner.web.same_process import SameProcess
from planner.web.state import State
from planner.web.views import EXTRA, FRAGMENTS, VIEWS

SMALL = {
    "name": "small",
    "task": "sft",
    "model": "llama3.2-1b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 2},
    "batch": {"sequence_length": 2048, "global_batch_size": 8},
}
ODD = ("", "0", "-1", "1e308", "nan", "null", "[]", "{}", "[1,2", "\x00", "\u202e", "é" * 300, "9" * 400, "<b>",
       "'\"`$(id)", "../../../etc/passwd", "....//x", "/etc/passwd", "%2e%2e%2f", "file:///etc/passwd", "${HOME}",
       "http://127.0.0.1/", "!!python/object:os.system", "&a [*a]", "{{7*7}}", "A" * 5000)  # fmt: skip
SIDES = ("cluster.num_gpus=4", "example:../../etc/passwd", "example:budget_spot", "/?yaml=x", "'", "a=b c", "?config=!")
PATHS = ("model", "engine", "cluster.node", "cluster.num_gpus", "cluster.topology", "cluster.nccl_tests", "calibration",
         "batch.sequence_length", "batch.global_batch_size", "layout.tensor_parallel", "layout.recomputed_layers",
         "name", "optimizer", "precision", "task", "question", "x.y.z", "[0]", "a[99999]",
         "search.time_limit_s")  # fmt: skip
STEALS = ("../README.md", "llama70b_64xh100.yaml/../x.yaml", "example:qwen7b_rl", "budget_spot.yaml")
FORBIDDEN = ("Traceback (most recent", "root:x:0")
Attack = Callable[[random.Random, TestClient], object]


def query(rng: random.Random, client: TestClient) -> object:
    """Odd values in the address of a page or an answer."""
    pairs = [f"{quote(rng.choice(PATHS))}={quote(rng.choice(ODD))}" for _ in range(rng.randint(1, 4))]
    base = State(text=json.dumps(SMALL)).query()
    where = rng.choice(["/", *(f"/{name}" for name in VIEWS), *(f"/answer/{name}" for name in FRAGMENTS),
                        "/download/scenario.yaml", "/download/launch", "/download/report.html"])  # fmt: skip
    pairs += [f"{name}={quote(rng.choice(ODD + SIDES))}" for name in EXTRA if rng.random() < 0.2]
    return client.get(f"{where}?{base}&{'&'.join(pairs)}&view={quote(rng.choice((*FRAGMENTS, *ODD)))}")


def budget(rng: random.Random, client: TestClient) -> object:
    """Budgets whose jobs name odd files, and odd limits."""
    job = {"name": "j", "scenario": rng.choice([*ODD, *STEALS]), "tokens": 1e9, "deadline_days": 9}
    key = rng.choice(["name", "tokens", "deadline_days", "set", "none"])
    if key != "none":
        job[key] = rng.choice([*ODD, -1, 1e30, {"calibration": "secret.yaml"}, {"cluster.topology": "/etc/passwd"}, []])
    text = {"name": "b", "jobs": [job], "offers": [{"price": "coreweave-8x-h100", "nodes": [1]}]}
    if rng.random() < 0.5:
        return client.get(f"/answer/budget?{State(text=json.dumps(text)).query()}")
    return client.post("/api/v1/budget", json={"scenario": text})


def packed(rng: random.Random, client: TestClient) -> object:
    """Broken packed texts."""
    good = State(text=json.dumps(SMALL), config="{}").query()
    at = rng.randrange(len(good))
    return client.get(f"/answer/plan?{good[:at]}{quote(chr(rng.randrange(32, 0x2FF)))}{good[at + rng.randint(0, 3) :]}")


def traversal(rng: random.Random, client: TestClient) -> object:
    """Paths that leave the served folder."""
    return client.get(
        rng.choice(["/static/", "/download/", "/answer/", "/api/v1/", "/"]) + quote(rng.choice(ODD), safe="/%.")
    )


def body(rng: random.Random, client: TestClient) -> object:
    """Bodies of the JSON interface with bytes changed."""
    text = bytearray(json.dumps({"scenario": SMALL, "overrides": ["cluster.num_gpus=4"]}).encode())
    for _ in range(rng.randint(1, 4)):
        text[rng.randrange(len(text))] = rng.randrange(256)
    where = rng.choice(["solve", "estimate", "explain", "near", "front", "launch", "compare", "budget", "none"])
    return client.post(f"/api/v1/{where}", content=bytes(text), headers={"content-type": "application/json"})


def values(rng: random.Random, client: TestClient) -> object:
    """Whole JSON with odd values."""
    scenario = json.loads(json.dumps(SMALL))
    scenario[rng.choice(list(scenario))] = rng.choice([*ODD, None, [], {}, 10**30, -1, True, [[[[]]]], {"a": {"b": 1}}])
    return client.post("/api/v1/solve", json={"scenario": scenario})


def large(rng: random.Random, client: TestClient) -> object:
    """Bodies and addresses beyond the limits."""
    if rng.random() < 0.5:
        return client.post("/api/v1/solve", content=b"[" * (ServerLimits.body_bytes + rng.randint(1, 1000)))
    return client.get("/?x.y=" + "1" * (ServerLimits.url_bytes + rng.randint(1, 1000)))


def header(rng: random.Random, client: TestClient) -> object:
    """Odd headers."""
    odd = rng.choice(["evil.example", "a" * 300, "127.0.0.1@evil", "[::1", "testserver:99999999"])
    name = rng.choice(["host", "cookie", "authorization", "content-type", "content-length"])
    return client.get("/answer/plan", headers={name: odd})


ATTACKS: tuple[Attack, ...] = (query, packed, traversal, body, values, large, header, budget)


def main(count: int) -> int:
    counts: dict[tuple[str, int], int] = collections.Counter()
    bad = []
    limits = ServerLimits(solve_seconds=3.0)
    with TestClient(
        application(SameProcess(limits), hosts=frozenset({"testserver"})), raise_server_exceptions=False
    ) as client:
        for seed in range(count):
            attack = ATTACKS[seed % len(ATTACKS)]
            found = attack(random.Random(seed), client)
            status, text = found.status_code, found.text  # type: ignore[attr-defined]
            counts[attack.__name__, status] += 1
            if (status >= 500 and status != 503) or any(word in text for word in FORBIDDEN):
                bad.append((attack.__name__, seed, status, text[:200]))
    for (name, status), n in sorted(counts.items()):
        print(f"{name:>10}  {status}  {n:5}")
    for one in bad[:20]:
        print("not allowed:", *one)
    print(f"{count} requests, {len(bad)} not allowed")
    return 5 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000))
