"""What a program may give as a scenario or a catalog, and the document or catalog that it means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import PrivateAttr

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, document_of, override, validate
from planner.inputs.saved import load
from planner.schema.scenario import Scenario

ScenarioLike = str | os.PathLike[str] | Mapping[str, object] | Scenario | Document
"""A YAML file (`-` is standard input), its content as a dict, or what `planner.load` returned."""
CatalogLike = Catalog | str | os.PathLike[str] | None
"""None is the shipped catalogs; a folder's entries come before those shipped."""
Progress = Callable[[str], None]
"""Is told in one line what is done next."""


def silent(_: str) -> None:
    """Progress that nobody asked for."""


class _Loaded(Scenario):
    """A scenario that remembers the file and the overrides that it was made from, for messages and receipts."""

    _document: Document = PrivateAttr()

    def __repr_name__(self) -> str:
        return "Scenario"


def loaded(scenario: ScenarioLike, overrides: Mapping[str, object]) -> Scenario:
    """A checked scenario that remembers its file. Raises InputError with every mistake in it."""
    document = override(document_given(scenario), overrides)
    checked = validate(document, _Loaded)
    checked._document = document
    return checked


def document_given(scenario: ScenarioLike) -> Document:
    """The scenario with its lines, where it has any. Raises InputError for what is none, or cannot be read."""
    if isinstance(scenario, Document):
        return scenario
    if isinstance(scenario, _Loaded) and validate(scenario._document, Scenario).model_dump() == scenario.model_dump():
        return scenario._document
    if isinstance(scenario, Scenario):
        return document_of(scenario.model_dump(mode="json", exclude_unset=True), "<Scenario>")
    if isinstance(scenario, Mapping):
        return document_of(scenario)
    if isinstance(scenario, str | os.PathLike):
        return load(os.fspath(scenario))
    what = f"{type(scenario).__name__} is no scenario"
    raise InputError(Mistake(what, Place("scenario"), attempt="a path, a dict or what planner.load returned"))


def by_path(values: Mapping[str, object] | None, where: str) -> Mapping[str, object]:
    """Values by dotted path. Raises InputError for what is no mapping."""
    if values is None or isinstance(values, Mapping):
        return values or {}
    what = f"{type(values).__name__} is no mapping of values by dotted path"
    raise InputError(Mistake(what, Place(where), attempt='{"limits.headroom_gib": 10}'))


def is_number(value: object) -> bool:
    """Whether a program gave a number, and not `nan`."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def catalog_given(catalog: CatalogLike) -> Catalog:
    """The catalog, or that of the shipped folders with one before them. Raises InputError for no folder."""
    if isinstance(catalog, Catalog):
        return catalog
    if catalog is not None and not isinstance(catalog, str | os.PathLike):
        what = f"{type(catalog).__name__} is no catalog"
        raise InputError(Mistake(what, Place("catalog"), attempt="the path of a folder, or a planner.Catalog"))
    return default_catalog([] if catalog is None else [Path(catalog)])
