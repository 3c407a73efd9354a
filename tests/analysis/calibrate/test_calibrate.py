"""Logs become factors, factors reach the plan, the tables and the enumeration alike, and files go there and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_problems import random_case
from run_cli import run

from planner.analysis.calibrate.doubts import doubts
from planner.analysis.calibrate.fit import allocator_gib, fit, phase_seconds
from planner.analysis.calibrate.rl_log import Reading, parse_log
from planner.costs.coefficients import RolloutTable, RowCosts
from planner.errors import InputError
from planner.formulas.lengths import draw_lengths
from planner.inputs.calibration import load_calibration, overlay_text
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.schema.calibration import Calibration, Factor, Phase
from planner.search.enumerate import enumerate_best
from planner.search.estimate import estimate, estimate_question
from planner.search.search import agrees, search
from planner.search.space import build_space

ROOT = Path(__file__).resolve().parents[3]
RL = str(ROOT / "scenarios" / "qwen7b_rl_8gpu.yaml")
PRETRAIN = str(ROOT / "scenarios" / "llama70b_64xh100.yaml")
DAPO = str(ROOT / "scenarios" / "qwen7b_dapo_h20.yaml")
DAPO_LOG = str(ROOT / "scenarios" / "qwen7b_dapo_h20.log")
PASSES = ["rl.old_log_probs=true"]
"""The log states a pass of the policy, which slime 0.3.1 leaves out with one optimizer step a rollout."""
SLIME = [
    "(RolloutManager pid=1) perf 0: {'rollout/response_len/mean': 812.0, 'perf/rollout_time': 60.0}",
    "\x1b[36m(MegatronTrainRayActor pid=2)\x1b[0m perf 0: {'perf/ref_log_probs_time': 6.0, 'perf/log_probs_time': 5.0, "
    "'perf/actor_train_time': 30.0, 'perf/train_time': 42.0, 'perf/sleep_time': 2.0, 'perf/wake_up_time': 3.0, "
    "'perf/update_weights_time': np.float64(4.0), 'perf/step_time': 115.0}",
    "perf 1: {'perf/rollout_time': 80.0}",
    "perf 2: {'perf/rollout_time': 70.0, 'perf/actor_train_tflops': 300.0, 'perf/wait_time_ratio': 0.5}",
]


def test_slime_lines() -> None:
    log = parse_log(SLIME)
    assert log.framework == "slime"
    assert log.phases["rollout"] == Reading(70.0, 3)
    assert log.phases["log_probs"] == Reading(11.0, 1)
    assert log.phases["switch"] == Reading(5.0, 1)
    assert log.phases["weight_sync"] == Reading(4.0, 1)
    assert "train and log_probs" not in log.phases  # the parts are stated
    assert log.passes == (True, True)


def test_verl_lines_json_lines_and_the_printed_block_of_nemo_rl() -> None:
    verl = parse_log(
        ["step:3 - actor/loss:0.1 - timing_s/gen:20.5 - timing_s/old_log_prob:3 - timing_s/update_actor:1e1"]
    )
    assert verl.framework == "verl"
    assert {name: r.value for name, r in verl.phases.items()} == {"rollout": 20.5, "log_probs": 3.0, "train": 10.0}
    assert verl.passes == (True, False)
    jsonl = parse_log(['{"timing_s/gen": 1.5, "timing_s/step": 4, "timing_s/reward": 0.2}', '{"timing_s/gen": 2.5}'])
    assert (jsonl.phases["rollout"].value, jsonl.phases["step"].value) == (2.0, 4.0)
    nemo = parse_log(
        [
            "  • Total step time: 93.20s",
            "  • generation: 45.20s (48.5%)",
            "  • policy_and_reference_logprobs: 10.20s (11.0%)",
            "  • policy_training: 30.90s (33.2%)",
            "  • prepare_for_generation/total: 5.00s (5.4%)",
        ]
    )
    assert nemo.framework == "NeMo-RL"
    assert {name: r.value for name, r in nemo.phases.items()} == {
        "rollout": 45.2, "log_probs": 10.2, "train": 30.9, "switch": 5.0, "step": 93.2,
    }  # fmt: skip


def test_lengths_of_a_log_become_the_share_that_never_ends() -> None:
    """Drawn from the scenario's own law with 3 % at the cap: that share comes back; below the cut alone it is 0."""
    assert parse_log(SLIME).lengths == {"mean": Reading(812.0, 1)}
    nemo = parse_log(["  • Mean Generation Length: 795.25", "  • Total step time: 93.20s"])
    assert nemo.lengths == {"mean": Reading(795.25, 1)}
    document = load(RL, PASSES)
    law = estimate(document).wish.law
    assert law is not None
    drawn = draw_lengths(replace(law, at_cap=0.03), 200_000, 0) - law.prompt
    share, mean = float(np.mean(drawn >= law.maximum)), float(drawn.mean())
    line = "step:1 - timing_s/gen:80 - timing_s/old_log_prob:9 - timing_s/ref:9 - timing_s/step:200 "
    verl = line + f"- response_length/mean:np.float64({mean}) - response_length/clip_ratio:{share}"
    found = fit(document, parse_log([verl]), source="log", date="2026-11-22").lengths
    assert found is not None
    assert found.mean is not None
    assert found.mean.value == pytest.approx(mean)
    assert found.at_cap == pytest.approx(0.03, abs=1e-3)
    assert found.expected_mean == pytest.approx(law.mean_tokens - law.prompt)
    none = fit(
        document, parse_log([line + "- response_length/clip_ratio:0.0"]), source="log", date="2026-11-22"
    ).lengths
    assert none is not None
    assert (none.mean, none.at_cap) == (None, 0.0)


