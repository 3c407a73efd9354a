from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from planner import cli
from planner.analysis.budget.budget import BudgetAnswer, solve_budget
from planner.analysis.budget.offers import (
    BudgetLimits,
    Need,
    OfferChoice,
    Picked,
    check,
    cost_unit,
    enumerate_best,
    nearest,
    order,
    pick,
)
from planner.errors import InputError, InternalError
from planner.inputs.catalog import default_catalog

SCENARIO = Path("scenarios/llama70b_64xh100.yaml").resolve()


def random_problem(seed: int) -> tuple[list[Need], BudgetLimits]:
    r = random.Random(seed)
    needs = [
        Need(
            r.randint(3, 8),
            tuple(OfferChoice(r.randint(1, 30), r.randint(1, 5), r.randint(1, 4)) for _ in range(r.randint(1, 3))),
        )
        for _ in range(r.randint(1, 3))
    ]
    return needs, BudgetLimits(r.choice([None, r.randint(10, 60)]), r.choice([None, 3, 4, 6]))


def by_the_hour(needs: list[Need], limits: BudgetLimits) -> Picked:
    """The best choice by trying every combination with every starting hour: slow, and without any idea in it."""
    best: tuple[Any, ...] | None = None
    answer = Picked("infeasible")
    for picks in itertools.product(*(range(len(need.choices)) for need in needs)):
        chosen = [need.choices[i] for need, i in zip(needs, picks, strict=True)]
        if limits.max_cents is not None and sum(c.cents for c in chosen) > limits.max_cents:
            continue
        hours = [range(need.deadline - c.hours + 1) for need, c in zip(needs, chosen, strict=True)]
        for starts in itertools.product(*hours):
            busy = [0] * 20
            for start, choice in zip(starts, chosen, strict=True):
                for hour in range(start, start + choice.hours):
                    busy[hour] += choice.nodes
            if limits.max_nodes is not None and max(busy) > limits.max_nodes:
                continue
            key = order(needs, picks, starts, 1)
            if best is None or key < best:
                best, answer = key, Picked("optimal", picks, starts)
    return answer


@pytest.mark.parametrize("seed", range(40))
def test_the_solver_equals_brute_force(seed: int) -> None:
    needs, limits = random_problem(seed)
    expected = by_the_hour(needs, limits)
    assert pick(needs, limits, time_limit_s=20) == expected
    assert enumerate_best(needs, limits) == expected


def test_random_problems_are_of_both_kinds() -> None:
    statuses = {enumerate_best(*random_problem(seed)).status for seed in range(40)}
    assert statuses == {"optimal", "infeasible"}


def test_machines_are_shared_one_job_after_the_other() -> None:
    needs = [Need(10, (OfferChoice(5, 4, 3),)), Need(5, (OfferChoice(7, 5, 3), OfferChoice(9, 2, 3)))]
    assert pick(needs, BudgetLimits(None, 3), time_limit_s=20).starts == (5, 0)
    assert pick(needs, BudgetLimits(None, 6), time_limit_s=20).starts == (0, 0)
    tight = [Need(8, needs[0].choices), needs[1]]
    answer = pick(tight, BudgetLimits(None, 3), time_limit_s=20)
    assert (answer.picks, answer.starts) == ((0, 1), (2, 0))


@pytest.mark.parametrize("seed", range(12))
def test_what_would_do_does_and_less_does_not(seed: int) -> None:
    r = random.Random(1000 + seed)
    needs, _ = random_problem(2000 + seed)
    limits = BudgetLimits(r.randint(2, 20), r.randint(1, 3))
    if enumerate_best(needs, limits).picks:
        return
    near = nearest(needs, limits, time_limit_s=20)
    if near.cents is not None:
        assert enumerate_best(needs, BudgetLimits(near.cents, limits.max_nodes)).picks
        assert not enumerate_best(needs, BudgetLimits(near.cents - 1, limits.max_nodes)).picks
    if near.nodes is not None:
        assert enumerate_best(needs, BudgetLimits(limits.max_cents, near.nodes)).picks
        assert not enumerate_best(needs, BudgetLimits(limits.max_cents, near.nodes - 1)).picks
    if near.deadlines is not None:
        later = [Need(due, need.choices) for need, due in zip(needs, near.deadlines, strict=True)]
        assert enumerate_best(later, limits).picks
        for job, due in enumerate(near.deadlines):
            if due > needs[job].deadline:
                less = [*later[:job], Need(due - 1, later[job].choices), *later[job + 1 :]]
                assert not enumerate_best(less, limits).picks
    if near.together is not None:
        cents, deadlines, nodes = near.together
        later = [Need(due, need.choices) for need, due in zip(needs, deadlines, strict=True)]
        assert enumerate_best(later, BudgetLimits(cents, limits.max_nodes if nodes is None else nodes)).picks
    assert (near.cents, near.deadlines, near.nodes, near.together) != (None, None, None, None)


def test_large_costs_are_scaled_into_a_small_range() -> None:
    needs = [Need(10, (OfferChoice(9 * 10**13, 4, 1), OfferChoice(8 * 10**13, 5, 1)))]
    assert cost_unit(needs, [[0, 1]]) == 10**5
    assert pick(needs, BudgetLimits(), time_limit_s=20).picks == (1,)
    assert cost_unit([Need(10, (OfferChoice(10**6, 4, 1),))], [[0]]) == 1


