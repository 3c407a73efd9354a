from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from laid_out import KNOWN, keep

from planner import cli
from planner.analysis.budget.budget import BudgetAnswer, solve_budget
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.report.budget import budget_blocks
from planner.report.budget_json import budget_document
from planner.report.markdown import render

SPOT = {"terms": "spot", "mean_hours_between_interruptions_per_node": 200, "restart_minutes": 30}
CONFIRMED = {"capacity_nodes": 8, "confirmed_on": "2027-02-21"}
SCENARIO = Path("tests/fixtures/scenarios/llama70b_narrow.yaml").resolve()


@pytest.fixture(autouse=True)
def _what_was_searched_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(monkeypatch)


def solved(path: str, overrides: tuple[str, ...] = ()) -> BudgetAnswer:
    return solve_budget(path, overrides, layouts=KNOWN)


def budget_file(folder: Path, **changes: Any) -> str:
    data = {
        "name": "test",
        "jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1e10, "deadline_days": 6}],
        "offers": [
            {"price": "lambda-8x-h100", "nodes": [1, 4, 8]},
            {"price": "hyperstack-8x-h100", "nodes": [8]},
            {"price": "coreweave-8x-h100", "nodes": [4], **SPOT},
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
    assert answer.picked.bound == min(o.cents for o in fitting)
    chosen = answer.bookings[0].option
    assert chosen.cents == min(o.cents for o in fitting)
    assert chosen.plan is not None
    work = 1e10 / chosen.plan.tokens_per_second / 3600
    restarts = (30 / 60 + 60 / 60 / 2) * 4 / 200 if chosen.terms == "spot" else 0.0
    assert chosen.hours == pytest.approx(work / (1 - restarts))
    usd = chosen.terms_of_offer.usd_per_gpu_hour
    assert usd is not None
    assert chosen.usd == pytest.approx(chosen.hours * chosen.num_gpus * usd)
    assert answer.bookings[0].sure >= 0.9


def test_offers_on_the_same_machines_are_laid_out_once(answer: BudgetAnswer) -> None:
    assert len(answer.options) == 5
    assert answer.searched == 3


def test_every_option_says_why_it_lost(answer: BudgetAnswer) -> None:
    verdicts = {(o.price.id, o.nodes): answer.verdict(o) for o in answer.options}
    assert verdicts["lambda-8x-h100", 1].startswith("no layout fits: ")
    assert [v for v in verdicts.values() if v == "chosen"] == ["chosen"]
    assert verdicts["lambda-8x-h100", 8].startswith("dearer by ")


def test_goodput_lengthens_a_job(tmp_path: Path, answer: BudgetAnswer) -> None:
    slower = solved(budget_file(tmp_path, goodput=0.5))
    assert slower.options[1].hours == pytest.approx(2 * (answer.options[1].hours or 0.0))
    assert slower.verdict(slower.options[1]).startswith("late by ")


def test_an_option_that_is_in_time_only_by_luck_is_not_in_time(answer: BudgetAnswer, tmp_path: Path) -> None:
    option = answer.options[2]
    assert option.hours is not None
    assert option.whole_hours > option.hours + 1
    days = (option.hours + option.whole_hours) / 2 / 24
    job = {"name": "a", "scenario": str(SCENARIO), "tokens": 1e10, "deadline_days": days}
    path = budget_file(tmp_path, jobs=[job], offers=[{"price": "lambda-8x-h100", "nodes": [8]}])
    refused = solved(path)
    assert refused.status == "infeasible"
    assert "in time with " in refused.verdict(refused.options[0])
    level = next(line for line in refused.remedies if line.startswith("confidence: ")).split()[1]
    again = solved(path, (f"confidence={level}",))
    assert again.bookings[0].sure >= float(level)
    assert solved(path, (f"confidence={float(level) + 0.05:g}",)).status == "infeasible"


def test_work_is_tokens_epochs_or_steps_and_may_come_again(tmp_path: Path, answer: BudgetAnswer) -> None:
    base = {"scenario": str(SCENARIO), "deadline_days": 6}
    plan = answer.options[2].plan
    assert plan is not None
    step = plan.tokens_per_second * plan.step_seconds
    jobs = [
        {"name": "tokens", "tokens": 1e9, **base},
        {"name": "epochs", "epochs": 2, "data_set_tokens": 5e8, **base},
        {"name": "steps", "steps": 1e9 / step, **base, "repeat": {"every_days": 7, "times": 3}},
    ]
    found = solved(budget_file(tmp_path, jobs=jobs, offers=[{"price": "lambda-8x-h100", "nodes": [8]}]))
    assert [round(option.tokens) for option in found.options] == [10**9] * 3
    weekly = found.bookings[2]
    assert [start // 168 for start in weekly.starts] == [0, 1, 2]
    assert found.usd == pytest.approx(5 * found.bookings[0].option.usd)


def test_terms_and_bought_machines_are_paid_as_they_are(tmp_path: Path) -> None:
    bought = {
        "usd_per_node": 300_000,
        "lifetime_years": 4,
        "resale_share": 0.2,
        "kilowatts_per_node": 12,
        "usd_per_kwh": 0.1,
        "hosting_usd_per_node_month": 730,
    }
    own = [{"price": "lambda-8x-h100", "terms": "purchase", "nodes": [8], "purchase": bought}]
    found = solved(budget_file(tmp_path, offers=own))
    (held,) = found.rented
    assert held is not None
    each = 300_000 * 0.8 * (6 * 24) / (4 * 8760) + 6 * 24
    assert held.cents == 8 * -(-each * 100 // 1)
    option = found.bookings[0].option
    assert option.usd == pytest.approx(12 * 8 * (option.hours or 0) * 0.1)
    term = [{"price": "hyperstack-8x-h100", "terms": "reserved", "nodes": [8], "minimum_days": 10}]
    found = solved(budget_file(tmp_path, offers=term))
    (held,) = found.rented
    assert held is not None
    assert (held.hours, held.cents) == (240, 8 * 240 * 8 * 272)
    assert found.bookings[0].option.usd == 0
    assert found.usd_each(found.bookings[0]) == pytest.approx(held.cents / 100), "all of the term is this job's"
    rented = [*term, {"price": "lambda-8x-h100", "nodes": [8]}]
    found = solved(budget_file(tmp_path, offers=rented))
    reserved, by_use = found.options
    assert found.bookings[0].option is by_use
    dearer = 8 * 240 * 8 * 2.72 - by_use.cents / 100
    assert found.verdict(reserved) == f"dearer by {dearer:,.2f} USD with the machines held for it"


def test_the_earliest_end_within_the_money_is_not_beaten_by_a_cheaper_one(tmp_path: Path) -> None:
    found = solved(budget_file(tmp_path, objective="earliest", max_usd=11_000))
    chosen = found.bookings[0].option
    assert chosen.whole_hours == min(o.whole_hours for o in found.options if o.hours and o.most_cents <= 1_100_000)
    verdicts = {found.verdict(o) for o in found.options if o.hours and o.cents < chosen.cents}
    assert verdicts
    assert all(text.startswith("takes ") and text.endswith(" longer") for text in verdicts)
    dearer, cheaper = found.sensitivities[:2]
    assert cheaper.hours == chosen.whole_hours, "rents that fall leave the earliest end where it is"
    assert dearer.cents is None or dearer.cents <= 1_100_000, "the money stays what it is"


def test_old_prices_and_unconfirmed_machines_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = budget_file(tmp_path, starts_on="2027-03-01", offers=[{"price": "lambda-8x-h100", "nodes": [8]}])
    assert cli.main(["budget", path, "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "lambda-8x-h100: the price is 120 days old (2026-11); ask for a new one" in out
    assert "nobody has confirmed that the provider has these nodes" in out
    offer = {"price": "lambda-8x-h100", "nodes": [8], "usd_per_gpu_hour": 2.5, "quoted_on": "2027-02-20"}
    path = budget_file(tmp_path, starts_on="2027-03-01", offers=[offer | CONFIRMED])
    assert cli.main(["budget", path, "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert "days old" not in out
    assert "8 nodes confirmed by the provider on 2027-02-21" in out


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
        ({"offers": [{"price": "lambda-8x-h100", "nodes": [1], **SPOT}]}, "no spot price"),
        ({"jobs": [{"name": "a", "scenario": "none.yaml", "tokens": 1, "deadline_days": 1}]}, "no such file"),
        ({"jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1, "deadline_days": 1e9}]}, "more than 36,500"),
        ({"jobs": [{"name": "a", "scenario": str(SCENARIO), "tokens": 1, "deadline_days": 0.01}]}, "less than an hour"),
        ({"offers": [{"price": "lambda-8x-h100", "nodes": list(range(1, 600))}]}, "more than 512"),
        ({"ofers": []}, "ofers"),
        ({"offers": [{"price": "coreweave-8x-h100", "terms": "spot", "nodes": [1]}]}, "spot machines are taken away"),
        (
            {"offers": [{"price": "lambda-8x-h100", "terms": "purchase", "nodes": [1]}]},
            "the block purchase: go together",
        ),
        ({"jobs": [{"name": "a", "scenario": str(SCENARIO), "deadline_days": 1}]}, "one of tokens, epochs, steps"),
        (
            {"jobs": [{"name": "a", "scenario": "x", "tokens": 1, "deadline_days": 1, "earliest_start_days": 2}]},
            "may not start before 2",
        ),
        ({"starts_on": "2026-02-30"}, "is no day"),
        ({"goodput": 1e-300}, "more than 1e\\+20"),
        ({"max_usd": 1e300}, "more than 1e\\+15"),
    ],
)
def test_bad_input_is_told_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        solved(budget_file(tmp_path, **changes))


def test_two_jobs_take_turns() -> None:
    found = solved("scenarios/budget_two_jobs.yaml")
    answer = budget_document(found)
    first, second = sorted(answer["jobs"], key=lambda job: job["start_hours"][0])
    assert first["start_hours"][0] + first["booked_hours"] <= second["start_hours"][0]
    assert all(job["in_time_share"] >= 0.897 for job in answer["jobs"])
    assert [row["name"] for row in answer["sensitivity"]][:2] == ["rents +20 %", "rents -20 %"]
    assert any("@0f407038, 2026-11" in text for text in answer["assumptions"])
    assert any(
        text.startswith("speed: ") and "published runs of megatron-core" in text for text in answer["assumptions"]
    )
    out = render(budget_blocks(found))
    for part in ("proved cheapest", "USD a million tokens", "list prices without tax", "GiB free", "## Sensitivity"):
        assert part in out
