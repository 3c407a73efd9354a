"""A scenario solved for several values, as blocks and as data."""

from __future__ import annotations

from planner.analysis.whatif import Variation, compact, equal_to_it
from planner.problem.problem import Question
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline
from planner.report.critical import critical_note, free_cell
from planner.report.envelope import enveloped, together
from planner.report.json_text import JsonObject
from planner.report.screen import Screen, chance_text, error_text, screen_blocks
from planner.report.short import LEGEND, granted, short_binding, short_layout, short_wishes, typed
from planner.report.whatif_terms import decision_changes, term_blocks, term_document
from planner.search.decisions import layout_document
from planner.search.plan import Plan, verdict
from planner.search.search import why_nothing_fits
from planner.units import number, percent

NAMED = 3
"""Variations that a reason names on a screen, whose table says of each whether it fits."""


def _relative(plan: Plan, base: Plan | None) -> float | None:
    """Throughput over that of the scenario as it stands: trained samples in RL, tokens otherwise."""
    if base is None:
        return None
    if plan.problem.is_rl and base.problem.is_rl:
        return plan.samples_per_second / base.samples_per_second
    return plan.tokens_per_second / base.tokens_per_second


def _same_wishes(plan: Plan, base: Plan | None) -> bool:
    """Whether both plans do the same work a sample, so that samples a second may be compared."""
    names = ("sequence_length", "response_length", "n_samples_per_prompt", "rollout_batch_size")
    return base is None or all(getattr(plan.wish, name) == getattr(base.wish, name) for name in names)


def _speed(row: Variation) -> float:
    """Throughput to sort by."""
    if row.plan is None:
        return 0.0
    return row.plan.samples_per_second if row.plan.problem.is_rl else row.plan.tokens_per_second


def whatif_blocks(rows: list[Variation]) -> list[Block]:
    """One row a combination of values, relative to the scenario as it stands (the first of `rows`)."""
    base = rows[0].plan
    named = any(row.name for row in rows)
    paths = ["what if"] if named else [path for path, _ in rows[1].changes]
    plans = [row.plan for row in rows if row.plan is not None]
    gives = any(plan.wish.given_up for plan in plans)
    is_rl = any(plan.problem.is_rl for plan in plans)
    cells: list[tuple[str, ...]] = []
    starred = False
    same = equal_to_it(rows)
    for row in rows:
        if row is same:
            continue  # the first row is this one
        names = tuple(compact(value) for _, value in row.changes) or ("as it stands",) + ("",) * (len(paths) - 1)
        if row is rows[0] and same is not None:
            names = tuple(compact(value) for _, value in same.changes)
            names = (_both(names[0]), *names[1:])
        names = (row.label if row is not rows[0] or same is None else _both(same.label),) if named else names
        plan = row.plan
        if plan is None:
            cells.append((*names, row.status, *("-",) * 7, *("-",) * gives))
            continue
        relative = _relative(plan, base)
        star = "" if _same_wishes(plan, base) else "*"
        starred = starred or bool(star)
        cells.append(
            (
                *names,
                row.status,
                short_layout(plan),
                number(plan.peak_gib, 1),
                free_cell(plan),
                number(plan.step_seconds, 2),
                number(plan.samples_per_second, 2) if is_rl else number(plan.tokens_per_second, 0),
                "-" if relative is None else percent(relative) + star,
                short_binding(plan),
                *((short_wishes(plan),) if gives else ()),
            )
        )
    count = len(paths)
    grid = Grid(
        (
            *(path.rpartition(".")[2] for path in paths),
            "status",
            "layout",
            "peak GiB",
            "free GiB",
            "step s",
            "samples/s" if is_rl else "tokens/s",
            "relative",
            "fullest in",
            *(("gives up",) if gives else ()),
        ),
        tuple(cells),
        left=frozenset({*range(count), count, count + 1, count + 7, count + 8}),
        rules=frozenset({0}),
    )
    what = "trained samples a second" if is_rl else "tokens a second"
    remarks = reasons(rows)
    remarks.append(f"{LEGEND}; relative: {what} over the scenario as it stands; memory is of the fullest GPU")
    if starred:
        remarks.append("* other lengths or batches than the scenario as it stands: samples are not the same work")
    remarks += [note.text for note in critical_note(plans)] + stayed(rows) + _known_errors(rows)
    blocks = [_headline(rows), Heading("What if"), grid, Bullets(tuple(remarks)), *term_blocks(rows)]
    return [*blocks, _next(rows)]


