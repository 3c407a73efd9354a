"""Errors left out of every fit, and the intervals that are made of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from planner.commands.validate import command
from planner.inputs.catalog import default_catalog
from planner.inputs.memory_spread import Z90
from planner.validation.memory.cases import first_look
from planner.validation.memory.constants import fitted_numbers, with_values
from planner.validation.memory.coverage import BAR, TELLING, Coverage, Covered
from planner.validation.memory.intervals import LEAST_ROWS, ErrorPool, ErrorRow, FirstLook
from planner.validation.memory.left_out_report import LeftOutReport, left_out_of
from planner.validation.memory.reliability import chances, told
from planner.validation.memory.run import Choice, data_folder, run_memory
from planner.validation.memory.score import MemoryResult
from planner.validation.memory.summary import memory_tables
from planner.validation.refit import best_value

DATA = Path(__file__).resolve().parents[2] / "validation" / "data"


@pytest.fixture(scope="module")
def left(result: MemoryResult) -> LeftOutReport:
    return left_out_of(result, DATA)


def test_a_number_fitted_again_is_not_moved_by_the_rows_it_is_scored_on(left: LeftOutReport) -> None:
    """The reserve of one GPU has ten sources: without some it is another number, and the source's rows move by it."""
    found = {r.group: r for r in left.errors.refits if r.number.name == "transformers: reserve.median"}
    assert set(found) == {
        *("answerdotai", "axolotl_examples", "fitcheck_t4", "llama_factory_wiki", "longlora"),
        *("ms_swift_benchmark", "ms_swift_examples"),
        *("peft_method_comparison", "qwen1_readme", "universal_llm_trainer"),
    }
    values = [r.value for r in found.values()]
    assert all(value is not None and 1.0 <= value < 1.1 for value in values)
    assert len(set(values)) >= 3
    one = next(p for p in left.errors.predictions if p.case.source == "peft_method_comparison")
    shipped = next(p for p in left.scored.predictions if p.case.id == one.case.id)
    assert shipped is one
    assert one.group.problem.engine.reserve.median == found["peft_method_comparison"].value
    assert left.errors.standing[one.case.id] == "left out"


def test_a_number_of_one_source_stays_in_sample_and_says_so(left: LeftOutReport, result: MemoryResult) -> None:
    lonely = [r for r in left.errors.refits if r.number.owner == "nanotron"]
    assert lonely
    assert all(r.value is None for r in lonely)
    states = {p.case.id: left.errors.standing[p.case.id] for p in result.scored if p.case.scored_in == "nanotron"}
    assert set(states.values()) == {"in-sample"}
    untouched = next(p for p in left.errors.predictions if p.case.source == "simumax_b200")
    assert left.errors.standing[untouched.case.id] == "nothing fitted"


def test_the_best_value_has_the_least_median_error() -> None:
    number = next(n for n in fitted_numbers(default_catalog()) if n.name == "transformers: reserve.median")
    values = np.array([1.0, 1.2, 1.4])
    gib = np.array([10.0, 20.0, 30.0])[:, None] * values[None, :]
    assert best_value(number.value, values, gib, [13.0, 26.0, 39.0]) == pytest.approx(1.3, abs=1e-3)
    changed = with_values(default_catalog(), {number: 1.3})
    assert {e: changed.find("engines", e).reserve.median for e in ("transformers", "deepspeed", "fsdp1")} == {
        "transformers": 1.3,
        "deepspeed": 1.3,
        "fsdp1": 1.28,
    }


def test_intervals_hold_their_share_of_left_out_rows(left: LeftOutReport) -> None:
    """The bar, by engine with 20 rows; those above it have too few groups to be told from one of 90 %."""
    barred = {one.name: one for one in left.coverages if one.barred}
    assert len(barred) >= 11
    assert all(one.share >= BAR[0] for one in barred.values())
    assert all(one.chance > TELLING for one in barred.values() if one.wide)


