"""How wrong the predictions are known to be, by engine: read from the summary of the published runs that were re-run.

The table catalogs/measured/known_errors.json is made by `planner validate summary`; nothing here is typed by hand.
"""

from __future__ import annotations

    time = next((TimeSpread(name, **dict(table.time[name])) for name in names if name in table.time), None)
    rl = RlErrors(**dict(table.rl)) if table.rl is not None and table.rl.rows else None
    return KnownErrors(_memory(engine, table, kind), time, rl, kind)


def _memory(engine: Engine, table: ErrorTable, kind: RunKind | None) -> MemorySpread | None:
    """The engine's own runs where one is like this one; else all engines' runs."""
    own = table.memory.get(engine.id)
    missing: tuple[str, ...] = () if own is not None else (f"engine {engine.id}",)
    if own is not None and own.seen is not None and kind is not None:
        missing = _seen(own.seen).missing(kind)
    known = table.memory_like_none if missing else own
    if known is None:
        return None
    sides = known.kinds.get(kind.cell, known) if kind is not None else known
    return MemorySpread(
        engine=engine.id,
        rows=known.rows,
        metric=known.metric,
        median=known.median,
        p90=known.p90,
        centre=sides.centre,
        below=sides.below,
        above=sides.above,
        in_sample_rows=known.in_sample_rows,
        missing=missing,
        residual_gib=kind.residual_gib if kind is not None else 0.0,
    )


def _seen(row: SeenRow) -> SeenKinds:
    return SeenKinds(row.cells, frozenset(row.switches), row.longest_sequence, row.vocabularies)


def _memory_sentence(m: MemorySpread | None) -> str:
    if m is None:
        return "memory: no published run of this engine has been scored; formulas and constants cite sources"
    if m.missing:
        return (
            f"memory: no published run like this ({', '.join(m.missing)}); over all engines the median error is "
            f"{m.median:.1%}, the 90th percentile {m.p90:.1%} ({m.rows} runs, each engine weighing the same, and those "
            "that were predicted before anyone had seen them: planner validate memory)"
        )
    return (
        f"memory: median error {m.median:.1%}, 90th percentile {m.p90:.1%} on {m.rows} published runs of "
        f"{m.engine} ({m.metric}; {m.fitted_how}: planner validate memory)"
    )
