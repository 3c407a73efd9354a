"""What would make a plan safe: asked again with each decision alone, enumerated, and said where it is not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from planner.analysis.explanation import Explanation
from planner.analysis.safer import Safer, enough_gib, safer
from planner.commands.lint_report import lint_document, lint_screen
from planner.inputs.asked import Wanted, template
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, parse_document
from planner.inputs.saved import load
from planner.launch.lint import lint
from planner.report.explain import explain_screen
from planner.report.safer import safer_document, safer_text
from planner.report.solve import Solved, solve_ledgers, solve_screen
from planner.report.table import height
from planner.search.plan import SAFE_CHANCE, Plan, verdict
from planner.search.search import Outcome, plan

EDGE = "example:whatif_lora_or_full"
RECORD = "example:qwen7b_rl_8gpu"
RL = "example:qwen35b_a3b_rl_16xh100"


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return default_catalog()


@cache
def asked(catalog: Catalog, name: str, *changes: str) -> tuple[Document, Outcome, Plan, Safer]:
    document = load(name, changes)
    outcome = plan(document, catalog, check_points=0)
    assert outcome.plan is not None
    found = safer(outcome.plan, catalog)
    assert found is not None
    return document, outcome, outcome.plan, found


def test_a_plan_that_is_safe_needs_nothing(catalog: Catalog) -> None:
    outcome = plan(load("example:llama8b_sft_a100"), catalog, check_points=0)
    assert outcome.plan is not None
    assert verdict(outcome.plan) == "safe"
    assert safer(outcome.plan, catalog) is None


def test_no_option_alone_is_faster_and_leaves_as_much(catalog: Catalog) -> None:
    """Each opened option as a scenario of its own, every point of it enumerated beside the solver."""
    document, _, base, found = asked(catalog, EDGE)
    assert verdict(base) == "tight"
    assert found.plan is not None
    assert found.proved
    assert verdict(found.plan) == "safe"
    assert found.plan.headroom_gib >= found.headroom_gib >= base.usual_gib > base.headroom_gib
    alone = {}
    for name in found.opened:
        changes = (f"limits.headroom_gib={found.headroom_gib}", f"engine_options=[{name}]", "search.near_tie=0")
        outcome = plan(load(document.name, changes), catalog)
        if outcome.plan is not None and outcome.plan.headroom_gib >= found.headroom_gib:
            assert outcome.proof.enumerated is not None
            alone[name] = outcome.plan.step_seconds
    assert found.options[0] in alone
    assert found.plan.step_seconds == pytest.approx(min(alone.values()), rel=1e-9)
    again = plan(load(document.name, found.arguments), catalog, check_points=0)
    assert again.plan is not None
    assert verdict(again.plan) == "safe"


def test_a_likely_plan_is_asked_for_the_chance_that_is_called_safe(catalog: Catalog) -> None:
    _, _, base, found = asked(catalog, RL)
    assert verdict(base) == "likely"
    assert base.fit_probability is not None
    assert base.fit_probability < SAFE_CHANCE
    assert found.plan is not None
    assert found.plan.fit_probability is not None
    assert found.plan.fit_probability >= SAFE_CHANCE
    assert found.headroom_gib > base.headroom_gib


def test_enough_is_the_room_with_which_the_least_certain_phase_fits_so_surely(catalog: Catalog) -> None:
    """By the chance itself: a tenth of a GiB less would not do."""
    _, _, base, _ = asked(catalog, RL)
    spread, enough = base.problem.known_errors.memory, enough_gib(base)
    assert spread is not None

    def chance(headroom_gib: float) -> float:
        return min(
            spread.fit_probability(
                base.machines(p).usable_gib - headroom_gib, base.machines(p).usable_gib, p.assumed_gib, p.set_aside_gib
            )
            for p in base.memory
            if p.wanted_gib > base.machines(p).usable_gib - enough
        )

    assert chance(enough) >= SAFE_CHANCE > chance(enough - 0.2)


def test_what_frees_only_sums_of_gradients_is_tried_where_the_plan_has_one_micro_batch(catalog: Catalog) -> None:
    """What frees most at the plan's own layout costs 68 % of the speed."""
    words = Wanted("nemotron-3-nano", "8xh200", engine="fsdp2")
    document = parse_document(template(words, catalog).text, "ask")
    outcome = plan(document, catalog, check_points=0)
    assert outcome.plan is not None
    assert outcome.plan.layout["num_micro_batches"] == 1
    found = safer(outcome.plan, catalog)
    assert found is not None
    assert found.options == ("sync_each_batch",)
    change = found.throughput_change(outcome.plan)
    assert change is not None
    assert change > -0.1


