"""The harness of published memory measurements: its arithmetic, its exclusions, and that every case has a fate."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from answer_schemas import violations
from click.testing import CliRunner

from planner.commands.validate import command
from planner.costs.ledger import total
from planner.formulas.parameters import lora_parameters
from planner.formulas.stages import cost_balanced_stages, equal_stages, layout_stages, padded_ends_stages
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document
from planner.search.estimate import estimate
from planner.units import GIB
from planner.validation.memory import report
from planner.validation.memory.cases import CLASSES, Case, load_cases
from planner.validation.memory.express import Prediction, express, scenario_of
from planner.validation.memory.later_look import first_said, looks
from planner.validation.memory.more_rows import more_rows
from planner.validation.memory.networks import architecture_of
from planner.validation.memory.reference import is_hard
from planner.validation.memory.run import Choice, run_memory
from planner.validation.memory.score import BARS, Fit, MemoryResult, Score
from planner.validation.memory.translate import OPTIONS, adapter_of, engine_of
from planner.validation.published import Overlay, data_folder

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(__file__).resolve().parents[2] / "validation" / "data"


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return load_cases(DATA) + more_rows(DATA)


def test_every_case_is_either_predicted_or_listed_with_a_reason(cases: tuple[Case, ...], result: MemoryResult) -> None:
    predicted = [p.case.id for p in result.predictions]
    listed = [u.case.id for u in result.unexpressed]
    assert sorted(predicted + listed) == sorted(c.id for c in cases)
    assert all(u.reason for u in result.unexpressed)


def test_every_prediction_is_a_finite_amount_whose_ledger_adds_up(result: MemoryResult) -> None:
    for p in result.predictions:
        assert math.isfinite(p.gib)
        assert p.gib > 0
        assert math.isfinite(p.peak_gib)
    for p in result.predictions[::97]:
        whole = sum(gib for _, gib, _ in p.group.ledger(p.row, p.stage, p.moment))
        items = p.group.memory.ledger(p.moment)
        shape = p.group.layers.shape
        assert whole == pytest.approx(float(np.broadcast_to(total(items), shape)[p.row, p.stage]) / GIB)
        assert all(source for _, _, source in p.items())


@pytest.mark.parametrize(
    ("name", "rows"),
    [("megatron-dense", 13), ("megatron-moe", 11), ("nanotron", 1025), ("prime-rl", 20)],
)
def test_the_classes_of_the_bars_have_the_rows_they_are_set_on(cases: tuple[Case, ...], name: str, rows: int) -> None:
    scored = [c for c in cases if c.scored_in == name and c.excluded is None and c.memory_gib is not None]
    assert len(scored) == rows


def test_known_defects_are_excluded_with_their_reason(cases: tuple[Case, ...]) -> None:
    by_id = {c.id: c for c in cases}
    for name in ("titan-052", "qwen-45", "mcore-003", "mcore-004", "bridge-25", "bridge-30", "litgpt-001"):
        assert by_id[name].excluded, name
    assert all(c.excluded for c in cases if "verify_config" in c.tags)
    assert sum(c.engine == "hf-device-map" for c in cases if c.excluded) == 11
    assert by_id["bridge-01"].correction is not None
    assert {c.scored_in for c in cases} <= set(CLASSES)


def test_corrections_change_the_field_they_name(cases: tuple[Case, ...]) -> None:
    by_id = {c.id: c for c in cases}
    assert by_id["fms-004"].sequence_length == 2048
    assert by_id["titan-078"].arch["vocab_size"] == 129280
    assert (by_id["titan-080"].micro_batch_size, by_id["titan-080"].grad_accum) == (1, 8)
    assert all(by_id[name].correction for name in ("fms-004", "titan-078", "titan-080"))
    assert by_id["fms-010"].correction is None


def test_switches_follow_dates_and_the_ladder_of_the_source(cases: tuple[Case, ...]) -> None:
    by_id = {c.id: c for c in cases}
    rules = dict(OPTIONS)
    assert rules["no_expandable_segments"](by_id["titan-046"])  # 2024-06-05
    assert not rules["no_expandable_segments"](by_id["issue-10"])  # June 2024, day not stated
    assert not rules["compile"](by_id["tune-10"])
    assert all(rules["compile"](by_id[f"tune-{n}"]) for n in range(11, 19))
    assert not rules["chunked_loss"](by_id["tune-11"])
    assert all(rules["chunked_loss"](by_id[f"tune-{n}"]) for n in range(12, 19))
    later = {
        day: dataclasses.replace(by_id["tune-20"], version_date=day) for day in ("2024-08-01", "2024-11", "2025-06")
    }
    assert [[day for day, row in later.items() if rules[name](row)] for name in ("whole_loss", "chunked_loss")] == [
        ["2024-08-01"],
        ["2024-11"],
    ]


def test_room_of_gradients_is_reserved_while_there_are_none(result: MemoryResult) -> None:
    one = next(p for p in result.predictions if p.case.id == "titan-049")
    ledger = {name: gib for name, gib, _ in one.items()}
    assert ledger["room kept for gradients"] == pytest.approx(8.03e9 * 4 / 8 / 2**30, rel=1e-3)
    assert "gradients" not in ledger


def test_hard_rows_are_those_of_the_frozen_reference(cases: tuple[Case, ...]) -> None:
    labelled = [c for c in cases if c.hard is not None]
    assert len(labelled) == 1397
    assert sum(bool(c.hard) for c in labelled) == 370
    assert all(c.hard == is_hard(c) for c in labelled)


def _fake(gib: float, measured: float | None, case: Case, peak: float = 0.0, outcome: str = "value") -> Prediction:
    return Prediction(
        dataclasses.replace(case, memory_gib=measured, outcome=outcome),
        gib,
        0,
        "loss",
        peak,
        None,
        0,  # type: ignore[arg-type]
    )


def test_score_arithmetic(cases: tuple[Case, ...]) -> None:
    rows = tuple(_fake(g, 10.0, cases[0]) for g in (9.0, 11.0, 12.0))
    score = Score("x", "allocated", rows)
    assert score.median() == pytest.approx(0.1)
    assert score.bias() == pytest.approx(0.1)
    assert score.p90() == pytest.approx(0.18)
    assert score.median("MiB") == pytest.approx(1024)
    assert score.worst.gib == 12.0


def test_fit_arithmetic(result: MemoryResult) -> None:
    some = [p for p in result.predictions if p.case.metric == "fit_oom"]
    small = next(p for p in some if p.case.outcome == "fit" and p.peak_gib < 10)
    wrong = dataclasses.replace(small, case=dataclasses.replace(small.case, outcome="oom", hard=True))
    fit = Fit((small, wrong))
    assert fit.accuracy == 0.5
    assert fit.hard_accuracy == 0.0
    assert fit.oom_among_safe == 0.5
    assert fit.safe_successes == 1.0


def test_a_case_costs_the_same_as_a_scenario_file_of_it(cases: tuple[Case, ...]) -> None:
    name = "simumax-llama3_70b_l12_tp1_pp2_dp4_mbc4_cef"
    case = next(c for c in cases if c.id == name)
    catalog = Overlay(default_catalog())
    document = scenario_of(case, catalog)
    plan = estimate(Document(name, document, ""), catalog)
    (prediction,), _ = express([case])
    assert plan.peak_gib == pytest.approx(prediction.peak_gib)


@pytest.mark.parametrize("bar", [b for b in BARS if b.name.startswith("megatron-") and b.name != "megatron-moe"])
def test_bars_that_were_reached_stay_reached(result: MemoryResult, bar: object) -> None:
    reached = next(r for r in result.bars() if r.bar is bar)
    assert reached.ok, (reached.bar.name, reached.score.median(reached.bar.unit), reached.score.p90(reached.bar.unit))


def test_stages() -> None:
    assert equal_stages(layers=10, stages=4) == (3, 3, 2, 2)
    assert cost_balanced_stages(layers=32, stages=4, layer_cost=243.3, head_cost=536.9) == (9, 9, 8, 6)
    assert padded_ends_stages(layers=126, stages=8) == (15, 16, 16, 16, 16, 16, 16, 15)
    assert layout_stages(text="Et*3|(tt|)*6mL", stages=2) == (9, 6)


@pytest.mark.parametrize("style", ["table", "json", "markdown", "html"])
def test_the_command_prints_every_format(style: str) -> None:
    out = CliRunner().invoke(command, ["memory", "--source", "simumax_b200", "--format", style, "--worst", "--rows"])
    assert out.exit_code == 0, out.output
    assert "simumax" in out.output
    if style == "json":
        answer = json.loads(out.output)
        assert answer["bars"][0]["class"] == "megatron-dense"
        assert violations("validate-memory", answer) == []
        assert "memory_cases.jsonl.gz" in [asked["file"] for asked in answer["provenance"]["inputs"]]
        assert answer["provenance"]["catalog"]
    if style == "html":
        assert "<svg" in out.output
        assert "http" not in out.output.split("<h2>")[0]


def test_check_exits_with_5_when_a_bar_is_missed() -> None:
    arguments = ["memory", "--class", "single-reserved", "--check"]
    code = CliRunner().invoke(command, arguments).exit_code
    reached = run_memory(DATA, Choice(classes=("single-reserved",)))[0].ok
    assert code == (0 if reached else 5)


def test_markdown_escapes_pipes() -> None:
    assert "a\\|b" in report.render_markdown([("t", ["h"], [["a|b"]])])


def test_a_sample_is_enough_for_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a checkout the tables that need all rows are those of the package, and no line is wider than 80."""
    sample = ROOT / "validation" / "sample"
    monkeypatch.setattr("planner.validation.published.data_folder", lambda: sample)
    for name in ("known_errors", "known_durations"):
        told = CliRunner().invoke(command, ["summary" if name == "known_errors" else "durations"])
        assert (told.exit_code, told.stdout) == (0, (ROOT / "catalogs" / "measured" / f"{name}.json").read_text())
    told = CliRunner().invoke(command, ["memory", "--data", str(sample)])
    assert told.exit_code == 0
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert CliRunner().invoke(command, []).exit_code == 0


