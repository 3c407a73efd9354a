"""The shipped catalogs for questions of strangers: no name in a scenario opens a file."""

from __future__ import annotations

import json
from copy import copy
from functools import cache
from pathlib import Path
from typing import Any

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, validate
from planner.web.state import PASTED


class ClosedCatalog(Catalog):
    """A catalog that reads nothing outside its folders, with at most one model that came along."""

    pasted: str | None = None
    """A config.json as text."""

    def find(self, kind: str, name: str, where: Place | None = None, beside: Path | None = None) -> Any:
        """The entry of that name; the model `pasted` is the config.json that came along."""
        if kind == "models" and name == PASTED and self.pasted is not None:
            from planner.inputs.hf_config import architecture_from_hf_config

            return architecture_from_hf_config(_config(self.pasted), PASTED)
        return super().find(kind, name, where)

    def _outside_model(self, name: str, where: Place | None, beside: Path | None) -> Any:
        for known in self.ids("models"):
            hf_id = self._load("models", known)[0].hf_id
            if hf_id is not None and hf_id.lower() == name.lower():
                return self.find("models", known)
        return None


def closed_catalog(config: str | None = None) -> ClosedCatalog:
    """The shipped catalogs alone, each entry read once by a process, and a pasted config.json as the model `pasted`."""
    catalog = copy(_read_once(default_catalog().folders))
    catalog.pasted = config
    return catalog


@cache
def _read_once(folders: tuple[Path, ...]) -> ClosedCatalog:
    return ClosedCatalog(folders)


def refuse_files(document: Document) -> None:
    """Raise InputError for every key of a scenario that names a file on this machine."""
    from planner.schema.scenario import Scenario

    scenario = validate(document, Scenario)
    named = {
        ("calibration",): scenario.calibration,
        ("cluster", "topology"): scenario.cluster.topology,
        ("cluster", "nccl_tests"): scenario.cluster.nccl_tests,
    }
    mistakes = [
        Mistake(
            f"{'.'.join(path)} names a file, and this page reads none", document.place(path), attempt="planner solve"
        )
        for path, value in named.items()
        if value
    ]
    if mistakes:
        raise InputError(mistakes)


def _config(text: str) -> dict[str, Any]:
    place = Place("config.json")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(Mistake("the pasted config.json is no JSON", place, str(error))) from None
    if not isinstance(data, dict):
        raise InputError(Mistake("the pasted config.json is no JSON object", place))
    return data