@pytest.mark.parametrize(("inside", "chance"), [([1] * 5, 0.9**5), ([1, 1, 1, 0], 0.9**4 + 4 * 0.9**3 * 0.1)])
def test_what_few_groups_can_tell(left: LeftOutReport, inside: list[int], chance: float) -> None:
    row = left.pool.rows[0]
    groups = [replace(row, case=replace(row.case, version_date=str(n))) for n in range(len(inside))]
    held = tuple(
        Covered(group, bool(one), below=False, unlike=False, width=1.0)
        for group, one in zip(groups, inside, strict=True)
        for _ in range(7)
    )
    told = Coverage("x", held, small=False)
    assert told.chance == pytest.approx(chance)
    assert told.share == pytest.approx(sum(inside) / len(inside))
    assert told.said == ("wide, few groups" if sum(inside) == 5 else "NO")


def of_logs(left: LeftOutReport, engine: str, logs: list[float]) -> list[ErrorRow]:
    """One row a group."""
    row = next(row for row in left.pool.rows if row.engine == "torchtitan" and row.live is False)
    return [
        replace(row, engine=engine, log=log, case=replace(row.case, version_date=f"{engine} {number}"))
        for number, log in enumerate(logs * LEAST_ROWS if len(logs) == 1 else logs)
    ]


def test_few_groups_take_how_far_others_lay_on_their_own_scale(left: LeftOutReport) -> None:
    """Others' errors in units of theirs: ten times as large they say the same, one's own twice as large say twice."""
    own, others = [0.01, -0.02, 0.01, 0.03, 0.02, -0.01], [0.1, 0.2, 0.1, -0.4, 0.1, 0.1, -0.2, 0.1]

    def above(mine: float, theirs: float) -> float:
        rows = of_logs(left, "a", [mine * log for log in own]) + of_logs(left, "b", [theirs * log for log in others])
        sides = ErrorPool(tuple(rows), (), ()).spread("a", None, live=False)
        assert sides is not None
        assert sides.below == sides.above
        return sides.above

    assert above(1, 10) == pytest.approx(above(1, 1))
    assert above(2, 1) == pytest.approx(2 * above(1, 1))
    assert 0.02 < Z90 * above(1, 1) < 0.03


def test_many_groups_speak_for_themselves(left: LeftOutReport) -> None:
    """After twenty groups the one beyond them all has less than the tenth that is outside, whatever others say."""
    rows = of_logs(left, "a", [0.02, -0.02] * 10) + of_logs(left, "b", [0.1, -0.1, 0.1, 0.1, -0.1, 0.1, 3.0])
    sides = ErrorPool(tuple(rows), (), ()).spread("a", rows[0].kind.cell, live=False)
    assert sides is not None
    assert Z90 * sides.above == pytest.approx(0.02)


def test_small_runs_are_off_by_gib_and_not_by_shares(left: LeftOutReport) -> None:
    """By hand: own groups off by 0.1 and 0.2 GiB weigh a third each, the other engine's, off by 0.6, a third."""

    def small(engine: str, off_gib: float, date: str) -> ErrorRow:
        row = of_logs(left, engine, [math.log(2.0 / (2.0 - off_gib)), 0.0])[0]
        return replace(row, case=replace(row.case, memory_gib=2.0, version_date=date))

    toys = (small("a", 0.1, "1"), small("a", -0.2, "2"), small("b", 0.6, "3"))
    assert [row.off_gib for row in toys] == pytest.approx([0.1, -0.2, 0.6])
    assert ErrorPool((), toys, ()).small_gib("a") == pytest.approx(0.6)
    own = ErrorPool((), (*toys[:2], *(small("a", 0.1, str(n)) for n in range(8, 40))), ())
    assert own.small_gib("a") == pytest.approx(0.1, abs=0.02)


def test_rows_of_one_group_weigh_as_much_as_one(left: LeftOutReport) -> None:
    row = next(row for row in left.pool.rows if row.engine == "torchtitan" and row.live is False)
    groups = [replace(row, case=replace(row.case, version_date=str(n)), log=0.02 * n) for n in range(8)]
    once = left.pool.spread("torchtitan", row.kind.cell, live=False, rows=groups)
    often = left.pool.spread("torchtitan", row.kind.cell, live=False, rows=[*groups, *[groups[0]] * 90])
    assert once is not None
    assert often is not None
    assert often.above == pytest.approx(once.above, rel=0.1)


