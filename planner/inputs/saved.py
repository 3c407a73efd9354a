"""Answers saved with --format json, given back where a scenario is wanted: the question that they answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel, ConfigDict, Field

from planner.errors import InputError, Mistake, Place
from planner.inputs.document import Document, document_of, read_document, validate, with_overrides
from planner.inputs.files import beginning
from planner.inputs.json_document import read_json


class _Part(BaseModel):
    """Part of a saved answer; what is not needed is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SavedInput(_Part):
    """What was read."""

    file: str
    sha256: str
    overrides: list[str]


class SavedInputs(_Part):
    """The receipts of a saved answer."""

    inputs: list[SavedInput] = Field(min_length=1)


class SavedScenario(_Part):
    """What was asked."""

    scenario: dict[str, object]


class SavedQuestion(_Part):
    """A saved answer, as far as its question is read."""

    asked: SavedScenario
    provenance: SavedInputs


COMMANDS = ("solve", "estimate")
"""Whose answers hold a plan and the scenario that was asked."""


def looks_like_json(path: str) -> bool:
    """True for a file whose first character opens a JSON object; YAML scenarios start with a comment or a key."""
    return beginning(path, 64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def saved_answer(path: str) -> Document | None:
    """A saved answer as a document; None for a file that is none, so that it may be a scenario written as JSON."""
    if path == "-" or not looks_like_json(path):
        return None
    document = read_json(path)
    return document if "schema_version" in document.data else None


def question_asked(answer: Document) -> Document:
    """The scenario that a saved answer answered, as it was asked. Raises InputError where the file does not hold it."""
    command = answer.data.get("command")
    if command not in COMMANDS or "asked" not in answer.data:
        answered = f"it is an answer of planner {command}" if command else "it does not say what it answers"
        because = f"{answered}; those of {' and '.join(COMMANDS)} can be fed back"
        attempt = "planner solve SCENARIO --format json --out plan.json"
        raise InputError(Mistake(f"{answer.name} holds no question", Place(answer.name), because, attempt))
    saved = validate(answer, SavedQuestion)
    read = saved.provenance.inputs[0]
    document = document_of(saved.asked.scenario, read.file)
    file = answer.name if document.name in UNSAVED else document.name
    return replace(document, name=file, sha256=read.sha256, overrides=tuple(read.overrides))


def load(path: str, overrides: Sequence[str] = ()) -> Document:
    """A scenario file, or the question of a saved answer, with `--set` overrides applied.

    Raises InputError for a file that cannot be read or an override that has no place.
    """
    answer = saved_answer(path)
    return with_overrides(read_document(path) if answer is None else question_asked(answer), overrides)


UNSAVED = ("ask", "<stdin>", "<dict>", "<Scenario>")
"""Names of questions that stand in no file: the saved answer stands for them."""
