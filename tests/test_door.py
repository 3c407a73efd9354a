"""The door: what `import planner` gives, what it costs, and what a person at a notebook sees."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import planner
from planner import api
from planner.inputs.given import document_given

ROOT = Path(__file__).resolve().parent.parent
PINNED: dict[str, Any] = {
    "name": "small",
    "task": "sft",
    "model": "qwen2.5-0.5b",
    "engine": "megatron-core",
    "precision": "bf16",
    "cluster": {"node": "hgx-h100-8", "num_gpus": 2},
    "batch": {"sequence_length": 2048, "global_batch_size": 8, "micro_batch_size": 1},
    "layout": {
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
        "data_parallel": 2,
        "context_parallel": 1,
        "virtual_pipeline": 1,
        "zero_stage": 1,
        "recomputed_layers": 0,
        "layers_per_stage": "even",
    },
    "optimizer": "adamw",
    "limits": {"headroom_gib": 4},
}
"""A scenario of which nothing is left open, so that solving it takes milliseconds."""


@pytest.fixture(scope="module")
def outcome() -> planner.Outcome:
    return planner.solve(PINNED)


def run(code: str, *, folder: Path | None = None, path: Path = ROOT) -> str:
    """What a fresh interpreter prints; `path` is where it finds the package."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(path)!r})\n{code}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exported_members() -> None:
    """All public names, and nothing of the door that is not public."""
    assert planner.__all__ == sorted(planner.__all__)
    for name in planner.__all__:
        assert getattr(planner, name) is not None
    own = {n for n, v in vars(api).items() if inspect.isfunction(v) and v.__module__ == api.__name__ and n[0] != "_"}
    assert own <= set(planner.__all__)
    assert {*dir(planner)} >= {*planner.__all__}
    with pytest.raises(AttributeError, match="no attribute 'slove'"):
        planner.slove  # type: ignore[attr-defined]  # noqa: B018


def test_every_public_name_says_what_it_does() -> None:
    for name in planner.__all__:
        member = getattr(planner, name)
        if isinstance(member, types.FunctionType):
            text = inspect.getdoc(member) or ""
            for parameter in inspect.signature(member).parameters:
                assert f"    {parameter}: " in text, f"{name}: {parameter}"
            assert "Raises:" in text, name
        elif name != "__version__":
            assert inspect.getdoc(member), name


def test_import_costs_one_module() -> None:
    """No third-party package and none of ours: only what a function needs, once it is called."""
    code = "before = set(sys.modules); import planner; print(*sorted(set(sys.modules) - before))"
    assert run(code).split() == ["__future__", "planner"]
    code = "import planner; planner.InputError; print('ortools' in sys.modules, 'rich' in sys.modules)"
    assert run(code).split() == ["False", "False"]


def test_a_dict_in_a_notebook_without_a_checkout(tmp_path: Path) -> None:
    """The five lines of the first page, in a folder that holds nothing."""
    code = f"""
import planner
scenario = planner.load({PINNED!r}, {{"batch.global_batch_size": 16}})
outcome = planner.solve(scenario)
print(outcome)
planner.show(outcome)
rows = planner.what_if(scenario, {{"limits.headroom_gib": [10, 20, 30]}})
print([(v.label, v.plan.tokens_per_second > 0) for v in rows])
print("<table>" in outcome._repr_html_())
"""
    lines = run(code, folder=tmp_path).splitlines()
    assert lines[0].startswith("small: fits on 2 GPUs: safe, ")
    assert lines[0].endswith("GiB free; proved optimal")
    assert lines[-2].count("True") == 4
    assert "limits.headroom_gib=30" in lines[-2]
    assert lines[-1] == "True"


def test_an_outcome_prints_itself_in_one_line(outcome: planner.Outcome) -> None:
    assert "\n" not in str(outcome)
    assert repr(outcome) == f"<Outcome {outcome}>"
    assert outcome.plan is not None
    assert str(outcome.plan).startswith("small: TP1 PP1 DP2 on 2 GPUs: safe, ")
    assert repr(outcome.plan) == f"<Plan {outcome.plan}>"


def test_the_search_knows_no_renderer() -> None:
    """Without the door an outcome has its text only; with it, HTML."""
    code = f"""
import json
from planner.inputs.document import document_of
from planner.search.search import plan
outcome = plan(document_of({PINNED!r}))
assert "planner.report.html" not in sys.modules
print(outcome._repr_html_())
import planner.api
print(len(outcome._repr_html_()) > 1000)
"""
    assert run(code).split() == ["None", "True"]


