"""The shipped scenarios with their answers as plain files: a demonstration that needs no server."""

from __future__ import annotations

import html
from collections.abc import Callable

from planner.analysis.budget.budget import answer_budget
from planner.analysis.budget.known_layouts import KnownLayouts
from planner.inputs.catalog import Catalog
from planner.inputs.document import read_document
from planner.inputs.examples import EXAMPLE
from planner.report.blocks import Headline
from planner.report.budget import budget_blocks, budget_screen
from planner.report.budget_json import budget_document
from planner.report.html import STYLE
from planner.report.json_text import dumps
from planner.report.pages import page
from planner.report.plan_figures import plan_figures
from planner.report.solve import Solved, solve_blocks, solve_document, solve_screen
from planner.report.timeline import timeline_blocks
from planner.report.topology import topology_blocks
from planner.search.search import outcome_line, plan
from planner.web.base import budgets, scenarios


def exported(
    catalog: Catalog, names: list[str] | None = None, progress: Callable[[str], None] = print
) -> dict[str, str]:
    """Files by name: pages and JSON for each shipped scenario and budget, and an index.html that leads to them."""
    files: dict[str, str] = {}
    rows = []
    for name in names or [*scenarios(), *budgets()]:
        progress(f"solving {name}")
        found, said = (_budget if name in budgets() else _plan)(name, catalog)
        links = ", ".join(f'<a href="{file}">{_title(name, file)}</a>' for file in found)
        rows.append(f"<li>{html.escape(said)}: {links}</li>")
        ways = f'<p><a href="index.html">all answers</a>; of this one: {links}</p>'
        files |= {
            file: text.replace("<h1", f"{ways}<h1", 1) if file.endswith(".html") else text
            for file, text in found.items()
        }
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>planner</title><style>{STYLE}</style>'
    size = '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    body = f"<body><h1>planner: the shipped scenarios and their answers</h1><ul>{''.join(rows)}</ul></body></html>\n"
    return {"index.html": f"{head}{size}\n{body}", **files}


def _title(name: str, file: str) -> str:
    """What a link to a file says: plan, timeline, topology or JSON."""
    part = file.removeprefix(name).removesuffix(".html").strip("_")
    return "JSON" if file.endswith(".json") else part or "answer"


def _plan(name: str, catalog: Catalog) -> tuple[dict[str, str], str]:
    """Pages of one plan, and its headline."""
    solved = Solved(plan(read_document(f"{EXAMPLE}{name}"), catalog, check_points=0))
    found = solved.outcome
    figures = plan_figures(found.plan) if found.plan is not None else []
    typed = f"planner solve {EXAMPLE}{name}"
    files = {f"{name}.html": page(solve_blocks(solved), figures, lambda: solve_screen(solved), typed)}
    for view, blocks in (("timeline", timeline_blocks(found)), ("topology", topology_blocks(found))):
        files[f"{name}_{view}.html"] = page(blocks, [], None, typed)
    return {**files, f"{name}.json": dumps(solve_document(solved))}, outcome_line(found)


def _budget(name: str, catalog: Catalog) -> tuple[dict[str, str], str]:
    """The page of one budget, and its headline."""
    found = answer_budget(read_document(f"{EXAMPLE}{name}"), catalog, KnownLayouts())
    blocks = budget_blocks(found)
    whole = page(blocks, [], lambda: budget_screen(found), f"planner budget {EXAMPLE}{name}")
    said = next(block.text for block in blocks if isinstance(block, Headline))
    return {f"{name}.html": whole, f"{name}.json": dumps(budget_document(found))}, said
