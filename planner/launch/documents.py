"""Settings as YAML and JSON documents, and as options of a command line, each with the plan that they are of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Literal

from planner.launch.keyed import nested, written, yaml_lines
from planner.launch.said import Setting
from planner.launch.script import Array, Script, header, render
from planner.search.search import Outcome


def yaml_document(outcome: Outcome, engine: str, values: Mapping[str, Setting], remarks: Sequence[str] = ()) -> str:
    """Dotted keys as block YAML under a header of comments."""
    lines = header(_speaks(outcome), f"the keys of {engine}", remarks, outcome)
    return "\n".join([*lines, "", *yaml_lines(nested(values))]) + "\n"


def json_document(values: Mapping[str, Setting]) -> str:
    """Dotted keys as indented JSON, which holds no comments."""
    return json.dumps(nested(values), indent=2) + "\n"


def script(
    outcome: Outcome,
    engine: str,
    values: Mapping[str, Setting],
    run: Sequence[str],
    remarks: Sequence[str] = (),
    *,
    assigned: bool = False,
    last: Sequence[str] = (),
    switches: Literal["alone", "word", "negated"] = "alone",
) -> str:
    """A bash script whose PLAN_ARGS are the settings: `name=value` words, or options and their values.

    switches: true options stand alone and false ones are left out (argparse); or both are followed by their word; or
    false ones stand alone under a name with `no-` (tyro). last: words after all options.
    """
    flags: list[tuple[str, str | tuple[str, ...] | None]] = []
    for name, value in values.items():
        alone = isinstance(value, bool) and switches != "word" and not assigned
        if alone and not value:
            if switches == "alone":
                continue
            path, dot, last_part = name.rpartition(".")
            name = f"{path}{dot}no-{last_part}"
        if isinstance(value, list) and not assigned:
            flags.append((name, tuple(str(item) for item in value)))
        else:
            flags.append((name, None if alone else written(value)))
    flags += [(word, None) for word in last]
    return render(
        Script(
            speaks=_speaks(outcome),
            checked_against=f"the keys of {engine}",
            exports=(),
            variables=(),
            arrays=(Array("SETTINGS", tuple(flags), assigned=assigned),),
            remarks=tuple(remarks),
            run=tuple(run),
        ),
        outcome,
    )


def _speaks(outcome: Outcome) -> str:
    engine = outcome.question.first.engine
    return f"{engine.name}, {engine.version}"
