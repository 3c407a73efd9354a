"""Machines as a scenario names them, and the node types that it means: a GPU alone comes in its usual box."""

from __future__ import annotations

from planner.errors import InputError, Mistake
from planner.inputs.catalog import Catalog, usual_node
from planner.inputs.document import Document
from planner.schema.scenario import ClusterSpec, Scenario


def housed(document: Document, scenario: Scenario, catalog: Catalog, wrong: list[Mistake]) -> Scenario:
    """The scenario with every node type by its id; names that are unknown or say too little go to `wrong`."""
    cluster = scenario.cluster
    changed: dict[str, object] = {}
    try:
        if cluster.pools is not None:
            changed = {"pools": _pools(document, cluster, catalog)}
        elif cluster.gpu is not None:
            changed = {"node": _node(document, cluster, cluster.gpu, catalog)}
    except InputError as error:
        wrong.extend(error.problems)
    return scenario.model_copy(update={"cluster": cluster.model_copy(update=changed)})


def _pools(document: Document, cluster: ClusterSpec, catalog: Catalog) -> list[object]:
    """Pools under the ids of their nodes, by which other decisions name them."""
    out: list[object] = []
    for place, pool in enumerate(cluster.pools or ()):
        node = catalog.find("nodes", pool.node, document.place(("cluster", "pools", place, "node")))
        out.append(pool.model_copy(update={"node": node.id}))
    return out


def _node(document: Document, cluster: ClusterSpec, gpu: str, catalog: Catalog) -> str:
    """Id of the node type that a GPU stands in: the one that is named too, or the usual one."""
    place = document.place(("cluster", "gpu"))
    wanted = catalog.find("gpus", gpu, place).id
    if cluster.node is None:
        return usual_node(catalog, wanted, place)
    node = catalog.find("nodes", cluster.node, document.place(("cluster", "node")))
    if node.gpu != wanted:
        because = f"its GPUs are {node.gpu}"
        attempt = f"cluster.node={usual_node(catalog, wanted, place)}, or leave out gpu or node"
        raise InputError(Mistake(f"{node.id} has no {wanted}", place, because, attempt))
    return str(node.id)
