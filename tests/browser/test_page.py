"""The page itself: keyboard, widths, colours, accessibility, links, cancelled answers."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("axe_playwright_python")

from analysis.test_pins import TWO_POOLS
from browser.conftest import Seen

from planner.web.state import State
from planner.web.views import VIEWS

pytestmark = pytest.mark.browser
SCENARIO = {
    "name": "small", "task": "sft", "model": "llama3.1-8b", "engine": "megatron-core",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 16}, "batch": {"sequence_length": 4096, "global_batch_size": 64},
    "layout": {"pipeline_parallel": 2, "context_parallel": 1},
}  # fmt: skip
JOB = {
    "name": "tune", "scenario": "llama70b_64xh100.yaml", "set": {"model": "llama3.2-1b"}, "tokens": 1e8,
    "deadline_days": 30,
}  # fmt: skip
SMALL = State(text=json.dumps(SCENARIO)).query()
TIED = {**SCENARIO, "cluster": {"node": "hgx-h100-8", "num_gpus": 8},
        "layout": {"tensor_parallel": 2, "pipeline_parallel": 1}}  # fmt: skip
BUDGET = State(text=json.dumps(
    {"name": "small", "jobs": [JOB], "offers": [{"price": "coreweave-8x-h100", "nodes": [1, 2]}]}
)).query()  # fmt: skip
LOOKS = list(itertools.product((390, 1280), ("light", "dark")))


@pytest.mark.parametrize("seen", LOOKS, indirect=True)
@pytest.mark.parametrize("view", [*VIEWS, "compared", "nothing fits", "near ties", "steps of RL", "two pools"])
def test_nothing_serious_stands_in_anybodys_way(seen: Seen, view: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    sides = "".join(
        f"&side={quote(line)}" for line in ("cluster.num_gpus=8", "limits.headroom_gib=79", "example:llama8b_lora_4090")
    )
    paths = {
        "plan": f"?{SMALL}",
        "budget": f"budget?{BUDGET}",
        "compared": f"compare?{SMALL}{sides}",
        "nothing fits": f"?{SMALL}&limits.headroom_gib=79",
        "near ties": f"?{State(text=json.dumps(TIED)).query()}",
        "steps of RL": "timeline?example=qwen7b_rl",
        "two pools": "topology?example=qwen7b_rl_two_pools",
    }
    seen.open(paths.get(view, f"{view}?{SMALL}"))
    seen.settle()
    found = axe.run(seen.page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert not serious
    wide = seen.page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    assert not wide


def test_the_keyboard_alone_gets_an_answer(seen: Seen) -> None:
    seen.open("?example=llama70b_64xh100")
    for _ in range(60):
        seen.page.keyboard.press("Tab")
        if seen.page.evaluate("document.activeElement.id") == "cluster.num_gpus":
            break
    seen.page.keyboard.type("128")
    seen.page.keyboard.press("Enter")
    assert "128 GPUs" in seen.answer


def test_a_link_leads_to_the_same_answer(seen: Seen) -> None:
    seen.open("?example=llama70b_64xh100")
    seen.page.fill('[id="cluster.num_gpus"]', "128")
    seen.page.click("#ask > button")
    first = seen.answer
    seen.page.goto(seen.page.url)
    assert seen.answer == first


def test_dragging_answers(seen: Seen) -> None:
    seen.open("?example=llama70b_64xh100")
    before = seen.answer
    seen.page.locator('[data-for="limits.headroom_gib"]').evaluate(
        "slider => { slider.value = 30; slider.dispatchEvent(new Event('input', { bubbles: true })); }"
    )
    seen.page.wait_for_timeout(500)
    assert seen.answer != before
    assert "limits.headroom_gib=30" in seen.page.url


def test_a_layout_of_two_pools_opens_exactly(seen: Seen) -> None:
    """Every decision of a near tie over several machines is in the link that opens it."""
    seen.open(f"?{State(text=json.dumps(TWO_POOLS)).query()}")
    seen.page.wait_for_selector("#near table")
    layout = seen.page.inner_text("#near tbody tr:nth-child(2) td:nth-child(2)").partition(" of its own")[0]
    seen.page.click("#near tbody tr:nth-child(2) >> text=open")
    seen.page.wait_for_url("**cluster.pools=**")
    assert layout in " ".join(seen.answer.split())


def test_why_not_is_answered_beside_the_plan(seen: Seen) -> None:
    seen.open(f"?{SMALL}")
    seen.page.fill('[name="why"]', "layout.tensor_parallel=8")
    seen.page.click(".ask-why button")
    seen.page.wait_for_selector("#why h2")
    assert "tensor_parallel" in seen.page.inner_text("#why")


def test_a_near_tie_says_why_not_and_opens(seen: Seen) -> None:
    seen.open(f"?{State(text=json.dumps(TIED)).query()}")
    seen.page.wait_for_selector("#near table")
    layout = seen.page.inner_text("#near tbody tr:nth-child(2) td:nth-child(2)")
    seen.page.click("#near tbody tr:nth-child(2) >> text=why not")
    seen.page.wait_for_selector("#why h1")
    assert "B against A" in seen.page.inner_text("#why h1")
    seen.page.click("#near tbody tr:nth-child(2) >> text=open")
    assert layout in seen.answer


def test_a_point_of_the_front_opens_its_plan_by_mouse_and_by_keyboard(seen: Seen) -> None:
    seen.open(f"front?{SMALL}&over=gpus")
    points = seen.page.locator("svg.pf a")
    assert points.count() >= 2
    points.last.click()
    assert "fits on 64 GPUs" in seen.answer
    seen.page.go_back()
    seen.wait()
    seen.page.locator("svg.pf a").first.focus()
    seen.page.keyboard.press("Enter")
    assert "fits on 8 GPUs" in seen.answer


def test_decisions_are_pinned_and_let_go_of_by_clicks(seen: Seen) -> None:
    seen.open(f"?{SMALL}")
    seen.page.click('[aria-label="data parallel: at most 4"]')
    seen.page.wait_for_url("**layout.data_parallel=**")
    assert "DP8" not in seen.answer.partition("Near ties")[0]
    seen.page.click('[aria-label="data parallel: leave open"]')
    assert "DP8" in seen.answer


def test_a_repair_is_applied_by_a_click(seen: Seen) -> None:
    seen.open(f"?{SMALL}&limits.headroom_gib=79")
    seen.page.wait_for_selector("#why .button")
    seen.page.click("#why .button >> nth=-1")
    assert "fits on 16 GPUs" in seen.answer


def test_four_plans_are_typed_side_by_side(seen: Seen) -> None:
    seen.open(f"compare?{SMALL}")
    seen.page.fill("#side-1", "cluster.num_gpus=8")
    seen.page.fill("#side-2", "example:llama8b_lora_4090")
    seen.page.fill("#side-3", f"{seen.address}?{SMALL}&batch.sequence_length=2048")
    seen.page.click("#ask > button")
    text = seen.answer
    assert "4 plans" in text
    assert seen.page.locator("main .chips li").count() == 4
    seen.page.goto(seen.page.url)
    assert seen.answer == text


def test_a_config_is_uploaded(seen: Seen, tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    seen.open(f"?{SMALL}")
    seen.page.set_input_files("#own-file", tmp_path / "config.json")
    seen.page.wait_for_url("**config=**")
    assert "pasted: 1.236 B parameters" in seen.answer


def test_a_budget_gets_a_limit(seen: Seen) -> None:
    seen.open(f"budget?{BUDGET}")
    assert "What to buy" in seen.answer
    seen.page.fill('[id="max_usd"]', "1")
    seen.page.keyboard.press("Enter")
    assert "no choice of the listed offers keeps every limit" in seen.answer


def test_what_is_taken_away_is_the_plan(seen: Seen) -> None:
    seen.open(f"?{SMALL}")
    for name, words in (("Report", "<svg"), ("Scenario as YAML", "num_gpus: 16"), ("Launch files", "--pipeline-model")):
        with seen.page.expect_download() as taken:
            seen.page.click(f".take >> text={name}")
        assert words in taken.value.path().read_text()