def of_sources(left: LeftOutReport, engine: str, logs: dict[str, float]) -> list[ErrorRow]:
    """Eight rows of one network a source, half of them on either side."""
    row = next(row for row in left.pool.rows if row.engine == "torchtitan" and row.live is False)
    return [
        replace(
            row, engine=engine, log=log * (-1) ** n, case=replace(row.case, id=f"{engine} {source} {n}", source=source)
        )
        for source, log in logs.items()
        for n in range(8)
    ]


def test_what_a_new_source_adds_is_what_sources_lie_beyond_the_interval_of_the_others(left: LeftOutReport) -> None:
    """By hand: of four sources one is off by 0.5, the others by 0.3; beyond an interval of 0.3 lie sqrt(0.16) = 0.4.

    The four weigh the same and the 90 % quantile, between middles of steps of a fourth, is the largest.
    """
    rows = of_sources(left, "a", {"s": 0.3, "t": 0.3, "u": 0.3, "v": 0.5})
    pool = ErrorPool(tuple(rows), (), ())
    own = pool.spread("a", rows[0].kind.cell, live=False, rows=rows[:24])
    assert own is not None
    assert Z90 * own.above == pytest.approx(0.3)
    assert Z90 * pool.added().sigma == pytest.approx(0.4)
    assert (pool.added().rows, pool.added().sources) == (32, 4)
    assert pool.added(("a", "v")).sigma == pytest.approx(0.0)


def test_a_row_tells_a_new_source_by_what_was_said_before_it_was_seen(left: LeftOutReport) -> None:
    """Whether or not it is like another: beyond an interval of 0.1 an error of 0.26 lies 0.24."""
    rows = of_sources(left, "a", {"s": 0.1, "t": 0.1, "u": 0.1})
    odd = [
        replace(row, kind=replace(row.kind, switches=("none",)), case=replace(row.case, id=f"odd {n}", source="w"))
        for n, row in enumerate(rows[:8])
    ]
    assert ErrorPool((*rows, *odd), (), ()).added().sigma == pytest.approx(0.0)
    looks = tuple(FirstLook(row.case.id, "x", -0.26) for row in odd)
    assert Z90 * ErrorPool((*rows, *odd), (), looks).added().sigma == pytest.approx(0.24)


def test_the_chance_to_fit_is_the_share_that_ran(result: MemoryResult, left: LeftOutReport) -> None:
    """Over nanotron's runs, by a spread without the run's network; where as many ran as ran out was fitted on them."""
    fit = result.fit()
    assert fit is not None
    classes = told(chances(fit, left.pool))
    assert sum(len(one.chances) for one in classes) == len(fit.predictions)
    by = {one.least: one for one in classes}
    assert by[0.0].share <= 0.01
    assert by[0.99].share >= 0.99
    assert all(first.share <= second.share + 0.1 for first, second in pairwise(classes))
    many = [one for one in classes if len(one.chances) >= 20]
    assert all(abs(one.share - one.mean) < 0.25 for one in many)


def test_a_run_like_none_gets_a_wider_interval_than_any_engine(left: LeftOutReport) -> None:
    none = left.pool.of_none()
    widths = [s for e in ("megatron-core", "torchtitan", "fsdp1") if (s := left.pool.spread(e, None, live=False))]
    assert len(widths) == 3
    assert all(s.below + s.above < none.below + none.above for s in widths)


