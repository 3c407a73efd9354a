"""JSON Schemas of what `--format json` writes, by the name of the answer."""

from __future__ import annotations

from pydantic import BaseModel

from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import default_catalog
from planner.report.editor_schema import editor_schema
from planner.report.json_text import JsonObject
from planner.schema import other_answers as other
from planner.schema import question_answers as questions
from planner.schema.budget import Budget
from planner.schema.budget_answers import BudgetDocument
from planner.schema.check_answers import CheckAnswer
from planner.schema.lint_answers import LintAnswer
from planner.schema.rl_answers import RlLengthsAnswer
from planner.schema.scenario import Scenario

SHAPES: dict[str, type[BaseModel]] = {
    "scenario": Scenario,
    "budget-file": Budget,
    "solve": questions.SolveAnswer,
    "estimate": questions.EstimateAnswer,
    "estimate-rules": other.RulesAnswer,
    "whatif": questions.WhatIfAnswer,
    "compare": questions.CompareAnswer,
    "near": questions.NearAnswer,
    "pareto": questions.ParetoAnswer,
    "rl-lengths": RlLengthsAnswer,
    "explain": questions.ExplainAnswer,
    "budget": BudgetDocument,
    "catalog-list": other.CatalogListAnswer,
    "catalog-show": other.CatalogEntryAnswer,
    "catalog-import-prices": other.PriceImportAnswer,
    "validate-memory": other.ValidateMemoryAnswer,
    "validate-throughput": other.ValidateThroughputAnswer,
    "calibrate": other.CalibrateAnswer,
    "calibrate-device": other.DeviceAnswer,
    "check": CheckAnswer,
    "diagnose": other.DiagnoseAnswer,
    "lint": LintAnswer,
}
"""Files that are read, then answers, by command."""


def schema_of(name: str) -> JsonObject:
    """The JSON Schema of one of SHAPES. Raises InputError for another name."""
    if name not in SHAPES:
        raise InputError(Mistake(f"no schema of {name!r}", Place("--of"), attempt=f"one of {', '.join(SHAPES)}"))
    dialect = "https://json-schema.org/draft/2020-12/schema"
    if name == "scenario":
        return {"$schema": dialect, **editor_schema(default_catalog())}
    return {"$schema": dialect, **SHAPES[name].model_json_schema()}
