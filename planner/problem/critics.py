"""The critic of a policy: where none is counted, and the problem of one that is a network of its own."""

from __future__ import annotations

from dataclasses import replace

from planner.errors import Mistake
from planner.inputs.document import Document
from planner.problem.problem import Problem
from planner.schema.catalog import Architecture
from planner.schema.engine import Engine
from planner.schema.scenario import Scenario

OWN = ("rl", "critic_model")


def refused_critic(document: Document, scenario: Scenario, engine: Engine) -> list[Mistake]:
    """A critic that the engine has not, or that stands where none is counted."""
    rl = scenario.rl
    assert rl is not None
    where = document.place(("rl", "algorithm"))
    if rl.algorithm != "ppo":
        because, attempt = f"rl.algorithm is {rl.algorithm}", "rl.algorithm: ppo"
        said = {"trainer_on_gpu": "critic" in rl.trainer_on_gpu, "critic_model": rl.critic_model is not None}
        return [Mistake(f"rl.{key} names a critic", where, because, attempt) for key, there in said.items() if there]
    source = engine.generation.critic if engine.generation is not None else None
    reasons = {
        f"engine {engine.id} has none that is counted (generation.critic of its file)": source is None,
        "none is counted on GPUs of its own": rl.placement != "colocated",
        "none is counted beside adapters": scenario.adapter is not None,
        "none is counted whose optimizer works on the host": scenario.layout.optimizer_offload is True,
    }
    why = next((reason for reason, there in reasons.items() if there), None)
    if why is None and rl.critic_model is not None and engine.pipeline.supported:
        because = "one of another network is counted where an engine has no pipeline, whose stages would be uneven"
        return [Mistake("rl.critic_model is a network of its own", document.place(OWN), because, "leave it out")]
    return [] if why is None else [Mistake("rl.algorithm ppo trains a critic", where, why, "algorithm: grpo")]


def refused_size(document: Document, policy: Architecture, critic: Architecture) -> list[Mistake]:
    """A critic that is larger than its policy, whose own activations would be the fullest moment."""
    if not larger(policy, critic):
        return []
    what = f"rl.critic_model {critic.id} is larger than the policy, {policy.id}"
    because = "a critic's own moments are not counted: they are less than the policy's where it is no larger"
    return [Mistake(what, document.place(OWN), because, "a critic as large as the policy, or smaller")]


def larger(policy: Architecture, critic: Architecture) -> bool:
    """Whether a critic is wider or deeper than a policy, or has experts or latents where it has none."""

    def sizes(a: Architecture) -> tuple[int, ...]:
        kinds = int(a.is_moe), int(a.is_mla), int(a.is_linear), int(a.is_hybrid)
        return (a.num_hidden_layers, a.hidden_size, a.intermediate_size, a.query_width, *kinds)

    return any(own > its for own, its in zip(sizes(critic), sizes(policy), strict=True))


def of_critic(problem: Problem) -> Problem:
    """The problem with the critic's network in the place of the policy's; the same where that is its own."""
    critic = problem.work.critic
    if critic is None:
        return problem
    return replace(problem, work=replace(problem.work, architecture=critic, critic=None))


def critics_share(problem: Problem) -> float:
    """Parameters of the critic over those of the policy: all state is cut over the same ranks."""
    return of_critic(problem).parameters.total / problem.parameters.total