def test_pretraining_lines() -> None:
    megatron = parse_log(
        [
            " iteration 10/ 100 | elapsed time per iteration (ms): 12000.0 | lm loss: 7",
            " iteration 20/ 100 | elapsed time per iteration (ms): 10000.0 | lm loss: 6",
            "[Rank 0] (after 2 iterations) memory (MB) | allocated: 5 | max allocated: 6 | max reserved: 51200.0",
        ]
    )
    assert megatron.seconds == Reading(11.0, 2)
    assert megatron.reserved_gib == Reading(50.0, 1)
    titan = parse_log(["step: 10  loss:  6.1  memory: 56.78GiB(71.1%)  tps: 7,345  tflops: 425.1  mfu: 43.0%"])
    assert titan.tokens_per_second_per_gpu == Reading(7345.0, 1)
    assert titan.reserved_gib == Reading(56.78, 1)
    nanotron = parse_log(["iteration: 3 / 9 | tokens_per_sec: 58.1K | tokens_per_sec_per_gpu: 7.26K"])
    assert nanotron.tokens_per_second_per_gpu == Reading(7260.0, 1)
    swift = parse_log(["{'loss': 1.1, 'train_speed(s/it)': 5.25, 'iteration': '5/100'}"])
    assert swift.seconds == Reading(5.25, 1)
    trainer = parse_log(["{'train_runtime': 100.0, 'train_steps_per_second': 0.5, 'train_loss': 1.0}"])
    assert trainer.seconds == Reading(2.0, 1)
    tune = parse_log(["Step 10 | loss:1.1 tokens_per_second_per_gpu:1234.5 peak_memory_reserved:22.25"])
    assert tune.tokens_per_second_per_gpu == Reading(1234.5, 1)


def test_lines_as_public_logs_have_them() -> None:
    """Ranks that print on one line, Argonne's names of Megatron's values, and prime-rl's line of a step."""
    glued = "max reserved: 1024.0[Rank 0] (after 1 iterations) memory (MB) | max allocated: 1.0 | max reserved: 3072.0"
    step = "10:00:00 SUCCESS Step 4 | Time: 0.50s | Loss: 2.5 | Throughput: 900 tokens/s | Peak Mem.: 15.5/79.2 GiB"
    argonne = " - iteration=  2/ 9 | elapsed_time_per_iteration_ms=29570.0 | learning_rate=9.4e-09"
    log, prime = parse_log([glued, argonne]), parse_log([step])
    assert (log.seconds, log.reserved_gib) == (Reading(29.57, 1), Reading(3.0, 2))
    assert (prime.seconds, prime.reserved_gib) == (Reading(0.5, 1), Reading(15.5, 1))