def test_the_checkout_holds_the_data() -> None:
    assert (data_folder() / "memory_cases.jsonl.gz").is_file()
    assert (data_folder() / "sources.yaml").is_file()


def test_a_row_that_cannot_be_said_does_not_sink_its_group(cases: tuple[Case, ...]) -> None:
    whole = next(c for c in cases if c.id == "simumax-llama3_70b_l12_tp1_pp2_dp4_mbc4_cef")
    # More stages than layers, which Megatron refuses; it stands first, so that the group is asked by it.
    layout = {**whole.layout, "pp": 16, "dp": 1}
    deep = dataclasses.replace(whole, id="too-deep", layout=layout, num_gpus=16 * (whole.layout["cp"] or 1))
    others = [dataclasses.replace(whole, id=f"row-{n}") for n in range(3)]
    told, lost = express([deep, *others])
    assert [p.case.id for p in told] == [c.id for c in others]
    assert [u.case.id for u in lost] == ["too-deep"]


def test_a_last_stage_of_the_head_alone_is_a_layout_of_nanotron(cases: tuple[Case, ...]) -> None:
    whole = next(c for c in cases if c.source == "nanotron_fit_oom" and c.layout["pp"] == 8)
    bare = dataclasses.replace(whole, arch={**whole.arch, "num_hidden_layers": 8})
    told, lost = express([bare])
    assert not lost
    assert told[0].group.layers[0].tolist()[-1] == 0