def test_a_layout_has_names_and_no_indexes(outcome: planner.Outcome) -> None:
    assert outcome.plan is not None
    named = outcome.plan.named
    assert (named.optimizer, named.precision, named.node) == ("adamw", "bf16", "hgx-h100-8")
    assert (named.data_parallel, named.sequence_parallel, named.layers_per_stage) == (2, False, (24,))
    saved = planner.to_dict(outcome)["plan"]["layout"]
    assert {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items() if name in vars(named)} == vars(
        named
    )


def test_html_is_a_part_of_a_page_and_escaped() -> None:
    outcome = planner.solve(PINNED | {"name": "a<b>"})
    text = outcome._repr_html_()
    assert text is not None
    assert "a&lt;b&gt;" in text
    assert "<html" not in text
    assert "body{" not in text


def test_ledgers_as_frames(outcome: planner.Outcome) -> None:
    pytest.importorskip("pandas")
    plan = outcome.plan
    assert plan is not None
    memory, time = plan.memory.to_frame(), plan.time.to_frame()
    assert list(memory.columns) == ["stage", "phase", "item", "gib", "source"]
    totals = memory.groupby(["stage", "phase"])["gib"].sum()
    assert totals.max() == pytest.approx(plan.peak_gib)
    assert time["seconds"].sum() == pytest.approx(plan.step_seconds)
    assert len(memory) == sum(len(phase.items) for phase in plan.memory)


def test_a_frame_without_pandas_says_what_is_missing(outcome: planner.Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert outcome.plan is not None
    with pytest.raises(planner.InputError, match="to_frame needs pandas"):
        outcome.plan.time.to_frame()


def test_load_takes_a_path_a_dict_and_a_scenario() -> None:
    path = ROOT / "scenarios" / "qwen7b_rl.yaml"
    by_path = planner.load(path, {"cluster.max_gpus": 2})
    assert by_path.cluster.max_gpus == 2
    again = planner.load(by_path, {"limits.headroom_gib": 10})
    assert (again.cluster.max_gpus, again.limits.headroom_gib) == (2, 10)
    assert document_given(again).overrides == ("cluster.max_gpus=2", "limits.headroom_gib=10")
    assert repr(by_path).startswith("Scenario(name='qwen7b_rl'")
    built = planner.Scenario.model_validate(PINNED)
    assert planner.estimate(built).step_seconds == planner.estimate(PINNED).step_seconds


def test_a_changed_copy_of_a_scenario_is_what_is_solved() -> None:
    """What was loaded is remembered for messages, and must not be solved in place of the copy."""
    loaded = planner.load(PINNED)
    changed = loaded.model_copy(update={"name": "other"})
    assert planner.estimate(loaded).problem.scenario.name == "small"
    assert planner.estimate(changed).problem.scenario.name == "other"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: planner.load({"name": "x"}), "is missing"),
        (lambda: planner.load(PINNED | {"name": object()}), "not plain data"),
        (lambda: planner.load(PINNED, {"limits.headroom_gib": object()}), "limits.headroom_gib is not plain data"),
        (lambda: planner.load(PINNED, {"limits..x": 1}), "--set"),
        (lambda: planner.load("no_such_file.yaml"), "no such file"),
        (lambda: planner.load(7), "int is no scenario"),
        (lambda: planner.solve(PINNED | {"model": "qwen2.5-0.6b"}), "unknown model"),
        (lambda: planner.solve(PINNED, catalog="no_such_folder"), "is not a folder"),
        (lambda: planner.estimate(PINNED | {"layout": {}}), "leaves several open"),
        (lambda: planner.what_if(PINNED, {}), "nothing to vary"),
        (lambda: planner.what_if(PINNED, {"batch.micro_batch_size": []}), "no value to try"),
        (lambda: planner.near(PINNED, count=0), "count >= 1"),
        (lambda: planner.front(PINNED, "beauty"), "no front over 'beauty'"),
        (lambda: planner.front(PINNED, "dollars"), "needs a price"),
        (lambda: planner.front(PINNED, "dollars", offer="no-such-offer"), "unknown price"),
        (lambda: planner.explain(PINNED, {"layout.tensor_parallel": "x"}), "layout.tensor_parallel"),
        (lambda: planner.load(PINNED, ["limits.headroom_gib=10"]), "list is no mapping of values by dotted path"),
        (lambda: planner.what_if(PINNED, ["limits.headroom_gib=10"]), "list is no mapping of values by dotted path"),
        (lambda: planner.near(PINNED, count="3"), "count >= 1"),
        (lambda: planner.near(PINNED, within=float("nan")), "within >= 0"),
        (lambda: planner.solve(PINNED, time_limit_s=-5), "time_limit_s must be above 0"),
        (lambda: planner.solve(PINNED, time_limit_s="5"), "time_limit_s must be above 0"),
        (lambda: planner.solve(PINNED, catalog=["x"]), "list is no catalog"),
        (lambda: planner.explain(PINNED, [3]), "why_not takes values by dotted path"),
        (lambda: planner.front(PINNED, "dollars", offer=3), "no price 3"),
        (lambda: planner.load({"jobs": [], "offers": []}), "it is a budget"),
        (lambda: planner.show("text"), "str is no answer"),
        (lambda: planner.to_dict(3), "int is no answer"),
        (lambda: planner.show(None, "pdf"), "no style 'pdf'"),
    ],
)
def test_wrong_input_is_said_and_not_a_traceback(call: Any, words: str) -> None:
    with pytest.raises(planner.InputError) as caught:
        call()
    assert words in str(caught.value)


