"""Scenarios in which nothing fits, and every sentence that explain says of one, tried on the edited file itself."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from planner.analysis.infeasible.conflict import Conflict, explain_conflict
from planner.analysis.infeasible.limits import Limit
from planner.errors import InputError
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document, load, read_document
from planner.search.search import plan

FIXTURES = read_document("tests/fixtures/infeasible.yaml").data
INFEASIBLE: list[dict[str, Any]] = [*FIXTURES["infeasible"], *FIXTURES["threads"]]
MORE = [
    {"name": f"{scenario}, {path} {value}", "scenario": scenario, "set": {path: value}}
    for scenario, path, value in (
        ("llama8b_sft_a100", "limits.headroom_gib", 78),
        ("llama8b_sft_a100", "cluster.usable_gib", 12),
        ("llama8b_lora_4090", "limits.headroom_gib", 22),
        ("llama8b_lora_4090", "cluster.usable_gib", 5),
        ("llama70b_64xh100", "cluster.usable_gib", 20),
        ("llama70b_64xh100", "limits.headroom_gib", 75),
        ("llama70b_64xh100", "batch.sequence_length", 1048576),
        ("mixtral8x7b_64xh100", "limits.headroom_gib", 70),
        ("mixtral8x7b_64xh100", "cluster.num_gpus", 8),
        ("mixtral8x7b_64xh100", "cluster.usable_gib", 14),
        ("qwen7b_rl_8gpu", "limits.headroom_gib", 60),
        ("qwen7b_rl_8gpu", "cluster.usable_gib", 40),
        ("qwen3_4b_retool", "limits.headroom_gib", 70),
        ("qwen3_4b_retool", "cluster.usable_gib", 24),
        ("llama405b_16384xh100", "cluster.usable_gib", 6),
        ("llama70b_512xh100", "cluster.usable_gib", 8),
    )
]
"""Further scenarios, without a conflict that anybody expects."""


def document_of(row: dict[str, Any]) -> Document:
    """A fixture as it would be typed."""
    return load(f"scenarios/{row['scenario']}.yaml", [f"{k}={json.dumps(v)}" for k, v in row["set"].items()])


def edited(document: Document, changes: Iterable[tuple[str, Any]], folder: Path) -> Document:
    """The scenario's file after a person has written these values into it, read again."""
    data = copy.deepcopy(document.data)
    for path, value in changes:
        *above, last = path.split(".")
        inside = data
        for key in above:
            if inside.get(key) is None:
                inside[key] = {}
            inside = inside[key]
        inside[last] = value
    file = folder / "edited.yaml"
    file.write_text(json.dumps(data, indent=1), encoding="utf-8")
    return load(str(file))


ANY_PLAN_S = 3.0
"""Where something fits, a plan is mostly found within this; its proof takes longer, and is not asked for. [s]"""
NO_PLAN_S = 600.0
"""Longest search for one, or for the proof that there is none. [s]"""


def status(document: Document, catalog: Catalog) -> str:
    """How solving a scenario ends; what contradicts itself fits nothing."""
    said = "unknown"
    for limit in (ANY_PLAN_S, 10 * ANY_PLAN_S, NO_PLAN_S):  # a loaded machine finds it in the second
        try:
            said = plan(document, catalog, check_points=0, time_limit_s=limit).status
        except InputError:
            return "infeasible"
        if said != "unknown":
            break
    return said


def false_sentences(document: Document, catalog: Catalog, folder: Path) -> tuple[Conflict, list[str], int]:
    """(what explain found, sentences that are not so, sentences tried) of a scenario that is said to fit nothing."""
    found = explain_conflict(document, catalog)
    tried = list(_sentences(found))
    wrong = []
    for sentence, changes, fits in [("nothing fits", (), False), *tried]:
        said = status(edited(document, changes, folder), catalog)
        if (said in ("optimal", "feasible")) is not fits:
            wrong.append(f"{sentence}: {said}")
    return found, wrong, len(tried) + 1


def _sentences(found: Conflict) -> Iterator[tuple[str, tuple[tuple[str, Any], ...], bool]]:
    """(sentence, what to write into the file, whether something fits then)."""

    def gone(limits: Iterable[Limit]) -> tuple[tuple[str, Any], ...]:
        return tuple(change for limit in limits for change in limit.without)

    others = [limit for limit in found.every if limit not in found.limits]
    if found.hopeless:
        yield "nothing fits even with all of these let go of", gone(found.every), False
        return
    yield "contradict each other whatever else is let go of", gone(others), False
    for limit, alone in zip(found.limits, found.alone, strict=True):
        yield f"needed: {limit.name}", gone([*others, limit]), True
        if alone is not None:
            yield f"alone: {limit.falls_back_to}", gone([limit]), alone
    for repair in found.repairs:
        yield f"repair: {repair.text}", tuple(repair.changes), True
