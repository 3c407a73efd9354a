"""The comparison as blocks: published rows, our accounting of the same, and the plan, side by side."""

from __future__ import annotations

from planner.analysis.published_columns import ColumnCase, Priced, PublishedColumns
from planner.costs.item_names import ItemName
from planner.report.blocks import Block, Bullets, Grid, Heading, Text
from planner.search.plan import PHASES, WISHES, Entry, PhaseMemory, Plan, degrees
from planner.units import number, percent, signed

NONE = "-"
TRAINING = (
    ("weights", (ItemName.WEIGHTS, ItemName.FROZEN_BASE_WEIGHTS, ItemName.FROZEN_TOWER_WEIGHTS), "weights"),
    ("gradients", (ItemName.GRADIENTS,), "gradients"),
    ("optimizer", (ItemName.OPTIMIZER, ItemName.OPTIMIZER_TEMPORARIES), "optimizer"),
    (
        "activations",
        (
            ItemName.ACTIVATIONS_EMBEDDING,
            ItemName.ACTIVATIONS_TOWER,
            ItemName.ACTIVATIONS_KEPT_LAYERS,
            ItemName.ACTIVATIONS_RECOMPUTED_LAYERS,
            ItemName.ACTIVATIONS_LAYER_BEING_RECOMPUTED,
            ItemName.LAYER_RUNNING_BACKWARD,
            ItemName.LAYER_RUNNING_FORWARD,
        ),
        "activations",
    ),
    ("logits", (ItemName.LOGITS_AND_LOSS, ItemName.LOG_PROBABILITY_LOGITS), None),
    ("framework, other", (), "framework"),
)
"""(row, items of our ledger, published row); the last takes what no other row names."""
ROLLOUT = (
    ("weights", (ItemName.ROLLOUT_WEIGHTS,), None),
    ("key-value cache", (ItemName.KEY_VALUE_POOL,), "kv_cache"),
    ("framework, other", (), None),
)


def comparison_blocks(comparison: PublishedColumns) -> list[Block]:
    """Side by side, the changes alone, contradictions."""
    blocks: list[Block] = [Heading("Side by side")]
    if comparison.cases:
        blocks.append(_side_by_side(comparison))
    blocks += [Text(text) for text in _notes(comparison)]
    if comparison.start is not None:
        blocks += _changes(comparison)
    said = comparison.contradictions + comparison.remarks
    if said:
        blocks += [Heading("What the published figures contradict"), Bullets(said)]
    return blocks


def comparison_result(comparison: PublishedColumns) -> list[str]:
    """What the plan comes to against the baseline, and the published changes against the plan: two lines."""
    base, found = comparison.baseline, comparison.found
    if base is None or found is None or found.relative_samples is None:
        return []
    what = "samples" if found.plan.problem.is_rl else "sequences"
    out = [
        f"{percent(found.relative_samples, 0)} of the {what}/s of {base.plan.num_gpus} GPUs as in "
        f'"{base.name}" ({base.verdict}, {number(base.plan.headroom_gib, 1)} GiB free).'
    ]
    for case in comparison.cases:
        if case.published is not None and case is not base and case.plan.num_gpus == found.plan.num_gpus:
            claimed = f", published as {case.published.stability}" if case.published.stability else ""
            free = f"{case.verdict}, {number(case.plan.headroom_gib, 1)} GiB free"
            out.append(f'"{case.name}": {len(case.changed_wishes)} wishes given up, {free}{claimed}.')
    return out


def _training(plan: Plan) -> PhaseMemory:
    return max((p for p in plan.memory if p.stage is not None), key=lambda phase: phase.total_gib)


def _rollout(plan: Plan) -> PhaseMemory | None:
    return max((p for p in plan.memory if p.stage is None), key=lambda phase: phase.total_gib, default=None)


