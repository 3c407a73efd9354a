"""Writes docs/api.md from the docstrings of the door, docs/example.ipynb by running its cells, and a table of
docs/memory.md from the engine files.

python docs/make_pages.py
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import textwrap
from pathlib import Path
from typing import Any

import planner
from planner import api
from planner.analysis.explanation import Explanation, WhyNot
from planner.analysis.infeasible.conflict import Conflict
from planner.analysis.near import Front, NearPlans, Point
from planner.analysis.neighbours import Alternative
from planner.analysis.two_plans import Difference, Differences
from planner.analysis.whatif import Variation, Variations
from planner.inputs.catalog import default_catalog
from planner.search.named_layout import NamedLayout
from planner.search.plan import RolloutPlan
from planner.search.plan_ledgers import Entry, MemoryLedgers, PhaseMemory, TimeLedger
from planner.search.search import Proof
from planner.validation.memory.evidence_page import with_evidence

HERE = Path(__file__).resolve().parent
RECORDS = (
    *(planner.Outcome, Proof, planner.Plan, NamedLayout, RolloutPlan, MemoryLedgers, PhaseMemory, TimeLedger, Entry),
    *(Variations, Variation, NearPlans, Front, Point, Explanation, WhyNot, Alternative, Conflict),
    *(Differences, Difference),
)
ERRORS = [getattr(planner, name) for name in planner.__all__ if name.startswith(("Inp", "Int", "No", "Check", "Plann"))]
HEAD = """# The Python door

Made from the docstrings by `python docs/make_pages.py`; a test compares this page and runs its examples.
"""


def page() -> str:
    """The whole page."""
    functions = [getattr(planner, name) for name in planner.__all__ if inspect.isfunction(getattr(planner, name))]
    order = {name: place for place, name in enumerate(vars(api))}
    functions.sort(key=lambda function: (function.__module__ != api.__name__, order[function.__name__]))
    parts = [HEAD, _examples(inspect.getdoc(api) or ""), "## Functions\n", *(_function(f) for f in functions)]
    parts += ["## What answers hold\n", *(_record(kind) for kind in RECORDS)]
    parts += ["## What is given\n", _given(planner.Scenario, "docs/scenario.md"), _given(planner.Catalog, "")]
    errors = "".join(f"| `{e.__name__}` | {e.exit_code} | {_first(e)} |\n" for e in ERRORS)
    parts += ["## Errors\n", f"| error | exit code of the command line | meaning |\n|---|---|---|\n{errors}"]
    return "\n".join(parts).replace("\n\n\n", "\n\n")


def _first(kind: type) -> str:
    return (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ")


def _given(kind: type, where: str) -> str:
    more = f" Its fields: [scenario.md]({Path(where).name})." if where else ""
    return f"### {kind.__name__}\n\n{_first(kind)}{more}\n"


def _examples(text: str) -> str:
    """Text whose `>>>` lines stand in blocks of their own."""
    blocks = []
    for part in text.split("\n\n"):
        plain = textwrap.dedent(part).strip("\n")
        blocks.append(f"```pycon\n{plain}\n```" if plain.startswith(">>>") else plain)
    return "\n\n".join(blocks) + "\n"


def _function(function: Any) -> str:
    body, *sections = re.split(r"(?m)^(Args|Returns|Raises|Example):\n", inspect.getdoc(function) or "")
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", f"{function.__name__}{inspect.signature(function)}")
    out = [f"### {function.__name__}\n", f"```python\n{_folded(signature)}\n```\n", body.strip() + "\n"]
    for name, text in zip(sections[::2], sections[1::2], strict=True):
        plain = textwrap.dedent(text).strip()
        if name == "Example":
            out.append(_examples(plain))
        elif name == "Returns":
            out.append(f"Returns: {' '.join(plain.split())}\n")
        else:
            entries = re.split(r"\n(?=\S)", plain)
            pairs = [entry.partition(": ") for entry in entries]
            out.append(f"{name}:\n\n" + "".join(f"- `{key}`: {' '.join(rest.split())}\n" for key, _, rest in pairs))
    return "\n".join(out)


def _folded(signature: str) -> str:
    """One parameter a line where the whole is longer than a line."""
    signature = re.sub(r"<function silent at 0x[0-9a-f]+>", "...", signature)
    if len(signature) <= 110:
        return signature
    name, _, rest = signature.partition("(")
    inner, _, result = rest.rpartition(")")
    parts = re.split(r", (?![^\[]*\])", inner)
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){result}"


def _record(kind: type) -> str:
    """A class, its fields and its properties, with what their docstrings say."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    rows = []
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            rows.append((node.target.id, ast.unparse(node.annotation), str(said)))
        elif isinstance(node, ast.FunctionDef) and node.name[0] != "_":
            result = ast.unparse(node.returns) if node.returns else ""
            is_property = any(isinstance(d, ast.Name) for d in node.decorator_list)
            name = node.name if is_property else f"{node.name}({', '.join(a.arg for a in node.args.args[1:])})"
            rows.append((name, result, ast.get_docstring(node) or ""))
    cells = "".join(
        f"| `{name}` | `{typed.replace('|', chr(92) + '|')}` | {_cell(said)} |\n" for name, typed, said in rows
    )
    table = f"\n| field | type | meaning |\n|---|---|---|\n{cells}" if rows else ""
    return f"### {kind.__name__}\n\n{_first(kind)}\n{table}"


def _cell(said: str) -> str:
    return " ".join(said.replace("|", "\\|").split())


def run_cell(source: str, names: dict[str, Any]) -> list[dict[str, Any]]:
    """What a notebook shows below a cell: what it prints, then the value of its last line."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed = io.StringIO()
    value = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, "cell", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    out: list[dict[str, Any]] = []
    if printed.getvalue():
        out.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(keepends=True)})
    if value is not None:
        shown = getattr(value, "_repr_html_", lambda: None)()
        data = {"text/plain": repr(value).splitlines(keepends=True)}
        data |= {"text/html": shown.splitlines(keepends=True)} if shown else {}
        out.append({"data": data, "execution_count": None, "metadata": {}, "output_type": "execute_result"})
    return out


def run_notebook(notebook: dict[str, Any]) -> dict[str, Any]:
    """The notebook with its code cells run in order, in one namespace."""
    names: dict[str, Any] = {}
    cells, count = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            outputs = run_cell("".join(cell["source"]), names)
            for output in outputs:
                if "execution_count" in output:
                    output["execution_count"] = count
            cell = {**cell, "execution_count": count, "outputs": outputs}
        cells.append(cell)
    return {**notebook, "cells": cells}


def memory_page(text: str) -> str:
    """docs/memory.md with the table of what engine files read, fitted and assumed."""
    return with_evidence(text, default_catalog())


def main() -> None:
    """Write all."""
    (HERE / "api.md").write_text(page(), encoding="utf-8")
    memory = HERE / "memory.md"
    memory.write_text(memory_page(memory.read_text(encoding="utf-8")), encoding="utf-8")
    path = HERE / "example.ipynb"
    run = run_notebook(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
