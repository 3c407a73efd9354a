"""Training on pairs of answers (DPO): its loss, its frozen reference, and where an engine has neither."""

from __future__ import annotations

from planner.errors import Mistake
from planner.inputs.catalog import Catalog
from planner.inputs.document import Document
from planner.schema.engine import Engine
from planner.schema.preference import DPO, Dpo
from planner.schema.scenario import Scenario


def scored_by(scenario: Scenario) -> tuple[str, ...]:
    """Whose log-probabilities take a pass of their own in training on pairs: `reference`, or nobody's."""
    asked = scenario.dpo or Dpo()
    return ("reference",) if scenario.task == DPO and asked.reference == "model" else ()


def default_loss(scenario: Scenario, engine: Engine) -> list[str]:
    """The option that is the loss of training on pairs, where the scenario names none of them."""
    losses = engine.preference.losses if engine.preference is not None and scenario.task == DPO else []
    return losses[:1] if not set(losses) & set(scenario.engine_options) else []


def refused_pairs(document: Document, scenario: Scenario, engine: Engine, catalog: Catalog) -> list[Mistake]:
    """Training on pairs by an engine of which nobody has read it, in odd micro-batches, or with another loss."""
    if scenario.task != DPO:
        return []
    if engine.preference is None:
        because = "its catalog file has no preference: nobody has read how it trains on pairs of answers"
        able = " or ".join(each.id for each in catalog.all("engines") if each.preference is not None)
        what, where = f"engine {engine.id} has no task {DPO}", document.place(("engine",))
        return [Mistake(what, where, because, f"engine: {able}")]
    wrong, losses = [], engine.preference.losses
    for name in [name for name in scenario.engine_options if name in engine.options and name not in losses]:
        against = [loss for loss in losses if name in engine.options[loss].instead_of]
        if against:
            because = f"the loss of pairs is one of {', '.join(losses)}"
            where = document.place(("engine_options",))
            wrong.append(Mistake(f"{name} is no loss of task {DPO}", where, because, f"leave {name} out"))
    batch = scenario.batch.global_batch_size
    if isinstance(batch, int) and batch % 2:
        because = "global_batch_size counts sequences, and a pair of answers is two"
        where = document.place(("batch", "global_batch_size"))
        wrong.append(Mistake(f"{batch} sequences are no pairs", where, because, f"global_batch_size: {batch + 1}"))
    return wrong
