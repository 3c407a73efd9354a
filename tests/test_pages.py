"""Pages made from the code: docs/api.md is what the docstrings say, and what both pages show runs."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
AGAIN = "run: python docs/make_pages.py"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", DOCS / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_api_page_is_what_the_docstrings_say(maker: ModuleType) -> None:
    assert maker.page() == (DOCS / "api.md").read_text(encoding="utf-8"), AGAIN


def test_the_memory_page_says_what_engine_files_say(maker: ModuleType) -> None:
    text = (DOCS / "memory.md").read_text(encoding="utf-8")
    assert maker.memory_page(text) == text, AGAIN


def test_api_page_shows_every_function_at_work(maker: ModuleType) -> None:
    text = maker.page()
    import planner

    for name in planner.__all__:
        member = getattr(planner, name)
        if callable(member) and not isinstance(member, type):
            assert f"planner.{name}(" in text, name


def test_examples_of_the_api_page_run() -> None:
    options = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    text = (DOCS / "api.md").read_text(encoding="utf-8").replace("```", "")
    examples = doctest.DocTestParser().get_doctest(text, {}, "api.md", "api.md", 0)
    assert len(examples.examples) > 20
    said: list[str] = []
    failed = doctest.DocTestRunner(optionflags=options).run(examples, out=said.append).failed
    assert not failed, "".join(said)


def masked(lines: list[str]) -> str:
    """Text without its numbers, which move with the model."""
    return re.sub(r"[+-]?\d[\d.,]*", "#", "".join(lines))


def test_the_example_notebook_runs_and_shows_what_it_says(maker: ModuleType) -> None:
    notebook = json.loads((DOCS / "example.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for saved, run in zip(notebook["cells"], maker.run_notebook(notebook)["cells"], strict=True):
        outputs: list[tuple[Any, Any]] = list(zip(saved.get("outputs", []), run.get("outputs", []), strict=True))
        for old, new in outputs:
            assert old["output_type"] == new["output_type"], AGAIN
            if old["output_type"] == "stream":
                assert masked(old["text"]) == masked(new["text"]), AGAIN
            else:
                assert masked(old["data"]["text/plain"]) == masked(new["data"]["text/plain"]), AGAIN
                assert "".join(new["data"]["text/html"]).startswith("<style>")


def test_the_example_notebook_is_small_and_of_no_machine() -> None:
    text = (DOCS / "example.ipynb").read_text(encoding="utf-8")
    assert len(text) < 40_000
    assert not re.search(r"(?<![\w.<])/(?:work|home|root|opt|tmp|Users)/\w+", text)
    assert text.count('"output_type"') >= 4
