"""The answer on one screen: what every command that answers a question prints unless -v asks for more.

Headline, layout, one line of memory and one of time, what binds, the risk, and what to type next: at most 24 lines of
80 characters. Ledgers, proof and comparison stand behind -v and -vv; other formats are complete.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from planner.problem.named_attention import OPTION, WHOLE
from planner.problem.reference import sequences_together
from planner.report.blocks import WIDTH, Block, Bullets, Command, Grid, Headline, Text, pairs
from planner.report.gpu_order_rows import placement_rows
from planner.report.near_ties import near_tie_text
from planner.report.short import short_layout
from planner.schema.engine import can_name
from planner.search.decisions import hardware_rows
from planner.search.dies_in import dies_in, missing_gib
from planner.search.near_ties import NearTies
from planner.search.plan import PHASES, SAFE_CHANCE, PhaseMemory, Plan, chance_words, spare, verdict
from planner.units import number, percent

LINES = 24
"""Of a terminal as it was always sold."""
SHEET_LINES = 36
"""Of a printed sheet, in the lines that a terminal would need."""
_lines = ContextVar("lines", default=LINES)
CUT, MORE_ROWS = " ... (-v)", ": -v"
"""What is said of a cut text, and of a cut table or list."""
ONE_LINE = WIDTH - 12
"""Characters that one line of a row holds beside its name."""
LONGEST_NAME = 40
"""Characters of a network's name; of a longer path its end is shown."""
EAGER = f"--set engine_options=[{OPTION}] counts it as eager"
"""What counts attention as it then is."""
BY_RUNS = " (published runs with this room fitted)"
"""Beside a lower chance: why it is called safe (docs/sure.md)."""
Row = tuple[str, str]
"""(what it is about, what is said)"""


@dataclass(frozen=True)
class Screen:
    """The parts of a short answer, in the order in which they are printed."""

    headline: Headline
    lead: tuple[str, ...] = ()
    """What was asked, and the result of a comparison: sentences."""
    rows: tuple[Row, ...] = ()
    table: Grid | None = None
    """Several plans beside each other; its last rows go first where the screen is too short, `strong` ones stay."""
    needed: int | None = None
    """The rows were asked for: all but so many notes, the first, go before a column, all but one before a row.
    None: notes and rows go alike."""
    spare: str = ""
    """What the last column of the table holds, in the plural, where that column goes before any row does."""
    column_cut: str = ""
    """What the column held that there was no room for."""
    kept: str = ""
    """What of that column is said all the same: of the row that is asked for first."""
    spread: bool = False
    """Rows from everywhere but the two ends go first instead."""
    most_rows: int | None = None
    """Of the table, where not all of it is shown."""
    notes: tuple[str, ...] = ()
    """Sentences of equal rank, the least important last."""
    notes_cut: int = 0
    """Sentences that there was no room for."""
    after: tuple[Row, ...] = ()
    """Rows about all of the table."""
    command: Command | None = None


@contextmanager
def on_a_sheet() -> Iterator[None]:
    """Short answers made inside are for the first sheet of a report, which holds more lines than a screen."""
    before = _lines.set(SHEET_LINES)
    try:
        yield
    finally:
        _lines.reset(before)


def screen_blocks(screen: Screen) -> list[Block]:
    """The blocks of a short answer: as much of it as the screen or sheet holds, and word of what is left out."""
    from planner.report.table import height

    while True:
        blocks = _blocks(screen)
        shorter = _shorter(screen)
        if shorter is None or height(blocks, WIDTH) <= _lines.get():
            return blocks
        screen = shorter


def _blocks(screen: Screen) -> list[Block]:
    blocks: list[Block] = [screen.headline, *(Text(text) for text in screen.lead)]
    blocks += [pairs(screen.rows)] if screen.rows else []
    if screen.table is not None:
        shown = _shown(screen, screen.table)
        blocks.append(shown)
        left_out = len(screen.table.rows) - len(shown.rows)
        said = [f"and {left_out} more row{'s' if left_out > 1 else ''}"] if left_out else []
        said += [f"{screen.kept or 'and the'} {screen.column_cut}"] if screen.column_cut else []
        blocks += [Text(f"{' '.join(said)}{MORE_ROWS}")] if said else []
    blocks += [Bullets(screen.notes)] if screen.notes else []
    unsaid = "more" if screen.notes else "remarks" if screen.notes_cut > 1 else "remark"
    blocks += [Text(f"and {screen.notes_cut} {unsaid}{MORE_ROWS}")] if screen.notes_cut else []
    blocks += [pairs(screen.after)] if screen.after else []
    return [*blocks, *([screen.command] if screen.command is not None else [])]


