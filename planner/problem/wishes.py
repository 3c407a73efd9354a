"""Wishes: values one wants, and every way to give some of them up, best first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from planner.formulas.lengths import LengthLaw
from planner.schema.choices import IntWish
from planner.schema.scenario import WISH_ORDER, Rl, Scenario

AT_CAP = {"short_answers": 0.0, "math": 0.002, "reasoning": 0.01, "agents": 0.01}
"""Share of responses that run to the maximum whatever it is, by workload (assumed). A 70B with a mean of 749 tokens ran
to 16,384 in every step of 2,048 samples of mathematics (NeMo-RL v0.3), so that one in a thousand is the least."""


@dataclass(frozen=True)
class WishCombination:
    """One way to grant or give up wishes."""

    sequence_length: int
    """Longest sequence [tokens]; in RL prompt + largest response."""
    mean_sequence_length: int
    """[tokens]"""
    response_length: int
    n_samples_per_prompt: int
    rollout_batch_size: int
    optimizer: int
    """Index into Problem.optimizers."""
    given_up: tuple[str, ...]
    """Names of the wishes that this combination does not grant."""
    law: LengthLaw | None = None
    """Lengths of samples (RL)."""

    @property
    def samples(self) -> int:
        """Samples of one rollout (RL)."""
        return self.rollout_batch_size * self.n_samples_per_prompt


def allowed(value: int | IntWish | None) -> list[int]:
    """Values of a wish, the wanted one first."""
    if isinstance(value, IntWish):
        return [value.want, *(v for v in value.allow if v != value.want)]
    return [value] if value is not None else [0]


def wish_combinations(scenario: Scenario, optimizers: int) -> tuple[WishCombination, ...]:
    """Every way to grant wishes, best first.

    Order: fewest given up; then wishes that stand late in the playbook are kept longest; then how far each is given up.
    """
    rl = scenario.rl
    order: list[str] = list(scenario.playbook or [])
    order += [name for name in WISH_ORDER if name not in order]
    options = {
        "sequence_length": allowed(scenario.batch.sequence_length),
        "response_length": allowed(rl.response_length) if rl else [0],
        "n_samples_per_prompt": allowed(rl.n_samples_per_prompt) if rl else [0],
        "rollout_batch_size": allowed(rl.rollout_batch_size) if rl else [0],
        "optimizer": list(range(optimizers)),
    }
    ranked = []
    for levels in itertools.product(*(range(len(options[name])) for name in order)):
        level = dict(zip(order, levels, strict=True))
        given_up = tuple(name for name in order if level[name])
        key = (len(given_up), tuple(min(1, n) for n in reversed(levels)), tuple(reversed(levels)))
        value = {name: options[name][level[name]] for name in order}
        ranked.append((key, _combination(scenario, value, given_up)))
    ranked.sort(key=lambda pair: pair[0])
    return tuple(combination for _, combination in ranked)


def _combination(scenario: Scenario, value: dict[str, int], given_up: tuple[str, ...]) -> WishCombination:
    law = None
    if scenario.rl is None:
        longest = value["sequence_length"]
        mean = min(longest, scenario.batch.mean_sequence_length or longest)
    else:
        law = length_law(scenario.rl, value["response_length"])
        longest = law.prompt + law.maximum
        mean = law.prompt + max(1, round(law.mean_tokens) - law.prompt)
    return WishCombination(
        sequence_length=longest,
        mean_sequence_length=mean,
        response_length=value["response_length"],
        n_samples_per_prompt=value["n_samples_per_prompt"],
        rollout_batch_size=value["rollout_batch_size"],
        optimizer=value["optimizer"],
        given_up=given_up,
        law=law,
    )


def length_law(rl: Rl, maximum: int) -> LengthLaw:
    """Lengths of the samples of an RL step whose responses have at most so many tokens."""
    spread = rl.response_distribution
    at_cap = AT_CAP[spread.workload] if spread.at_cap is None else spread.at_cap
    return LengthLaw(rl.prompt_length, *spread.lengths(maximum), maximum, at_cap)
