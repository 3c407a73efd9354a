"""PPO's critic: what it keeps by hand, that it trains and scores like the policy, and where none is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from planner.costs.item_names import ItemName
from planner.errors import InputError
from planner.inputs.catalog import default_catalog
from planner.inputs.document import Document, load, override, parse_document
from planner.launch import registry, verl
from planner.launch.lint import lint
from planner.search.estimate import estimate
from planner.search.plan import Plan
from planner.search.search import plan as search
from planner.units import GIB

PARAMETERS = 7_615_616_512
"""Of Qwen2.5-7B; a critic is counted with a head like the policy's."""
FSDP2 = {"engine": "verl-fsdp2", "layout.tensor_parallel": 1, "layout.data_parallel": 8}


@pytest.fixture(scope="module")
def ppo() -> Document:
    """Qwen2.5-7B under verl's Megatron: TP4 DP2 on eight H100, vLLM TP4 at 0.5, a critic beside the policy."""
    changes = {
        "engine": "verl-megatron",
        "rl.algorithm": "ppo",
        "rl.rollout.gpu_memory_utilization": 0.5,
        "layout.recomputed_layers": "all",
    }
    return override(load("scenarios/qwen7b_rl_8gpu.yaml"), changes)


def critic(found: Plan, phase: str) -> float:
    """GiB of the critic on the first stage."""
    (ledger,) = (each for each in found.memory if each.phase == phase and each.stage == 0)
    return sum(item.amount for item in ledger.items if item.name == ItemName.CRITIC)


@pytest.mark.parametrize(
    ("layout", "each"),
    [
        # TP4: 16-bit weights, fp32 gradients in their buffer, AdamW's 12 B over two copies.
        ({}, (2 + 4 + 12 / 2) / 4),
        # Eight shards of fp32 weights and two moments; gradients are dropped after a step.
        (FSDP2, (4 + 8) / 8),
    ],
)
def test_a_critic_that_stays_is_there_in_every_phase(ppo: Document, layout: dict[str, Any], each: float) -> None:
    stays = {**layout, "rl.trainer_on_gpu": ["critic"]}
    found, asleep = estimate(override(ppo, stays)), estimate(override(ppo, layout))
    for phase in ("rollout", "weight_sync", "log_prob", "backward", "optimizer"):
        assert critic(found, phase) == pytest.approx(each * PARAMETERS / GIB, rel=2e-3), phase
    assert not any(critic(asleep, each.phase) for each in asleep.memory if each.stage == 0)
    assert found.peak_gib > asleep.peak_gib
    grpo = estimate(override(ppo, {**layout, "rl.algorithm": "grpo"}))
    assert asleep.peak_gib == grpo.peak_gib  # its moments have no logits and never are the fullest


def test_a_critic_that_sleeps_lies_on_the_host_and_is_moved(ppo: Document) -> None:
    stays, sleeps = estimate(override(ppo, {"rl.trainer_on_gpu": ["critic"]})), estimate(ppo)
    more = {entry.name: entry.amount for entry in sleeps.host if "critic" in entry.name}
    # Four ranks hold the weights of a copy, and there are two; the optimizer is cut over both.
    assert more["weight copy (critic)"] == pytest.approx(2 * 2 * PARAMETERS / GIB, rel=2e-3)
    assert more[ItemName.SLEEPING_CRITICS_OPTIMIZER] == pytest.approx(12 * PARAMETERS / GIB, rel=2e-3)
    assert not any("critic" in entry.name for entry in stays.host)
    moved = [sum(e.amount for e in each.time if e.name == ItemName.SLEEP_AND_WAKE) for each in (stays, sleeps)]
    assert moved[1] == pytest.approx(2 * moved[0])


def test_it_trains_and_scores_like_the_policy_without_logits(ppo: Document) -> None:
    grpo, both = (dict(estimate(override(ppo, {"rl.algorithm": each})).phases) for each in ("grpo", "ppo"))
    assert both["update"] == pytest.approx(2 * grpo["update"])
    assert 1.9 * grpo["training"] < both["training"] < 2 * grpo["training"]
    # Two passes that make log-probabilities; a third makes values.
    assert 1.4 * grpo["log-probabilities"] < both["log-probabilities"] < 1.5 * grpo["log-probabilities"]
    assert both["rollout"] == grpo["rollout"]


@pytest.mark.parametrize(
    ("layout", "stays"), [({}, []), ({}, ["critic"]), (FSDP2, ["weights", "optimizer", "critic"]), (FSDP2, [])]
)
def test_the_launch_file_is_read_back(ppo: Document, tmp_path: Path, layout: dict[str, Any], stays: list[str]) -> None:
    outcome = search(override(ppo, {**layout, "rl.trainer_on_gpu": stays}))
    assert outcome.plan is not None
    path = tmp_path / "plan.sh"
    path.write_text(verl.fragment(outcome, default_catalog()), encoding="utf-8")
    read = lint(path, default_catalog(), overrides=("cluster.node=hgx-h100-8",))
    assert read.plan is not None
    rl = read.plan.problem.scenario.rl
    assert rl is not None
    assert (rl.algorithm, sorted(rl.trainer_on_gpu)) == ("ppo", sorted(stays))
    assert read.plan.peak_gib == pytest.approx(outcome.plan.peak_gib, abs=0.01)


