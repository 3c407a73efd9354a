"""The rest of what the source articles state, by name: shares, ratios and sums that are not one formula of bytes."""

from __future__ import annotations

from collections.abc import Mapping

from planner.analysis.rules_of_thumb import LORA_RANK, STATE, RuleBook, RuleOfThumb, adapting
from planner.costs.item_names import ItemName
from planner.formulas import rules_of_thumb as rules
from planner.formulas.parameters import lora_parameters
from planner.search.plan import Plan, host_total_gib
from planner.units import GB, gib_to_gb

KEPT = (ItemName.ACTIVATIONS_KEPT_LAYERS,)
PAIR = 2
"""GPUs of the example that spreads a model over several."""
ARTICLE_BATCH = 32
LONG, SHORT = 8192, 3072
"""Tokens between which a cut of the length is said to free 10 GB and more."""
Found = tuple[float | None, str]


def every_rule(book: RuleBook) -> list[RuleOfThumb]:
    """Every rule of the five articles beside our own figure."""
    return [*book.rows(), *_states(book), *_activations(book), *_spread(book), *_adapters(book), *_time_and_host(book)]


def _gb(name: str, formula: str, size_bytes: float | None, ours: Found, source: str) -> RuleOfThumb:
    return RuleOfThumb(name, formula, None if size_bytes is None else size_bytes / GB, *ours, source)


def _ratio(name: str, formula: str, value: float | None, ours: Found, source: str, unit: str = "x") -> RuleOfThumb:
    return RuleOfThumb(name, formula, value, *ours, source, unit)


def _quotient(top: Found, bottom: Found, what: str) -> Found:
    """One of our figures over another."""
    if top[0] is None or bottom[0] is None:
        return None, top[1] if top[0] is None else bottom[1]
    return (top[0] / bottom[0], what) if bottom[0] else (None, "nothing to divide by")


def _peak(plan: Plan | str, what: str) -> Found:
    return (None, plan) if isinstance(plan, str) else (gib_to_gb(plan.peak_gib), what)


def _states(book: RuleBook) -> list[RuleOfThumb]:
    """Optimizers and integers of the tables, sums of states, and what comes on top."""
    count = float(book.parameters)
    out = []
    for optimizer, name, source in (
        ("sgd", "plain SGD", rules.COMPLETE),
        ("adamw-8bit", "8-bit Adam", rules.GUIDE),
        ("adafactor", "Adafactor", rules.GUIDE),
    ):
        plan = book.plan({"engine": "transformers", "optimizer": optimizer})
        ours = book.ours(plan, (ItemName.OPTIMIZER,), "ledger, transformers")
        rule = rules.optimizer_rule_bytes(parameters=count, optimizer="sgd") if optimizer == "sgd" else None
        formula = "0" if optimizer == "sgd" else "significantly less than P x 8"
        out.append(_gb(f"optimizer state, {name}", formula, rule, ours, source))
    for precision, each in (("int8", 1.0), ("int4", 0.5)):
        held = _frozen(book, precision)
        weights = rules.weight_rule_bytes(parameters=count, precision=precision)
        out.append(_gb(f"weights in {precision}", f"P x {each:g}", weights, held, rules.GUIDE))
        ratio = _quotient((count * 2 / GB, ""), held, "linear layers alone are quantised, tables stay in 16 bit")
        out.append(_ratio(f"quantisation to {precision} saves", f"{2 / each:g} times", 2 / each, ratio, rules.HOW_MUCH))
    mixed = book.plan({"precision": "bf16"})
    copies = book.ours(mixed, (ItemName.WEIGHTS,), "weights and fp32 master copy")
    if copies[0] is not None:
        copies = copies[0] + count * 4 / GB, copies[1]
    out.append(_gb("16-bit weights with an fp32 copy", "P x 6", count * 6, copies, rules.HOW_MUCH))
    wide = book.plan({"precision": "fp32"})
    total = book.ours(wide, (*STATE, *KEPT), "state and activations kept, all in fp32")
    out.append(
        _gb("training in fp32", "P x 16 + 1 GB", rules.fp32_training_bytes(parameters=count), total, rules.LESSON)
    )
    loading = _quotient(_peak(wide, ""), (count * 4 / GB, ""), "peak of training in fp32 over its weights")
    out.append(_ratio("training against loading", "4 to 5 times", 4.25, loading, rules.LESSON))
    return out + _overhead(book)


