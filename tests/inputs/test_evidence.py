"""Numbers of engine files that come from measurements say so, and rest on runs that differ in what they multiply."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from planner.inputs.catalog import default_catalog
from planner.schema.engine import Engine, Tensor
from planner.schema.evidence import Fitted, found_fitted
from planner.validation.memory.cases import Case, load_cases
from planner.validation.memory.constants import fitted_numbers

CATALOG = default_catalog()
ENGINES = CATALOG.ids("engines")
LOGITS = ("vocab", "fused_head_chunk")
MEASURED = re.compile(
    r"\b(assum|inferred|fitted|slope|intercept|chosen (on|among|after)|not scored|guess|leaves for it|read off)\w*"
)
"""Words in a source that tell of a measurement or of none: they need `fitted:` or `assumed:`."""
CODE = re.compile(
    r"[\w/]+\.(py|cpp|cu|h|rst)\b|arXiv:\d|\bPR \d|autograd|SimuMax leaf rules|same (file|place|lines)|"
    r"[a-z]+[A-Z][a-z]+\w*"
)
"""What a source that was read in code names: a file, a paper, a change, a count, a class."""
LISTS = (
    "saved",
    "saved_by_adapter",
    "stub",
    "left_behind",
    "embedded",
    "backward",
    "loss",
    "held",
    "log_prob",
    "cached",
)


def data_of(engine: str) -> Mapping[str, Any]:
    data: Mapping[str, Any] = CATALOG.document("engines", engine).data
    return data


def tensors(data: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(list, tensor) everywhere in an engine's data."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            if key in LISTS and isinstance(inner, list):
                yield from ((key, tensor) for tensor in inner)
            else:
                yield from tensors(inner)


def logits(data: Any, option: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(its source and that of the option that sets it, tensor) of everything as wide as the vocabulary."""
    if isinstance(data, Mapping):
        for key, inner in data.items():
            if key in LISTS and isinstance(inner, list):
                yield from ((f"{t['source']} {option}", t) for t in inner if t["width"] in LOGITS)
            else:
                yield from logits(inner, str(data.get("source", "")) if key == "set" else option)


def reserves(data: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        reserve = data.get("reserve")
        if isinstance(reserve, Mapping) and "median" in reserve:
            yield reserve
        for inner in data.values():
            yield from reserves(inner)


def enough(holder: Mapping[str, Any], fitted: Fitted) -> bool:
    """The rule: two vocabularies under a logit, two depths or widths under a layer's tensor."""
    if holder["width"] in LOGITS:
        return len(fitted.vocabularies) >= 2
    return max(len(fitted.depths), len(fitted.widths)) >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_fitted_bytes_rest_on_runs_that_differ_or_are_assumed(engine: str) -> None:
    for _, tensor in tensors(data_of(engine)):
        for said in (tensor.get("fitted") or {}).values():
            fitted = Fitted.model_validate(said)
            assert tensor.get("assumed") or enough(tensor, fitted), f"{engine}: {tensor['name']}: {tensor['source']}"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_source_measured_or_took_for_granted_is_marked(engine: str) -> None:
    for where, tensor in tensors(data_of(engine)):
        marked = tensor.get("assumed") or tensor.get("fitted")
        assert marked or not MEASURED.search(tensor["source"]), f"{engine}: {where}: {tensor['source']}"


@pytest.mark.parametrize("engine", ENGINES)
def test_bytes_a_logit_name_the_code_that_they_were_read_in_or_are_marked(engine: str) -> None:
    """A number that came from runs names no file, so that it must say what it was fitted on."""
    for said, tensor in logits(data_of(engine)):
        assert tensor.get("assumed") or tensor.get("fitted") or CODE.search(said), f"{engine}: {tensor['source']}"


@pytest.mark.parametrize("engine", ENGINES)
def test_reserves_are_fitted_on_two_networks_or_assumed(engine: str) -> None:
    found = list(reserves(data_of(engine)))
    assert found
    for reserve in found:
        said = (reserve.get("fitted") or {}).get("median")
        fitted = None if said is None else Fitted.model_validate(said)
        two = fitted is not None and max(map(len, (fitted.models, fitted.depths, fitted.widths))) >= 2
        assert two or reserve.get("assumed"), f"{engine}: {reserve['source']}"


def test_named_vocabularies_depths_widths_and_networks_are_those_of_the_rows() -> None:
    """Where the runs are among the rows, the file claims nothing that they do not have."""
    cases = load_cases(Path(__file__).resolve().parents[2] / "validation" / "data")
    by_source: dict[str, list[Case]] = {}
    for case in cases:
        by_source.setdefault(case.source, []).append(case)
    checked = 0
    for engine in ENGINES:
        for path, fitted, _ in found_fitted(data_of(engine)):
            rows = [case for source in fitted.sources for case in by_source.get(source, [])]
            if not rows:
                continue
            checked += 1
            where = f"{engine}: {path}"
            assert set(fitted.vocabularies) <= {case.arch["vocab_size"] for case in rows}, where
            assert set(fitted.depths) <= {case.arch["num_hidden_layers"] for case in rows}, where
            assert set(fitted.widths) <= {case.arch["hidden_size"] for case in rows}, where
            assert set(fitted.models) <= {case.model for case in rows}, where
    assert checked > 20


def test_the_rules_catch_what_they_forbid() -> None:
    one = Fitted(sources=["x"], text="x", vocabularies=[32000], depths=[32])
    assert not enough({"width": "vocab"}, one)
    assert not enough({"width": "hidden"}, one)
    assert enough({"width": "vocab"}, one.model_copy(update={"vocabularies": [32000, 128256]}))
    assert MEASURED.search("slope of a sweep")
    assert not CODE.search("what fms-acceleration's runs take, 17 B")
    assert CODE.search("transformers loss_utils.py upcasts the logits")
    assert MEASURED.search("assumed")
    assert not MEASURED.search("input of the down-projection")
    with pytest.raises(ValidationError, match="no field bites here"):
        Tensor(name="x", width="vocab", bytes=4, source="x", fitted={"bites": one})


def test_fields_called_assumed_exist() -> None:
    for engine in CATALOG.all("engines"):
        assert isinstance(engine, Engine)
        assert set(engine.states.assumed) <= set(type(engine.states).model_fields)


def test_the_memory_page_has_every_engine_and_every_fitted_number() -> None:
    """What was fitted stands in the row of the file that states it, with its value and its sources."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "memory.md").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert set(rows) == set(ENGINES)
    numbers = fitted_numbers(CATALOG)
    assert len(numbers) > 15
    for number in numbers:
        assert number.fitted.text in rows[number.owner], number.name
        assert all(source in rows[number.owner] for source in number.fitted.sources), number.name
        if number.assumed:
            assert rows[number.owner].rstrip(" |").rsplit(" | ", 1)[-1], number.name
