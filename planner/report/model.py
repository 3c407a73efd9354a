"""What a `config.json` was taken for, as blocks, and as the text of a catalog entry."""

from __future__ import annotations

import json

from planner.formulas.parameters import count_parameters
from planner.inputs.model_file import Imported
from planner.report.blocks import Block, Bullets, Command, Heading, Headline, Text, pairs
from planner.units import number

_HIDDEN = frozenset(("id", "hf_id", "cautions", "sources", "notes", "parameters"))


def understood_blocks(found: Imported, target: str) -> list[Block]:
    """Shape, exact count, cautions, and the keys that change nothing."""
    a = found.understood.architecture
    counted = count_parameters(a)
    active = f", {number(counted.active_per_token / 1e9)} billion active a token" if a.is_moe else ""
    ends = [("embedding", counted.embedding), ("head", counted.lm_head), ("vision tower", counted.vision)]
    parts = [(name, f"{count:,} parameters") for name, count in ends if count]
    layers = counted.total - sum(count for _, count in ends)
    rows = [
        ("counted", f"{counted.total:,} parameters{active}"),
        *parts,
        (f"{a.num_hidden_layers} layers", f"{layers:,} parameters, final norm and positions with them"),
        *((key, _said(value)) for key, value in _fields(found).items()),
    ]
    blocks: list[Block] = [Headline(f"{found.path}: {a.model_type}, {counted.total:,} parameters"), pairs(rows)]
    if a.cautions:
        blocks += [Heading("To know before planning"), Bullets(tuple(a.cautions))]
    if found.understood.left_out:
        blocks.append(Text(f"Left out as asked: {', '.join(found.understood.left_out)}."))
    if found.understood.ignored:
        blocks.append(Text(f"Keys that change neither memory nor time: {', '.join(found.understood.ignored)}."))
    return [*blocks, Command(f"planner estimate --rules {target}", "its figures beside the rules of thumb")]


def entry_text(found: Imported) -> str:
    """The entry as a YAML file: what differs from the defaults of the schema, one key a line."""
    a = found.understood.architecture
    counted = count_parameters(a)
    lines = [f"# Read from {found.path.rpartition('/')[2]}: {counted.total:,} parameters.", f"id: {a.id}"]
    lines += [f"hf_id: {a.hf_id}"] if a.hf_id else []
    lines += [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in _fields(found).items()]
    for key, values in (("cautions", a.cautions), ("sources", [s.model_dump(exclude_none=True) for s in a.sources])):
        lines += [f"{key}:", *(f"  - {json.dumps(value, ensure_ascii=False)}" for value in values)] if values else []
    return "\n".join(lines) + "\n"


def _fields(found: Imported) -> dict[str, object]:
    """Fields of the network that differ from the schema's defaults."""
    data = found.understood.architecture.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return {key: value for key, value in data.items() if key not in _HIDDEN}


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_said(item)}" for key, item in value.items())
    return str(value).lower() if isinstance(value, bool) else f"{value:,}" if isinstance(value, int) else str(value)
