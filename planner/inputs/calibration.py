"""The file of factors that a scenario names: read, and written."""

from __future__ import annotations

import json
from pathlib import Path

from planner.inputs.document import named_in, read_document, validate
from planner.schema.calibration import Calibration, Factor


def load_calibration(scenario_file: str, name: str | None) -> tuple[Calibration | None, list[tuple[str, str]]]:
    """The calibration that a scenario names, found relative to its file, and (name, sha256) for the provenance.

    Raises InputError where the file is missing or wrong.
    """
    if name is None:
        return None, []
    folder = Path(scenario_file).parent
    with named_in(folder, folder / name):
        document = read_document(folder / name)
        return validate(document, Calibration), [(name, document.sha256)]


def overlay_text(calibration: Calibration) -> str:
    """The calibration as YAML that `load_calibration` reads back."""
    lines = ["# Factors fitted to one run by `planner calibrate`; a scenario names this file in calibration:."]
    lines += [f"{key}: {_quoted(getattr(calibration, key))}" for key in ("name", "source", "date")]
    lines += [f"lines: {calibration.lines}", f"other_seconds: {calibration.other_seconds:.6g}"]
    lines += [f"memory: {_factor(calibration.memory)}"] if calibration.memory is not None else []
    lines += ["phases:" if calibration.phases else "phases: {}"]
    lines += [f"  {phase}: {_factor(factor)}" for phase, factor in calibration.phases.items()]
    return "\n".join(lines) + "\n"


def _factor(factor: Factor) -> str:
    values = (("factor", factor.factor), ("measured", factor.measured), ("predicted", factor.predicted))
    return "{" + ", ".join([*(f"{name}: {value:.9g}" for name, value in values), f"lines: {factor.lines}"]) + "}"


def _quoted(text: str) -> str:
    return json.dumps(text)