def _shown(screen: Screen, table: Grid) -> Grid:
    """The rows of the table that there is room for."""
    total = len(table.rows)
    count = total if screen.most_rows is None else min(total, screen.most_rows)
    places = list(range(count))
    if screen.spread and 1 < count < total:
        places = sorted({round(place * (total - 1) / (count - 1)) for place in range(count)})
    elif late := sorted(place for place in table.strong if place >= count)[:count]:
        places[-len(late) :] = late
    strong = frozenset(new for new, old in enumerate(places) if old in table.strong)
    return replace(table, rows=tuple(table.rows[place] for place in places), strong=strong, rules=frozenset())


def _shorter(screen: Screen) -> Screen | None:
    """The same with its least important part left out: notes and table rows beyond the third, then the lead, ...

    Rows that were asked for stay while there is a note that is not needed, or a column to spare. Above a single plan
    the last sentence of the lead stays as long as a row can be cut: it says what was assumed.
    """
    table = screen.table
    rows = len(_shown(screen, table).rows) if table is not None else 0
    single = bool(screen.rows) and table is None and not screen.notes
    for least in (3, 1):
        if len(screen.notes) > (least if screen.needed is None else screen.needed):
            return replace(screen, notes=screen.notes[:-1], notes_cut=screen.notes_cut + 1)
        if screen.spare and table is not None:
            narrow = replace(table, columns=table.columns[:-1], rows=tuple(row[:-1] for row in table.rows))
            return replace(screen, table=narrow, spare="", column_cut=screen.spare)
        if screen.needed and len(screen.notes) > 1:
            return replace(screen, needed=1)
        if screen.kept and screen.column_cut:
            return replace(screen, kept="")
        if rows > max(least, 1 + screen.spread):
            return replace(screen, most_rows=rows - 1)
        if len(screen.lead) > single:
            return replace(screen, lead=screen.lead[1:])
    beside = WIDTH - 4 - max((len(name) for name, _ in screen.rows), default=0)
    cuts = [_in_two_lines(text, beside) for _, text in screen.rows]
    longer = [place for place, cut in enumerate(cuts) if cut != screen.rows[place][1]]
    if longer:
        longest = max(longer, key=lambda place: len(screen.rows[place][1]))
        cut = (screen.rows[longest][0], cuts[longest])
        return replace(screen, rows=(*screen.rows[:longest], cut, *screen.rows[longest + 1 :]))
    return replace(screen, lead=()) if screen.lead else None


def _in_two_lines(text: str, width: int) -> str:
    """As much of a text as two lines of so many characters hold, and word of what was left out."""
    lines = textwrap.wrap(text, width)
    if len(lines) <= 2:
        return text
    text = " ".join(lines[:2])
    while len(textwrap.wrap(text + CUT, width)) > 2:
        text = text.rpartition(" ")[0]
    return text.rstrip(",;:") + CUT


def plan_rows(plan: Plan, ties: NearTies | None = None) -> tuple[Row, ...]:
    """What every short answer says of one plan, and of those that are as good for all that is known."""
    return (
        ("model", model_text(plan)),
        ("on", machines_text(plan)),
        ("layout", short_layout(plan)),
        *placement_rows(plan),
        ("memory", memory_text(plan)),
        ("time", time_text(plan)),
        ("binds", binding_text(plan)),
        ("risk", risk_text(plan)),
        *kernel_rows(plan),
        *((("ties", near_tie_text(ties)),) if ties is not None else ()),
    )