FSDP2_OF_NEMO = {name: FSDP2[name] for name in FSDP2 if name != "engine"}


def test_nemo_rls_value_model_sleeps_in_workers_of_its_own(ppo: Document, tmp_path: Path) -> None:
    """4 GiB of them while others work; weights twice over TP4 and the optimizer once on the host; read as written."""
    asked = override(ppo, {"engine": "nemo-rl"})
    both, grpo = estimate(asked), estimate(override(asked, {"rl.algorithm": "grpo"}))
    for phase in ("backward", "optimizer", "rollout"):
        (left,) = (sum(item.amount for item in each.items if item.name == ItemName.SLEEPING_CRITIC)
                   for each in both.memory if each.phase == phase)  # fmt: skip
        assert left == 4.0, phase
    assert both.headroom_gib < grpo.headroom_gib
    on_host = {entry.name: entry.amount for entry in both.host}
    assert on_host["weight copy (critic)"] == pytest.approx(2 * 2 * PARAMETERS / GIB, rel=2e-3)
    assert on_host[ItemName.SLEEPING_CRITICS_OPTIMIZER] == pytest.approx(12 * PARAMETERS / GIB, rel=2e-3)
    (text,) = registry.files("nemo-rl", search(asked), default_catalog()).values()
    keys = parse_document(text, "written").data
    assert keys["defaults"] == "ppo_math_1B_megatron.yaml"
    assert keys["value"]["megatron_cfg"] == keys["policy"]["megatron_cfg"]
    assert keys["value"]["sequence_packing"].items() >= keys["policy"].get("sequence_packing", {}).items()
    assert (keys["ppo"]["ppo_epochs"], "grpo" in keys) == (1, False)
    path = tmp_path / "run.yaml"
    path.write_text(text)
    read = lint(path, default_catalog(), ("cluster.node=hgx-h100-8",))
    assert read.plan is not None, read.open
    assert read.scenario["rl"]["algorithm"] == "ppo"  # type: ignore[index]
    assert read.plan.peak_gib == pytest.approx(both.peak_gib, abs=0.01)
    path.write_text(text.replace("value:", "value:\n  model_name: Qwen/Qwen2.5-1.5B"))
    other = lint(path, default_catalog(), ("cluster.node=hgx-h100-8",))
    assert other.found.words["critic_model"] == "Qwen/Qwen2.5-1.5B"
    apart = text.replace("value:\n", "value:\n  precision: float32\n")
    path.write_text(apart)
    told = [why for _, why in lint(path, default_catalog(), ("cluster.node=hgx-h100-8",)).found.unread]
    assert "value.precision float32 is costed as the policy's bfloat16" in told


ZERO_3 = {"engine": "openrlhf", **{name: FSDP2[name] for name in FSDP2 if name != "engine"}, "layout.zero_stage": 3}


@pytest.mark.parametrize(("layout", "kept", "passes"), [({"engine": "slime"}, 0.0, 3), (ZERO_3, 2 / 8, 2)])
def test_a_critic_in_its_own_processes(
    ppo: Document, tmp_path: Path, layout: dict[str, Any], kept: float, passes: int
) -> None:
    """What they leave of 4 GiB while asleep, as the policy's; DeepSpeed's 16-bit shards stay; read back as written.

    With a critic slime takes the policy's log-probabilities again: reference, policy and values are three passes.
    """
    reference = {**layout, "rl.reference_model": passes == 3}
    both, grpo = (estimate(override(ppo, {**reference, "rl.algorithm": each})) for each in ("ppo", "grpo"))
    for phase in ("backward", "optimizer", "rollout"):
        (left,) = [sum(item.amount for item in each.items if item.name == ItemName.SLEEPING_CRITIC)
                   for each in both.memory if each.phase == phase]  # fmt: skip
        assert left == 4.0, phase
    assert critic(both, "backward") == pytest.approx(kept * PARAMETERS / GIB, rel=2e-3)
    on_host = {entry.name: entry.amount for entry in both.host}
    assert on_host[ItemName.SLEEPING_CRITICS_OPTIMIZER] == pytest.approx(12 * PARAMETERS / GIB, rel=2e-3)
    assert ("weight copy (critic)" in on_host) == (kept == 0)
    longer = dict(both.phases)["log-probabilities"] / dict(grpo.phases)["log-probabilities"]
    assert passes - 0.6 < longer < passes
    outcome = search(override(ppo, reference))
    assert outcome.plan is not None
    path, launcher = tmp_path / "plan.sh", str(layout["engine"])
    path.write_text(registry.files(launcher, outcome, default_catalog())["plan.sh"], encoding="utf-8")
    read = lint(path, default_catalog(), overrides=("cluster.node=hgx-h100-8",))
    assert read.plan is not None
    assert read.plan.problem.scenario.rl is not None
    assert read.plan.problem.scenario.rl.algorithm == "ppo"
    assert read.plan.peak_gib == pytest.approx(outcome.plan.peak_gib, abs=0.01)
    other = {"slime": "--megatron-config-path roles.yaml", "openrlhf": "--critic.model_name_or_path Qwen/Qwen2.5-32B"}
    text = path.read_text().replace(" --critic.model_name_or_path Qwen/Qwen2.5-7B", "")
    path.write_text(text.replace('"$@"', other[launcher] + ' "$@"'), encoding="utf-8")
    assert any("costed as the actor" in why for _, why in lint(path, default_catalog()).found.unread)


