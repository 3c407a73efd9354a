"""A wrong command line in the form of every other error, and what was probably meant."""

from __future__ import annotations

import click

from planner.errors import shown


def usage_text(error: click.ClickException) -> str:
    """What is wrong with a command line, and what to type instead."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # click 8.2 and later
        return error.format_message()
    message = "\n".join(shown(line) for line in error.format_message().rstrip(".").split("\n"))
    meant = _meant(error, context) if context is not None else ""
    command = context.command_path if context is not None else "planner"
    attempt = f"{meant}, or {command} --help" if meant else f"{command} --help"
    return f"Error: {message[:1].lower() + message[1:]}\n  where:   the command line\n  try:     {attempt}"


def _meant(error: click.ClickException, context: click.Context) -> str:
    """What to type instead; empty where nothing can be said."""
    command = context.command
    sets = next((name for each in command.params for name in each.opts if name in ("--set", "--set-b")), "")
    if isinstance(error, click.NoSuchOption):
        if sets and error.option_name == "--set":
            return f"{sets} PATH=VALUE"
        found = _settings(error.option_name.lstrip("-")) if sets else []
        return " or ".join(shown(f"{sets} {path}=VALUE") for path in found[:3])
    if isinstance(error, click.MissingParameter):
        return (command.epilog or "").removeprefix("Example: ")
    arguments = context.find_root().meta.get("planner.typed", ())
    alone = [each for each in arguments if "=" in each and not each.startswith("-") and each in error.message]
    if sets and "extra argument" in error.message and alone:
        return shown(" ".join(f"{sets} {each}" for each in alone))
    return ""


def _settings(name: str) -> list[str]:
    """Paths of a scenario that an option of this name may mean: `headroom-gib` is `limits.headroom_gib`."""
    from planner.inputs.messages import paths_to
    from planner.schema.scenario import Scenario

    path = name.partition("=")[0].replace("-", "_")
    return [each for each in paths_to(Scenario, path.rpartition(".")[2]) if f".{each}".endswith(f".{path}")]
