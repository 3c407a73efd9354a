"""The scenario that a view starts from, as text: shipped, made of a few words, or somebody's own."""

from __future__ import annotations

import io

from planner.errors import InputError, Place
from planner.inputs.asked import Wanted, template
from planner.inputs.document import MAX_BYTES, Document
from planner.inputs.examples import EXAMPLE, examples, file_of, missing
from planner.inputs.files import read_bytes
from planner.web.closed_catalog import ClosedCatalog
from planner.web.state import State

BUDGET = "budget_"
"""How shipped files begin that ask for offers instead of a layout."""


FIRST_BUDGET = "budget_two_jobs"
"""The one that the page opens with."""


def scenarios() -> list[str]:
    """Shipped scenarios that ask for a layout."""
    return [name for name in examples() if not name.startswith(BUDGET)]


def budgets() -> list[str]:
    """Shipped files that ask for the cheapest offers."""
    return [name for name in examples() if name.startswith(BUDGET)]


def base(state: State, catalog: ClosedCatalog) -> tuple[str, str]:
    """(name, YAML) of the scenario before its changes. Raises InputError for one that does not exist."""
    if state.text is not None:
        return "scenario.yaml", state.text
    if state.task is not None:
        return "scenario.yaml", template(Wanted(state.model, state.gpus, state.task), catalog).text
    name = f"{EXAMPLE}{state.example}"
    if state.example not in examples():
        raise InputError(missing(name, Place("?example=")))
    return name, read_bytes(file_of(name), most_bytes=MAX_BYTES).decode()


def scenario_text(document: Document) -> str:
    """A scenario with its changes as YAML."""
    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel annotates only its None
    yaml.dump(document.data, out)
    return out.getvalue()
