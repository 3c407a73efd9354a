"""Floors under the code: who may import whom, sizes, engines as data, sources, no machine's paths, pinned extras."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from planner.inputs.catalog import default_catalog

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "planner"
FILES = sorted(PACKAGE.rglob("*.py"))

CORE = (
    "units",
    "errors",
    "formulas",
    "schema",
    "yaml_events",
    "read_errors",
    "read",
    "hf_config",
    "known_errors",
    "catalog_check",
    "catalog",
    "calibration",
    "layouts",
    "measured",
    "placement",
    "node_graph",
    "topology",
    "nccl_tests",
    "topo_matrix",
    "own_cluster",
    "goodput",
    "wishes",
    "variants",
    "problem",
    "refusals",
    "axes",
    "costs",
    "resolve",
    "space",
    "evaluate",
    "rounding",
    "tables",
    "splits",
    "beside",
    "least_recompute",
    "spare",
    "enumerate",
    "prune",
    "plan",
    "solver",
    "verify",
    "search",
    "pipeline",
)
"""What `pipeline` rests on, bottom up: each imports only what stands before it, or its own package."""
UPWARD = {("catalog_check", "catalog"), ("known_errors", "catalog")}
"""`Catalog.check` calls the checks that read it."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "planner":
            assert node.level == 0, f"{path}: relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (full & NAMES) or {node.module or ""}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "planner"}
    return found


GRAPH = {name_of(path): imports(path) for path in FILES}


def part(module: str) -> str:
    """`planner.costs.memory` -> `costs`."""
    return module.split(".")[1] if "." in module else ""


def test_the_core_imports_downwards_only() -> None:
    reached, todo = set(), ["planner.pipeline"]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += GRAPH[module]
    unknown = {part(module) for module in reached} - set(CORE) - {""}
    assert not unknown, f"{unknown}: give them their place in CORE"
    for module in reached - {"planner"}:
        for other in GRAPH[module] - {"planner"}:
            below, above = part(other), part(module)
            ordered = CORE.index(below) < CORE.index(above) or below == above or (above, below) in UPWARD
            assert ordered, f"{module} imports {other}"


def test_no_module_imports_itself_through_others() -> None:
    left = {name: set(below) - {name} for name, below in GRAPH.items()}
    left["planner.catalog"] -= {"planner.catalog_check"}
    while left:
        free = [name for name, below in left.items() if not below & set(left)]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("formulas", {"formulas", "units"}),
        ("schema", {"schema"}),
        ("solver", {"solver", "tables", "units", "errors"}),
    ],
)
def test_what_a_package_may_import(package: str, allowed: set[str]) -> None:
    for module, below in GRAPH.items():
        if part(module) == package:
            assert {part(other) for other in below} - {""} <= allowed, module


def test_readers_of_an_outcome_do_not_import_each_other() -> None:
    readers = {"report", "explain", "launch"}
    for module, below in GRAPH.items():
        if part(module) in readers:
            assert not {part(other) for other in below} & (readers - {part(module)}), module


def test_commands_are_only_called_from_the_command_line() -> None:
    for module, below in GRAPH.items():
        if part(module) not in ("commands", "cli"):
            assert not {other for other in below if part(other) in ("commands", "cli")} or module.endswith("__main__")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_longer_than_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_solver_is_imported_inside_functions_only() -> None:
    """`planner --help` must not pay for it."""
    for path in FILES:
        for node in ast.parse(path.read_text()).body:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith("ortools") for name in names), path


def test_no_branch_on_an_engine() -> None:
    """What an engine does differently stands in its catalog file: no comparison with an engine's id anywhere.

    The validation harness names the engine that a published row was measured with; those are data about rows.
    """
    engines = set(default_catalog().ids("engines"))
    for path in FILES:
        if part(name_of(path)) == "validation":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                words = {c.value for side in sides for c in ast.walk(side) if isinstance(c, ast.Constant)}
                assert not words & engines, f"{path}:{node.lineno} compares with {words & engines}"


def test_every_entry_of_an_engine_says_where_it_comes_from() -> None:
    for engine in default_catalog().all("engines"):
        for field in ("saved", "saved_by_adapter", "stub", "backward", "loss", "log_prob"):
            for tensor in getattr(engine, field):
                assert tensor.source.strip(), f"{engine.id}: {field}: {tensor.name}"
        for block in (engine.states, engine.reserve, engine.overhead, engine.overlap):
            assert len(block.source) > 10, f"{engine.id}: {type(block).__name__}"


def test_every_formula_is_documented_and_sourced() -> None:
    """Public formulas have a docstring; most name their source themselves, the others share their module's."""
    for path in sorted((PACKAGE / "formulas").glob("[a-z]*.py")):
        public = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"]
        texts = [ast.get_docstring(node) or "" for node in public]
        assert all(texts), path.name
        assert re.search(r"[Ss]ource|Equation|arXiv", path.read_text()), f"{path.name} names no source"


def test_no_path_of_a_machine() -> None:
    suffixes = {".py", ".yaml", ".md", ".toml", ".csv", ".json"}
    folders = ("planner", "catalogs", "scenarios", "docs", "benchmarks", "README.md", "pyproject.toml", "CHANGELOG.md")
    for folder in folders:
        top = ROOT / folder
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.suffix in suffixes:
                found = re.findall(r"(?<![\w.])/(?:work|home|root|opt|tmp|Users)/\w+", path.read_text())
                assert not found, f"{path}: {found[:3]}"


def test_readme_has_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    start = "python3 -m venv .venv && .venv/bin/pip install -q "
    assert f"{start}. && .venv/bin/planner solve scenarios/qwen7b_rl.yaml" in readme
    assert f"{start}'.[test]' && .venv/bin/python -m pytest" in readme


def test_dependencies_are_pinned_where_it_matters() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "ortools>=9.13,<9.15" in project["dependencies"], "9.15 proves wrong optima"
    assert project["requires-python"] == ">=3.11,<3.14", "9.14 has no wheel for 3.14"
    extras = project["optional-dependencies"]
    for extra in ("test", "dev"):
        assert extras[extra]
        assert all(re.search(r"[<>=]=?\d", requirement) for requirement in extras[extra])
