"""How bash, zsh and fish ask for completions, and what they are answered."""

from __future__ import annotations

import os
from typing import ClassVar

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete, add_completion_class, get_completion_class
from click.shell_completion import split_arg_string as words_of

VARIABLE = "_PLANNER_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' item kind value
    COMPREPLY=()
    for item in $(PLANNER_LINE="${COMP_LINE:0:$COMP_POINT}" %(complete_var)s=bash_complete "$1"); do
        kind="${item%%%%,*}"
        value="${item#*,}"
        case "$kind" in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                [[ "$value" == *= ]] && compopt -o nospace
                ;;
        esac
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""
ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local -a answer keys plain shown
    local kind value help
    answer=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete $words[1])}")
    for kind value help in "${answer[@]}"; do
        case $kind in
            dir) _files -/ ;;
            file) _files ;;
            plain)
                if [[ $value == *= ]]; then
                    keys+=("$value")
                else
                    plain+=("$value")
                    shown+=("$value${${help:#_}:+  $help}")
                fi
                ;;
        esac
    done
    (( $#keys )) && compadd -V keys -S '' -a keys
    (( $#plain )) && compadd -V plain -d shown -a plain
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""


class ZshAnswers(ZshComplete):
    """Puts no space behind a key that waits for its value."""

    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = ZSH

    def format_completion(self, item: CompletionItem) -> str:
        """Three lines: kind, value and help."""
        help_text = " ".join((item.help or "_").split())
        return f"{item.type}\n{item.value}\n{help_text}"


class BashAnswers(BashComplete):
    """Reads the line itself, because bash breaks words at `=`, and gives back only what stands behind it."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = BASH

    @staticmethod
    def _check_version() -> None:
        """The script says of itself what it needs: bash 4.4."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Words before the one that is typed, and that word."""
        line = os.environ.get("PLANNER_LINE", "")
        words = words_of(line)[1:]
        if not words or line[-1:].isspace():
            return words, ""
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """`plain,VALUE`, without what bash keeps of the word."""
        _, typed = self.get_completion_args()
        kept = max(typed.rfind("="), typed.rfind(":")) + 1
        return f"{item.type},{str(item.value)[kept:]}"


def script(shell: str) -> str:
    """The lines that a shell reads once at its start."""
    _register()
    found = get_completion_class(shell)
    assert found is not None
    return found(click.Group(), {}, "planner", VARIABLE).source()


def answer(cli: click.Group, instruction: str) -> int:
    """Answer a shell's question on stdout; 1 for an instruction that is none."""
    _register()
    shell, _, what = instruction.partition("_")
    found = get_completion_class(shell)
    if found is None or what != "complete":
        return 1
    click.echo(found(cli, {"auto_envvar_prefix": "PLANNER"}, "planner", VARIABLE).complete())
    return 0


def _register() -> None:
    add_completion_class(BashAnswers)
    add_completion_class(ZshAnswers)
