"""`planner completion`: the lines that teach a shell to complete this command."""

from __future__ import annotations

import click

from planner.commands.common import emit
from planner.commands.shells import SHELLS, script


@click.command(epilog="Example: planner completion bash")
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the completion script of SHELL: commands, options, catalog ids, and scenario keys after --set.

    bash (4.4 or later): eval "$(planner completion bash)" in ~/.bashrc; zsh: the same with zsh in ~/.zshrc;
    fish: planner completion fish > ~/.config/fish/completions/planner.fish
    """
    emit(script(shell))
