"""The page itself: keyboard, widths, colours, accessibility, links, cancelled answers."""

from __future__ import annotations

import itertools

import pytest

pytest.importorskip("axe_playwright_python")

from browser.conftest import Seen

from planner.web.views import VIEWS

pytestmark = pytest.mark.browser
LOOKS = list(itertools.product((390, 1280), ("light", "dark")))


@pytest.mark.parametrize("seen", LOOKS, indirect=True)
@pytest.mark.parametrize("view", VIEWS)
def test_nothing_serious_stands_in_anybodys_way(seen: Seen, view: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    seen.open("" if view == "plan" else view)
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


def test_why_not_is_answered_beside_the_plan(seen: Seen) -> None:
    seen.open("?example=llama70b_64xh100")
    seen.page.fill('[name="why"]', "layout.tensor_parallel=8")
    seen.page.click(".ask-why button")
    seen.page.wait_for_selector("#why h1", timeout=60_000)
    assert "tensor_parallel" in seen.page.inner_text("#why")
