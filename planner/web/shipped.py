"""Scenarios that come with planner, and a scenario as the YAML that a file would hold."""

from __future__ import annotations

import io
from pathlib import Path

from planner.inputs.catalog import shipped_folder
from planner.inputs.document import Document


def scenario_folder() -> Path:
    """Where the shipped scenarios stand."""
    return shipped_folder().parent / "scenarios"


def scenario_text(document: Document) -> str:
    """A scenario with its changes as YAML."""
    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel annotates only its None
    yaml.dump(document.data, out)
    return out.getvalue()