def _side_by_side(comparison: PublishedColumns) -> Grid:
    published = [case for case in comparison.cases if case.published is not None]
    ours = [*comparison.cases, *([comparison.found] if comparison.found is not None else [])]
    rows: list[tuple[str, ...]] = []
    sections: set[int] = set()
    strong: set[int] = set()

    def add(name: str, printed: list[str], computed: list[str]) -> None:
        rows.append((name, *printed, *computed))

    def same(name: str, text: list[str], published_text: list[str] | None = None) -> None:
        add(name, published_text or [NONE] * len(published), text)

    same("GPUs", [str(c.plan.num_gpus) for c in ours], [str(c.plan.num_gpus) for c in published])
    same("degrees", [degrees(c.plan.layout) for c in ours])
    same("recomputed layers", ["/".join(map(str, sorted(set(c.plan.recomputed)))) for c in ours])
    if ours[0].plan.problem.is_rl:
        same("samples a micro-batch", [_micro_batch(c.plan) for c in ours])
        same("rollout engine TP", [_rollout_setting(c, "tensor_parallel") for c in ours])
        same("memory fraction", [_rollout_setting(c, "gpu_memory_utilization") for c in ours])
    _wish_rows(published, ours, same)
    sections.add(len(rows) - 1)
    for name, items, key in TRAINING:
        add(
            f"train: {name}",
            [_published(c, key) for c in published],
            [_sum(_training(c.plan), items) for c in ours],
        )
    same("train: peak", [number(_training(c.plan).total_gib, 1) for c in ours])
    strong.add(len(rows) - 1)
    sections.add(len(rows) - 1)
    if any(_rollout(case.plan) is not None for case in ours):
        for name, items, key in ROLLOUT:
            cells = [_sum(_rollout(c.plan), items) for c in ours]
            add(f"rollout: {name}", [_published(c, key) for c in published], cells)
        same("rollout: peak", [_total(_rollout(c.plan)) for c in ours])
        strong.add(len(rows) - 1)
        sections.add(len(rows) - 1)
    add("peak", [_claimed(c) for c in published], [number(c.plan.peak_gib, 1) for c in ours])
    if published:
        same("published rows add up to", [NONE] * len(ours), [number(_rows_gb(c), 1) for c in published])
    same("fullest while", [PHASES[c.plan.binding.phase].partition(",")[0] for c in ours])
    add(
        "headroom",
        [_claimed_headroom(c) for c in published],
        [number(c.plan.headroom_gib, 1) for c in ours],
    )
    said = [(c.published.stability or NONE) if c.published else NONE for c in published]
    add("verdict", said, [c.verdict for c in ours])
    strong |= {len(rows) - 2, len(rows) - 1}
    sections.add(len(rows) - 1)
    same("step, seconds", [number(c.plan.step_seconds, 1) for c in ours])
    claimed = [(c.published.relative_throughput or NONE) if c.published else NONE for c in published]
    add("relative throughput", claimed, [_relative(c, c.relative_samples) for c in ours])
    same("relative tokens/s", [_relative(c, c.relative_tokens, mark=False) for c in ours])
    same("wishes", [_kept(c) for c in ours])
    columns = ["a GPU", *(f"published [GB]: {c.name}" for c in published)]
    columns += [f"ours [GiB]: {c.name}" for c in comparison.cases]
    columns += ["ours [GiB]: the plan"] if comparison.found is not None else []
    return Grid(tuple(columns), tuple(rows), strong=frozenset(strong), rules=frozenset(sections))


def _wish_rows(published: list[ColumnCase], ours: list[ColumnCase], same: object) -> None:
    """Sequence length, and in RL longest response, prompts and samples."""
    assert callable(same)
    if ours[0].plan.problem.is_rl:
        for name, text in (("response_length", "longest response"), ("rollout_batch_size", "rollout batch")):
            same(text, [_count(c, name) for c in ours], [_count(c, name) for c in published])
        name = "n_samples_per_prompt"
        same("samples a prompt", [_count(c, name) for c in ours], [_count(c, name) for c in published])
    same("sequence length", [f"{c.plan.layout['sequence_length']:,}" for c in ours])


def _micro_batch(plan: Plan) -> str:
    tokens = plan.layout["max_tokens"]
    return f"to {tokens:,} tokens" if tokens else str(plan.layout["micro_batch_size"])


def _rollout_setting(case: ColumnCase, name: str) -> str:
    """A setting of the rollout engine; said to be assumed where the column says so."""
    if case.plan.rollout is None:
        return NONE
    value = f"{getattr(case.plan.rollout, name):g}"
    return f"{value} (assumed)" if f"rl.rollout.{name}" in case.assumed else value


def _count(case: ColumnCase, name: str) -> str:
    return f"{getattr(case.plan.wish, name):,}"