def kernel_rows(plan: Plan) -> tuple[Row, ...]:
    """Fused attention that the figures count and that the trainer does not take by itself."""
    named = plan.problem.named_attention
    if named is None:
        return ()
    if named.kernel is not None:
        return (("kernel", f"attention as {named.kernel}, which the script must name (else eager: {OPTION})"),)
    place = f"in {named.where}" if named.where == WHOLE else f"on {named.where}"
    return (("kernel", f"attention as fused, but no kernel is known to train it {place}: {EAGER}"),)


def model_text(plan: Plan) -> str:
    """The architecture as it was understood, with its exact parameter count."""
    a, p = plan.problem.architecture, plan.problem.parameters
    name = a.id if len(a.id) <= LONGEST_NAME else "/".join(["...", *a.id.split("/")[-2:]])[-LONGEST_NAME:]
    said = [f"{name}: {number(p.total / 1e9, 3)} B parameters"]
    if p.active_per_token != p.total:
        said.append(f"{number(p.active_per_token / 1e9, 3)} B active")
    if frozen := plan.problem.frozen_parameters:
        said.append(f"{number(frozen / 1e9, 3)} B frozen ({' and '.join(plan.problem.work.frozen).replace('_', ' ')})")
    said.append(f"{a.num_hidden_layers} layers of {a.hidden_size}")
    if a.kv_lora_rank is not None:
        said.append(f"{a.num_attention_heads} heads (latent, rank {a.kv_lora_rank})")
    elif a.num_key_value_heads != a.num_attention_heads:
        said.append(f"{a.num_attention_heads} heads ({a.num_key_value_heads} key-value)")
    else:
        said.append(f"{a.num_attention_heads} heads")
    said.append(f"MLP {a.moe_intermediate_size if a.is_moe and a.moe_intermediate_size else a.intermediate_size}")
    if a.is_moe:
        said.append(f"{a.num_experts} experts, {a.num_experts_per_tok} a token")
    return ", ".join([*said, f"vocabulary {a.vocab_size:,}"])


def _base_text(plan: Plan) -> str:
    """The format of the base under the plan's adapters: as said, or its bytes where the engine keeps it as weights."""
    problem, adapter = plan.problem, plan.problem.scenario.adapter
    assert adapter is not None
    return f"{problem.base_weight_bytes:g} B a weight" if problem.base_as_weights else adapter.base_precision


def machines_text(plan: Plan) -> str:
    """GPUs, engine, precision and optimizer, and the work of a step."""
    rows = hardware_rows(plan)
    gpus = "; ".join(text if len(rows) == 1 else f"{name.split(', ')[-1]}: {text}" for name, text in rows)
    named = plan.named
    work = f"{named.global_batch_size} sequences of {named.sequence_length:,} tokens a step"
    if (together := sequences_together(plan.problem)) > 1:
        work += f" ({named.global_batch_size // together} pairs)"
    adapter = plan.problem.scenario.adapter
    method = f", {adapter.variant} rank {adapter.rank} on {_base_text(plan)}" if adapter is not None else ""
    engine = plan.problem.engine
    unnamed = "" if can_name(engine, named.optimizer) else f" (no setting of {engine.id} names it)"
    return f"{gpus}; {engine.id}, {named.precision}, {named.optimizer}{unnamed}{method}; {work}"


def memory_text(plan: Plan) -> str:
    """Peak, interval and what is free of the fullest GPU."""
    text = f"{number(plan.peak_gib, 1)} of {number(plan.usable_gib, 1)} GiB"
    if plan.interval_gib is not None:
        low, high = plan.interval_gib
        text += f" (90 %: {number(low, 1)} to {number(high, 1)})"
    if plan.headroom_gib < 0:
        return f"{text}; {number(-plan.headroom_gib, 1)} GiB missing; {dies_text(plan)}"
    if plan.given_back_gib > 0:
        return f"{text}; {spare(plan)}: expect it slow"
    text += f"; {number(plan.headroom_gib, 1)} free"
    kept = plan.machines(plan.binding).machines.demanded_headroom_gib
    standing = "" if kept else plan.problem.engine.headroom_standing
    if plan.usual_gib > plan.demanded_gib:
        return f"{text}, {number(plan.usual_gib, 1)} usual{standing}"
    return f"{text}, {number(plan.demanded_gib, 1)} wanted{standing}" if plan.demanded_gib > 0 else text


