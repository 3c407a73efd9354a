"""docs/memory.md's table of what each engine file read in code, fitted and assumed, made from the files themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from planner.inputs.catalog import Catalog
from planner.inputs.document import read_document
from planner.schema.evidence import found_fitted

START, END = "<!-- evidence: made by python docs/make_pages.py -->", "<!-- end of evidence -->"
BLOCKS = ("states", "zero_three", "magnitude_norm", "run_ahead", "overhead")
RESIDUALS = ("trainer_residual_gib", "rollout_residual_gib")
LISTS = (
    "saved",
    "saved_by_adapter",
    "stub",
    "left_behind",
    "embedded",
    "backward",
    "loss",
    "held",
    "log_prob",
    "cached",
)


def with_evidence(page: str, catalog: Catalog) -> str:
    """The page with its table made anew. Raises ValueError where it has no place for one."""
    before, _, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page has no lines {START} and {END}")
    return f"{before}{START}\n\n{evidence_table(catalog)}\n{END}{after}"


def evidence_table(catalog: Catalog) -> str:
    """One row a file: what it states itself, not what it takes from the file that it extends."""
    rows = ["| engine file | read in code or counted | fitted, and on what | assumed |", "|---|---|---|---|"]
    for engine in catalog.ids("engines"):
        data = read_document(catalog.file("engines", engine)).data
        base = f"all else as `{data['extends']}`" if "extends" in data else ""
        cells = [_read(data), base], _fitted(data), _assumed(data)
        rows.append(f"| `{engine}` | " + " | ".join("; ".join(filter(None, cell)) for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _tensors(data: Any, option: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(option, list, tensor) of a file."""
    for name in LISTS:
        yield from ((option, name, tensor) for tensor in data.get(name, []))
    for name, said in data.get("options", {}).items():
        yield from _tensors(said.get("set", {}), name)


def _read(data: Mapping[str, Any]) -> str:
    """Blocks and lists with how many of their tensors were read in code."""
    counts: dict[str, int] = {}
    for option, name, tensor in _tensors(data):
        if not tensor.get("assumed") and not tensor.get("fitted"):
            key = f"{name} in options" if option else name
            counts[key] = counts.get(key, 0) + 1
    blocks = [name for name in BLOCKS if name in data]
    tensors = [f"{name} ({count})" for name, count in counts.items()]
    return ", ".join([*blocks, *tensors])


def _fitted(data: Mapping[str, Any]) -> list[str]:
    out = []
    for path, fitted, holder in found_fitted(data):
        place = _place(path, holder)
        kinds = {"vocabulary": fitted.vocabularies, "layers": fitted.depths, "width": fitted.widths}
        differ = [
            f"{word} {' and '.join(f'{value:,}' for value in values)}" for word, values in kinds.items() if values
        ]
        differ += [" and ".join(fitted.models)] if fitted.models else []
        runs = f"{', '.join(fitted.sources)}{': ' if differ else ''}{', '.join(differ)}"
        out.append(f"{place} {holder[str(path[-1])]:g}: {fitted.text} ({runs})")
    return out


def _place(path: tuple[str | int, ...], holder: Mapping[str, Any]) -> str:
    """`loss under fused_kernels, logits, bytes`."""
    option = f" under {path[1]}" if path[0] == "options" else ""
    inside = path[3:] if option else path
    named = [str(holder["name"])] if "name" in holder and "width" in holder else []
    first = [str(inside[0])] if len(inside) > 1 else []
    return ", ".join([*(f"{word}{option}" for word in first), *named, str(inside[-1])])


def _value(said: float | str) -> str:
    return said if isinstance(said, str) else f"{said:g}"


def _assumed(data: Mapping[str, Any]) -> list[str]:
    out = []
    for option, name, tensor in _tensors(data):
        if tensor.get("assumed"):
            units = {"bytes": "B", "copies": "copies"}
            amounts = [f"{tensor[kind]:g} {word}" for kind, word in units.items() if kind in tensor]
            where = f"{name} under {option}" if option else name
            out.append(f"{where}, {tensor['name']} {' + '.join(amounts)}")
    states = data.get("states", {})
    out += [f"states, {name} {_value(states[name])}" for name in states.get("assumed", [])]
    out += [f"{name} {_value(data[name])}" for name in data.get("assumed", [])]
    reserve = data.get("reserve", {})
    out += [f"reserve {reserve['median']:g}, at most {reserve['maximum']:g}"] if reserve.get("assumed") else []
    shared = data.get("colocation", {})
    return out + [f"colocation, {name} {shared[name]:g}" for name in RESIDUALS if name in shared]
