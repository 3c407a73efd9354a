"""What a scenario asks beyond a plan's degrees, read in one place for all launchers."""

from __future__ import annotations

from dataclasses import dataclass

from planner.schema.preference import Dpo
from planner.schema.scenario import Adapter, Rl
from planner.search.plan import Plan


@dataclass(frozen=True)
class Settled:
    """Wishes of a scenario that launch files must say, as the plan's own variant has settled them."""

    task: str
    engine_options: tuple[str, ...]
    rank_order: str
    recompute_modules: tuple[str, ...]
    optimizer_offload: bool
    activation_offload: bool
    adapter: Adapter | None
    """Low-rank adapters, where they are what is trained."""
    frozen: tuple[str, ...]
    """Parts of a vision tower that stay frozen while the rest trains."""
    log_prob_samples: int | None
    log_prob_tokens: int | None
    """Of passes that take log-probabilities, where they are not as large as those of training."""
    rl: Rl | None
    reference: str
    """Of task dpo: `model`, `precomputed` or `none`."""


def settled(plan: Plan) -> Settled:
    """The settled wishes of a plan."""
    scenario = plan.problem.scenario
    layout = scenario.layout
    return Settled(
        task=scenario.task,
        engine_options=tuple(scenario.engine_options),
        rank_order=str(scenario.cluster.rank_order),
        recompute_modules=tuple(layout.recompute_modules),
        optimizer_offload=layout.optimizer_offload is True,
        activation_offload=layout.activation_offload is True,
        adapter=scenario.adapter,
        frozen=tuple(scenario.frozen),
        log_prob_samples=scenario.batch.log_prob_micro_batch_size,
        log_prob_tokens=scenario.batch.log_prob_max_tokens_per_gpu,
        rl=scenario.rl,
        reference=(scenario.dpo or Dpo()).reference,
    )