def time_text(plan: Plan) -> str:
    """Seconds of a step and rates, each with its interval, and model FLOP with the share of the peak that they are."""
    text, rate = f"{seconds_text(plan.step_seconds)} a step", f"{number(plan.tokens_per_second, 0)} tokens/s"
    if (bounds := plan.step_interval_seconds) is not None:
        low, high = bounds
        text += f" (90 %: {seconds_text(low).removesuffix(' s')} to {seconds_text(high)})"
        tokens = plan.tokens_per_second * plan.step_seconds
        rate += f" ({number(tokens / high, 0)} to {number(tokens / low, 0)})"
    return f"{text}; {rate}; {mfu_text(plan)}"


def mfu_text(plan: Plan) -> str:
    """Model FLOP a second and GPU, the share of the precision's peak that they are, and how attention is counted."""
    peak = f"{plan.problem.precision.compute}'s {number(plan.peak_tflops_per_gpu, 0)}"
    frozen = ", frozen weights 4N" if plan.problem.scenario.adapter is not None else ""
    share = f"MFU {percent(plan.mfu)} of {peak} (full attention{frozen})"
    return f"{number(plan.model_tflops_per_gpu, 0)} TFLOP/s a GPU, {share}"


def moment_name(phase: PhaseMemory, plan: Plan) -> str:
    """The phase in words, with its stage where there are several."""
    text = PHASES[phase.phase]
    if phase.stage is not None and len(plan.layers) > 1:
        text += f", stage {phase.stage}"
    return text


def dies_text(plan: Plan) -> str:
    """Where a run that does not fit runs out: the phase, and how much it lacks there where another one is fuller."""
    first = dies_in(plan)
    if first is None:
        return "it fits"
    where = moment_name(first, plan)
    if first == plan.binding:
        return f"runs out in {where}"
    return f"runs out first in {where} ({number(missing_gib(plan, first), 1)} GiB missing there)"


def binding_text(plan: Plan) -> str:
    """Where memory peaks and what fills it, and where the time goes."""
    worst = plan.binding
    items = sorted(worst.items, key=lambda item: -item.amount)[:3]
    times = sorted(plan.time, key=lambda entry: -entry.amount)[:2]
    where = moment_name(worst, plan)
    filled = "; ".join(f"{item.name} {number(item.amount, 1)}" for item in items)
    spent = "; ".join(f"{entry.name} {percent(entry.amount / plan.step_seconds, 0)}" for entry in times)
    return f"memory in {where}: {filled} GiB. Time: {spent}"


def risk_text(plan: Plan) -> str:
    """The chance that it fits, and how wrong such figures are known to be."""
    said = []
    if plan.fit_probability is not None:
        said.append(f"fits with {chance_words(plan.fit_probability)}")
        if plan.given_back_gib > 0 and plan.start_probability is not None:
            said[-1] = f"starts with {chance_words(plan.start_probability)}, {said[-1]} and all its reserve"
        if plan.fit_probability < SAFE_CHANCE and verdict(plan) == "safe":
            said[-1] += BY_RUNS
    kept = plan.machines(plan.binding).machines.demanded_headroom_gib
    if kept and plan.keep_probability is not None and plan.headroom_gib >= kept:
        said[-1] += f" ({number(kept, 1)} GiB stay free with {chance_words(plan.keep_probability)})"
    return "; ".join([*said, error_text(plan)])


def error_text(plan: Plan) -> str:
    """How wrong such figures are known to be."""
    known, own = plan.problem.known_errors.in_short(rollout=plan.problem.is_rl), plan.problem.calibration
    return known if own is None else f"calibrated with {own.source} of {own.date}; {known}"


def chance_text(plan: Plan) -> str:
    """The chance that it fits, as a cell of a table."""
    return "-" if plan.fit_probability is None else chance_words(plan.fit_probability).replace("over ", "> ")


def seconds_text(value: float) -> str:
    """`8.875 s`, `93.4 s`."""
    return f"{number(value, 1 if value >= 10 else 3)} s"
