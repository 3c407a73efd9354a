"""A real browser on a real server: `python -m pytest -m browser`, with playwright and axe-playwright-python installed.

The browser is Debian's chromium, or what PLANNER_CHROMIUM names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

PATIENCE_MS = 240_000
"""How long a test waits for what must come, on a busy machine too; benchmarks/web_load.py looks at clocks."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    command = [sys.executable, "-m", "planner", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
        assert serving.stdout is not None
        found = serving.stdout.readline().strip()
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{found}healthz", timeout=1)
                break
            except urllib.error.URLError:
                continue
        yield found
        serving.terminate()


@pytest.fixture(scope="session")
def opened_browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        path = os.environ.get("PLANNER_CHROMIUM", "/usr/bin/chromium")
        found = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield found
        found.close()


@dataclass
class Seen:
    """A page, what its console said, and what it asked for outside."""

    page: Page
    address: str
    console: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    actions: int = 0

    def open(self, path: str) -> None:
        self.page.goto(self.address + path)
        self.wait()

    def wait(self) -> None:
        """Until the answer that was asked for stands."""
        self.page.wait_for_selector(".htmx-request", state="detached", timeout=PATIENCE_MS)
        self.page.wait_for_selector("#answer h1", timeout=PATIENCE_MS)

    def settle(self) -> None:
        """Until what follows an answer by itself stands too: near ties, or what contradicts what."""
        self.page.wait_for_timeout(700)
        self.page.wait_for_selector(".htmx-request", state="detached", timeout=PATIENCE_MS)

    def act(self, name: str, selector: str, *arguments: Any) -> None:
        """One thing that a person does; counted."""
        self.actions += 1
        getattr(self.page, name)(selector, *arguments)

    @property
    def answer(self) -> str:
        self.page.wait_for_timeout(300)
        self.wait()
        return self.page.inner_text("#answer")


@pytest.fixture
def seen(opened_browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Seen]:
    width, scheme = getattr(request, "param", (1280, "light"))
    context = opened_browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    found = Seen(page, address)

    def ask(asked: Request) -> None:
        if not asked.url.startswith((address, "data:", "blob:")):
            found.outside.append(asked.url)

    page.on("request", ask)
    page.on("console", lambda message: found.console.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.console.append(str(error)))
    yield found
    assert not found.console
    assert not found.outside
    context.close()