def test_default_headrooms_cover_the_upper_end_of_the_interval(left: LeftOutReport) -> None:
    """Of engines whose headroom is told from left-out runs; an engine without runs takes the spread of all."""
    catalog = default_catalog()
    names = ("deepspeed", "fsdp1", "litgpt", "megatron-core", "prime-rl", "torchtitan", "torchtune", "transformers")
    names += ("megatron-core-replicated", "megatron-deepspeed")
    told = {name: left.pool.spread(name, None, live=False) for name in names}
    told |= dict.fromkeys(("fsdp2", "transformers-ddp"), left.pool.of_none())
    for name, sides in told.items():
        assert sides is not None
        least = 1 - math.exp(-sides.centre - Z90 * sides.above)
        assert least <= catalog.find("engines", name).default_headroom_fraction < least + 0.06, (name, least)


def test_rows_before_they_were_seen_are_part_of_what_is_like_none(left: LeftOutReport) -> None:
    assert len(left.pool.first_look) >= 98
    assert min(look.log for look in left.pool.first_look) == pytest.approx(math.log(50.39 / 144.99), abs=0.01)
    assert left.first_look["fsdp1-adapters", 2].median() == pytest.approx(1.414, abs=0.001)
    assert {"megatron", "prime-rl", "deepspeed"} <= {stack for stack, number in left.first_look if number == 3}
    assert {"megatron", "nanotron", "torchtitan"} <= {stack for stack, number in left.first_look if number == 4}


def test_what_was_said_of_other_settings_is_on_record_and_in_no_interval(left: LeftOutReport) -> None:
    """torchtitan's issue 1185: said of a local batch of 8, the run had 16; without Megatron's optimizer, PP 4 for 8."""
    told, kept = (first_look(data_folder(), reread=reread) for reread in (True, False))
    other = set(told) - set(kept)
    assert {"titan-1185-bf16", "slurm-aws-70b-rank0-reserved", "bridge-sft70b-mlp"} <= other
    assert len(other) == 23
    assert not other & {look.id for look in left.pool.first_look}
    assert {"titan-1185-bf16", "bridge-sft70b-mlp"} <= {row.case.id for row in left.pool.rows}, "as they are read now"
    assert left.first_look["torchtitan", 4].median() == pytest.approx(0.48, abs=0.01), "the first look stays"


def test_the_shipped_table_of_memory_errors_is_what_the_rows_say(result: MemoryResult, left: LeftOutReport) -> None:
    shipped = json.loads(default_catalog().data_file("measured/known_errors.json").read_text())
    told = json.loads(json.dumps(memory_tables(result, left.pool)))
    assert {name: shipped[name] for name in told} == told, "run: planner validate summary"


def test_claims_under_a_fitted_number_are_those_of_the_rows_that_rest_on_it(result: MemoryResult) -> None:
    """Not only of its source: the runs that have the number in their sum and a metric that sees it."""
    unseen = set()
    for number in fitted_numbers(default_catalog()):
        rows = [p.case for p in result.predictions if p.case.source in number.fitted.sources and number.bears_on(p)]
        if not rows:
            unseen.add(number.name)
            continue
        assert set(number.fitted.vocabularies) <= {case.arch["vocab_size"] for case in rows}, number.name
        assert set(number.fitted.depths) <= {case.arch["num_hidden_layers"] for case in rows}, number.name
        assert set(number.fitted.widths) <= {case.arch["hidden_size"] for case in rows}, number.name
        assert set(number.fitted.models) <= {case.model for case in rows}, number.name
    published_elsewhere = {"megatron-core: reserve.median", "megatron-core: unbalanced_routing.routed_imbalance"}
    published_elsewhere |= {"megatron-deepspeed: reserve.median"}  # megatron-core's own
    of_the_card = {"fsdp1: reserve.median", "transformers: reserve.maximum"}
    of_outcomes = {"nanotron: default_headroom_fraction", "nanotron: critical_headroom_fraction"}
    assert unseen == published_elsewhere | of_the_card | of_outcomes


def test_the_report_says_both_and_leaves_nothing_out_behind_a_filter() -> None:
    out = CliRunner().invoke(command, ["memory", "--source", "simumax_b200"])
    assert out.exit_code == 0
    assert "left out by" not in out.output
    assert "rows scored" in out.output
    assert run_memory(DATA, Choice(sources=("simumax_b200",)))[0].ok
    assert data_folder().is_dir()
