"""A launch fragment: bash arrays of flags, each checked against the engine's own option tables before it is written."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from planner.errors import InputError, InternalError, Mistake, visible
from planner.inputs.catalog import Catalog
from planner.search.decisions import hardware_rows
from planner.search.plan import Plan
from planner.search.search import Outcome

WIDTH = 110
STATED = ("unbalanced_routing", "variable_lengths", "padded_batches")
"""Engine options that state what the routing or the data are, which no setting of an engine chooses."""


class Shell(str):
    """A value that the shell works out."""


Flag = tuple[str, str | tuple[str, ...] | None]
"""(option, value or values); None for a switch."""
Table = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Array:
    """One bash array of flags."""

    name: str
    flags: tuple[Flag, ...]
    assigned: bool = False
    """Written as name=value (Hydra), not as an option and its value."""


@dataclass(frozen=True)
class Script:
    """A whole fragment before it is text."""

    speaks: str
    """Engine and version whose flags these are."""
    checked_against: str
    exports: tuple[tuple[str, str], ...]
    variables: tuple[tuple[str, int | tuple[int, ...]], ...]
    arrays: tuple[Array, ...]
    remarks: tuple[str, ...]
    """What a person must know or add."""
    run: tuple[str, ...]
    """Lines that start the run, where the file is executed and not sourced."""


def flag_table(catalog: Catalog, file: str) -> tuple[str, Table]:
    """(engine, options) of a table in catalogs/flags."""
    table = catalog.flags(file)
    return table.engine, table.flags


def check_flags(arrays: Sequence[Array], tables: Sequence[Table]) -> None:
    """Raise InternalError for an option, or a value, that the engine's tables do not know."""
    for array in arrays:
        seen: set[str] = set()
        for option, value in array.flags:
            entry = next((table[option] for table in tables if option in table), None)
            if entry is None:
                raise InternalError(f"{option} is not among the options of this engine")
            if option in seen:
                raise InternalError(f"{option} is written twice")
            seen.add(option)
            if (entry.get("nargs") == 0) != (value is None):
                raise InternalError(f"{option} takes {'no value' if value is not None else 'a value'}")
            if isinstance(value, tuple) and (entry.get("nargs") not in ("+", "*") or not value):
                raise InternalError(f"{option} does not take {len(value)} values")
            words = value if isinstance(value, tuple) else () if value is None else (value,)
            if not all(isinstance(word, Shell) or _is_a(word, entry) for word in words):
                raise InternalError(f"{option} does not take {value!r}")


def without_defaults(arrays: Sequence[Array], tables: Sequence[Table]) -> tuple[Array, ...]:
    """The arrays less the flags that say what the engine does anyway, and less what is empty then."""

    def said(option: str, value: str | tuple[str, ...] | None) -> bool:
        entry = next((table[option] for table in tables if option in table), {})
        default = entry.get("default")
        if default is None or value is None or isinstance(value, (tuple, Shell)):
            return True
        if entry.get("type") in ("int", "float"):
            return float(value) != float(default)
        return value != str(default)

    kept = (Array(a.name, tuple(flag for flag in a.flags if said(*flag))) for a in arrays)
    return tuple(array for array in kept if array.flags)


def _is_a(value: str, entry: Mapping[str, Any]) -> bool:
    choices = entry.get("choices")
    if choices and value not in choices:
        return False
    try:
        if entry.get("type") == "int":
            int(value)
        elif entry.get("type") == "float":
            float(value)
    except ValueError:
        return False
    return True


def _shell_value(value: int | tuple[int, ...]) -> str:
    return f"({' '.join(map(str, value))})" if isinstance(value, tuple) else str(value)


def render(script: Script, outcome: Outcome) -> str:
    """The fragment as text."""
    lines = ["# shellcheck shell=bash disable=SC2034"]
    lines += [*header(script.speaks, script.checked_against, script.remarks, outcome), ""]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in script.exports]
    lines += [f"{name}={_shell_value(value)}" for name, value in script.variables]
    lines.append("")
    for array in script.arrays:
        lines.append(f"{array.name}=(")
        for option, value in array.flags:
            words = value if isinstance(value, tuple) else () if value is None else (value,)
            said = [w if isinstance(w, Shell) else shlex.quote(w) for w in words]
            if array.assigned:
                said, option = [], shlex.quote(f"{option}={''.join(words)}")
            lines.append("  " + " ".join([option, *said]))
        lines += [")", ""]
    lines.append("PLAN_ARGS=(" + " ".join(f'"${{{array.name}[@]}}"' for array in script.arrays) + ")")
    lines += ["", "# Sourced, the file only sets the arrays; executed, it starts the run with further arguments."]
    lines += ['if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then', "  set -euo pipefail"]
    lines += [f"  {line}" for line in script.run]
    lines.append("fi")
    return "\n".join(lines) + "\n"


def header(speaks: str, checked_against: str, remarks: Sequence[str], outcome: Outcome) -> list[str]:
    """Comment lines that say whose settings these are, of which plan, and what is left open."""
    from importlib.metadata import version

    from planner.search.plan import spare, verdict
    from planner.search.search import how_proved

    plan, proof, document = outcome.plan, outcome.proof, outcome.question.document
    assert plan is not None
    proved = how_proved(outcome)
    machines = ", ".join(text for name, text in hardware_rows(plan) if name.startswith("hardware"))
    paragraphs = [
        f"Settings for {speaks}, checked against {checked_against}.",
        f"Written by planner {version('planner')} from scenario {outcome.question.name} ({document.name}), "
        f"sha256 {document.sha256}",
        *(f"--set {argument}" for argument in document.overrides),
        f"Plan: {proved} among {proof.candidates:,} candidates; {machines}; peak {plan.peak_gib:.1f} of "
        f"{plan.usable_gib:.1f} GiB usable, {verdict(plan)}: {spare(plan)}; "
        f"step {plan.step_seconds:.2f} s (not validated).",
        "Defaults of the engine are left out where the plan keeps them. Data, tokenizer, learning rate, checkpoints "
        "and logging are yours to add as arguments.",
        *(f"The plan counts {name}, which no setting says." for name in STATED if name in plan.named.engine_options),
        *remarks,
    ]
    return [f"# {line}" for text in paragraphs for line in _wrapped(text)]


def _wrapped(text: str) -> list[str]:
    # Names of files may hold line ends, which would leave the comment.
    plain = " ".join(text.split())
    return textwrap.wrap(visible(plain), WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def refuse(plan: Plan, what: str, because: str, attempt: str, *path: str | int) -> InputError:
    """An error about something that the engine's flags cannot say."""
    return InputError(Mistake(what, plan.problem.place(*path), because, attempt))
