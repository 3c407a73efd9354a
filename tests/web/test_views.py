from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient
from web.conftest import SMALL

import planner
from planner.inputs.asked import TASKS
from planner.web.base import scenarios
from planner.web.state import State
from planner.web.views import VIEWS

QUERY = State(text=json.dumps(SMALL)).query()


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_has_a_page_that_asks_for_its_answer(client: TestClient, name: str) -> None:
    page = client.get(f"/{'' if name == 'plan' else name}?{QUERY}")
    assert page.status_code == 200
    assert f'hx-get="answer/{name}?' in page.text
    assert "<form" in page.text


def test_the_answer_is_that_of_the_door(client: TestClient) -> None:
    text = client.get(f"/answer/plan?{QUERY}&cluster.num_gpus=4").text
    plan = planner.solve(planner.load(SMALL, {"cluster.num_gpus": 4}), check=False).plan
    assert plan is not None
    assert f"{plan.headroom_gib:.1f} GiB free" in text
    assert "cluster.num_gpus=4" in text


def test_a_mistake_is_said_with_its_place(client: TestClient) -> None:
    text = client.get(f"/answer/plan?{QUERY}&cluster.num_gpus=many").text
    assert "--set cluster.num_gpus=many" in text


def test_markup_in_a_scenario_stays_text(client: TestClient) -> None:
    hostile = "<script>alert(1)</script>"
    query = State(text=json.dumps({**SMALL, "name": hostile, "question": hostile})).query()
    for path in ("/", "/answer/plan", "/download/report.html"):
        for change in ("", f"&layout.tensor_parallel={hostile}"):
            found = client.get(f"{path}?{query}{change}")
            assert "<script>alert" not in found.text or found.headers["content-type"].startswith("text/plain")


def test_nothing_fits_offers_repairs_that_lead_to_plans(client: TestClient) -> None:
    text = client.get(f"/answer/why?{QUERY}&limits.headroom_gib=79").text
    links = re.findall(r'class="button" href="\./\?([^"]+)"', text)
    assert links
    repaired = client.get(f"/answer/plan?{links[0].replace('&amp;', '&')}").text
    assert "fits on" in repaired


def test_the_scenario_comes_back_as_yaml(client: TestClient) -> None:
    found = client.get(f"/download/scenario.yaml?{QUERY}&cluster.num_gpus=4")
    assert "num_gpus: 4" in found.text
    assert found.headers["content-disposition"].startswith("attachment")


def test_launch_files_can_be_taken_away(client: TestClient) -> None:
    assert "--tensor-model-parallel-size" in client.get(f"/download/launch?{QUERY}").text


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json()["status"] == "ok"
    assert "planner_questions_asked_total" in client.get("/metrics").text


@pytest.mark.parametrize("task", TASKS)
def test_a_few_words_are_a_scenario(client: TestClient, task: str) -> None:
    query = "task=" + task + "&for=llama3.2-1b&on=8xh100"
    assert "GiB free" in client.get(f"/answer/plan?{query}").text
    assert f"--task {task}" in client.get(f"/answer/plan?{query}").text


@pytest.mark.parametrize("name", scenarios())
def test_every_shipped_scenario_opens(client: TestClient, name: str) -> None:
    page = client.get(f"/?example={name}")
    assert page.status_code == 200
    assert 'class="wrong"' not in page.text


def test_a_scenario_that_is_not_shipped_is_said(client: TestClient) -> None:
    assert "no shipped scenario" in client.get("/?example=../../etc/passwd").text