def test_each_phase_takes_the_time_of_the_log() -> None:
    fitted = fit(load(RL, PASSES), parse_log(SLIME), source="run.log", date="2026-11-21")
    seconds = phase_seconds(fitted.after)
    assert seconds["rollout"] == pytest.approx(70.0)
    assert seconds["log_probs"] == pytest.approx(11.0)
    assert seconds["train"] == pytest.approx(30.0)
    assert seconds["weight_sync"] == pytest.approx(4.0)
    assert seconds["switch"] == pytest.approx(5.0)
    assert seconds["step"] == pytest.approx(120.0)  # the step's 115 s are less than the phases: nothing is left over
    assert fitted.calibration.other_seconds == 0.0
    longer = [*SLIME[:1], SLIME[1].replace("115.0", "130.0")]
    after = fit(load(RL, PASSES), parse_log(longer), source="run.log", date="2026-11-21")
    assert after.calibration.other_seconds == pytest.approx(130 - 60 - 50)
    assert after.after.step_seconds == pytest.approx(130.0)
    assert {entry.name: entry.amount for entry in after.after.time}["rewards, data and logging"] == pytest.approx(20.0)


def test_train_time_alone_is_shared_by_its_parts() -> None:
    fitted = fit(load(RL), parse_log(["{'perf/train_time': 50.0}"]), source="run.log", date="2026-11-21")
    before, after = phase_seconds(fitted.before), phase_seconds(fitted.after)
    assert after["train"] + after["log_probs"] == pytest.approx(50.0)
    assert after["train"] / after["log_probs"] == pytest.approx(before["train"] / before["log_probs"])
    assert after["rollout"] == pytest.approx(before["rollout"])


def test_a_pretraining_run_gives_its_rate_and_its_memory() -> None:
    pins = ["layout.tensor_parallel=4", "layout.pipeline_parallel=2", "layout.context_parallel=1"]
    pins += ["layout.virtual_pipeline=1", "batch.micro_batch_size=1", "layout.recomputed_layers=all"]
    document = load(PRETRAIN, [*pins, "layout.zero_stage=1"])
    log = parse_log(["tokens/s: 30000", "memory: 60.00GiB"])
    fitted = fit(document, log, source="run.log", date="2026-11-21")
    assert fitted.after.tokens_per_second == pytest.approx(30000)
    assert allocator_gib(fitted.after) == pytest.approx(60.0)
    assert fitted.before.peak_gib - allocator_gib(fitted.before) == pytest.approx(fitted.after.peak_gib - 60.0)


def test_a_file_goes_there_and_back_and_a_scenario_can_name_it(tmp_path: Path) -> None:
    fitted = fit(load(RL, PASSES), parse_log(SLIME), source='odd "name": #1', date="2026-11-21")
    path = tmp_path / "run.yaml"
    path.write_text(overlay_text(fitted.calibration))
    again, provenance = load_calibration(str(tmp_path / "x.yaml"), "run.yaml")
    assert again is not None
    assert again.source == fitted.calibration.source
    assert again.factor("rollout") == pytest.approx(fitted.calibration.factor("rollout"))
    assert provenance[0][0] == "run.yaml"
    plan = estimate(load(RL, [*PASSES, f"calibration={path}"]))
    assert plan.step_seconds == pytest.approx(fitted.after.step_seconds)
    assert (str(path), provenance[0][1]) in plan.problem.provenance
    with pytest.raises(InputError, match="no such file"):
        estimate(load(RL, ["calibration=absent.yaml"]))


def test_logs_of_other_work_are_refused() -> None:
    verl = parse_log(["timing_s/old_log_prob:3 - timing_s/gen:5"])
    with pytest.raises(InputError, match="reference_model"):
        fit(load(RL, PASSES), verl, source="x", date="2026-11-21")
    with pytest.raises(InputError, match="no RL step"):
        fit(load(PRETRAIN), verl, source="x", date="2026-11-21")
    with pytest.raises(InputError, match="no phases"):
        fit(load(RL), parse_log(["tokens/s: 100"]), source="x", date="2026-11-21")


