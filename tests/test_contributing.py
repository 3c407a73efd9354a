"""CONTRIBUTING.md, followed word for word: a GPU, an engine, a rule, a launcher and a question are added."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planner
import planner.launch
from planner.inputs.catalog_check import check_catalog
from planner.inputs.document import document_of
from planner.launch import registry
from planner.problem.resolve import question_of
from planner.search.space import build_space

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SCENARIO: dict[str, Any] = {
    "name": "followed",
    "task": "sft",
    "model": "qwen2.5-0.5b",
    "engine": "megatron-core",
    "precision": "bf16",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 2},
    "batch": {"sequence_length": 2048, "global_batch_size": 64},
    "layout": {"pipeline_parallel": 1, "context_parallel": 1},
    "optimizer": "adamw",
    "limits": {"headroom_gib": 4},
}


def section(title: str) -> str:
    return re.split(r"(?m)^## ", PAGE.partition(f"\n## {title}\n")[2])[0]


def files(title: str) -> dict[str, str]:
    """Files of a section by the name that stands before each."""
    return dict(re.findall(r"(?m)^`([^`]+)`:\n\n```\w+\n(.*?)^```", section(title), flags=re.S | re.M))


def code(title: str) -> dict[str, Any]:
    """What the section's code defines."""
    (text,) = re.findall(r"```python\n(.*?)```", section(title), flags=re.S)
    names: dict[str, Any] = {"__name__": "followed"}
    exec(compile(text, f"CONTRIBUTING.md, {title}", "exec", dont_inherit=True), names)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for title in ("A GPU", "An engine"):
        for name, text in files(title).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
    return tmp_path


def test_a_gpu_is_two_files(folder: Path) -> None:
    assert sorted(files("A GPU")) == ["gpus/example-gpu.yaml", "nodes/example-node.yaml"]
    scenario = SCENARIO | {"cluster": {"node": "example-node", "num_gpus": 2}}
    with pytest.raises(planner.InputError, match="unknown node type"):
        planner.solve(scenario)
    plan = planner.solve(scenario, catalog=folder).plan
    assert plan is not None
    assert plan.problem.gpu.name == "Example GPU 64 GB"
    assert plan.usable_gib == pytest.approx(62.5, abs=1)
    shipped = ROOT / "catalogs"
    wrong = [mistake.render() for mistake in check_catalog(planner.Catalog([folder, shipped]))]
    assert not [text for text in wrong if "example" in text]


def test_an_engine_is_one_file(folder: Path) -> None:
    pinned = SCENARIO | {"layout": {**SCENARIO["layout"], "recomputed_layers": "all"}}
    assert planner.solve(pinned).plan is not None
    fork = pinned | {"engine": "example-engine"}
    with pytest.raises(planner.InputError, match="unknown engine"):
        planner.solve(fork)
    assert planner.solve(fork, catalog=folder).status == "infeasible"
    plain = planner.solve(SCENARIO | {"engine": "example-engine"}, catalog=folder).plan
    assert plain is not None
    assert not any(plain.recomputed)


def test_a_rule_keeps_rows() -> None:
    rule = code("A rule")["EXAMPLE_RULE"]
    question = question_of(document_of(SCENARIO))
    layouts = build_space(question).layouts
    kept = rule.keeps(question.first, layouts)
    assert kept.shape == (len(layouts),)
    assert 0 < np.count_nonzero(kept) < len(layouts)
    assert rule.of(question.first.engine).text.endswith("a step has at most 8 micro-batches")


def test_a_launcher_is_found_by_being_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((name, text),) = files("A launcher").items()
    (tmp_path / Path(name).name).write_text(text)
    with pytest.raises(planner.InputError, match="unknown launcher"):
        registry.find("example")
    monkeypatch.setattr(planner.launch, "__path__", [*planner.launch.__path__, str(tmp_path)])
    catalog = planner.Catalog([ROOT / "catalogs"])
    written = registry.files("example", planner.solve(SCENARIO, catalog=catalog), catalog)
    assert re.fullmatch(r"TENSOR_PARALLEL=\d\nPIPELINE_PARALLEL=1\nDATA_PARALLEL=\d\n", written["example.env"])


def test_a_question_asks_again_and_is_shown(capsys: Any) -> None:
    names = code("A question")
    answer = names["halve"](document_of(SCENARIO), planner.Catalog([ROOT / "catalogs"]))
    planner.show(answer)
    printed = capsys.readouterr().out
    assert "<dict>: 3 plans" in printed
    assert "tokens/s" in printed
    assert "<h1>" in answer._repr_html_()


def test_the_lines_of_the_set_up_are_those_of_the_project() -> None:
    assert "pip install -q -e '.[dev]'" in PAGE
    assert (ROOT / "tests" / "slow").is_dir()
    assert (ROOT / "docs" / "make_pages.py").is_file()
    for name in re.findall(r"`((?:planner|docs|catalogs|tests)/[\w/.-]+?)/?`", PAGE):
        if "example" not in name:
            assert (ROOT / name).exists(), name
