"""Machines that a launch file names beside its settings: in a comment, or in its own name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from planner.errors import Place
from planner.inputs.catalog import Catalog
from planner.launch.reading.found import Found
from planner.launch.reading.tables import TABLES

BEFORE = r"(?:\b\d+ ?[x*×] ?(?:\d+ )?|\bGPUs on (?:an? )?|\btested on (?:an? )?|\benv: ?)(?:NVIDIA |AMD )?(?:GeForce )?"
"""What makes a GPU's name in a comment the run's own: a count, `on`, `tested on`, `env:`."""
SIZE = re.compile(r"[ -]?(?:SXM\d?|PCIe)?[ -]?(\d{2,3}) ?G", re.IGNORECASE)
"""Memory of the GPU, behind its name."""
OF_PLAN = re.compile(r"\b\d+ x [^()]*\(([a-z0-9-]+)\)")
"""Machines in the header of a file that `planner launch` wrote: how many GPUs, and the node's id."""
PLAN = "# Plan:"
LEAST = 4
"""Characters from which a GPU's name is not taken for a word of a file's name."""


def say_machines(found: Found, path: Path, text: str, catalog: Catalog) -> None:
    """Say the node or the GPU that the file names, where it is one alone; several, or one of two sizes, are listed."""
    lines = [(at, line) for at, line in enumerate(text.splitlines(), 1) if line.lstrip().startswith("#")]
    for at, line in lines:
        header = OF_PLAN.search(line) if PLAN in line else None
        if header is not None and header[1] in catalog.ids("nodes"):
            found.machines = ("node", header[1], f"line {at} says so")
            return
    names = dict.fromkeys(_in_comments(lines, catalog)) or dict.fromkeys(_in_name(path, found, catalog))
    meant = {each for name, _ in names for each in catalog.meant("gpus", name)}
    place = next((where for _, where in names), "")
    if len(meant) == 1:
        found.machines = ("gpu", meant.pop(), f"{place} says so")
    elif meant:
        where = Place(str(path), int(place.removeprefix("line ")) if place.startswith("line ") else None)
        named = " and ".join(dict.fromkeys(name.upper() for name, _ in names))
        found.note(
            where, f"names {named}, which is no one GPU of the catalog: --set cluster.gpu={' or '.join(sorted(meant))}"
        )


def _in_comments(lines: list[tuple[int, str]], catalog: Catalog) -> Iterator[tuple[str, str]]:
    named = re.compile(rf"{BEFORE}((?:{_names(catalog)})(?:/(?:{_names(catalog)}))*)(?![\w.])", re.IGNORECASE)
    for at, line in lines:
        for match in named.finditer(line):
            size = SIZE.match(line, match.end())
            for name in match[1].split("/"):
                yield f"{name.lower()}-{size[1]}gb" if size is not None else name.lower(), f"line {at}"


def _in_name(path: Path, found: Found, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """A word of the file's name, or machines that its launcher's own files are named by (catalogs/flags)."""
    for word in re.split(r"[-_. ]", path.stem.lower()):
        if len(word) >= LEAST and re.fullmatch(_names(catalog), word):
            yield word, "its name"
    table = TABLES.get(found.launcher, (("", ""),))[0][0]
    for sign, gpu in (catalog.flags(table).named_machines if table else {}).items():
        if re.search(sign, path.stem):
            yield gpu, "its name"


@cache
def _names(catalog: Catalog) -> str:
    """Families of the catalog's GPUs as people write them: the id's first word, or what stands behind rtx."""
    words = [each.split("-") for each in catalog.ids("gpus")]
    families = {f"(?:rtx[ -]?)?{parts[1]}" if parts[0] == "rtx" and len(parts) < 3 else parts[0] for parts in words}
    return "|".join(sorted(families - {"rtx"}, key=lambda name: (-len(name), name)))
