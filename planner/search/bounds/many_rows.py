"""Spaces with a rollout engine that are too large to be costed at once: gone through part by part, in bounded memory.

Dropped are layouts without room, those beside which no rollout choice fits, and those whose own bound is slower than a
plan in hand; what is left is costed together, as every small space is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from planner.costs.coefficients import RolloutTable, RowCosts
from planner.inputs import pipes
from planner.problem.layouts import Ints, Layouts
from planner.problem.problem import Question
from planner.search.bounds.any_split import to_spare
from planner.search.bounds.cheap import cheap_bound
from planner.search.bounds.rollout_pairs import RolloutPairs, fitting_choices
from planner.search.deadline import Deadline
from planner.search.grid import Rounded, limit_bytes
from planner.search.prune import NO_PARTNER, near_tie_factor, no_room, row_bounds, too_slow
from planner.search.space import Removed

MOST_CELLS = 4_000_000
"""Layouts times stages of the longest pipeline that are costed together: each takes about 600 bytes, 2.3 GiB in all."""
PART_CELLS = 400_000
"""The same of one part."""
SAMPLE_CELLS = 100_000
"""The same of the sample that a plan in hand is looked for in."""
SHARE = 0.5
"""Share of the time limit after which no further part is gone through."""
NOT_LOOKED_AT = "not_looked_at"
"""Rule under which layouts are counted that nobody looked at: of them nothing is proved."""
NAMED = 3
"""Axes that are named as those which open the space."""
AXES = {
    "cluster.num_gpus": "num_gpus",
    "combinations of open decisions": "variant",
    "batch.max_tokens_per_gpu": "max_tokens",
    "batch.micro_batch_size": "micro_batch_size",
    "layout.virtual_pipeline": "virtual_pipeline",
    "layout.zero_stage": "zero_stage",
}
AXES |= {f"layout.{kind}_parallel": f"{kind}_parallel" for kind in ("tensor", "pipeline", "context", "expert")}
AXES |= {"layout.expert_tensor_parallel": "expert_tensor_parallel"}
"""What may be left open, and the column of layouts that holds it."""


def cells(layouts: Layouts) -> int:
    """Places of an array with a row a layout, as wide as the longest pipeline."""
    return len(layouts) * int(layouts.pipeline_parallel.max(initial=1))


def few_enough(
    question: Question, layouts: Layouts, rollouts: RolloutTable, unit: float, deadline: Deadline
) -> tuple[Layouts, list[Removed]]:
    """Layouts that may hold the answer, no more than can be costed together, and what was dropped.

    Where the time or the memory does not suffice, `NOT_LOOKED_AT` is among the reasons: nothing is proved of those.
    """
    if not fitting_choices(Rounded(RowCosts(question, layouts), rollouts, 1.0, unit)).any():
        return layouts.take(np.zeros(0, dtype=np.int64)), [Removed("no_rollout", NO_PARTNER, len(layouts))]
    pipes.tell(_said(layouts))
    best = math.inf
    for rows in _parts(layouts, SAMPLE_CELLS, sample=True):
        costs = RowCosts(question, layouts.take(rows))
        costs = RowCosts(question, costs.layouts.take(to_spare(costs, costs.memory, limit_bytes(question)) >= 0))
        if len(costs.layouts):
            known = row_bounds(question, Rounded(costs, rollouts, 1.0, unit), deadline).in_hand
            best = min(best, known.seconds) if known is not None else best
    longest = best * near_tie_factor(question)
    kept: list[Ints] = []
    counts = dict.fromkeys(("memory", "no_rollout", "slower", NOT_LOOKED_AT), 0)
    for rows in _parts(layouts, PART_CELLS):
        if deadline.past(SHARE):
            counts[NOT_LOOKED_AT] += len(rows)
            continue
        costs = RowCosts(question, layouts.take(rows))
        holds = to_spare(costs, costs.memory, limit_bytes(question)) >= 0
        beside = RolloutPairs(Rounded(costs, rollouts, 1.0, unit)).exists
        counts["memory"] += int((~holds).sum())
        counts["no_rollout"] += int((holds & ~beside).sum())
        rows = rows[holds & beside]
        if len(rows):
            costs = RowCosts(question, layouts.take(rows))
            soonest = RolloutPairs(Rounded(costs, rollouts, 1.0, unit)).step(cheap_bound(question, costs))
            counts["slower"] += int((soonest > longest).sum())
            kept.append(rows[soonest <= longest])
    left: Ints = np.sort(np.concatenate([*kept, np.zeros(0, dtype=np.int64)]))
    found = layouts.take(left)
    if (every := -(-cells(found) // MOST_CELLS)) > 1:
        counts[NOT_LOOKED_AT] += len(left) - len(left[::every])
        found = layouts.take(left[::every])
    texts = {
        "memory": no_room(question),
        "no_rollout": NO_PARTNER,
        "slower": too_slow(question),
        NOT_LOOKED_AT: "the time limit, or the memory that all of them together would take, came before",
    }
    return found, [Removed(name, texts[name], count) for name, count in counts.items() if count]


def _parts(layouts: Layouts, most: int, *, sample: bool = False) -> Iterator[Ints]:
    """Rows of few cells together, those with as many stages beside each other; of each kind of pipeline some only."""
    for stages in np.unique(layouts.pipeline_parallel).tolist():
        rows = np.flatnonzero(layouts.pipeline_parallel == stages)
        size = max(1, most // stages)
        if sample:
            yield rows[:: max(1, len(rows) * 8 // size)]
            continue
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def _said(layouts: Layouts) -> str:
    """How many there are, what opens them, and what to state."""
    values = {path: len(np.unique(getattr(layouts, column))) for path, column in AXES.items()}
    widest = sorted(values, key=lambda path: -values[path])[:NAMED]
    opened = ", ".join(f"{path} ({values[path]} values)" for path in widest)
    stages = int(layouts.pipeline_parallel.max())
    return (
        f"{len(layouts):,} layouts of up to {stages} stages are gone through part by part; "
        f"most is left open by {opened}: lists of fewer values are answered sooner"
    )
