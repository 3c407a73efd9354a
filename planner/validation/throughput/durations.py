"""How much longer than predicted published runs took, by engine and GPU generation: what a promise of a date rests on.

A group is one model of one source: its rows share what is not known of the run, so a group counts once, however many
rows it has; where there are fewer than three groups, each row is one. A promise for confidence c is a quantile whose
level is raised until, with each group left out of the quantile in turn, runs of the group left out keep it with the
share c, as a mean over groups.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planner.validation.rl.left_out import left_out
from planner.validation.throughput.report import ThroughputResult

LEAST_ROWS = 6
LEAST_GROUPS = 3
LEVELS = tuple(round(0.05 * step, 2) for step in range(21))
"""Confidences of the table; 1 is the slowest run seen."""

RL = ("rl", "all")
"""Where the residuals of RL steps stand."""

Groups = Mapping[str, NDArray[np.float64]]


def residuals(result: ThroughputResult) -> dict[tuple[str, str], dict[str, NDArray[np.float64]]]:
    """Measured over predicted step time by (engine, GPU generation or `all`) and group; RL steps stand under RL.

    The error of an RL step is that of constants refitted without its framework.
    """
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for estimate in result.left.estimates if result.left is not None else result.estimates:
        if estimate.speed.accuracy in ("nanotron-slow",):
            continue
        case = estimate.speed.run
        for generation in ("all", generation_of(estimate.problem.gpu.chip)):
            key = (estimate.problem.engine.id, generation)
            found[key][f"{estimate.speed.source} {case.model}"].append(1 + estimate.error)
    assert result.steps is not None
    errors = left_out(result.steps)["step"].errors
    for score in result.steps.of("step"):
        found[RL][score.row.framework].append(1 / (1 + errors[score.row.id]))
    return {
        key: {name: np.array(sorted(values)) for name, values in sorted(rows.items())}
        for key, rows in sorted(found.items())
    }


def durations_table(result: ThroughputResult) -> dict[str, Any]:
    """Measured over predicted step time, for catalogs/measured/known_durations.json."""
    found = residuals(result)
    engines: dict[str, dict[str, Any]] = defaultdict(dict)
    for (engine, generation), groups in found.items():
        several = len(groups) > 1  # one group cannot be left out of itself: such runs count as never scored
        if (engine, generation) != RL and several and sum(map(len, groups.values())) >= LEAST_ROWS:
            engines[engine][generation] = entry(groups)
    pooled = {
        name: np.concatenate(list(found[name, "all"].values())) for name in sorted(engines) if "all" in engines[name]
    }
    return {
        "source": "planner validate durations: measured over predicted step time of published runs; constants of the "
        "time model were fitted again without the run's source where there are others, the quantiles are calibrated "
        "with each group left out in turn (a model of a source; of RL steps a framework, whose constants are refitted "
        "without it; of an engine that was never scored, the scored engines)",
        "levels": list(LEVELS),
        "engines": dict(engines),
        "unscored": entry(pooled),
        "rl": entry(found[RL]),
    }


def generation_of(chip: str) -> str:
    """`Hopper sm_90` -> `sm_90`."""
    return next((word for word in chip.split() if word.startswith("sm_")), chip)


def entry(groups: Groups) -> dict[str, Any]:
    """Rows, groups and the calibrated quantiles at LEVELS; `reach` is the most that a group left out kept of any."""
    return {
        "rows": sum(len(values) for values in groups.values()),
        "groups": len(groups),
        "reach": round(kept_when_left_out(groups, 1.0), 4),
        "quantiles": [round(promised(apart(groups), level), 4) for level in LEVELS],
    }


def apart(groups: Groups) -> Groups:
    """Groups as they are; of fewer than LEAST_GROUPS each row is one, so that a group of one row is not half of all."""
    if len(groups) >= LEAST_GROUPS:
        return groups
    return {f"{name} {place}": rows[place : place + 1] for name, rows in groups.items() for place in range(len(rows))}


def promised(groups: Groups, confidence: float) -> float:
    """Measured over predicted time that is kept with a confidence by runs of a group that was left out."""
    if confidence <= 0.5 or len(groups) < LEAST_GROUPS:
        return quantile(groups, confidence)
    for level in np.arange(confidence, 1.0, 0.0025):
        if kept_when_left_out(groups, float(level)) >= confidence:
            return quantile(groups, float(level))
    return quantile(groups, 1.0)


def kept_when_left_out(groups: Groups, level: float) -> float:
    """Mean share of a group's runs below the quantile of all other groups."""
    shares = []
    for name, values in groups.items():
        others = {other: rest for other, rest in groups.items() if other != name}
        shares.append(float(np.mean(values <= quantile(others, level) + 1e-12)))
    return float(np.mean(shares))


def quantile(groups: Groups, level: float) -> float:
    """Quantile of all rows, each group weighing the same; the least value that the share of `level` does not exceed."""
    values = np.concatenate(list(groups.values()))
    weights = np.concatenate([np.full(len(rows), 1 / (len(rows) * len(groups))) for rows in groups.values()])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][min(int(np.searchsorted(reached, level - 1e-9)), len(values) - 1)])


def kept_unseen(groups: Groups, other_engines: Groups, confidence: float) -> dict[str, float]:
    """Share of each group's runs that keep a promise made without it: neither its quantile nor its level saw them.

    As in a budget, above what groups left out reach a promise is at least that of an engine that was never scored,
    here made from `other_engines` alone.
    """
    kept = {}
    for name, values in groups.items():
        others = {other: rest for other, rest in groups.items() if other != name}
        ratio = promised(others, confidence)
        if len(others) < LEAST_GROUPS or kept_when_left_out(others, 1.0) < confidence:
            ratio = max(ratio, promised(other_engines, confidence))
        kept[name] = float(np.mean(values <= ratio + 1e-12))
    return kept


def draws(groups: Groups, count: int, seed: int) -> NDArray[np.float64]:
    """So many runs: a group by chance, then one of its rows."""
    groups = apart(groups)
    chance = np.random.default_rng(seed)
    sizes = np.array([len(rows) for rows in groups.values()])
    picked = chance.integers(len(sizes), size=count)
    row = (np.cumsum(sizes) - sizes)[picked] + (chance.random(count) * sizes[picked]).astype(int)
    drawn: NDArray[np.float64] = np.concatenate(list(groups.values()))[row]
    return drawn
