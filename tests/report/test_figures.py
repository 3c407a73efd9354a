"""Figures without a browser: every number drawn, nothing that leaves the page, a figure of its own as a file."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import pytest
from run_cli import run

from planner.analysis.schedule import schedule_passes, schedule_report
from planner.inputs.catalog import default_catalog
from planner.inputs.document import load
from planner.report.blocks import Bar, Figure, Network, Plot, Stacked, Timeline
from planner.report.characters import figure_lines
from planner.report.figures.canvas import tick_text, ticks
from planner.report.figures.draw import figure_svg, plain_svg
from planner.report.html import render
from planner.search.search import plan

ROOT = Path(__file__).resolve().parents[2]
PRETRAIN = str(ROOT / "scenarios" / "llama70b_64xh100.yaml")
PINNED = str(ROOT / "scenarios" / "qwen7b_rl_8gpu.yaml")
BARS = Stacked(
    "Memory", "GiB", (("a", (("x", 3.0), ("y", 4.0))), ("b", (("x", 5.0),))), ((9.0, "usable"),), ((6, 8), (4, 6))
)
LINES = Timeline("Plan", "day", (("job <1>", (Bar(0, 2, "one", "1"), Bar(2, 3, "two"))),), ((4.0, "due"),))
NET = Network("Machines", (("node 0", ("S0", "S1")),), ((0, 1),), ("a sentence",))
PLOT = Plot("Front", "GPUs", "tokens/s", ((1, 2), (3, 4)), ("first", "second"))
FIGURES: tuple[Figure, ...] = (BARS, LINES, NET, PLOT)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.title)
def test_a_figure_is_xml_with_its_title_and_asks_for_nothing(figure: Figure) -> None:
    for text in (figure_svg(figure, alone=True), plain_svg(figure)):
        root = ElementTree.fromstring(text)
        assert root.find("{http://www.w3.org/2000/svg}title") is not None
        assert not re.search(r"(href|src|url\()", text)
    assert "var(" not in plain_svg(figure)
    assert figure_svg(figure) == figure_svg(figure)


def test_stacked_parts_stand_on_each_other() -> None:
    boxes = re.findall(r'y="([\d.]+)" width="[\d.]+" height="([\d.]+)" class="k\d"><title>([^<]+)', figure_svg(BARS))
    drawn = {said: (float(y), float(high)) for y, high, said in boxes}
    first, second = drawn["a: x 3.00"], drawn["a: y 4.00"]
    assert first[1] / second[1] == pytest.approx(3 / 4, rel=0.01)
    assert second[0] + second[1] == pytest.approx(first[0], abs=0.2)


def test_more_parts_than_colours_are_one() -> None:
    parts = tuple((f"part {n}", float(n)) for n in range(1, 13))
    text = figure_svg(Stacked("t", "y", (("bar", parts),)))
    assert "everything else 15.00" in text, "1 + 2 + 3 + 4 + 5"
    assert len(re.findall(r"<title>bar: ", text)) == 8


def test_a_timeline_in_characters() -> None:
    lines = figure_lines(LINES, 40)
    assert lines[0].startswith("job <1> ####")
    assert "|" in lines[0]
    assert lines[-1] == "day; # one; = two; | due"
    assert figure_lines(NET) == []


def test_ticks_are_round_and_inside() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(3, 3) == [3]
    assert [tick_text(value) for value in (0, 0.25, 1500, 25_000, 3e6, 2e9)] == [
        "0",
        "0.25",
        "1,500",
        "25k",
        "3M",
        "2G",
    ]


def test_the_drawn_pipeline_is_the_simulated_one() -> None:
    found = plan(load(PRETRAIN, ("batch.global_batch_size=16",)), default_catalog(), check_points=0).plan
    assert found is not None
    drawn, report = schedule_passes(found), schedule_report(found)
    assert drawn is not None
    assert report is not None
    count, stages = drawn
    assert count == found.layout["num_micro_batches"]
    for passes in stages:
        assert len(passes) == 2 * count * found.layout["virtual_pipeline"]
        assert all(a.end <= b.start + 1e-12 for a, b in pairwise(passes))
    ends = max(p.end for passes in stages for p in passes)
    idle = [ends - sum(p.end - p.start for p in passes) for passes in stages]
    assert idle == pytest.approx(list(report.idle))


def test_a_page_has_its_summary_first_and_says_how_it_is_made() -> None:
    page = run("solve", PRETRAIN, "--format", "html").out
    summary, rest = page.split("</section>")
    assert "<section class=summary>" in summary
    assert "<svg" not in summary
    assert rest.count("<svg") >= 4
    assert f"planner solve {PRETRAIN} --format html" in rest
    assert page.count("<h1") == 1, "the headline is said once"
    assert not re.search(r"[ (]-v", re.sub(r"<style>.*?</style>", "", summary)), "nothing to type for what stands below"
    assert not re.search(r"(src|href)=|https?://(?!no-color|www\.w3\.org)", page)
    assert "<figure>" not in render([])


def test_a_point_with_a_name_has_it_beside_it() -> None:
    plot = Plot("Front", "days", "USD", ((1.0, 9.0), (2.0, 4.0), (5.0, 3.0)), ("a", "b", "c"), ((1, "knee"),))
    drawn = ElementTree.fromstring(figure_svg(plot, alone=True))
    space = "{http://www.w3.org/2000/svg}"
    (name,) = (text for text in drawn.iter(f"{space}text") if text.text == "knee")
    dot = list(drawn.iter(f"{space}circle"))[1]
    assert abs(float(name.get("x", 0)) - float(dot.get("cx", 0))) < 10
    assert abs(float(name.get("y", 0)) - float(dot.get("cy", 0))) < 10


def test_one_figure_as_a_file(tmp_path: Path) -> None:
    done = run("estimate", PINNED, "--format", "svg", "--figure", "2")
    assert done.code == 0
    assert ElementTree.fromstring(done.out).tag.endswith("svg")
    wrong = run("estimate", PINNED, "--format", "svg", "--figure", "9")
    assert wrong.code == 2
    assert "1 Memory by stage" in wrong.err
    assert run("estimate", PINNED, "--format", "png").code == 2
