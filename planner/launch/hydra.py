"""Scripts of engines whose settings are name=value words (Hydra, OmegaConf)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from planner.launch.keyed import written
from planner.launch.script import Array, Script, render
from planner.search.search import Outcome


def assignments(
    outcome: Outcome, engine: str, values: Mapping[str, Any], run: Sequence[str], remarks: Sequence[str]
) -> str:
    """A bash script whose PLAN_ARGS are the settings as name=value words."""
    plan = outcome.plan
    assert plan is not None
    array = Array("SETTINGS", tuple((name, written(value)) for name, value in values.items()), assigned=True)
    script = Script(
        speaks=f"{plan.problem.engine.name}, {plan.problem.engine.version}",
        checked_against=f"the keys of {engine}",
        exports=(),
        variables=(),
        arrays=(array,),
        remarks=tuple(remarks),
        run=tuple(run),
    )
    return render(script, outcome)
