"""An outcome as blocks: the answer in one line, layout, memory, time, proof, known errors, next command."""

from __future__ import annotations

import shlex

from planner.analysis.changes import less_headroom
from planner.costs.item_names import ItemName
from planner.formulas.faults import LARGEST_USUAL
from planner.formulas.model_flop import CONVENTION
from planner.inputs.document import Document
from planner.problem.defaults import held_text
from planner.problem.machines import RESERVED_CLIFF
from planner.problem.problem import Problem, Question
from planner.problem.reference import sequences_together
from planner.report.blocks import Block, Bullets, Command, Grid, Heading, Headline, Text, pairs
from planner.report.decision_rows import decision_rows, overlap_blocks
from planner.report.gpu_order_rows import placement_rows
from planner.report.schedule import schedule_blocks
from planner.report.screen import dies_text, kernel_rows, mfu_text, moment_name, seconds_text
from planner.schema.preference import LAUNCHERS
from planner.search.decisions import hardware_rows, recompute_flags
from planner.search.dies_in import dies_in
from planner.search.plan import PhaseMemory, Plan, RolloutPlan, chance_words, degrees, host_total_gib, spare
from planner.search.search import Outcome, outcome_line
from planner.search.untried import NOT_TRIED
from planner.units import format_seconds, number, percent


def headline(outcome: Outcome) -> Headline:
    """The answer in one sentence."""
    return Headline(outcome_line(outcome), good=outcome.plan is not None and outcome.usual_headroom_gib is None)


def plan_blocks(plan: Plan) -> list[Block]:
    """Layout, memory and time of one plan."""
    return [*layout_blocks(plan), *memory_blocks(plan), *time_blocks(plan)]


def layout_blocks(plan: Plan) -> list[Block]:
    """The decisions."""
    problem, lay = plan.problem, plan.layout
    flags = recompute_flags(plan)
    again = "none"
    if flags.granularity != "none":
        again = f"{_per_stage(plan.recomputed)} of {_per_stage(plan.layers)} layers a stage"
        again += f" (method {flags.method})" if flags.method else ""
    rows = [
        *hardware_rows(plan),
        ("model, engine", f"{problem.architecture.id}, {problem.engine.id}, {problem.precision.id}"),
        ("degrees", degrees(lay)),
        *decision_rows(plan),
        *kernel_rows(plan),
        *placement_rows(plan),
        (
            "batch",
            _batch(lay),
        ),
        ("sequence length", _lengths(plan)),
        ("layers a stage", _per_stage(plan.layers)),
        ("recomputed", again),
        ("optimizer", f"{problem.optimizers[lay['optimizer']].id}, ZeRO stage {lay['zero_stage']}{_offload(problem)}"),
    ]
    if plan.rollout is not None:
        r, wish = plan.rollout, plan.wish
        engines = r.num_gpus // r.tensor_parallel
        weights = f"weights {problem.rollout_precision.id}, " if problem.rollout_precision is not None else ""
        rows += [
            ("rollout", f"{wish.rollout_batch_size} prompts x {wish.n_samples_per_prompt} samples"),
            (
                "rollout engine",
                f"{engines} x TP{r.tensor_parallel}, {weights}memory fraction {r.gpu_memory_utilization:g}, "
                f"{r.concurrency} of {r.samples_per_engine} samples at once",
            ),
            ("key-value pool", _pool(r)),
            ("passes", _passes(problem)),
        ]
    return [Heading("Layout"), pairs(rows)]


def _batch(lay: dict[str, int]) -> str:
    many = f"{lay['num_micro_batches']} micro-batches x DP{lay['data_parallel']}"
    if lay["max_tokens"]:
        each = lay["global_batch_size"] / (lay["num_micro_batches"] * lay["data_parallel"])
        packed = f"packed up to {lay['max_tokens']:,} tokens a GPU"
        return f"{lay['global_batch_size']} sequences in {many}, {packed} ({number(each, 1)} a micro-batch)"
    return f"{lay['global_batch_size']} sequences = {lay['micro_batch_size']} a micro-batch x {many}"


def _pool(rollout: RolloutPlan) -> str:
    """Tokens that one engine's pool holds, beside what its samples may ask for."""
    short = "never short"
    if rollout.pool_tokens < rollout.mean_tokens:
        short = "too small: samples wait"
    elif rollout.pool_tokens < rollout.p99_tokens:
        short = "samples are put back and prefilled again"
    elif rollout.pool_tokens < rollout.worst_tokens:
        short = "short in fewer than 1 of 100 rollouts"
    return (
        f"{rollout.pool_tokens:,} tokens an engine for {rollout.mean_tokens:,} on average, {rollout.p99_tokens:,} in "
        f"99 of 100 rollouts, {rollout.worst_tokens:,} at worst: {short}"
    )