def test_every_answer_prints_itself_in_one_line(outcome: planner.Outcome) -> None:
    rows = planner.what_if(PINNED, {"limits.headroom_gib": [79]})
    assert str(rows) == "0 of 1 variations of <dict> fit"
    assert str(outcome).startswith("small: fits on")
    assert "\n" not in str(planner.compare(outcome, outcome))


def test_what_the_door_answers_is_what_the_commands_write(outcome: planner.Outcome, capsys: Any) -> None:
    document = planner.to_dict(outcome)
    assert json.loads(json.dumps(document)) == document
    assert [asked["file"] for asked in document["provenance"]["inputs"]] == ["<dict>"]
    for style in ("table", "markdown", "html"):
        planner.show(outcome, style)
        printed = capsys.readouterr().out
        assert "small: fits on 2 GPUs" in printed
        assert "Next:" not in printed


@pytest.mark.parametrize(
    "answer",
    [
        lambda: planner.estimate(PINNED),
        lambda: planner.what_if(PINNED, {"batch.micro_batch_size": 2}),
        lambda: planner.near(PINNED),
        lambda: planner.front(PINNED, "gpus"),
        lambda: planner.explain(PINNED, {"batch.micro_batch_size": 2}, neighbours=False),
        lambda: planner.compare(PINNED, PINNED),
    ],
    ids=["estimate", "what_if", "near", "front", "explain", "compare"],
)
def test_every_answer_is_shown_saved_and_put_on_a_page(answer: Any, capsys: Any) -> None:
    given = answer()
    document = planner.to_dict(given)
    assert json.loads(json.dumps(document)) == document
    planner.show(given)
    assert len(capsys.readouterr().out) > 200
    assert "<h1>" in given._repr_html_()


def test_an_infeasible_scenario_is_an_answer_and_not_an_error() -> None:
    outcome = planner.solve(planner.load(PINNED, {"limits.headroom_gib": 79}))
    assert (outcome.status, outcome.plan) == ("infeasible", None)
    assert str(outcome) == "small: no layout fits on 2 x NVIDIA H100 80GB HBM3 (proved)"
    with pytest.raises(planner.NoLayoutFits):
        planner.compare({**PINNED, "layout": {}, "limits": {"headroom_gib": 79}}, PINNED)


def test_compare_takes_outcomes_plans_and_scenarios(outcome: planner.Outcome) -> None:
    assert outcome.plan is not None
    for other in (outcome, outcome.plan, PINNED):
        differences = planner.compare(outcome, other)
        assert all(row.change == 0 for row in (*differences.memory, *differences.time))


def test_what_if_near_front_and_explain_agree_with_solve(outcome: planner.Outcome) -> None:
    assert outcome.plan is not None
    best = outcome.plan.tokens_per_second
    rows = planner.what_if(PINNED, {"batch.micro_batch_size": (1, 2)})
    assert [row.label for row in rows] == ["as it stands", "batch.micro_batch_size=1", "batch.micro_batch_size=2"]
    assert [row.plan.tokens_per_second == best for row in rows if row.plan] == [True, True, False]
    (first,) = planner.near(PINNED)
    assert first.plan is not None
    assert first.plan.tokens_per_second == best
    points = planner.front(PINNED, "gpus").points
    assert best in [point.plan.tokens_per_second for point in points]
    explanation = planner.explain(PINNED, {"batch.micro_batch_size": 2}, neighbours=False)
    assert explanation.neighbours == ()
    assert explanation.asked[0].alternative.throughput_change(outcome.plan) != 0


def test_a_folder_adds_to_the_catalogs(tmp_path: Path) -> None:
    (tmp_path / "optimizers").mkdir()
    shipped = (ROOT / "catalogs" / "optimizers" / "adamw.yaml").read_text()
    (tmp_path / "optimizers" / "mine.yaml").write_text(shipped.replace("id: adamw", "id: mine"))
    scenario = PINNED | {"optimizer": "mine"}
    with pytest.raises(planner.InputError, match="unknown optimizer"):
        planner.estimate(scenario)
    assert planner.estimate(scenario, catalog=tmp_path).problem.optimizers[0].id == "mine"