@pytest.mark.parametrize("seed", range(0, 150, 10))
def test_the_solver_sees_the_factors(seed: int) -> None:
    """With factors far from one, the solver still finds what enumeration finds, and the plan re-costs to the same."""
    case = random_case(seed, most_points=3000)
    phases: dict[Phase, float] = {"rollout": 3.0, "log_probs": 0.3, "train": 1.7, "weight_sync": 5.0, "switch": 2.0}
    calibration = Calibration(
        name="test",
        phases={p: Factor(factor=f, measured=f, predicted=1, lines=1) for p, f in phases.items()},
        memory=Factor(factor=0.9, measured=0.9, predicted=1, lines=1),
        other_seconds=1.5,
        source="test",
        date="2026-11",
        lines=1,
    )
    problem = replace(case.question().first, calibration=calibration)
    space = build_space(problem.alone)
    rollouts = RolloutTable(problem.alone, space.rollouts) if space.rollouts is not None else None
    costs = RowCosts(problem.alone, space.layouts)
    best = enumerate_best(problem.alone, costs, rollouts)
    outcome = search(problem.alone, check_points=0)
    assert agrees(costs, rollouts, outcome.plan, best), case.text


def test_a_factor_multiplies_the_items_of_its_phase_alone() -> None:
    problem = question_of(load(RL)).first
    before = estimate_question(problem.alone)
    calibration = Calibration(
        name="x",
        phases={"train": Factor(factor=2, measured=2, predicted=1, lines=1)},
        source="x",
        date="2026-11",
        lines=1,
    )
    after = estimate_question(replace(problem, calibration=calibration).alone)
    first, last = dict(before.phases), dict(after.phases)
    for name in first:
        assert last[name] == pytest.approx(first[name] * (2 if name in ("training", "update") else 1)), name
    doubled = next(entry for entry in after.time if entry.name == "matrix products")
    assert doubled.source.endswith("x 2 by the calibration")


def test_the_command_prints_both_errors_and_writes_the_file(tmp_path: Path) -> None:
    out = tmp_path / "run.yaml"
    done = run("calibrate", DAPO, "--log", DAPO_LOG, "--out", str(out), "--date", "2026-11-21")
    assert done.code == 0, done.err
    assert "error of step" in done.out
    assert 'date: "2026-11-21"' in out.read_text()
    done = run("estimate", DAPO, "--set", f"calibration={out}")
    assert "calibrated with" in done.out
    assert run("calibrate").code == 2
    empty = tmp_path / "empty.log"
    empty.write_text("nothing\n")
    assert run("calibrate", DAPO, "--log", str(empty)).code == 2


def test_a_log_of_another_run_is_asked_about_with_what_explains_it() -> None:
    pins = ["layout.tensor_parallel=4", "layout.pipeline_parallel=2", "layout.context_parallel=1"]
    pins += ["layout.virtual_pipeline=1", "batch.micro_batch_size=1", "layout.zero_stage=1"]
    catalog = default_catalog()
    own = load(PRETRAIN, [*pins, "layout.recomputed_layers=0"])
    other = fit(load(PRETRAIN, [*pins, "layout.recomputed_layers=all"]), parse_log(["tokens/s: 30000"]), **WHEN)
    rate = other.before.tokens_per_second
    log = parse_log([f"tokens/s: {rate}", f"memory: {allocator_gib(other.before)}GiB"])
    found = doubts(fit(own, log, **WHEN), catalog)
    assert {doubt.row.name for doubt in found} >= {"reserved memory"}
    for doubt in found:
        assert doubt.explanations[0].setting == "layout.recomputed_layers=all"
        assert abs(doubt.explanations[0].error) < 1e-6
    mine = fit(own, parse_log(["tokens/s: 30000"]), **WHEN)
    near = parse_log([f"tokens/s: {mine.before.tokens_per_second * 1.05}"])
    assert doubts(fit(own, near, **WHEN), catalog) == ()


WHEN = {"source": "run.log", "date": "2026-11-21"}