def test_every_row_of_the_later_half_is_scored_or_has_its_reason(result: MemoryResult) -> None:
    later = [p.case.id for p in result.scored if p.case.development == 2]
    lost = {u.case.id: u.reason for u in result.unexpressed if u.case.development == 2}
    assert len(later) == 98
    assert len(lost) == 9
    assert set(lost.values()) == {"sequence_length not stated", "micro_batch_size not stated"}
    assert all(result.later_ok.values())


def test_rows_of_november_are_scored_or_counted_apart_with_their_reason(result: MemoryResult) -> None:
    """142 measured, of which six have no words here; 33 doubtful ones apart; six that ran out of memory."""
    said = [p for p in result.predictions if p.case.development == 3]
    lost = [u for u in result.unexpressed if u.case.development == 3]
    assert len(said) + len(lost) == 181
    scored = [p for p in result.scored if p.case.development == 3]
    assert len(scored) + len(lost) == 142
    assert {p.case.scored_in for p in scored} == {"later"}, "they make intervals and fits, and no bar of other rows"
    apart = [p for p in said if p.case.doubtful]
    assert len(apart) == 33
    assert all(p.case.excluded for p in apart)
    assert sum(p.case.outcome == "oom" for p in said) == 6
    by_stack = {stack.name: stack.third for stack in result.stacks() if stack.third is not None}
    assert sum(score.rows for score in by_stack.values()) == len(scored)
    told = first_said(data_folder())
    assert len(told) == 154
    assert {p.case.id for p in said} >= set(told)
    one = next(look for look in looks(result, data_folder()) if look.engine == "prime-rl")
    # (measured 18.912, said 19.11) and 23 more
    assert len(one.first) == 24
    assert one.held == 1.0