SMALL = 1_543_714_304
"""Parameters of Qwen2.5-1.5B."""


@pytest.mark.parametrize("layout", [FSDP2, ZERO_3])
def test_a_critic_of_a_smaller_network(ppo: Document, tmp_path: Path, layout: dict[str, Any]) -> None:
    """Its state by its own parameters, its passes as those of a policy of its network without logits; read back."""
    stays = {"rl.trainer_on_gpu": ["critic"]} if layout is FSDP2 else {}
    own = override(ppo, {**layout, **stays, "rl.critic_model": "qwen2.5-1.5b"})
    found = estimate(own)
    each = (4 + 8) / 8 if stays else 2 / 8
    assert critic(found, "backward") == pytest.approx(each * SMALL / GIB, rel=2e-3)
    alone, same, less = (
        dict(estimate(override(ppo, {**layout, **change})).phases)
        for change in ({"rl.algorithm": "grpo"}, {}, {"rl.critic_model": "qwen2.5-1.5b"})
    )
    little = dict(estimate(override(ppo, {**layout, "model": "qwen2.5-1.5b", "rl.algorithm": "grpo"})).phases)
    # The small network's own training, less its logits, is what it adds.
    assert 0.6 * little["training"] < less["training"] - alone["training"] < little["training"]
    assert less["training"] < same["training"]
    assert less["update"] - alone["update"] == pytest.approx(little["update"], rel=1e-6)
    assert less["log-probabilities"] - alone["log-probabilities"] < 0.5 * little["log-probabilities"]
    outcome = search(own)
    assert outcome.plan is not None
    path, launcher = tmp_path / "plan.sh", {"verl-fsdp2": "verl", "openrlhf": "openrlhf"}[str(layout["engine"])]
    path.write_text(registry.files(launcher, outcome, default_catalog())["plan.sh"], encoding="utf-8")
    read = lint(path, default_catalog(), overrides=("cluster.node=hgx-h100-8",))
    assert read.scenario["rl"]["critic_model"] == "qwen2.5-1.5b"
    assert read.plan is not None
    assert read.plan.peak_gib == pytest.approx(outcome.plan.peak_gib, abs=0.01)
    path.write_text(path.read_text().replace("Qwen2.5-1.5B", "Qwen2.5-32B"), encoding="utf-8")
    large = lint(path, default_catalog(), overrides=("cluster.node=hgx-h100-8",)).found.unread
    assert any("Qwen2.5-32B is costed as the policy's network" in why for _, why in large)


def test_one_sample_a_prompt_needs_a_critic(ppo: Document) -> None:
    one = {**ZERO_3, "rl.n_samples_per_prompt": 1, "rl.rollout_batch_size": 256}
    assert estimate(override(ppo, one)).peak_gib > 0
    with pytest.raises(InputError, match="groups_need_samples"):
        estimate(override(ppo, {**one, "rl.algorithm": "grpo"}))


def test_what_of_a_critic_is_not_the_policys_is_listed(ppo: Document, tmp_path: Path) -> None:
    path = tmp_path / "plan.sh"
    text = verl.fragment(search(override(ppo, FSDP2)), default_catalog())
    path.write_text(text.replace("critic.strategy=fsdp2", "critic.strategy=fsdp"), encoding="utf-8")
    said = [why for _, why in lint(path, default_catalog()).found.unread]
    assert any("critic.strategy fsdp is costed as the policy's fsdp2" in each for each in said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "nemo-rl-fsdp2", **FSDP2_OF_NEMO}, "engine nemo-rl-fsdp2 has none that is counted"),
        ({"rl.placement": "asynchronous"}, "none is counted on GPUs of its own"),
        ({"adapter": {"rank": 8, "targets": ["all-linear"]}}, "none is counted beside adapters"),
        ({"rl.algorithm": "grpo", "rl.trainer_on_gpu": ["critic"]}, "rl.algorithm is grpo"),
        ({"rl.algorithm": "grpo", "rl.critic_model": "qwen2.5-1.5b"}, "rl.critic_model names a critic"),
        ({"rl.critic_model": "qwen2.5-1.5b"}, "where an engine has no pipeline"),
        ({**FSDP2, "rl.critic_model": "qwen2.5-32b"}, "larger than the policy"),
    ],
)
def test_where_none_is_counted_it_is_refused(ppo: Document, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        estimate(override(ppo, changes))
