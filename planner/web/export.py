"""The shipped scenarios with their answers as plain files: a demonstration that needs no server."""

from __future__ import annotations

import html
from collections.abc import Callable

from planner.inputs.catalog import Catalog
from planner.inputs.document import read_document
from planner.inputs.examples import EXAMPLE
from planner.report.html import STYLE
from planner.report.json_text import dumps
from planner.report.pages import page
from planner.report.plan_figures import plan_figures
from planner.report.solve import Solved, solve_blocks, solve_document, solve_screen
from planner.search.search import outcome_line, plan
from planner.web.base import scenarios


def exported(
    catalog: Catalog, names: list[str] | None = None, progress: Callable[[str], None] = print
) -> dict[str, str]:
    """Files by name: a page and its JSON for each shipped scenario, and an index.html that leads to them."""
    files, rows = {}, []
    for name in names or scenarios():
        progress(f"solving {name}")
        solved = Solved(plan(read_document(f"{EXAMPLE}{name}"), catalog, check_points=0))
        found = solved.outcome
        figures = plan_figures(found.plan) if found.plan is not None else []
        typed = f"planner solve {EXAMPLE}{name}"
        files[f"{name}.html"] = page(solve_blocks(solved), figures, solve_screen(solved), typed)
        files[f"{name}.json"] = dumps(solve_document(solved))
        said = html.escape(outcome_line(found))
        rows.append(f'<li><a href="{name}.html">{said}</a> (<a href="{name}.json">JSON</a>)</li>')
    head = f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>planner</title><style>{STYLE}</style>'
    size = '<meta name="viewport" content="width=device-width, initial-scale=1"></head>'
    body = f"<body><h1>planner: the shipped scenarios and their answers</h1><ul>{''.join(rows)}</ul></body></html>\n"
    return {"index.html": f"{head}{size}\n{body}", **files}