def test_rows_read_after_those_are_scored_or_counted_apart_too(result: MemoryResult) -> None:
    """144 of 12 sources, 9 doubtful; 44 had no words at first (attention that is not fused, on Transformers)."""
    said = [p for p in result.predictions if p.case.development == 4]
    assert not [u for u in result.unexpressed if u.case.development == 4]
    assert len({p.case.source for p in said}) == 12
    scored = [p for p in result.scored if p.case.development == 4]
    assert {p.case.scored_in for p in scored} == {"later"}
    ran_out = [p for p in said if p.case.outcome == "oom" and p.case.doubtful is None]
    assert (len(scored), len(ran_out), len(said)) == (134, 1, 144)
    assert sum(stack.fourth.rows for stack in result.stacks() if stack.fourth is not None) == len(scored)
    assert sum(p.case.doubtful is not None for p in said) == 9
    told = first_said(data_folder(), 4)
    assert set(told) <= {p.case.id for p in said}, "what was said first stays on record"
    assert len(told) == 100
    one = next(look for look in looks(result, data_folder(), 4) if look.engine == "nanotron")
    # 20 of 24: said 20.44 of 25.49 GiB, just inside; 19.35 of 31.13 and three more outside
    assert (len(one.first), round(one.held * len(one.first))) == (24, 20)


def test_rows_read_last_on_that_day_are_scored_too(result: MemoryResult) -> None:
    """80 of 13 sources: 42 had no words at first, 41 of them have since and had their one look too; ten ran out."""
    rows = [p.case for p in result.predictions] + [u.case for u in result.unexpressed]
    fresh = [c for c in rows if c.development == 5]
    assert (len(fresh), len({c.source for c in fresh})) == (80, 13)
    scored = [p for p in result.scored if p.case.development == 5]
    assert {p.case.scored_in for p in scored} == {"later"}
    assert sum(stack.fifth.rows for stack in result.stacks() if stack.fifth is not None) == len(scored) == 53
    told = first_said(data_folder(), 5)
    assert (len(told), len(fresh) - len(told)) == (79, 1)
    said = {p.case.id: p for p in result.predictions}
    assert set(told) <= set(said)
    ran_out = [name for name in told if said[name].case.outcome == "oom"]
    missed = [name for name in ran_out if told[name].peak_gib <= said[name].usable_gib]
    assert (len(ran_out), missed) == (10, ["b200sweep-qwen3-b14-oom"]), "read otherwise since, and in doubt"
    sure = [c for c in fresh if c.id in told and not c.doubtful and c.memory_gib]
    inside = [c.id for c in sure if told[c.id].low_gib <= (c.memory_gib or 0) <= told[c.id].high_gib]
    # torchtitan 18 of 18, one GPU 28 of 28, FSDP2 three of seven: Llama 70B took 53.1 GiB where 34.0 was said.
    assert (len(inside), len(sure)) == (49, 53)


