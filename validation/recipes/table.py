"""Predictions for every recipe beside this file, and the tables of README.md: `python -m validation.recipes.table`.

With --check it says whether README.md is current (exit code 5 if not) instead of writing it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from planner.errors import InputError
from planner.inputs.document import read_document
from planner.search.estimate import estimate
from planner.search.plan import Plan, degrees, host_total_gib, verdict

FOLDER = Path(__file__).parent
BEGIN, END = "<!-- begin: table.py -->", "<!-- end -->"


@dataclass(frozen=True)
class Recipe:
    """One scenario, and what the planner says of it."""

    name: str
    script: str
    plan: Plan | None
    broken: tuple[str, ...]
    """Sentences of the rules that refuse it."""
    gpus: str

    @property
    def verdict(self) -> str:
        """As `planner estimate` says it, or `refused`."""
        return "refused" if self.plan is None else verdict(self.plan)


def known() -> dict[str, Any]:
    """What recipes.yaml says."""
    data = read_document(str(FOLDER / "recipes.yaml")).data
    assert isinstance(data, dict)
    return data


def names() -> list[str]:
    """Every recipe."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "recipes")


def predicted(name: str) -> Recipe:
    """One recipe through `planner estimate`."""
    path = FOLDER / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    header = " ".join(line.removeprefix("# ") for line in text.splitlines() if line.startswith("#"))
    script = header.split("), ", 1)[1].split(" ")[0].rstrip(".")
    document = read_document(str(path))
    data = document.data
    assert isinstance(data, dict)
    cluster = data["cluster"]
    gpus = f"{cluster['num_gpus']} x {cluster['node']}"
    try:
        return Recipe(name, script, estimate(document), (), gpus)
    except InputError as error:
        return Recipe(name, script, None, tuple(problem.render() for problem in error.problems), gpus)


def render(recipes: list[Recipe]) -> str:
    """The tables of README.md."""
    about = known()
    ceilings, exceptions = about["ceilings_gib"], about["exceptions"]
    lines = [
        "| recipe | GPUs | layout | peak / usable GiB | host GiB | verdict | default headroom | script |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for recipe in recipes:
        plan = recipe.plan
        layout = peak = host = room = "-"
        if plan is not None:
            layout = degrees(plan.layout) + (", CPU Adam" if plan.problem.scenario.layout.optimizer_offload else "")
            if plan.rollout is not None and not plan.problem.colocated:
                layout += f"; {plan.rollout.num_gpus} generate, {plan.problem.placement}"
            peak = f"{plan.peak_gib:.1f} / {plan.usable_gib:.1f}"
            if recipe.name in ceilings:
                peak += f", ceiling {ceilings[recipe.name]}"
            host = f"{host_total_gib(plan)[0]:.0f}"
            room = "kept" if plan.headroom_gib >= plan.problem.headroom_gib else "not kept"
        lines.append(
            f"| {recipe.name} | {recipe.gpus} | {layout} | {peak} | {host} | {recipe.verdict} | {room} "
            f"| `{recipe.script}` |"
        )
    lines += ["", "## Exceptions", "", "| recipe | fails | reason |", "|---|---|---|"]
    lines += [f"| {name} | {row['fails']} | {row['reason']} |" for name, row in sorted(exceptions.items())]
    lines += ["", "## Cannot be expressed", ""]
    lines += [f"- {name}: {reason}." for name, reason in about["inexpressible"].items()]
    return "\n".join(lines)


def readme(recipes: list[Recipe]) -> str:
    """README.md with current tables."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n{render(recipes)}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    current = readme([predicted(name) for name in names()])
    file = FOLDER / "README.md"
    if "--check" in sys.argv[1:]:
        sys.exit(0 if file.read_text(encoding="utf-8") == current else 5)
    file.write_text(current, encoding="utf-8")