def _published(case: ColumnCase, key: str | None) -> str:
    if key is None or case.published is None or key not in case.published.rows_gb:
        return NONE
    return number(case.published.rows_gb[key], 1)


def _claimed(case: ColumnCase) -> str:
    """The published total, as it is printed."""
    assert case.published is not None
    return f"{case.published.total_gb:g}"


def _rows_gb(case: ColumnCase) -> float:
    assert case.published is not None
    return sum(case.published.rows_gb.values())


def _claimed_headroom(case: ColumnCase) -> str:
    """What the published total leaves of the card as marketed; nothing where it was another card."""
    assert case.published is not None
    left = case.plan.problem.gpu.memory_marketed_gb - case.published.total_gb
    return number(left, 1) if left >= 0 else NONE


def _sum(phase: PhaseMemory | None, items: tuple[str, ...]) -> str:
    if phase is None:
        return NONE
    table = ROLLOUT if phase.stage is None else TRAINING
    named = {item for _, names, _ in table for item in names}

    def counts(entry: Entry) -> bool:
        return entry.name in items if items else entry.name not in named

    return number(sum(entry.amount for entry in phase.items if counts(entry)), 1)


def _total(phase: PhaseMemory | None) -> str:
    return NONE if phase is None else number(phase.total_gib, 1)


def _relative(case: ColumnCase, share: float | None, *, mark: bool = True) -> str:
    if share is None:
        return NONE
    return percent(share, 0) + (" *" if mark and case.changed_wishes else "")


def _kept(case: ColumnCase) -> str:
    return "all kept" if not case.changed_wishes else f"{len(case.changed_wishes)} given up"


def _notes(comparison: PublishedColumns) -> list[str]:
    notes = []
    base = comparison.baseline
    if base is not None:
        plan, critical = base.plan, base.plan.problem.engine.critical_headroom_fraction
        free = f"{number(plan.headroom_gib, 1)} GiB of {number(plan.usable_gib, 1)} are free"
        notes.append(
            f'Baseline "{base.name}" is {base.verdict} by our accounting: {free} in the phase '
            f'"{PHASES[plan.binding.phase]}" (critical is less than {percent(critical, 0)} free). '
            f"Training alone peaks at {number(_training(plan).total_gib, 1)} GiB."
        )
        what = "trained samples" if plan.problem.is_rl else "sequences"
        marked = any(case.changed_wishes for case in comparison.cases)
        star = "; * marks other work than the baseline's, see relative tokens/s" if marked else ""
        notes.append(f"Relative throughput is {what} a second{star}.")
    for case in comparison.cases:
        if case.changed_wishes:
            names = ", ".join(WISHES[name] for name in case.changed_wishes)
            notes.append(f'"{case.name}" gives up: {names}.')
    sources = dict.fromkeys(
        f"{c.published.source.ref} (read {c.published.source.date})" for c in comparison.cases if c.published
    )
    notes += [f"{text}." for text in comparison.left_out]
    return [*notes, *(f"Published: {source}." for source in sources)]


def _changes(comparison: PublishedColumns) -> list[Block]:
    start = comparison.start
    assert start is not None
    text = (
        f'Start: "{comparison.start_name}" on {start.num_gpus} GPUs ({degrees(start.layout)}): peak '
        f"{number(start.peak_gib, 1)} GiB, training peak {number(_training(start).total_gib, 1)} GiB, "
        f"{number(start.headroom_gib, 1)} GiB free, {number(start.samples_per_second)} samples/s."
    )
    said = {True: "published", False: "what if"}
    rows = [_priced(f"{said[change.published]}: {change.name}", change) for change in comparison.changes]
    rows += [_priced(f"the plan: {change.name}", change) for change in comparison.own_changes]
    columns = ("change, alone", "peak GiB", "headroom GiB", "training peak GiB", "samples/s", "tokens/s")
    count = len(comparison.changes)
    return [
        Heading("Each change alone"),
        Text(text),
        Grid(columns, tuple(rows), rules=frozenset({count - 1}) if comparison.own_changes and count else frozenset()),
    ]


def _priced(name: str, change: Priced) -> tuple[str, ...]:
    return (
        name,
        signed(change.peak_gib, 1),
        signed(change.headroom_gib, 1),
        signed(change.training_gib, 1),
        f"{signed((change.relative_samples - 1) * 100, 0)} %",
        f"{signed((change.relative_tokens - 1) * 100, 0)} %",
    )