def _overhead(book: RuleBook) -> list[RuleOfThumb]:
    kept, peak = book.ours(book.whole, (*STATE, *KEPT), ""), _peak(book.whole, "")
    ours: Found = (None, kept[1])
    if kept[0] is not None and peak[0] is not None:
        ours = peak[0] - kept[0], "peak less state and activations kept: logits, buffers, context, reserve"
    base = (kept[0] or 0.0) * GB
    return [
        _gb(f"overhead, {share:.0%} on top", f"{share:g} (w + g + o + a)", base * share, ours, rules.GUIDE)
        for share in (0.1, 0.2)
    ]


def _frozen(book: RuleBook, precision: str) -> Found:
    return book.ours(book.plan(adapting(precision)), (ItemName.FROZEN_BASE_WEIGHTS,), f"frozen base in {precision}")


def _activations(book: RuleBook) -> list[RuleOfThumb]:
    """Activations by the size of the model, and how they grow."""
    count, a = float(book.parameters), book.architecture
    batch = {"batch.global_batch_size": ARTICLE_BATCH, "batch.micro_batch_size": ARTICLE_BATCH}
    many = book.ours(book.plan(batch), KEPT, f"batch {ARTICLE_BATCH} x {book.sequence_length:,} tokens")
    layer: Found = (None if many[0] is None else many[0] / a.num_hidden_layers, f"one layer of the same: {many[1]}")
    one = book.ours(book.whole, KEPT, "counted tensor by tensor")
    weights = rules.weight_rule_bytes(parameters=count, precision=book.precision)
    out = [
        _gb("activations from the weights", "1.5 x weights", 1.5 * weights, one, rules.GUIDE),
        *(
            _gb(f"activations at batch {ARTICLE_BATCH}, {name}", f"P x {each}", count * each, many, rules.COMPLETE)
            for name, each in (("at least", 2), ("at most", 4))
        ),
        _gb(
            "activations of a layer by neurons",
            f"{ARTICLE_BATCH} x sqrt(P) x 2",
            rules.square_root_neurons_bytes(parameters=count, batch=ARTICLE_BATCH),
            layer,
            rules.COMPLETE,
        ),
    ]
    for name, changes in (
        ("length", {"batch.sequence_length": 2 * book.sequence_length}),
        ("batch", {"batch.global_batch_size": 2 * book.batch, "batch.micro_batch_size": 2 * book.batch}),
    ):
        doubled: Mapping[str, object] = changes
        plan = book.plan(doubled)
        grown = _quotient(book.ours(plan, KEPT, ""), one, f"twice the {name}; FlashAttention keeps no scores")
        source = rules.COMPLETE if name == "length" else rules.HOW_MUCH
        out.append(_ratio(f"activations when the {name} doubles", "2 times", 2.0, grown, source))
        if name == "length":
            out.append(_ratio("attention when the length doubles", "4 times", 4.0, grown, rules.LESSON))
        else:
            state = _quotient(book.ours(plan, STATE, ""), book.ours(book.whole, STATE, ""), "it does not depend on it")
            out.append(_ratio("state when the batch doubles", "2 times", 2.0, state, rules.HOW_MUCH))
    plans = [book.plan({"batch.sequence_length": length}) for length in (LONG, SHORT)]
    long, short = (_peak(plan, "peak on one GPU, no recomputation") for plan in plans)
    freed: Found = (None, long[1] if long[0] is None else short[1])
    if long[0] is not None and short[0] is not None:
        freed = long[0] - short[0], long[1]
    return [*out, _gb(f"{LONG:,} to {SHORT:,} tokens frees", "10 GB and more", 10 * GB, freed, rules.GUIDE)]


