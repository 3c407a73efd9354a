"""What an engine takes only some values of, by the lists in its catalog file, whatever the layout."""

from __future__ import annotations

from planner.errors import Problem as Wrong
from planner.read import Document
from planner.schema.engine import Engine
from planner.schema.scenario import Scenario


def refusals(document: Document, scenario: Scenario, engine: Engine) -> list[Wrong]:
    """Precisions, rank orders and splits of layers that the engine does not know, with the place that asks for them."""
    wrong = []
    order, split = scenario.cluster.rank_order, scenario.layout.layers_per_stage
    if engine.precisions and scenario.precision not in engine.precisions:
        wrong.append(
            Wrong(
                f"engine {engine.id} does not train in {scenario.precision}",
                document.place(("precision",)),
                f"its catalog file says precisions: {', '.join(engine.precisions)}",
                f"precision: {engine.precisions[0]}",
            )
        )
    if order not in engine.rank_orders:
        wrong.append(
            Wrong(
                f"engine {engine.id} has no rank order {order}",
                document.place(("cluster", "rank_order")),
                f"its catalog file says rank_orders: {', '.join(engine.rank_orders)}",
                f"rank_order: {engine.rank_orders[0]}",
            )
        )
    middle = split[1:-1] if isinstance(split, list) else []
    if engine.pipeline.uneven == "first_last" and (split == "free" or len(set(middle)) > 1):
        wrong.append(
            Wrong(
                f"engine {engine.id} only lets the first and the last stage differ",
                document.place(("layout", "layers_per_stage")),
                "its catalog file says pipeline.uneven: first_last",
                "layers_per_stage: even, or a list whose stages between the first and the last are equal",
            )
        )
    return wrong
