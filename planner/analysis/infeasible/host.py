"""How much host memory of a node is missing, where that alone leaves no layout."""

from __future__ import annotations

import numpy as np

from planner.costs.ledger import total
from planner.costs.memory.host import host_ledger
from planner.inputs.catalog import Catalog
from planner.inputs.document import override
from planner.problem.problem import Question, host_memory_gib
from planner.problem.resolve import question_of
from planner.search.space import build_space
from planner.units import GIB, number

RULE = "host_memory"


def host_sentence(question: Question, catalog: Catalog) -> str | None:
    """The least that a node's host memory must hold, of all layouts that are legal otherwise, its largest items and
    what there is; None where there is none either way."""
    relaxed = question_of(override(question.document, {"limits.host_memory": False}), catalog)
    space = build_space(relaxed)
    if not len(space.layouts):
        return None
    found = []
    for index, problem in enumerate(relaxed.problems):
        rows = space.layouts.take(np.flatnonzero(space.layouts.variant == index))
        memory = host_memory_gib(problem)
        if len(rows) and memory is not None:
            items = host_ledger(problem, rows)
            sums = np.broadcast_to(total(items), (len(rows),))
            least = int(np.argmin(sums))
            parts = {item.name: float(np.broadcast_to(item.amount, sums.shape)[least]) / GIB for item in items}
            found.append((float(sums[least]) / GIB, memory, parts))
    if not found:
        return None
    needed, memory, parts = min(found, key=lambda each: each[0] - each[1])
    largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
    said = ", ".join(f"{name} {number(gib, 1)}" for name, gib in largest)
    return (
        f"Host memory of a node is too small: {number(needed, 1)} GiB at least ({said}), {number(memory, 1)} there are "
        "(cluster.host_memory_gib says what yours is, limits.host_memory: false leaves it out)."
    )
