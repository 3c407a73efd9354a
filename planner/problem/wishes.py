"""Wishes: values one wants, and every way to give some of them up, best first."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from planner.formulas.lengths import truncated_mean_tokens
from planner.schema.scenario import WISH_ORDER, IntWish, Scenario


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
    if scenario.rl is None:
        longest = value["sequence_length"]
        mean = min(longest, scenario.batch.mean_sequence_length or longest)
    else:
        rl = scenario.rl
        longest = rl.prompt_length + value["response_length"]
        mean_response = truncated_mean_tokens(
            mean=rl.response_distribution.mean, p99=rl.response_distribution.p99, maximum=value["response_length"]
        )
        mean = rl.prompt_length + max(1, round(mean_response))
    return WishCombination(
        sequence_length=longest,
        mean_sequence_length=mean,
        response_length=value["response_length"],
        n_samples_per_prompt=value["n_samples_per_prompt"],
        rollout_batch_size=value["rollout_batch_size"],
        optimizer=value["optimizer"],
        given_up=given_up,
    )