def _passes(problem: Problem) -> str:
    """Whose log-probabilities the trainer computes before it trains, and why the policy's are not among them."""
    scored, rl = problem.scored_by, problem.scenario.rl
    said = " and ".join(f"log-probabilities of the {name}" for name in scored) or "none before training"
    if "policy" in scored or rl is None:
        return said
    if rl.old_log_probs is None:
        return f"{said}; the policy's are those of the training pass (one step a rollout, {problem.engine.version})"
    return f"{said}; the policy's are not computed (rl.old_log_probs)"


def _lengths(plan: Plan) -> str:
    lay, rl = plan.layout, plan.problem.scenario.rl
    text = f"{lay['sequence_length']:,} tokens"
    if rl is not None:
        text = f"{rl.prompt_length:,} + {plan.wish.response_length:,} = {text}"
    if lay["mean_sequence_length"] != lay["sequence_length"]:
        text += f" at most, {lay['mean_sequence_length']:,} on average"
    return text


def _offload(problem: Problem) -> str:
    return ", on the host" if problem.scenario.layout.optimizer_offload else ""


def _per_stage(values: tuple[int, ...]) -> str:
    """One number where all stages agree, else runs such as 7 x 8, 1 x 6."""
    if len(set(values)) == 1:
        return str(values[0])
    runs: list[list[int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1][1] += 1
        else:
            runs.append([value, 1])
    return ", ".join(f"{value} (x{count})" if count > 1 else str(value) for value, count in runs)


def memory_blocks(plan: Plan) -> list[Block]:
    """The ledger of the fullest stage and phase, one line for each other phase, and host memory."""
    worst, usable = plan.binding, plan.usable_gib
    items = sorted(worst.items, key=lambda item: -item.amount)
    rows = [(item.name, number(item.amount), percent(item.amount / usable)) for item in items]
    rows.append(("peak", number(worst.total_gib), percent(worst.total_gib / usable)))
    rows.append(("free", number(plan.headroom_gib), percent(plan.headroom_gib / usable)))
    rows.append(("usable", number(usable), ""))
    count = len(items)
    if worst.given_back_gib > 0:
        rows.append(("reserve given back", number(worst.given_back_gib), percent(worst.given_back_gib / usable)))
    blocks: list[Block] = [
        Heading(f"Memory of one GPU when fullest: {moment_name(worst, plan)}"),
        Grid(
            ("item", "GiB", "of usable"),
            tuple(rows),
            strong=frozenset({count, count + 1}),
            rules=frozenset({count - 1}),
        ),
    ]
    fullest: dict[str, PhaseMemory] = {}
    for phase in plan.memory:
        known = fullest.get(phase.phase)
        if known is None or phase.total_gib > known.total_gib:
            fullest[phase.phase] = phase
    others = [phase for phase in fullest.values() if phase.phase != worst.phase]
    others.sort(key=lambda phase: -phase.total_gib)
    if others:
        blocks.append(
            Grid(
                ("other phases, fullest stage", "GiB", "largest item"),
                tuple((moment_name(p, plan), number(p.total_gib), _largest(p)) for p in others),
                left=frozenset({0, 2}),
            )
        )
    if dies_in(plan) is not None:
        blocks.append(Text(f"A run {dies_text(plan)}."))
    elif plan.given_back_gib > 0:
        blocks.append(Text(f"Critical: {spare(plan)}. Expect it slow; what fragments hold cannot be given back."))
    if (chance := chance_text(plan)) is not None:
        blocks.append(Text(chance))
    needed, available = host_total_gib(plan)
    of = f" of {number(available, 0)}" if available is not None else ""
    blocks.append(Text(f"Host memory of one node: {number(needed, 0)}{of} GiB."))
    return blocks


def chance_text(plan: Plan) -> str | None:
    """The peak with its interval and the chance that it fits, by the spread on published runs of this engine."""
    spread, interval, fits = plan.problem.known_errors.memory, plan.interval_gib, plan.fit_probability
    if spread is None or interval is None or fits is None:
        return None
    text = (
        f"Predicted {number(plan.peak_gib, 1)} GiB, 90 % interval {number(interval[0], 1)} to "
        f"{number(interval[1], 1)}, "
        f"fits with {chance_words(fits)} ({spread.whose})."
    )
    if plan.binding.assumed_gib:
        text += f" {number(plan.binding.assumed_gib, 1)} GiB of it rest on assumed numbers, which widen the interval."
    demanded = plan.machines(plan.binding).machines.demanded_headroom_gib
    if demanded and plan.keep_probability is not None:
        text += f" The {number(demanded, 1)} GiB demanded stay free with {chance_words(plan.keep_probability)}."
    if not plan.problem.engine.expandable_segments:
        return text
    if plan.peak_gib > RESERVED_CLIFF * plan.usable_gib:
        text += " Above 88 % of usable memory; engines without expandable segments slow down there, this one has them."
    return text


def _largest(phase: PhaseMemory) -> str:
    item = max(phase.items, key=lambda entry: entry.amount)
    return f"{item.name} {number(item.amount)}"


def time_blocks(plan: Plan) -> list[Block]:
    """Seconds of a step by cause with their shares, by phase, and rates."""
    step = plan.step_seconds
    items = sorted(plan.time, key=lambda entry: -entry.amount)
    rows = [(item.name, _seconds(item.amount), percent(item.amount / step)) for item in items]
    rows.append(("step", _seconds(step), ""))
    phases = ", ".join(f"{name} {_seconds(seconds)} s" for name, seconds in plan.phases)
    gpus = plan.num_gpus
    what = "trained samples/s" if plan.problem.is_rl else "sequences/s"
    rates = (
        f"{number(plan.tokens_per_second, 0)} tokens/s ({number(plan.tokens_per_second / gpus, 0)} a GPU), "
        f"{number(plan.samples_per_second)} {what}"
    )
    return [
        Heading(f"Time of one step: {format_seconds(step)}"),
        Grid(
            ("item", "seconds", "share"),
            tuple(rows),
            strong=frozenset({len(items)}),
            rules=frozenset({len(items) - 1}),
        ),
        Text(f"By phase: {phases}."),
        *_step_interval(plan),
        *_at_scale(plan),
        *overlap_blocks(plan),
        Text(f"Rates: {rates}."),
        Text(f"Model FLOP{' while training' if plan.problem.is_rl else ''}: {mfu_text(plan)}. {CONVENTION_TEXT}"),
        *_stated(plan),
        *schedule_blocks(plan),
    ]


def _step_interval(plan: Plan) -> list[Block]:
    """Bounds of a step and its tokens by the errors on published ones; none where factors of an own run are on it."""
    spread, bounds = plan.problem.known_errors.step(rl=plan.problem.is_rl), plan.step_interval_seconds
    if spread is None or bounds is None:
        return []
    low, high = bounds
    tokens = plan.tokens_per_second * plan.step_seconds
    rates = f"{number(tokens / high, 0)} to {number(tokens / low, 0)} tokens/s"
    step = f"{seconds_text(low)} to {seconds_text(high)}"
    return [Text(f"90 % interval of the step: {step}, {rates} ({spread.whose}).")]


def _at_scale(plan: Plan) -> list[Block]:
    """What the step holds for slow nodes and jitter on many GPUs, and where the figure is from."""
    added = sum(item.amount for item in plan.time if item.name == ItemName.SLOW_NODES_AND_JITTER)
    if not added:
        return []
    rate = percent(plan.problem.engine.timing.slower_per_doubling, 2)
    trend = f"{rate} a doubling beyond {LARGEST_USUAL}, median of 15 published series; eight in ten 0.1 to 1.8 %"
    longer = percent(added / (plan.step_seconds - added))
    return [Text(f"In the step: on {plan.num_gpus:,} GPUs slow nodes and jitter make it {longer} longer ({trend}).")]


def _stated(plan: Plan) -> list[Block]:
    """What the user put on top of the model: factors of an own run, and faults."""
    out: list[Block] = []
    known, good = plan.problem.calibration, plan.goodput
    if known is not None:
        factors = ", ".join(f"{name} x {factor.factor:.3g}" for name, factor in known.phases.items())
        out.append(
            Text(f"Calibrated with {known.source} of {known.date} ({known.lines} lines): {factors or 'memory'}.")
        )
    if good is not None:
        rate = number(plan.tokens_per_second * good.share, 0)
        out.append(Text(f"Goodput: {good.sentence}; {rate} tokens/s in the end."))
    return out


CONVENTION_TEXT = f"Counted: {CONVENTION} (Chowdhery et al. 2022, appendix B)."


def _seconds(value: float) -> str:
    return number(value, 3 if value < 100 else 1)


def proof_blocks(outcome: Outcome) -> list[Block]:
    """What was proved, of how many candidates, and what removed the rest."""
    proof, question = outcome.proof, outcome.question
    rows = [("looked at", number(proof.candidates, 0), "layouts (degrees, micro-batch, wishes) and rollout settings")]
    rows += [(f"removed: {r.rule}", number(r.count, 0), r.text) for r in proof.removed if r.rule != NOT_TRIED]
    rows.append(("left for the solver", number(proof.solver_rows, 0), "layouts, with every rollout setting that fits"))
    points = number(proof.points, 0) if proof.points < 10**15 else f"{float(proof.points):.1e}"
    rows.append(("points", points, "candidates with layers and recomputed layers of each stage"))
    text = "layouts that fit in floats and only rounding to KiB excludes"
    rows.append(("rounding only", number(proof.rounding_only, 0), text))
    if proof.decided_by_rounding:
        tie = "floats put another plan first by less than rounding to KiB and time units; both are as good"
        rows.append(("decided by rounding", "yes", tie))
    band = percent(question.scenario.search.near_tie)
    status = {
        "optimal": "Proved optimal: fewest wishes given up, then throughput; within "
        f"{band} of the best, headroom and simplicity decide.",
        "feasible": f"Throughput proved, ties not settled: another plan within {band} may leave more memory free."
        if proof.throughput_proved
        else "Feasible, not proved: the time limit came before every layout was looked at."
        if proof.gap is None
        else f"Feasible, not proved: at most {percent(proof.gap)} from the best.",
        "infeasible": "Proved infeasible: every candidate breaks a rule or a limit.",
        "unknown": "None found yet, and none proved impossible: the time limit came first.",
    }[outcome.status]
    missing = [entry.text for entry in proof.removed if entry.rule == NOT_TRIED]
    status += f" Not tried: {'; '.join(missing)}." if missing else ""
    beside = held_text(proof.held)
    status += f" Held at defaults: {beside}." if beside is not None else ""
    if proof.enumerated == 0:
        checked = "No point was left to enumerate as a second check."
    elif proof.enumerated is not None:
        checked = f"All {proof.enumerated:,} points were enumerated too and give the same answer."
    else:
        checked = "The points were not enumerated as a second check (too many, or --no-check)."
    return [
        Heading("Proof"),
        Text(status),
        Grid(("candidates", "count", "meaning"), tuple(rows), left=frozenset({0, 2})),
        Text(checked),
    ]


def error_blocks(question: Question) -> list[Block]:
    """What is known about the error of these figures."""
    return [Heading("Known error"), Bullets(question.known_error_texts)]


def plan_error_blocks(plan: Plan) -> list[Block]:
    """The same for one plan, whatever else its scenario leaves open."""
    return error_blocks(plan.problem.alone)


def scenario_argument(document: Document, **changes: str) -> str:
    """The scenario and its overrides as one would type them, with further changes (dotted path: value)."""
    name = "-" if document.name == "<stdin>" else document.name
    parts = [name]
    kept = [text for text in document.overrides if text.partition("=")[0].strip() not in changes]
    for override in (*kept, *(f"{path}={value}" for path, value in changes.items())):
        parts += ["--set", override]
    return " ".join(shlex.quote(part) for part in parts)


def typed_value(value: object) -> str:
    """A number or truth value as YAML."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"


def launchers_of(problem: Problem) -> list[str]:
    """Launchers that write the files of a plan, the engine's usual one first."""
    pairs = sequences_together(problem) > 1
    return [name for name in problem.engine.launch if not pairs or name in LAUNCHERS]


def next_command(question: Question, headroom_gib: float | None, status: str) -> Command:
    """What to type after this answer. `headroom_gib` is one with which an infeasible problem has a plan."""
    scenario = scenario_argument(question.document)
    if status == "unknown":
        limit = question.scenario.search.time_limit_s * 10
        return Command(f"planner solve {scenario} --time-limit {limit:g}", "search ten times longer")
    if status == "infeasible":
        if headroom_gib is not None:
            less = {path: typed_value(value) for path, value in less_headroom(question.first, headroom_gib)}
            scenario = scenario_argument(question.document, **less)
            return Command(f"planner solve {scenario}", "the plan with the most headroom there is")
        return Command(f"planner explain {scenario}", "which limits contradict each other, and what would help")
    if launchers := launchers_of(question.first):
        return Command(f"planner launch {scenario} --to {launchers[0]}", "the launch flags of this plan")
    return Command(f"planner solve {scenario} --format json", "every item of the ledgers with its source")
