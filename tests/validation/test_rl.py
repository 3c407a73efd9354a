"""Published RL steps: what is scored, against the bar, and why the others are not."""

from __future__ import annotations

import math
from collections import Counter
from statistics import median

import pytest
from scored_runs import run_placements, run_rl, run_steps

from planner.costs.rollout import tokens_of_a_check
from planner.formulas.lengths import truncated_mean_tokens, uncut_mean_tokens
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, validate
from planner.problem.resolve import resolve
from planner.report import table
from planner.schema.scenario import Scenario
from planner.search.estimate import estimate_question
from planner.validation.published import data_folder
from planner.validation.rl.left_out import left_out
from planner.validation.rl.phases import PHASES, load_steps
from planner.validation.rl.phases_report import step_blocks, step_document
from planner.validation.rl.placement import (
    MORE,
    P99_SHARE,
    PRECISION,
    SEPARATE,
    load_placements,
    scenario_of,
)
from planner.validation.rl.placement_report import placement_blocks, placement_document
from planner.validation.rl.report import rl_bar, rl_document
from planner.validation.rl.steps import WITHIN, load_rl
from planner.validation.rl.trainer_memory import score_trainers, trainer_rows
from planner.validation.rl.trainer_memory import table as trainer_table

FOLDER = data_folder()
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="published measurements come with a checkout")


def test_every_row_is_scored_or_left_out_with_a_reason() -> None:
    result = run_rl(FOLDER)
    named = {score.row.id for score in result.scores} | {name for name, _ in result.left_out}
    assert named == {row.id for row in load_rl(FOLDER)}
    assert not {score.row.id for score in result.scores} & {name for name, _ in result.left_out}
    assert all(reason for _, reason in result.left_out)


def test_shares_of_the_phases_keep_the_bar() -> None:
    result = run_rl(FOLDER)
    within, rows = result.bar
    assert rows >= 8
    assert within == rows
    assert rl_bar(result).reached
    assert all(abs(score.worst[1]) <= WITHIN for score in result.scores if score.usual)
    assert len(rl_document(result)["scores"]) == len(result.scores)


def test_a_row_calibrated_on_itself_would_be_exact() -> None:
    rows = {row.id: row for row in load_rl(FOLDER)}
    sync, apart = rows["rl-053"], rows["rl-054"]
    assert sync.train_gpus == 32
    assert apart.train_gpus == 16
    assert sync.shares["rollout"] == pytest.approx(357.41 / 790.1)
    assert apart.shares["rollout"] == pytest.approx(21.26 / (21.26 + 313.81))


def test_placements_are_all_reported_with_finite_numbers() -> None:
    rows, result = load_placements(FOLDER), run_placements(FOLDER)
    assert result is not None
    scored = {score.row.id for score in result.scores}
    assert scored | {name for name, _ in result.left_out} == {row.id for row in rows}
    assert len(scored) >= 60
    assert all(row.cells["source"] and row.cells["licence"] for row in rows)
    assert all(row.versus == "" or row.versus in {other.id for other in rows} for row in rows)
    document = placement_document(result)
    for score in document["scores"]:
        assert score["assumed"]
        figures = [v for k, v in score.items() if k.endswith("_seconds") and v is not None]
        assert len(figures) >= 5
        assert all(math.isfinite(v) and v >= 0 for v in figures)
    ratios = [score for score in document["scores"] if score["ratio"] is not None]
    assert len(ratios) >= 28
    text = table.render(placement_blocks(result))
    assert all(name in text for name in scored)
    asked = {score.row.id: score.asked_of_peak for score in result.scores if score.asked_of_peak is not None}
    # 13.8 million tokens of 7.6 billion weights, 8 FLOP each with recomputation, on 16 H20 of 148 TFLOP/s in 313.81 s
    assert asked["verl-7b-32-async"] == pytest.approx(8 * 13.84e6 * 7.6e9 / (16 * 148e12 * 313.81), rel=0.05)
    assert {name for name, share in asked.items() if share > 1} == {"verl-7b-32-async", "verl-7b-64-async"}


def test_engines_over_several_trays_are_as_slow_as_published() -> None:
    """Fitted to the asynchronous steps of GB200 with more than one tray an engine; the colocated ones are the check."""
    result = run_placements(FOLDER)
    assert result is not None
    errors: dict[bool, list[float]] = {True: [], False: []}
    for score in result.scores:
        if "gb200" in score.row.cells["node"] and int(score.row.cells["rollout_tp"]) > 4:
            errors[score.row.colocated].append(abs(score.step_error))
    assert [len(rows) for rows in errors.values()] == [6, 4]
    assert max(errors[False]) < 0.05
    assert median(errors[True]) < 0.2


def test_pairs_are_compared_by_what_they_differ_in() -> None:
    rows = {row.id: row for row in load_placements(FOLDER)}
    kinds = {name: row.beside(rows[row.versus]) for name, row in rows.items() if row.versus}
    assert kinds["nemo-dsv3-512-async"] == SEPARATE
    assert kinds["nemo05-dsv3-512-async"] == MORE
    assert kinds["nemo05-8b-16-async-fp8"] == PRECISION
    counted = Counter((kind, rows[name].has_length) for name, kind in kinds.items() if not rows[name].cells["left_out"])
    assert counted == {(SEPARATE, True): 11, (SEPARATE, False): 4, (MORE, True): 10, (PRECISION, True): 3}