def test_an_answer_that_breaks_a_limit_is_our_bug() -> None:
    needs = [Need(4, (OfferChoice(5, 3, 2),)), Need(4, (OfferChoice(5, 3, 2),))]
    check(needs, BudgetLimits(10, 4), Picked("optimal", (0, 0), (0, 1)))
    for limits, starts in ((BudgetLimits(9, 4), (0, 1)), (BudgetLimits(10, 3), (0, 1)), (BudgetLimits(10, 4), (0, 2))):
        with pytest.raises(InternalError, match="break a limit"):
            check(needs, limits, Picked("optimal", (0, 0), starts))


def budget_file(folder: Path, **changes: Any) -> str:
    data = {
        "name": "test",
        "jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1e10, "deadline_days": 6}],
        "offers": [
            {"price": "lambda-8x-h100", "nodes": [1, 4, 8]},
            {"price": "hyperstack-8x-h100", "nodes": [8]},
            {"price": "coreweave-8x-h100", "terms": "spot", "nodes": [4]},
        ],
        **changes,
    }
    path = folder / "budget.yaml"
    path.write_text(json.dumps(data))
    return str(path)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> BudgetAnswer:
    return solve_budget(budget_file(tmp_path_factory.mktemp("budget")), (), default_catalog())


def test_the_cheapest_option_in_time_is_chosen(answer: BudgetAnswer) -> None:
    assert answer.status == "optimal"
    fitting = [o for o in answer.options if o.hours is not None and o.whole_hours <= 6 * 24]
    chosen = answer.bookings[0].option
    assert chosen.cents == min(o.cents for o in fitting)
    assert chosen.plan is not None
    assert chosen.hours == pytest.approx(1e10 / chosen.plan.tokens_per_second / 3600)
    assert chosen.usd == pytest.approx(chosen.hours * chosen.num_gpus * chosen.usd_per_gpu_hour)


def test_offers_on_the_same_machines_are_laid_out_once(answer: BudgetAnswer) -> None:
    assert len(answer.options) == 5
    assert answer.solved == 3


def test_every_option_says_why_it_lost(answer: BudgetAnswer) -> None:
    verdicts = {(o.price.id, o.nodes): answer.verdict(o) for o in answer.options}
    assert verdicts["lambda-8x-h100", 1].startswith("no layout fits: ")
    assert [v for v in verdicts.values() if v == "chosen"] == ["chosen"]
    assert verdicts["lambda-8x-h100", 8].startswith("dearer by ")


def test_goodput_lengthens_a_job(tmp_path: Path, answer: BudgetAnswer) -> None:
    slower = solve_budget(budget_file(tmp_path, goodput=0.5))
    assert slower.options[1].hours == pytest.approx(2 * (answer.options[1].hours or 0.0))
    assert slower.verdict(slower.options[1]).startswith("late by ")


def test_infeasible_is_exit_1_and_says_what_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = budget_file(tmp_path, max_usd=100, goodput=0.9)
    assert cli.main(["budget", path]) == 1
    out = capsys.readouterr().out
    assert "no choice of the listed offers keeps every limit" in out
    assert "max_usd: " in out
    needed = int(out.split("max_usd: ")[1].split()[0])
    assert cli.main(["budget", path, "--set", f"max_usd={needed}", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["usd"] <= needed
    offers = [{"price": "lambda-8x-h100", "nodes": [1]}]
    assert cli.main(["budget", budget_file(tmp_path, offers=offers)]) == 1
    assert "no layout of a fits any offer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offers": [{"price": "lambda-8x-h101", "nodes": [1]}]}, "did you mean `lambda-8x-h100`"),
        ({"offers": [{"price": "lambda-8x-h100", "terms": "spot", "nodes": [1]}]}, "no spot price"),
        ({"jobs": [{"name": "a", "scenario": "none.yaml", "tokens": 1, "deadline_days": 1}]}, "no such file"),
        ({"jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1, "deadline_days": 1e9}]}, "more than 36,500"),
        ({"jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1, "deadline_days": 0.01}]}, "less than an hour"),
        ({"offers": [{"price": "lambda-8x-h100", "nodes": list(range(1, 600))}]}, "more than 512"),
        ({"ofers": []}, "ofers"),
        ({"goodput": 1e-300}, "more than 1e\\+20"),
        ({"max_usd": 1e300}, "more than 1e\\+15"),
    ],
)
def test_bad_input_is_told_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        solve_budget(budget_file(tmp_path, **changes))


def test_two_jobs_take_turns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["budget", "scenarios/budget_two_jobs.yaml"]) == 0
    out = capsys.readouterr().out
    assert "proved cheapest" in out
    for part in (
        "USD a million tokens",
        "list prices without tax",
        "durations and costs carry that error",
        "GiB free",
        "@0f407038, 2026-11",
    ):
        assert part in out
    starts = {line.split("from hour ")[1].split()[0] for line in out.splitlines() if "from hour " in line}
    assert len(starts) == 2
