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
    """Shipped scenarios once `example:` has begun, and files."""
    from click.shell_completion import CompletionItem

    from planner.inputs.examples import EXAMPLE, examples

    shipped = [f"{EXAMPLE}{name}" for name in examples()] if typed else []
    found = [CompletionItem(name) for name in shipped if name.startswith(typed)]
    return [*found, CompletionItem(typed, type="file")]


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


def model_or_file(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Ids of models, and files: a config.json."""
    from click.shell_completion import CompletionItem

    return [*map(CompletionItem, _ids("models", typed)), CompletionItem(typed, type="file")]


def counted_gpus(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Ids of GPUs behind the number that has been typed: `8xh1` becomes `8xh100-sxm5-80gb`."""
    from planner.inputs.asked import counted

    count = typed[: len(typed) - len(counted(typed)[1])]
    return [f"{count}{name}" for name in _ids("gpus", typed[len(count) :].lower())]


def engines(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Ids of training engines and RL stacks."""
    return _ids("engines", typed)


def launch_names(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Whose settings a plan can be written as."""
    from planner.launch.registry import launchers

    return [name for name in sorted(launchers()) if name.startswith(typed)]


def _ids(kind: str, typed: str) -> list[str]:
    from planner.inputs.catalog import KINDS, default_catalog

    return [name for name in default_catalog().ids(kind) if name.startswith(typed)] if kind in KINDS else []
