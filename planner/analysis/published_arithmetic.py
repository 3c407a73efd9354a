"""What arithmetic alone says against a published memory table. Each sentence is computed, never typed in."""

from __future__ import annotations

from collections.abc import Sequence

from planner.formulas.rules_of_thumb import (
    GUIDE,
    QUICK_ESTIMATE_COMMENT_GB,
    key_value_bytes,
    optimizer_rule_bytes,
    quick_estimate_gb,
    weight_rule_bytes,
)
from planner.schema.scenario import Published
from planner.search.plan import Plan
from planner.units import GB, GIB, gib_to_gb

Row = tuple[str, Plan, Published]
"""(column's name, the configuration by our accounting, what was published)"""


def contradictions(rows: Sequence[Row]) -> tuple[str, ...]:
    """Every contradiction found in the published tables."""
    if not rows:
        return ()
    found = [text for row in rows for text in _sums(row)]
    found += _key_value(rows)
    found += _shares(rows)
    found += _parameters(rows)
    if any(GUIDE in published.source.ref for _, _, published in rows):
        value = quick_estimate_gb(parameters_billion=7)
        found.append(
            f"The article's quick estimate gives {value:.2f} GB for 7 billion parameters, "
            f"not the {QUICK_ESTIMATE_COMMENT_GB:g} of its comment."
        )
    return tuple(found)


def _sums(row: Row) -> list[str]:
    """Rows that do not add up to their total."""
    name, plan, published = row
    total = sum(published.rows_gb.values())
    if abs(total - published.total_gb) <= 0.01 * published.total_gb:
        return []
    text = f"{name}: the published rows add up to {total:.1f} GB, not {published.total_gb:g}."
    card = plan.problem.gpu.memory_marketed_gb
    if card >= published.total_gb:
        text += f" Of {card:g} GB they leave {card - total:.1f}, not {card - published.total_gb:g}."
    return [text]


def _key_value(rows: Sequence[Row]) -> list[str]:
    """The published cache against its own formula, and against the model's real key-value heads."""
    found = []
    explained = False
    for name, plan, published in rows:
        cache, rl = published.rows_gb.get("kv_cache"), plan.problem.scenario.rl
        a = plan.problem.architecture
        if cache is None or rl is None or a.is_mla:
            continue
        wish = plan.wish
        length, batch = wish.response_length, wish.n_samples_per_prompt
        shape = {"num_hidden_layers": a.num_hidden_layers, "sequence_length": length, "batch": batch, "bytes_each": 2}
        rule = key_value_bytes(width=a.hidden_size, **shape)
        exact = key_value_bytes(width=a.num_key_value_heads * a.head_dim, **shape)
        text = f"2 x {a.num_hidden_layers} x {a.hidden_size} x {length} x {batch} x 2 B"
        if abs(cache - rule / GIB) < 0.005 * cache:
            found.append(
                f'{name}: the cache of {cache:g} "GB" is GiB: {text} = {rule / GB:.1f} GB = {rule / GIB:.1f} GiB, for '
                f"multi-head attention, batch {batch}, nothing sharded."
            )
        elif abs(cache - rule / GB) > 0.1 * cache:
            found.append(
                f"{name}: the cache of {cache:g} GB is not what its formula gives: with {length} tokens and {batch} "
                f"samples it is {rule / GIB:.1f} GiB."
            )
        if exact < 0.9 * rule and not explained:
            explained = True
            found.append(
                f"{a.id} has {a.num_key_value_heads} key-value heads for {a.num_attention_heads} query heads: its real "
                f"cache is 1/{rule / exact:g} of the formula's, {exact / GIB:.1f} GiB instead of {rule / GIB:.1f}."
            )
    return found


def _shares(rows: Sequence[Row]) -> list[str]:
    """Weights that stay whole while gradients and optimizer are divided by something else."""
    parts, degree = [], 1
    for name, plan, published in rows:
        weights, gradients, optimizer = (published.rows_gb.get(key) for key in ("weights", "gradients", "optimizer"))
        degree = plan.layout["tensor_parallel"]
        if weights is None or gradients is None or optimizer is None or degree == 1:
            return []
        parameters = weights * GB / 2
        whole = optimizer_rule_bytes(parameters=parameters, optimizer="adamw-no-master")
        cuts = (weight_rule_bytes(parameters=parameters, precision="bf16") / GB / gradients, whole / GB / optimizer)
        parts.append(f"by {cuts[0]:g} and {cuts[1]:g} ({name})")
    weights = rows[0][2].rows_gb["weights"]
    return [
        f"Weights stand at {weights:.1f} GB a GPU although TP={degree} cuts them to {weights / degree:.1f}; gradients "
        f"and optimizer are divided {', '.join(parts)}. No single sharding rule gives these rows."
    ]


def _parameters(rows: Sequence[Row]) -> list[str]:
    """A headline parameter count instead of the exact one."""
    _, plan, published = rows[0]
    weights = published.rows_gb.get("weights")
    exact = plan.problem.parameters.total
    if weights is None or abs(weights * GB / 2 / exact - 1) < 0.01:
        return []
    return [
        f"{plan.problem.architecture.id} has {exact:,} parameters ({exact * 2 / GB:.1f} GB in 16 bit), not "
        f"{weights / 2:.1f}e9 ({weights:.1f} GB); the card leaves {gib_to_gb(plan.problem.usable_gib):.1f} GB to torch."
    ]
