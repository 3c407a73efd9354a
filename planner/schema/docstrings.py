"""What stands under each field of a record, read from its source when it is asked for: few commands ask."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache

from pydantic import BaseModel


def field_docstrings(record: type) -> dict[str, str]:
    """Docstrings of a record's fields by name, those of its bases where it does not say them again."""
    found: dict[str, str | None] = {}
    for each in reversed(record.__mro__):
        if each is BaseModel or not issubclass(each, BaseModel):
            continue
        found |= _of_module(each.__module__).get(each.__name__, {})
    return {name: text for name, text in found.items() if text is not None}


@cache
def _of_module(name: str) -> dict[str, dict[str, str | None]]:
    """By class and field; None for a field with nothing under it. Empty for a module without source."""
    try:
        source = inspect.getsource(sys.modules[name])
    except OSError:
        return {}
    return {part.name: _of_class(part) for part in ast.parse(source).body if isinstance(part, ast.ClassDef)}


def _of_class(part: ast.ClassDef) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for field, after in zip(part.body, [*part.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = after.value if isinstance(after, ast.Expr) else None
            text = said.value if isinstance(said, ast.Constant) else None
            found[field.target.id] = inspect.cleandoc(text) if isinstance(text, str) else None
    return found
