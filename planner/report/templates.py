"""What one may start from, as blocks: shipped scenarios, and templates by task and engine."""

from __future__ import annotations

from planner.inputs.asked import ENGINES, TASKS, templates
from planner.inputs.catalog import Catalog
from planner.inputs.examples import EXAMPLE, examples, examples_folder
from planner.report.blocks import Block, Command, Grid, Heading, Headline, pairs


def template_blocks(catalog: Catalog) -> list[Block]:
    """The shipped scenarios with what they ask, and the engines of each task."""
    rows = tuple((f"{EXAMPLE}{name}", _asks(name)) for name in examples())
    by_task = []
    for task in TASKS:
        engines = [engine for each, engine in templates(catalog) if each == task]
        by_task.append((task, f"{', '.join(engines)} ({' or '.join(dict.fromkeys(ENGINES[task]))} unless named)"))
    return [
        Headline(
            f"{len(rows)} shipped scenarios, and a template for {len(templates(catalog))} pairs of task and engine"
        ),
        Heading("Shipped scenarios, in any command that takes a file"),
        Grid((), rows, left=frozenset({0, 1})),
        Heading("Templates: planner init --task TASK --engine ENGINE"),
        pairs(by_task),
        Command("planner init --task rl --engine slime --gpus 8xh100 --out run.yaml", "writes one, with comments"),
    ]


def _asks(name: str) -> str:
    """The first comment of a shipped scenario, which is its question."""
    with open(examples_folder() / f"{name}.yaml", encoding="utf-8") as stream:
        return stream.readline().lstrip("# ").strip()
