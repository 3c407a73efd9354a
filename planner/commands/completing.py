"""What a shell may complete: files, names of the catalog, and keys of a scenario after `--set`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def settings(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Keys of a scenario as PATH=, and behind the sign the names of the catalog, or the words that the key takes."""
    from click.shell_completion import CompletionItem

    from planner.inputs.catalog import default_catalog
    from planner.report.editor_schema import editor_schema, paths, words

    schema = editor_schema(default_catalog())
    path, sign, value = typed.partition("=")
    if not sign:
        found = paths(schema).items()
        return [CompletionItem(f"{key}=", help=text or None) for key, text in found if key.startswith(typed)]
    return [CompletionItem(f"{path}={word}") for word in words(schema, path) if word.startswith(value)]


def scenarios(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Files."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(typed, type="file")]


def kinds(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Kinds of catalog entries."""
    from planner.inputs.catalog import KINDS

    return [kind for kind in KINDS if kind.startswith(typed)]


def entries(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Ids of the kind named before."""
    return _ids(str(context.params.get("kind")), typed)


def models(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Ids of models."""
    return _ids("models", typed)


def _ids(kind: str, typed: str) -> list[str]:
    from planner.inputs.catalog import KINDS, default_catalog

    return [name for name in default_catalog().ids(kind) if name.startswith(typed)] if kind in KINDS else []