def test_a_pinned_record_is_freed_towards_less_memory_and_the_pins_are_named(catalog: Catalog) -> None:
    document, _, base, found = asked(catalog, RECORD)
    assert found.plan is not None
    assert found.plan.rollout is not None
    changed = dict(found.changes)
    assert changed["rl.rollout.gpu_memory_utilization"] == found.plan.rollout.gpu_memory_utilization < 0.8
    assert set(changed) <= {"rl.rollout.gpu_memory_utilization", "layout.recomputed_layers", "batch.micro_batch_size"}
    assert "gpu_memory_utilization 0." in safer_text(found, base)
    assert found.arguments[0] == f"limits.headroom_gib={found.headroom_gib}"
    assert document.overrides == ()


def test_where_nothing_tried_is_safe_that_is_said_with_what_was_tried(catalog: Catalog) -> None:
    _, outcome, base, found = asked(catalog, EDGE, "batch.sequence_length=8192", "engine_options=[fused_head]")
    assert found.plan is None
    text = safer_text(found, base)
    assert text == "no layout with fused_layers alone leaves 5.5 GiB, with which it would be called safe (proved)"
    document = safer_document(found, base)
    assert document is not None
    assert (document["set"], document["layout"], document["proved"]) == ([], None, True)
    assert outcome.status == "optimal"


def test_it_stands_on_one_screen_and_can_be_typed_from_the_ledgers(catalog: Catalog) -> None:
    _, outcome, _, found = asked(catalog, EDGE)
    solved = Solved(outcome, safer=found)
    screen = solve_screen(solved)
    assert height(screen, 80) <= 24
    assert "safe with fused_head at the same speed" in str(screen)
    assert str(screen[-1]).startswith(
        "Command(text='planner solve example:whatif_lora_or_full --set limits.headroom_gib="
    )
    assert "To type: planner solve" in str(solve_ledgers(solved))
    explained = explain_screen(Explanation(outcome, None, None, (), (), safer=found))
    assert "safe with fused_head" in str(explained)
    assert solve_screen(Solved(outcome)) != screen


SCRIPT = """\
torchrun --nproc-per-node 8 --nnodes 1 pretrain_gpt.py \\
 --num-layers 32 --hidden-size 4096 --ffn-hidden-size 14336 --num-attention-heads 32 --group-query-attention \\
 --num-query-groups 8 --seq-length 8192 --max-position-embeddings 8192 --vocab-size 128256 --swiglu \\
 --normalization RMSNorm --rotary-base 500000 --disable-bias-linear --untie-embeddings-and-output-weights \\
 --tensor-model-parallel-size 2 --sequence-parallel --bf16 --use-distributed-optimizer --train-iters 10 \\
 --micro-batch-size {size} --global-batch-size 128
"""


@pytest.mark.parametrize("size", [2, 4])
def test_lint_names_the_line_that_makes_a_script_safe(size: int, catalog: Catalog, tmp_path: Path) -> None:
    """Both at the edge and beyond the card; the change itself, made in the script, is safe."""
    path = tmp_path / "run.sh"
    path.write_text(SCRIPT.format(size=size))
    linted = lint(path, catalog, ("cluster.node=hgx-h100-8",))
    assert linted.plan is not None, linted.open
    assert linted.fits is (size == 2)
    found = safer(linted.plan, catalog)
    assert found is not None
    assert dict(found.changes) == {"batch.micro_batch_size": 1}
    told = replace(linted, safer=found)
    assert "safe with micro_batch_size 1 at" in str(lint_screen(told))
    assert "micro_batch_size is line 6" in str(lint_screen(told))
    document = lint_document(told)["safer"]
    assert isinstance(document, dict)
    assert document["set"][1:] == ["batch.micro_batch_size=1"]
    path.write_text(SCRIPT.format(size=1))
    changed = lint(path, catalog, ("cluster.node=hgx-h100-8",)).plan
    assert changed is not None
    assert verdict(changed) == "safe"
    assert safer(changed, catalog) is None