def _headline(rows: list[Variation]) -> Headline:
    feasible = sum(row.status in ("optimal", "feasible") for row in rows[1:])
    name = _question(rows).document.name
    return Headline(f"{feasible} of {len(rows) - 1} variations of {name} fit", good=feasible > 0)


def _fastest(rows: list[Variation]) -> Variation | None:
    """Of the variations that have a plan, those that wait for their allocator to give back behind all others."""
    plans = [(row.plan.given_back_gib == 0, _speed(row), row) for row in rows[1:] if row.plan is not None]
    return max(plans, key=lambda each: each[:2], default=(False, 0.0, None))[2]


def _next(rows: list[Variation]) -> Command:
    fastest = _fastest(rows)
    shown = fastest or next((row for row in rows[1:] if row.outcome is not None), rows[0])
    purpose = "the fastest of these in full, with its proof" if fastest is not None else "why nothing fits"
    changes = [f"{path}={compact(value)}" for path, value in shown.changes]
    return Command(f"planner solve {typed(_question(rows).document, changes)}", purpose)


def whatif_screen(rows: list[Variation], lead: tuple[str, ...] = ()) -> list[Block]:
    """The variations on one screen, under sentences about all of them."""
    base, cells = rows[0].plan, []
    layouts: dict[str, str] = {}
    shared, path = in_all(rows), _one_path(rows)
    same, fastest_row = equal_to_it(rows), _fastest(rows)
    shown_rows = [row for row in rows if row is not same]

    def named(row: Variation) -> str:
        text = " ".join(_brief(text) for text in _texts(row) if text not in shared) or row.label
        return text.removeprefix(f"{_brief(path)}=")

    for row in shown_rows:
        plan, label = row.plan, named(row) if row is not rows[0] or same is None else _both(named(same))
        if plan is None:
            cells.append((label, "-", "-", "-", row.status, "-"))
            continue
        relative = _relative(plan, base)
        star = "" if _same_wishes(plan, base) else "*"
        layout = short_layout(plan)
        said = layouts.get(layout, layout)
        layouts.setdefault(layout, f"as with {label}" if row.changes else label)
        cells.append(
            (
                label,
                number(plan.samples_per_second, 2) if plan.problem.is_rl else number(plan.tokens_per_second, 0),
                "-" if relative is None else percent(relative, 0) + star,
                free_cell(plan),
                chance_text(plan),
                said,
            )
        )
    speed = "samples/s" if any(row.plan is not None and row.plan.problem.is_rl for row in rows) else "tokens/s"
    what = path.rpartition(".")[2] or "what if"
    best_row = rows[0] if same is not None and fastest_row is same else fastest_row
    fastest = [place for place, row in enumerate(shown_rows) if row is best_row]
    best_ones = ((cells[place][0], shown_rows[place].plan) for place in fastest)
    kept = "".join(f"layout of {label}: {short_layout(plan)}; the other" for label, plan in best_ones if plan)
    columns = (what, speed, "relative", "free GiB", "fits", "layout")
    grid = Grid(columns, tuple(cells), left=frozenset({0, 5}), strong=frozenset(fastest))
    command = _next(rows)
    shown = Command(command.text, f"{command.purpose} (-v: differences item by item)")
    other = any("*" in cell[2] for cell in cells)
    starred = ("* other lengths or batches: samples are not the same work",) if other else ()
    critical = tuple(note.text for note in critical_note(row.plan for row in rows))
    first = same.label if same is not None else ""
    needed = (*critical, *stayed(rows), *reasons(rows, NAMED), *starred)
    notes = (*needed, *(f"{name}: {text}" for name, text in decision_changes(rows) if name != first))
    best = next((row.plan for row in rows if row.plan is not None), None)
    after = (("risk", error_text(best)),) if best is not None else ()
    lead += (f"With {' and '.join(shared)} in each but the first row.",) if shared else ()
    return screen_blocks(
        Screen(
            _headline(rows),
            lead,
            table=grid,
            needed=len(needed),
            spare="layouts",
            kept=kept,
            notes=notes,
            after=after,
            command=shown,
        )
    )


def _both(label: str) -> str:
    """The first row's label where one of the variations is the scenario as it stands."""
    return f"{label} (as it stands)"


def _texts(row: Variation) -> list[str]:
    """Its changes as one would type them; none where it has a name of its own."""
    return [] if row.name else [f"{path}={compact(value)}" for path, value in row.changes]


def _brief(change: str) -> str:
    """`rank=8` of `adapter.rank=8`: the row's own word for what the command that follows writes in full."""
    path, sign, value = change.partition("=")
    return f"{path.rpartition('.')[2]}{sign}{value}"


