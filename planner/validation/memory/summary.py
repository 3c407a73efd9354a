"""The table of known errors by engine that every report quotes, made from both validations."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import numpy as np

from planner.errors import InputError, Mistake, Place
from planner.schema.engine import Engine
from planner.validation.memory.cases import TOY_GIB
from planner.validation.memory.express import Prediction
from planner.validation.memory.run import run_memory
from planner.validation.published import data_folder, sample_text
from planner.validation.rl.left_out import left_out
from planner.validation.rl.phases import StepResult
from planner.validation.rl.placement import PlacementResult
from planner.validation.throughput.express import Estimate
from planner.validation.throughput.run import run_throughput

LEAST_ROWS = 6
"""Engines with fewer scored runs are left unscored: a spread of five numbers says nothing."""
Z95, Z99 = 1.6448536269514722, 2.3263478740408408


def known_errors_table() -> dict[str, Any]:
    """Errors by engine, for catalogs/measured/known_errors.json."""
    memory: dict[str, list[Prediction]] = defaultdict(list)
    folder = data_folder()
    if sample_text(folder, "memory") is not None:
        because = f"{folder} holds a sample of the published rows only"
        raise InputError(Mistake("the table of known errors needs all rows", Place(str(folder)), because, "a checkout"))
    result, _ = run_memory(folder)
    for prediction in result.predictions:
        case = prediction.case
        if case.excluded is None and case.outcome == "value" and (case.memory_gib or 0) >= TOY_GIB:
            memory[prediction.group.problem.engine.id].append(prediction)
    for prediction in result.predictions:
        if prediction.case.metric == "fit_oom" and prediction.case.outcome == "fit":
            memory[prediction.group.problem.engine.id].append(prediction)
    time: dict[str, list[Estimate]] = defaultdict(list)
    speeds = run_throughput()
    for estimate in speeds.estimates:
        time[estimate.problem.engine.id].append(estimate)
    return {
        "source": "planner validate summary: published runs in validation/data re-run through the planner; "
        "runs of 5 GiB and more; in-sample, the models were developed on these runs",
        "memory": {name: _memory(rows) for name, rows in sorted(memory.items()) if len(_main(rows)) >= LEAST_ROWS},
        "rl": rl_table(speeds.placements, speeds.steps),
        "time": {name: _time(rows) for name, rows in sorted(time.items()) if len(rows) >= LEAST_ROWS},
    }


def _main(rows: list[Prediction]) -> list[Prediction]:
    """The rows of the metric closest to what the card sees, of which there are enough; no run is counted twice."""
    for metrics in (("fit_oom",), ("reserved", "nvidia-smi"), ("allocated",), ("unstated", "active")):
        picked = [p for p in rows if p.case.metric in metrics]
        if len(picked) >= LEAST_ROWS:
            return picked
    return []


def _memory(rows: list[Prediction]) -> dict[str, Any]:
    """Median and spread of ln(measured / predicted); for allocated rows the allocator's spread comes on top."""
    picked = _main(rows)
    errors = np.array([abs(p.error) for p in picked])
    logs = np.array([-math.log1p(p.error) for p in picked])
    low, centre, high = np.quantile(logs, [0.05, 0.5, 0.95])
    above, below = (high - centre) / Z95, (centre - low) / Z95
    metric = picked[0].case.metric
    if metric == "allocated":
        reserve = _engine(picked).reserve
        above = math.hypot(above, math.log(reserve.maximum / reserve.median) / Z99)
        below = math.hypot(below, math.log(reserve.median) / Z99)
    return {
        "rows": len(picked),
        "metric": "reserved" if metric == "fit_oom" else metric,
        "median": round(float(np.median(errors)), 4),
        "p90": round(float(np.quantile(errors, 0.9)), 4),
        "centre": round(float(centre), 4),
        "below": round(float(below), 4),
        "above": round(float(above), 4),
    }


def _engine(rows: list[Prediction]) -> Engine:
    return rows[0].group.problem.engine


def rl_table(placements: PlacementResult | None, steps: StepResult | None) -> dict[str, Any]:
    """Errors of whole RL steps with printed lengths, each framework left out, and of what separate GPUs gain.

    `low` and `high` are the 5th and 95th percentile of measured over predicted.
    """
    ratios = [abs(s.ratio_error) for s in placements.scores if s.ratio_error is not None] if placements else []
    errors = np.array(list(left_out(steps)["step"].errors.values())) if steps is not None else np.zeros(0)
    low, high = np.quantile(1 / (1 + errors), [0.05, 0.95])
    return {
        "rows": len(errors),
        "median": round(float(np.median(np.abs(errors))), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "pairs": len(ratios),
        "ratio_median": round(float(np.median(ratios)), 4),
    }


def _time(rows: list[Estimate]) -> dict[str, Any]:
    errors = np.array([abs(e.error) for e in rows])
    return {
        "rows": len(rows),
        "median": round(float(np.median(errors)), 4),
        "p90": round(float(np.quantile(errors, 0.9)), 4),
    }
