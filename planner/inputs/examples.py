"""Scenarios that come with planner: `example:NAME` wherever a file is named, in a checkout or not."""

from __future__ import annotations

import re
from pathlib import Path

from planner.errors import Mistake, Place
from planner.inputs.messages import did_you_mean, nearest, some_of
from planner.inputs.names import meant

EXAMPLE = "example:"
"""Before the name of a shipped scenario."""


SETTING = re.compile(r"[A-Za-z_][\w.\[\]]*=")
FILES = (".yaml", ".yml", ".json", ".sh")
"""Endings of a name that is meant as a file's."""


def shipped(folder: str) -> Path:
    """Where shipped files stand, `scenarios` or `catalogs`: inside the wheel, or next to the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / f"_{folder}"
    return inside if inside.is_dir() else package.parent / folder


def examples_folder() -> Path:
    """Where the shipped scenarios stand."""
    return shipped("scenarios")


def examples() -> list[str]:
    """Names of the shipped scenarios."""
    return sorted(path.stem for path in examples_folder().glob("*.yaml"))


def file_of(name: str) -> Path:
    """The file of a scenario as it is named."""
    return examples_folder() / f"{name.removeprefix(EXAMPLE)}.yaml" if name.startswith(EXAMPLE) else Path(name)


def beside(document: str, file: str) -> Path:
    """A file that a document names, relative to the document."""
    if document.startswith(EXAMPLE):
        return examples_folder() / file
    return Path(document).parent / file


def typed_beside(document: str, file: str) -> str:
    """The same as one would type it; a document may name a shipped scenario too."""
    if file.startswith(EXAMPLE):
        return file
    return f"{EXAMPLE}{Path(file).stem}" if document.startswith(EXAMPLE) else str(Path(document).parent / file)


def absent(file: Path) -> bool:
    """Whether there is nothing of that name; a name that no file can have is not absent."""
    try:
        file.lstat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def missing(name: str, place: Place) -> Mistake:
    """A file that is not there, and what may have been meant."""
    what = f"{name}: no such file"
    if name.startswith(EXAMPLE):
        asked, known = name.removeprefix(EXAMPLE), examples()
        attempt = did_you_mean(asked, known) or "planner init --list"
        return Mistake(f"no shipped scenario {asked}", place, f"there are {some_of(known, 20)}", attempt)
    path = Path(name)
    near = nearest(path.name, [each.name for each in _siblings(path)])
    if near is not None:
        return Mistake(what, place, attempt=f"did you mean `{path.parent / near}`?")
    shipped = nearest(path.stem, examples())
    if path.stem in examples():
        return Mistake(what, place, "it is shipped with planner", f"{EXAMPLE}{path.stem}")
    if (another := another_name(name, place)) is not None:
        return another
    if shipped is not None:
        return Mistake(what, place, f"{shipped} is shipped with planner", f"{EXAMPLE}{shipped}")
    return Mistake(what, place, attempt="planner ask MODEL --gpus 8xh100, or planner init --list")


def another_name(name: str, place: Place) -> Mistake | None:
    """What a name that no file has may be instead: a setting that lacks its --set, a model or a GPU of the catalog."""
    what = f"{name}: no such file"
    if SETTING.match(name):
        attempt = f"--set {name} (of planner compare: --set-b)"
        return Mistake(what, place, "a value of a scenario stands behind --set", attempt)
    if Path(name).suffix.lower() in FILES:
        return None
    if models := _entries("models", name):
        known = models[0] if len(models) == 1 else name
        return Mistake(what, place, "it is the name of a model", f"planner ask {known} --gpus 8xh100")
    if _entries("gpus", name):
        return Mistake(what, place, "it is the name of a GPU", f"planner ask MODEL --gpus 8x{name}")
    return None


def _entries(kind: str, name: str) -> list[str]:
    """Shipped entries that a name may mean."""
    ids = {path.stem: () for path in sorted((shipped("catalogs") / kind).glob("*.yaml"))}
    return meant(name, ids, parts=kind == "gpus")


def _siblings(path: Path) -> list[Path]:
    try:
        return [each for each in sorted(path.parent.iterdir()) if each.suffix in (".yaml", ".yml", ".json")]
    except (OSError, ValueError):
        return []