def _one_path(rows: list[Variation]) -> str:
    """The path that alone is changed, so that a table names it once; nothing where several are."""
    paths = {tuple(path for path, _ in row.changes) for row in rows[1:]}
    named = any(row.name for row in rows[1:])
    return next(iter(paths))[0] if len(paths) == 1 and len(next(iter(paths))) == 1 and not named else ""


def in_all(rows: list[Variation]) -> list[str]:
    """Changes that all of several variations have, so that they need not be said in each row."""
    asked = [_texts(row) for row in rows[1:]]
    return [text for text in asked[0] if all(text in each for each in asked)] if len(asked) > 1 else []


def reasons(rows: list[Variation], most: int | None = None) -> list[str]:
    """Why variations have no plan, each reason once with those that it keeps from one; more than `most` are counted."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.plan is None:
            found.setdefault(f"{row.status}: {because(row)}", []).append(row.label)
    return [
        f"{reason}: {'; '.join(labels) if most is None or len(labels) <= most else f'{len(labels)} of these'}"
        for reason, labels in found.items()
    ]


def because(row: Variation) -> str | None:
    """Why a variation has no plan."""
    if row.outcome is None:
        return row.refused
    return why_nothing_fits(row.outcome) if row.status == "infeasible" else "no verdict within the time limit"


def stayed(rows: list[Variation]) -> list[str]:
    """A warning where only the cap of response lengths was changed, and lengths in tokens stayed as they were."""
    rl = _question(rows).scenario.rl
    paths = {path for row in rows for path, _ in row.changes}
    spread = "rl.response_distribution"
    if rl is None or "rl.response_length" not in paths or any(path.startswith(spread) for path in paths):
        return []
    if rl.response_distribution.in_shares:
        return []
    mean, p99 = rl.response_distribution.lengths(1)
    return [
        f"warning: only the cap of responses changed; they stay {mean:,} tokens long on average, {p99:,} in 99 of 100. "
        "planner rl-lengths scales all three, mean_share and p99_share make them follow the cap"
    ]


def _known_errors(rows: list[Variation]) -> list[str]:
    problems = [row.outcome.question for row in rows if row.outcome is not None]
    return list(dict.fromkeys(text for p in problems for text in p.known_error_texts))


def whatif_document(rows: list[Variation]) -> JsonObject:
    """The same for programs."""
    question, base = _question(rows), rows[0].plan
    catalog = {pair for row in rows if row.outcome is not None for pair in row.outcome.question.provenance}
    document: JsonObject = {
        "scenario": question.document.name,
        "values": _tried(rows),
        "base": _row(rows[0], base),
        "rows": [_row(row, base) for row in rows[1:]],
        "differences": term_document(rows),
        "known_error": [*stayed(rows), *_known_errors(rows)],
    }
    status = together(row.status for row in rows[1:])
    return enveloped("whatif", status, document, asked=[question], catalog=catalog)


def _question(rows: list[Variation]) -> Question:
    """The scenario as it stands, which is always solved."""
    assert rows[0].outcome is not None
    return rows[0].outcome.question


def _tried(rows: list[Variation]) -> list[str]:
    """PATH=VALUE,VALUE of every path, in the order in which they were given."""
    values: dict[str, list[str]] = {}
    for row in rows[1:]:
        for path, value in row.changes:
            if compact(value) not in values.setdefault(path, []):
                values[path].append(compact(value))
    return [f"{path}={','.join(texts)}" for path, texts in values.items()]


def _row(row: Variation, base: Plan | None) -> JsonObject:
    out: JsonObject = {"name": row.name or None, "set": dict(row.changes), "status": row.status, "plan": None}
    plan = row.plan
    if plan is None:
        out["because"] = because(row)
        return out
    relative = _relative(plan, base)
    out["plan"] = {
        "verdict": verdict(plan),
        "layout": layout_document(plan),
        "peak_gib": round(plan.peak_gib, 9),
        "headroom_gib": round(plan.headroom_gib, 9),
        "given_back_gib": round(plan.given_back_gib, 9),
        "binding_stage": plan.binding.stage,
        "binding_phase": plan.binding.phase,
        "step_seconds": round(plan.step_seconds, 9),
        "tokens_per_second": round(plan.tokens_per_second, 9),
        "samples_per_second": round(plan.samples_per_second, 9),
        "relative_throughput": None if relative is None else round(relative, 9),
        "same_work_per_sample": _same_wishes(plan, base),
        "wishes_given_up": {name: granted(plan, name) for name in plan.wish.given_up},
    }
    return out
