"""Published RL steps: what is scored, against the bar, and why the others are not."""

from __future__ import annotations

import pytest

from planner.validation.throughput.rl import WITHIN, load_rl, run_rl
from planner.validation.throughput.rl_report import rl_bar, rl_document
from planner.validation.throughput.run import default_folder

FOLDER = default_folder()
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
