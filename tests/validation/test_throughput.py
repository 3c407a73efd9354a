"""The throughput harness: its arithmetic by hand, and a few published runs through the planner."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from answer_schemas import violations
from click.testing import CliRunner

from planner.commands.validate_throughput import command
from planner.costs.coefficients import RowCosts
from planner.costs.time.step_time import StepTime
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.problem.resolve import question_of
from planner.problem.stage_choices import even_layers
from planner.search.space import build_space
from planner.validation.published import data_folder
from planner.validation.throughput import report
from planner.validation.throughput.cases import CLASSES, Speed, load_speeds
from planner.validation.throughput.constants import EVERY_ENGINE, FITTED, value_of, with_value
from planner.validation.throughput.express import Estimate, express, load_sources
from planner.validation.throughput.left_out import UNFITTED, LeftOutSpeeds, left_out_speeds
from planner.validation.throughput.ran import excess_gib, live_gib, ran, ran_document
from planner.validation.throughput.score import (
    accuracy,
    bars,
    by_source,
    group_score,
    groups,
    ranks,
    spearman,
    trivial_pick,
)

FOLDER = data_folder()
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="published measurements come with a checkout")


@cache
def speeds() -> tuple[Speed, ...]:
    return load_speeds(FOLDER)


@cache
def sample() -> tuple[Estimate, ...]:
    """One vTrain sweep and a row of each dense source."""
    scored = [s for s in speeds() if s.excluded is None]
    sweep = [s for s in scored if s.group[:4] == ("vtrain", "gpt-h1024-L12-a16-v50257", "a100-sxm4-80gb", "2")]
    others = {s.source: s for s in reversed(scored) if s.accuracy == "dense-bf16"}
    done, failed = express([*sweep, *others.values()], load_sources(FOLDER))
    assert not failed
    return tuple(done)


def test_ranks_and_spearman_by_hand() -> None:
    assert ranks([10, 30, 20, 20]).tolist() == [1, 4, 2.5, 2.5]
    assert spearman([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert np.isnan(spearman([1, 1], [1, 2]))


def _three() -> list[Estimate]:
    base = next(e for e in sample() if e.speed.source == "vtrain")

    def made(name: str, measured: float, predicted: float, peak: float, tp: int, micro: int) -> Estimate:
        layout = {**base.speed.run.layout, "tp": tp, "pp": 1}
        run = replace(base.speed.run, id=name, layout=layout, micro_batch_size=micro)
        speed = replace(base.speed, run=run, tokens_per_s_per_gpu=measured)
        return replace(base, speed=speed, tokens_per_s_per_gpu=predicted, peak_gib=peak)

    return [
        made("a", 100, 90, 10, 1, 2),
        made("b", 80, 95, 10, 1, 4),
        made("c", 50, 99, 1e4, 2, 1),
        made("d", 40, 20, 10, 4, 1),
    ]


def test_regret_by_hand() -> None:
    score = group_score(("vtrain", "-"), _three())
    assert score.top1 == pytest.approx(0.8)  # c is faster by our model but does not fit, so b
    assert score.top3 == pytest.approx(1.0)
    assert score.trivial == pytest.approx(0.8)  # a and b have TP*PP 1, b the larger micro-batch
    assert score.random == pytest.approx((100 + 80 + 40) / 3 / 100)
    assert score.spearman == pytest.approx(-0.2 + 0.4)  # ranks 4 3 2 1 against 2 3 4 1: 1 - 6 * 8 / 60
    assert (score.picked, score.best, score.rows) == ("b", "a", 4)
    assert trivial_pick(_three()).speed.id == "b"


def test_errors_by_hand() -> None:
    found = accuracy("x", _three())
    assert found.median == pytest.approx(np.median([0.1, 15 / 80, 49 / 50, 0.5]))
    assert found.bias == pytest.approx(np.median([-0.1, 15 / 80, 49 / 50, -0.5]))


def test_sources_weigh_equally() -> None:
    values = [("a", 1.0), ("a", 1.0), ("a", 1.0), ("b", 0.0), ("b", float("nan"))]
    assert by_source(values, lambda v: sum(v) / len(v)) == pytest.approx(0.5)


def test_every_row_is_scored_or_has_a_reason() -> None:
    for speed in speeds():
        assert speed.accuracy in CLASSES
        if speed.excluded is None:
            assert speed.tokens_per_s_per_gpu, speed.id
        else:
            assert len(speed.excluded) > 5


def test_the_sweeps_are_those_of_the_issue() -> None:
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for speed in speeds():
        if speed.excluded is None and speed.network in ("", "good"):
            found.setdefault(speed.group, set()).add(speed.same_layout)
    count = {"vtrain": 0, "nanotron": 0, "megatron_bridge": 0}
    for key, layouts in found.items():
        if len(layouts) >= 8 and key[0] in count:
            count[key[0]] += 1
    assert count == {"vtrain": 46, "nanotron": 19, "megatron_bridge": 0}


def test_a_layout_of_several_releases_is_one_row() -> None:
    rows = [e for e in sample() if e.speed.group == next(s for s in sample() if s.speed.source == "vtrain").speed.group]
    slower = replace(rows[0].speed, tokens_per_s_per_gpu=0.8 * (rows[0].speed.tokens_per_s_per_gpu or 0))
    (before,) = groups(rows)
    (after,) = groups([*rows, replace(rows[0], speed=slower), replace(rows[0], speed=slower)])
    assert (before.rows, after.rows) == (len(rows), len(rows))
    assert groups(rows[:7] + rows[:1]) == []  # eight rows of seven layouts


def test_jobs_before_and_after_the_repair_of_the_nodes_are_two_sweeps() -> None:
    swept = [s for s in speeds() if s.run.source == "nanotron_sweep" and s.excluded is None]
    assert {s.node for s in swept} == {"nodes of 425 GB/s", "nodes of 449 GB/s"}
    assert len({s.group for s in swept}) > len({s.group[:-2] for s in swept})


def test_published_runs_go_through_the_code_that_plans() -> None:
    for e in sample():
        costs = RowCosts(e.problem.alone, e.layouts)
        stages = np.zeros((1, costs.stages), dtype=np.int64)
        layers, again = stages + e.layers, stages + e.recomputed
        assert costs.step_seconds(np.array([e.row]), layers, again)[0] == pytest.approx(e.seconds)
        assert abs(e.error) < 0.5, e.speed.id
    assert {e.speed.source for e in sample()} >= {"vtrain", "nanotron", "llmfoundry", "dgxc", "fms_fsdp"}


def test_the_reports_say_the_same() -> None:
    result = report.ThroughputResult(sample(), tuple(s for s in speeds() if s.excluded)[:5], ())
    data: dict[str, Any] = json.loads(report.render_json(result, rows=True))
    assert violations("validate-throughput", data) == []
    assert data["provenance"]["catalog"]
    assert len(data["rows"]) == len(sample())
    assert [b["name"] for b in data["bars"]] == [b.name for b in bars(sample(), result.groups)]
    assert report.render_text(result) == report.render_text(result)
    page = report.render_html(result)
    assert page.count("<svg") == len({e.speed.accuracy for e in sample()})
    assert "<script" not in page
    assert "http" not in page.replace("https://", "http").split("</style>")[0]
    assert report.render_markdown(result, rows=True).count("|") > 100


def test_the_command_runs_on_one_source() -> None:
    out = CliRunner().invoke(command, ["--source", "fms_fsdp", "--format", "json"])
    assert out.exit_code == 0, out.output
    assert sum(a["rows"] for a in json.loads(out.output)["accuracy"]) == 8


def test_fitted_constants_exist_and_are_few() -> None:
    catalog = default_catalog()
    for fitted in FITTED:
        assert value_of(fitted, catalog) > 0
        place = tuple(fitted.path[2].split(".")) if fitted.path[0] == "options" else fitted.path
        owner = "megatron-core" if fitted.owner == EVERY_ENGINE else fitted.owner
        changed = with_value(catalog.find(fitted.kind, owner), place, 0.123)
        assert "0.123" in changed.model_dump_json()
    assert all(sum(f.owner == owner for f in FITTED) <= 12 for owner in {f.owner for f in FITTED})


def test_rows_of_transformers_stand_in_classes_of_their_stack() -> None:
    """Those that print a speed beside memory run by the switches and the optimizer of the memory rows."""
    names = ("zero3", "zero2", "fsdp1", "fsdp1-adapters", "one-gpu-full", "one-gpu-adapters")
    rows = [s for s in speeds() if s.accuracy in names]
    assert [sum(s.accuracy == name for s in rows) for name in names] == [25, 11, 27, 84, 22, 93]
    assert set(names) <= set(UNFITTED)
    assert len({s.id for s in speeds()}) == len(speeds())
    asked = ("fms-030-speed", "zero3-8b-h200-32k", "zero3-qwen-72b-lora-2048", "zero3-qwen-7b-512")
    done, failed = express([s for s in rows if s.id in asked], load_sources(FOLDER))
    assert not failed
    assert all(abs(e.error) < 0.25 for e in done)
    found = {e.speed.id: e.problem for e in done}
    assert found["fms-030-speed"].engine.id == "fsdp1"
    assert found["fms-030-speed"].optimizers[0].id == "adamw-foreach"
    assert found["zero3-8b-h200-32k"].optimizer_on_host
    assert found["zero3-8b-h200-32k"].engine.timing.attention_kernel == "newest"


@cache
def _left_out(factor: float) -> LeftOutSpeeds:
    """Rows of two sources on H100 in bf16, those of one of them so many times as fast as published."""
    scored = [s for s in speeds() if s.excluded is None and s.accuracy == "dense-bf16" and "h100" in (s.run.gpu or "")]
    scored = [s for s in scored if s.run.layout["tp"] == 1]
    picked = [[s for s in scored if s.source == name][:3] for name in ("dgxc", "llmfoundry")]
    scaled = [replace(s, tokens_per_s_per_gpu=factor * (s.tokens_per_s_per_gpu or 0)) for s in picked[0]]
    done, failed = express([*scaled, *picked[1]], load_sources(FOLDER))
    assert not failed
    return left_out_speeds(done)


def test_a_constant_fitted_again_is_not_moved_by_the_rows_it_is_scored_on() -> None:
    usual, faster = _left_out(1.0), _left_out(1.2)
    rate = [{r.group: r.value for r in left.refits if "sustained" in r.fitted.name} for left in (usual, faster)]
    assert rate[0]["dgxc"] == rate[1]["dgxc"]
    assert rate[1]["llmfoundry"] > (rate[0]["llmfoundry"] or 0)
    told = [{e.speed.id: e.tokens_per_s_per_gpu for e in left.estimates} for left in (usual, faster)]
    own = {e.speed.id for e in usual.estimates if e.speed.source == "dgxc"}
    assert {name: told[0][name] for name in own} == {name: told[1][name] for name in own}


def test_a_constant_of_one_source_stays_in_sample_and_says_so() -> None:
    left = _left_out(1.0)
    alone = {r.fitted.name: r.value for r in left.refits if r.fitted.owner == "llm-foundry"}
    assert list(alone.values()) == [None]
    standing = {e.speed.source: left.standing[e.speed.id] for e in left.estimates}
    assert standing == {"dgxc": "left out", "llmfoundry": "in-sample"}
    result = report.ThroughputResult(left.estimates, (), (), left)
    data: dict[str, Any] = json.loads(report.render_json(result))
    assert violations("validate-throughput", data) == []
    assert data["left_out"]["classes"] == [
        {**data["left_out"]["classes"][0], "class": "dense-bf16", "rows": 6, "in_sample_rows": 3}
    ]
    assert "in-sample" in report.render_text(result)


def _rows(**override: str) -> tuple[RowCosts, np.ndarray]:
    pins = {"layout.context_parallel": "[1, 2, 4]", "layout.virtual_pipeline": "1", **override}
    question = question_of(load("scenarios/llama70b_64xh100.yaml", [f"{k}={v}" for k, v in pins.items()]))
    costs = RowCosts(question, build_space(question).layouts)
    layers = even_layers(question.first, costs.layouts, costs.stages)
    return costs, costs.step_seconds(np.arange(len(costs.layouts)), layers, layers * 0)


def test_context_parallelism_is_never_free() -> None:
    """At equal TP and micro-batch, cutting an 8k sequence over more ranks costs time (fewer samples at once).

    Without a pipeline: with one, more micro-batches on each rank shorten the bubble, which may be worth more.
    """
    costs, seconds = _rows()
    lay = costs.layouts
    table = {
        (int(lay.tensor_parallel[i]), int(lay.pipeline_parallel[i]), int(lay.context_parallel[i])): seconds[i]
        for i in range(len(lay))
        if lay.micro_batch_size[i] == 1
    }
    compared = 0
    for (tp, pp, cp), value in table.items():
        if cp == 1 and pp == 1 and (tp, pp, 4) in table:
            compared += 1
            assert table[tp, pp, 4] > value, (tp, pp)
    assert compared


def test_a_faster_gpu_never_slows_a_layout() -> None:
    _, h100 = _rows()
    _, b200 = _rows(**{"cluster.node": "dgx-b200"})
    if len(h100) == len(b200):
        assert (b200 <= h100).all()


BLOOM = "bs-84x13312-h64-tp4-pp12-b2-g2048-226"


def test_lora_and_amd_are_scored_on_their_own_and_fit_nothing() -> None:
    """Frozen fp8 weights are read by fp8 products as they are; nothing is unpacked."""
    names = ("adapters", "amd", "one-gpu", "sweep-unseen")
    rows = [s for s in speeds() if s.accuracy in names]
    assert [sum(s.accuracy == name for s in rows) for name in names] == [17, 5, 6, 33]
    assert set(names) <= set(UNFITTED)
    done, failed = express(
        [s for s in rows if s.id in ("lora-h200-8-cp2", "amd-8b-fp8-8", BLOOM)], load_sources(FOLDER)
    )
    assert not failed
    (bloom,) = (e for e in done if e.speed.id == BLOOM)
    assert bloom.offered
    assert not bloom.layouts.take(bloom.row).sequence_parallel[0]
    assert all(abs(e.error) < 0.1 for e in done)
    (lora,) = (e for e in done if e.problem.scenario.adapter is not None)
    time = StepTime(lora.problem, lora.layouts.take(lora.row).expand(), np.zeros((1, 1), dtype=np.int64))
    kinds = {row.name for row in time.train}
    assert "adapter products" in kinds
    assert "unpacking frozen weights" not in kinds


def test_runs_that_ran_are_counted_by_what_the_memory_model_says_of_them() -> None:
    first, second, third = (replace(e, usable_gib=e.peak_gib + 0.01) for e in sample()[:3])
    assert live_gib(first) <= first.peak_gib
    assert live_gib(second) < second.peak_gib - 0.001
    second = replace(second, usable_gib=second.peak_gib - 0.001)
    third = replace(third, usable_gib=live_gib(third) - 0.5)
    found = ran([first, second, third])
    assert [e.speed.id for r in found for e in r.false_oom] == [third.speed.id]
    assert [e.speed.id for r in found for e in r.critical] == [second.speed.id]
    assert sum(r.not_offered for r in found) == 3
    lines = ran_document([first, second, third])
    assert [sum(line[name] for line in lines) for name in ("said_not_to_fit", "critical")] == [1, 1]
    assert excess_gib(second) == pytest.approx(0.001)


def test_what_a_fused_loss_needs_is_four_bytes_a_logit() -> None:
    """Counted by hand: llm-foundry's fused cross-entropy keeps 16-bit logits and makes their gradient beside them."""
    row = next(s for s in speeds() if s.run.id == "llmfoundry-214")
    (run,), _ = express([row], load_sources(FOLDER))
    tokens, network = row.run.micro_batch_size * row.run.sequence_length, row.run.arch
    logits = 4 * tokens * network["vocab_size"] / 2**30
    layer = 2 * (2 + 2 + 3 + 1 + 4 + 4) * tokens * network["hidden_size"] / 2**30  # norms, inputs, qkv, attention, MLP
    assert live_gib(run) == pytest.approx(logits + layer * network["num_hidden_layers"], rel=0.1)
    assert run.fits