def test_reference_weights_are_swapped_once_whatever_the_pipeline() -> None:
    """Half of an 8B, 4.02 billion weights with the table at its end, three times at 10 GB/s on both stages at once."""
    row = next(row for row in load_placements(FOLDER) if row.id == "nemo04-8b-16-colocated")
    document = Document("swap", scenario_of(row), "")
    plan = estimate_question(resolve(document, validate(document, Scenario), default_catalog()))
    assert plan.layout["pipeline_parallel"] == 2
    swapped = sum(e.amount for e in plan.time if e.name == "log-probabilities: reference weights swapped")
    assert swapped == pytest.approx(3 * 2 * 4.015e9 / 10e9, rel=0.01)
    assert sum(dict(plan.phases).values()) == pytest.approx(plan.step_seconds)
    assert sum(e.amount for e in plan.time if e.name.startswith("log-prob")) == pytest.approx(
        dict(plan.phases)["log-probabilities"]
    )


def test_drafted_tokens_gain_what_is_published() -> None:
    """A second token of DeepSeek-V3's own layer: steps 1.21 and 1.34 times as fast; further drafts gain ever less."""
    assert tokens_of_a_check(0, 0.8) == 1
    assert tokens_of_a_check(3, 1.0) == 4
    assert tokens_of_a_check(4, 0.8) == pytest.approx((1 - 0.8**5) / (1 - 0.8))
    result = run_steps(FOLDER)
    assert result is not None
    scores = {score.row.id.removeprefix("nemorl-pr2779-dsv3-"): score for score in result.scores}
    for run in ("256", "512-async"):
        plain, drafted = scores[f"{run}-base"], scores[f"{run}-mtp"]
        published = plain.row.measured["step"] / drafted.row.measured["step"]
        assert plain.predicted["step"] / drafted.predicted["step"] == pytest.approx(published, rel=0.1)


def test_a_published_mean_is_the_one_after_the_cut() -> None:
    for mean, maximum in ((1434.0, 28672.0), (5570.0, 8064.0)):
        uncut = uncut_mean_tokens(mean=mean, p99_over_mean=P99_SHARE, maximum=maximum)
        cut = truncated_mean_tokens(mean=uncut, p99=P99_SHARE * uncut, maximum=maximum)
        assert cut == pytest.approx(mean, rel=1e-3)


def test_steps_are_scored_phase_by_phase_or_left_out_with_a_reason() -> None:
    rows, result = load_steps(FOLDER), run_steps(FOLDER)
    assert result is not None
    scored = {score.row.id for score in result.scores}
    assert scored | {name for name, _ in result.left_out} == {row.id for row in rows}
    assert not scored & {name for name, _ in result.left_out}
    assert all(reason for _, reason in result.left_out)
    assert all(row.cells["source"] and row.cells["licence"] and row.cells["printed"] for row in rows)
    assert all(score.predicted.keys() <= score.row.measured.keys() for score in result.scores)
    assert all(result.of(phase) for phase in PHASES)
    text = table.render(step_blocks(result))
    assert all(name in text for name in scored)
    assert len(step_document(result)["scores"]) == len(result.scores)


def test_constants_are_refitted_without_the_rows_they_are_scored_on() -> None:
    result = run_steps(FOLDER)
    assert result is not None
    apart = left_out(result)
    assert apart.keys() == PHASES.keys()
    assert apart["step"].middle <= 0.25
    generation = {score.row.id: score.error("rollout") for score in result.of("rollout")}
    assert apart["rollout"].errors.keys() == generation.keys()
    assert all(apart["rollout"].errors[name] != error for name, error in generation.items())
    assert apart["train"].errors == {score.row.id: score.error("train") for score in result.of("train")}


def test_printed_phases_are_read_as_printed() -> None:
    rows = {row.id: row for row in load_steps(FOLDER)}
    assert rows["verl071-7b-16h200-gsm8k"].measured["log_probs"] == pytest.approx(13.64 + 12.55)
    assert rows["verl-sync-qwen2.5-7b"].measured == {"weight_sync": 5.75}
    assert rows["nemorl03-llama8b-mcore"].framework == "NeMo-RL"


def test_trainers_memory_of_the_first_look_stays_as_near() -> None:
    """Three runs of verl with all settings: within 10 %, each in its interval; two kinds of rows are counted apart."""
    rows, scores = trainer_rows(FOLDER), score_trainers(FOLDER)
    assert len(rows) == len(scores) + sum(bool(row.not_said) for row in rows) == 12
    plain = {score.row.id: score for score in scores if not score.row.doubtful}
    assert set(plain) == {"gspo-8b-deferred", "gspo-8b", "dapo-moonlight"}
    assert all(abs(score.error) < 0.1 and score.inside for score in plain.values())
    # What a deferred reduction keeps, by the two runs and by count.
    deferred, cut = plain["gspo-8b-deferred"], plain["gspo-8b"]
    measured = deferred.row.measured_gib - cut.row.measured_gib
    assert deferred.predicted_gib - cut.predicted_gib == pytest.approx(measured, rel=0.15)
    assert "Doubtful: 8 rows" in trainer_table(scores)
    ppo = next(score for score in scores if score.row.id == "ppo-8b-fsdp1")
    assert abs(ppo.error) < 0.05
    assert ppo.phase == "end_of_backward"  # the gradient of the root unit
