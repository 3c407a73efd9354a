"""Every report of every command that answers a question, opened in Chromium: python -m pytest -m browser

Needs the package playwright and a Chromium, by default /usr/bin/chromium (PLANNER_CHROMIUM names another). Where
PLANNER_SCREENSHOTS names a folder, pictures and prints are kept there to be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_cli import run

pytestmark = pytest.mark.browser
ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path.stem for path in (ROOT / "scenarios").glob("*.yaml"))
BUDGETS = [name for name in SCENARIOS if name.startswith("budget_")]
PLAIN = [name for name in SCENARIOS if name not in BUDGETS]
RL = [name for name in PLAIN if "qwen" in name and "whatif" not in name]
CASES = [
    *(("budget", name) for name in BUDGETS),
    *(("solve", name) for name in PLAIN),
    *(("near", name, "--count", "2") for name in PLAIN),
    *(("explain", name, "--no-neighbours") for name in PLAIN),
    *(("compare", name, "--set-b", "limits.headroom_gib=12") for name in PLAIN),
    *(("pareto", name, "--over", "headroom") for name in PLAIN if "16384" not in name),
    *(("whatif", name) for name in PLAIN if name.startswith("whatif_")),
    *(("whatif", name, "--set", "limits.headroom_gib=5,15") for name in PLAIN if not name.startswith("whatif_")),
    *(("rl-lengths", name, "--lengths", "4096,8192") for name in RL),
    ("estimate", "qwen7b_rl_8gpu"),
]
A4_HEIGHT, A4_WIDTH = 1017, 688
"""Of the printed area: 269 and 182 mm at 96 pixels an inch."""
MOST_BYTES = 3_000_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    chromium = os.environ.get("PLANNER_CHROMIUM", "/usr/bin/chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield found
        found.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case[:2]))
def test_a_report_stands_in_a_browser(
    case: tuple[str, ...], browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, name, *more = case
    target = tmp_path / f"{command}_{name}.html"
    done = run(command, f"scenarios/{name}.yaml", *more, "--format", "html", "--out", str(target))
    assert done.code in (0, 1), done.err
    assert target.stat().st_size < MOST_BYTES
    kept = os.environ.get("PLANNER_SCREENSHOTS")
    page, said, asked = browser.new_page(), [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(target.as_uri())
    backgrounds = set()
    for width, scheme in ((1280, "light"), (390, "light"), (390, "dark"), (1280, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.evaluate("[...document.querySelectorAll('svg.pf')].map(s => s.getBoundingClientRect().toJSON())")
        if done.code == 0:
            assert boxes
        assert all(box["width"] > 300 and box["height"] > 60 for box in boxes)
        assert all(8 <= 11 * box["width"] / 480 <= 18 for box in boxes), "letters of figures, in pixels"
        assert page.evaluate(CONTRAST) >= 4.5
        backgrounds.add(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
        if kept:
            page.screenshot(path=f"{kept}/{command}_{name}_{width}_{scheme}.png", full_page=True)
    assert len(backgrounds) == 2, "light and dark"
    if command in ("compare", "whatif"):
        _check_sums(page.evaluate(TABLES))
    _check_print(page, target, kept)
    assert said == []
    assert asked == [target.as_uri()], "nothing but the file itself is asked for"
    page.close()


CONTRAST = """() => {
  const light = text => { const c = text.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2] }
  const paper = light(getComputedStyle(document.documentElement).backgroundColor)
  const inks = [...document.querySelectorAll('h1,h2,p,td,th,li,code')].map(e => light(getComputedStyle(e).color))
    .concat([...document.querySelectorAll('svg.pf text:not(.in)')].map(e => light(getComputedStyle(e).fill)))
  return Math.min(...inks.map(ink => (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05)))
}"""
"""Least contrast of text on the page (WCAG 2.1, 1.4.3 asks for 4.5)."""


TABLES = "[...document.querySelectorAll('table')].map(t => [...t.rows].map(r => [...r.cells].map(c => c.innerText)))"


def _check_sums(tables: list[list[list[str]]]) -> None:
    """In every ledger the printed amounts and differences of items add up to those of the totals, to rounding."""
    for header, *rows in (table for table in tables if table and table[0][0].startswith("item [")):
        *items, total = rows
        assert total[0] == "total", header
        for column in range(1, len(header)):
            printed = [row[column].replace(",", "") for row in (*items, total)]
            if "-" in printed:
                continue
            half = 0.5 * 10.0 ** -len(printed[-1].partition(".")[2])
            *amounts, whole = map(float, printed)
            assert abs(sum(amounts) - whole) <= half * (len(amounts) + 1), (header, column)


def _check_print(page: Any, target: Path, kept: str | None) -> None:
    """The summary is the first sheet and nothing else stands on it; no figure is taller than a sheet or cut."""
    page.set_viewport_size({"width": A4_WIDTH, "height": A4_HEIGHT})
    page.emulate_media(media="print", color_scheme="light")
    heights = page.evaluate(
        "[...document.querySelectorAll('.summary, figure')].map(e => [e.className, e.getBoundingClientRect().height])"
    )
    assert heights[0][0] == "summary"
    assert all(height <= A4_HEIGHT for _, height in heights)
    assert page.evaluate("getComputedStyle(document.querySelector('.summary')).breakAfter") == "page"
    figures = page.evaluate("[...document.querySelectorAll('figure')].map(e => getComputedStyle(e).breakInside)")
    assert set(figures) <= {"avoid"}
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 2
    if kept:
        Path(kept, f"{target.stem}.pdf").write_bytes(printed)