def test_rows_of_the_day_after_are_scored_too(result: MemoryResult) -> None:
    """110 of 15 sources, 8 without words at first; 16 of 20 that ran out were said not to fit; 46 of 53 inside."""
    rows = {c.id: c for c in [p.case for p in result.predictions] + [u.case for u in result.unexpressed]}
    rows = {name: c for name, c in rows.items() if c.development == 6}
    assert (len(rows), len({c.source for c in rows.values()})) == (110, 15)
    scored = [p for p in result.scored if p.case.development == 6]
    assert {p.case.scored_in for p in scored} == {"later"}
    assert sum(stack.sixth.rows for stack in result.stacks() if stack.sixth is not None) == len(scored)
    wordless = [u.case for u in result.unexpressed if u.case.development == 6 and u.case.memory_gib]
    assert len(scored) + len([c for c in wordless if not c.doubtful]) == 58
    told = first_said(data_folder(), 6)
    assert set(told) <= set(rows)
    assert len(told) == 102
    usable = {p.case.id: p.usable_gib for p in result.predictions}
    ran_out = [name for name in told if rows[name].outcome == "oom"]
    assert (sum(told[name].peak_gib > usable[name] for name in ran_out), len(ran_out)) == (16, 20)
    sure = [c for name, c in rows.items() if name in told and not c.doubtful and c.memory_gib]
    inside = [c.id for c in sure if told[c.id].low_gib <= (c.memory_gib or 0) <= told[c.id].high_gib]
    # Megatron 41 of 44: 78.1 GiB of eight ranks of a ring where 60.9 were said, two of eight expert ranks.
    assert (len(inside), len(sure)) == (46, 53)


def test_tensor_parallel_rows_may_leave_norms_whole(cases: tuple[Case, ...]) -> None:
    """A log that says `sequence_parallel False` is costed so; the word is no option of an engine file."""
    rows = {c.id: c for c in cases if c.development == 4}
    whole = rows["pai-llama3.1-8b-allocated"]
    assert (whole.layout["tp"], whole.sequence_parallel) == (2, False)
    assert not [flag for flag in whole.flags if "no_sequence_parallel" in flag]
    assert rows["swift-docs-7b-full"].sequence_parallel


def test_fsdp2_rows_are_not_all_of_prime_rl(cases: tuple[Case, ...]) -> None:
    one = next(c for c in cases if c.source == "prime_rl")
    assert engine_of(one) == "prime-rl"
    assert engine_of(dataclasses.replace(one, source="elsewhere", framework="accelerate, FSDP2")) == "fsdp2"


def test_adapters_have_as_many_parameters_as_their_rows_print(cases: tuple[Case, ...]) -> None:
    """Qwen 7B at rank 2 trains 1.05 M: one adapter over the one matrix of queries, keys and values, not three."""
    printed = {}
    for case in cases:
        found = re.search(r"([\d.]+)M trainable", str((case.lora or {}).get("detail")))
        if found:
            printed[case.model, case.engine, found.group(1)] = case
    for (_, _, millions), case in printed.items():
        adapter = adapter_of(case)
        assert adapter is not None
        trained = lora_parameters(architecture_of(case, default_catalog()), adapter["rank"], adapter["targets"])
        assert round(trained / 1e6, len(millions.partition(".")[2])) == float(millions), case.id
    assert {millions for _, _, millions in printed} >= {"1.05", "33.55", "17.89", "1.67", "53.7", "143.1", "13.63"}


def test_words_of_the_rows_reach_the_scenario(cases: tuple[Case, ...]) -> None:
    """Every second layer, a paged optimizer, a base in fp8, Megatron's names of its matrices."""
    by_id = {
        case.id: scenario_of(case, Overlay(default_catalog())) for case in cases if case.id in ("ao-19", "tune-22")
    }
    assert by_id["ao-19"]["layout"]["recomputed_layers"] * 2 == 32
    assert by_id["ao-19"]["engine_options"].count("every_kth_layer") == 1
    assert by_id["tune-22"]["optimizer"] == "paged-adamw-32bit"
    assert "optimizer_in_backward" in by_id["tune-22"]["engine_options"]
    frozen = [adapter_of(c) for c in cases if "FP8" in str((c.lora or {}).get("base_quant"))]
    assert len(frozen) == 7
    assert all(a and a["base_precision"] == "fp8-weights" for a in frozen)
    assert all(a and a["targets"] == ["linear_qkv", "linear_proj"] for a in frozen)
