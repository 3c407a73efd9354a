from __future__ import annotations

import html
import json
import re
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient
from web.conftest import SMALL

import planner
from planner.inputs.asked import TASKS
from planner.web.base import scenarios
from planner.web.state import State
from planner.web.views import VIEWS

QUERY = State(text=json.dumps(SMALL)).query()
JOB = {
    "name": "tune", "scenario": "llama70b_64xh100.yaml", "set": {"model": "llama3.2-1b"}, "tokens": 1e8,
    "deadline_days": 30,
}  # fmt: skip
BUDGET = {"name": "small", "jobs": [JOB], "offers": [{"price": "coreweave-8x-h100", "nodes": [1]}]}


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


def opened(client: TestClient, text: str, words: str = "open") -> list[str]:
    """Answers of the plans that an answer's buttons of these words lead to."""
    links = re.findall(rf'href="\./\?([^"]+)"[^>]*>{words}<', text)
    return [client.get(f"/answer/plan?{html.unescape(link)}").text for link in links]


def test_near_ties_open_as_the_plans_that_they_are(client: TestClient) -> None:
    tied = {**SMALL, "layout": {"tensor_parallel": 2, "pipeline_parallel": 1}}
    near = client.get(f"/answer/near?{State(text=json.dumps(tied)).query()}").text
    free = re.findall(r"<td>([0-9]+\.[0-9])</td>", near)
    plans = opened(client, near)
    assert len(plans) >= 2
    assert all(f"{gib} GiB free" in plan for gib, plan in zip(free, plans, strict=True))
    assert near.count(">why not<") == len(plans) - 1


def test_a_point_of_the_front_opens_its_plan(client: TestClient) -> None:
    front = client.get(f"/answer/front?{QUERY}&over=gpus").text
    links = re.findall(r'<a href="\./\?([^"]+)" aria-label="([0-9,]+) GPUs, ([0-9,]+) tokens/s', front)
    assert len(links) >= 2
    for link, gpus, rate in links:
        plan = client.get(f"/answer/plan?{html.unescape(link)}").text
        assert f"{rate} tokens/s" in plan
        assert f"fits on {gpus} GPUs" in plan


def test_four_plans_stand_side_by_side(client: TestClient) -> None:
    link = f"http://here/?{QUERY}&batch.sequence_length=2048"
    lines = ["cluster.num_gpus=4", "limits.headroom_gib=79", link]
    query = f"{QUERY}&{urlencode([('side', line) for line in lines])}"
    text = client.get(f"/answer/compare?{query}").text
    assert all(f"<th>{letter}</th>" in text for letter in "ABD")
    assert "C: infeasible" in text
    assert html.escape("--also batch.sequence_length=2048") in text
    assert "no shipped scenario" in client.get(f"/answer/compare?{QUERY}&side=example:none").text
    assert "changes nothing" in client.get(f"/answer/compare?{QUERY}&side=fast").text


def test_a_comparison_without_another_plan_offers_some(client: TestClient) -> None:
    text = client.get(f"/answer/compare?{QUERY}").text
    assert "GPUs 8 to 16" in text
    assert "side=cluster.num_gpus%3D16" in text


def test_decisions_are_pinned_limited_and_let_go_of_by_a_click(client: TestClient) -> None:
    pinned = client.get(f"/answer/plan?{QUERY}&layout.tensor_parallel=2").text
    assert "tensor parallel <strong>2</strong>" in pinned
    again = re.search(r'href="\./\?([^"]+)" aria-label="tensor parallel: leave open"', pinned)
    assert again is not None
    assert "tensor_parallel" not in again.group(1)
    assert 'aria-label="data parallel: pin"' in pinned
    most = re.search(r'href="\./\?([^"]+)" aria-label="data parallel: at most 2"', pinned)
    assert most is not None
    assert "data parallel <strong>4" not in client.get(f"/answer/plan?{html.unescape(most.group(1))}").text


def test_timeline_and_topology_are_drawn(client: TestClient) -> None:
    timeline = client.get(f"/answer/timeline?{QUERY}").text
    assert "Where a step goes" in timeline
    topology = client.get(f"/answer/topology?{QUERY}&layout.tensor_parallel=2").text
    assert "Groups: tensor parallel" in topology
    assert "<td class=left>0, 1</td>" in topology


def test_a_budget_of_ones_own_names_shipped_scenarios_only(client: TestClient) -> None:
    query = State(text=json.dumps(BUDGET)).query()
    assert "What to buy" in client.get(f"/answer/budget?{query}").text
    for name in ("../secret.yaml", "/etc/passwd", "none"):
        other = State(text=json.dumps({**BUDGET, "jobs": [{**JOB, "scenario": name}]})).query()
        assert "no shipped scenario" in client.get(f"/answer/budget?{other}").text


@pytest.mark.parametrize("name", ["plan", "timeline", "topology", "near"])
def test_every_view_can_be_taken_away(client: TestClient, name: str) -> None:
    report = client.get(f"/download/report.html?{QUERY}&view={name}").text
    assert report.startswith("<!doctype html>")
    assert "<svg" in report
    if name != "near":
        text = client.get(f"/answer/{name}?{QUERY}").text
        assert all(each in text for each in ("download/launch?", "download/scenario.yaml?", "planner solve", "YAML"))


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
    text = client.get(f"/answer/why?{QUERY}&cluster.num_gpus=1").text
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