def _spread(book: RuleBook) -> list[RuleOfThumb]:
    """State over several GPUs."""
    count = float(book.parameters)
    two = {"cluster.num_gpus": PAIR, "batch.global_batch_size": PAIR * book.batch}
    data = {**two, "layout.data_parallel": PAIR}
    fsdp = book.plan({**data, "engine": "fsdp2", "layout.zero_stage": 3})
    sharded = book.ours(fsdp, (*STATE, *KEPT), "FSDP2: fp32 weights sharded, activations whole")
    tensor = book.plan({**two, "layout.tensor_parallel": PAIR})
    four = {"cluster.num_gpus": 2 * PAIR, "layout.tensor_parallel": PAIR, "layout.pipeline_parallel": PAIR}
    grid = book.plan({**two, **four})
    plain = book.plan(data)
    whole = rules.spread_bytes(parameters=count, ranks=1)
    out = [
        _gb(
            f"{PAIR} GPUs, activations undivided, {name}",
            f"(w + g + o) / {PAIR} + P x {each}",
            rules.spread_bytes(parameters=count, ranks=PAIR) + each * count,
            sharded,
            rules.COMPLETE,
        )
        for name, each in (("at least", 2), ("at most", 4))
    ]
    for name, formula, size, plan in (
        (f"tensor parallel over {PAIR}", f"(w + g + o) / {PAIR}", whole / PAIR, tensor),
        (f"TP{PAIR} x PP{PAIR}", "total / (TP x PP)", whole / PAIR**2, grid),
        (f"data parallel over {PAIR}", "w + g + o, not less", whole, plain),
    ):
        out.append(
            _gb(name, formula, size, book.ours(plan, STATE, "fp32 gradients, distributed optimizer"), rules.GUIDE)
        )
    return out


def _adapters(book: RuleBook) -> list[RuleOfThumb]:
    """What adapters cost and save."""
    adapters = lora_parameters(book.architecture, LORA_RANK)
    share: Found = (100 * adapters / book.parameters, f"{adapters:,} of {book.parameters:,}, rank {LORA_RANK}")
    full = _peak(book.plan({"engine": "transformers", "precision": "bf16"}), "")
    out = [_ratio(f"LoRA's share, rank {LORA_RANK}", "0.524 %", rules.LORA_SHARE_PERCENT, share, rules.HOW_MUCH, "%")]
    for name, precision in (("LoRA", "bf16"), ("QLoRA", "nf4")):
        less = _quotient(
            _peak(book.plan(adapting(precision)), ""),
            full,
            f"peak against full training, batch {book.batch} x {book.sequence_length:,}",
        )
        saved: Found = (None, less[1]) if less[0] is None else (100 * (1 - less[0]), less[1])
        out.append(_ratio(f"{name} takes less", "70 %", rules.LORA_SAVES_PERCENT, saved, rules.HOW_MUCH, "%"))
    return out


def _time_and_host(book: RuleBook) -> list[RuleOfThumb]:
    """Time of checkpointing, and what lies in host memory."""
    again = book.plan({"layout.recomputed_layers": "all"})
    more: Found = (None, "")
    if isinstance(again, str) or isinstance(book.whole, str):
        more = None, again if isinstance(again, str) else str(book.whole)
    else:
        share = again.step_seconds / book.whole.step_seconds - 1
        more = 100 * share, "longer step, every layer recomputed, on one H100"
    host: Found = (None, str(book.whole))
    if not isinstance(book.whole, str):
        host = gib_to_gb(host_total_gib(book.whole)[0]), "host memory of a node, not GPU: system, loaders, checkpoint"
    return [
        _ratio("checkpointing costs", "30 % more compute", rules.CHECKPOINTING_PERCENT, more, rules.GUIDE, "%"),
        _gb("data loading, checkpoint buffers", "named, no figure", None, host, rules.TRAIN_BIG),
    ]
