from __future__ import annotations

import subprocess
import sys

import pytest
from starlette.testclient import TestClient
from web.conftest import SMALL

import planner


def test_solve_gives_the_envelope_of_the_door(client: TestClient) -> None:
    ours = planner.to_dict(planner.solve(SMALL, check=False))
    theirs = client.post("/api/v1/solve", json={"scenario": SMALL}).json()
    assert theirs["plan"] == ours["plan"]
    assert theirs["schema_version"] == ours["schema_version"]


@pytest.mark.parametrize("kind", ["explain", "near", "front", "launch"])
def test_every_question_is_answered(client: TestClient, kind: str) -> None:
    more = {"neighbours": False} if kind == "explain" else {"count": 1} if kind == "near" else {}
    if kind == "front":
        more = {"over": "gpus"}
    found = client.post(f"/api/v1/{kind}", json={"scenario": SMALL, **more})
    assert found.status_code == 200, found.text


def test_two_sides_are_compared(client: TestClient) -> None:
    sides = [{"scenario": SMALL}, {"scenario": SMALL, "overrides": ["cluster.num_gpus=4"]}]
    found = client.post("/api/v1/compare", json={"sides": sides})
    assert found.status_code == 200
    assert found.json()["command"] == "compare"


@pytest.mark.parametrize(
    "body",
    [{}, {"scenario": {}}, {"scenario": "a: ["}, {"scenario": SMALL, "overrides": ["x"]}, {"scenario": SMALL, "y": 1}],
)
def test_wrong_bodies_are_the_askers_mistake(client: TestClient, body: dict[str, object]) -> None:
    assert client.post("/api/v1/solve", json=body).status_code == 422


def test_the_interface_is_described(client: TestClient) -> None:
    paths = client.get("/api/v1/openapi.json").json()["paths"]
    assert {"/api/v1/solve", "/api/v1/explain", "/api/v1/front"} <= set(paths)


def test_the_server_is_up_without_the_search() -> None:
    """Workers import it meanwhile: the first answer waits for the longer of the two, not for both in turn."""
    code = "import sys, planner.web.app; print(sorted({'numpy', 'ortools', 'planner.search'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
