from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from planner.web.app import application
from planner.web.limits import ServerLimits
from planner.web.same_process import SameProcess

SMALL = {
    "name": "small",
    "task": "sft",
    "model": "llama3.1-8b",
    "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
    "batch": {"sequence_length": 4096, "global_batch_size": 64},
    "layout": {"pipeline_parallel": 1, "context_parallel": 1},
}


@pytest.fixture(scope="session")
def client() -> Iterator[TestClient]:
    with TestClient(application(SameProcess(ServerLimits()), hosts=frozenset({"testserver"}))) as found:
        yield found
