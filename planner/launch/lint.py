"""A launch file judged: settings that its engine does not know, rules that it breaks, traps, and whether it fits."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

from planner.analysis.safer import Safer
from planner.errors import InputError, Mistake, Place
from planner.inputs.catalog import Catalog
from planner.inputs.document import override, parse_document, with_overrides
from planner.inputs.own_model import CatalogWithModel
from planner.inputs.unknown_entry import REFUSED
from planner.launch.attention import say_attention
from planner.launch.mean_lengths import at_their_mean
from planner.launch.reading.follow import CRITICS, FAMILIES, REPLICATED
from planner.launch.reading.found import Found
from planner.launch.reading.megatron import SHAPE
from planner.launch.reading.methods import ANY_TRAINER
from planner.launch.reading.opened import SHAPE_ALONE, opened, text_of
from planner.launch.reading.scenario import Tree, scenario_of
from planner.launch.traps import Finding, traps
from planner.problem.resolve import question_of
from planner.search.estimate import estimate_question
from planner.search.plan import Plan, host_total_gib, spare

RULE = re.compile(r"breaks the rule (\w+)")
LAUNCHERS = (
    "--nnodes", "--nproc-per-node", "--nproc_per_node", "--node-rank", "--node_rank", "--master-addr", "--master_addr",
    "--master-port", "--master_port", "--rdzv-backend", "--rdzv-endpoint", "--rdzv-id", "--no-python", "--address",
    "--runtime-env-json", "--working-dir", "--max-restarts", "--standalone",
)  # fmt: skip
TABLES: Mapping[str, tuple[str, ...]] = {
    "megatron": ("megatron_0192.json",),
    "slime": ("megatron_slime_031.json", "slime_031.yaml"),
    "verl": ("verl_091.yaml",),
    "openrlhf": ("openrlhf_0112.yaml",),
    "axolotl": ("axolotl_019.yaml",),
}
"""Tables that hold every name an engine knows; for other engines names are not judged."""
OWN_PROGRAMS = {
    "megatron": "pretrain_gpt.py",
    "verl": "verl.trainer.main_ppo",
    "openrlhf": "openrlhf.cli.train_ppo_ray",
}
"""Programs whose settings are all in the table; others of their examples add to them."""
TABLED = ("dp", "fsdp", "megatron")
"""Engines of verl whose keys are in the table: those of others are not judged."""
SILENT = frozenset(("slime", "axolotl"))
"""Launchers whose engine drops a setting that it does not know."""
MANY = 8
"""Unknown settings from which on a file is taken for one of another release, where most of its settings are."""
GROUPED = "groups_need_samples"
BEYOND = {
    "context_parallel_supported": "context_parallel",
    "data_parallel_supported": "data_parallel",
    "tensor_parallel_supported": "tensor_parallel",
    "zero_stage_offered": "zero_stage",
}
"""Rules that say what an engine's file in the catalog counts, not what the engine refuses, and their words."""
NOT_COUNTED = " is not costed: the engine's file in the catalog does not have it"
GPUS = "cluster: give exactly one of num_gpus and max_gpus"
GIVE_GPUS = "--set cluster.num_gpus=N"
STOOD_IN = (1, 8)
"""Numbers of GPUs that are tried where none is said: what is open with both is open whatever it is."""
VALUE = re.compile(r"([a-z_.]+): (\S+)")
"""A proposal in a scenario's words."""
OF_ACTIVATIONS = ("tokens_per_gpu", "micro_batch_size", "fixed_micro_batch_size", "sequence_length")
"""Words whose line memory at the edge is reported at, the first that is said."""
UNSHARED = "no line says how GPUs share the state: accelerate's own file is not here"
STARTED_BY_ACCELERATE = frozenset(("axolotl", "llama-factory"))
"""Launchers whose files say all but what accelerate's own file may say of sharding."""
AS_COPIES = (
    "no line shards the state: costed as copies of it (DDP); if accelerate's own file shards it, add --beside FILE, "
    "or --set engine=fsdp2"
)
IN_ITS_PLACE = "--beside FILE with accelerate's own file, or --set engine=fsdp2, deepspeed, transformers-ddp"
LENGTHS = "needs global_batch_size and sequence_length"
SEVERAL = "estimate needs one layout, and the scenario leaves several open"
NO_RANK = "adapter.rank is missing"
OPEN = re.compile(r"open: ([\w.]+) \(([\w-]+)")
"""The first open decision of a scenario, and the first of its values."""
LIKE = 0.8
"""Likeness of two names from which one is taken as the other misspelt (difflib)."""
RULE_WORDS: Mapping[str, tuple[str, ...]] = {
    "pairs_stay_together": ("micro_batch_size",),
    "batch_divides": ("global_batch_size", "micro_batch_size"),
    "expert_grid": ("expert_parallel", "expert_tensor_parallel"),
    "experts_divide": ("expert_parallel",),
    "gpus_divide": ("gpus_per_node", "training_nodes", "num_gpus", "tensor_parallel", "pipeline_parallel"),
    "heads_divide_tensor": ("tensor_parallel",),
    "heads_divide_ulysses": ("context_parallel",),
    "linear_heads_divide": ("tensor_parallel", "context_parallel"),
    "fp8_projection_divides": ("tensor_parallel", "precision"),
    "kv_heads_divide_tensor": ("tensor_parallel",),
    "layers_divide_pipeline": ("virtual_pipeline", "pipeline_parallel", "layers_per_stage"),
    "enough_layers": ("virtual_pipeline", "pipeline_parallel"),
    "host_optimizer_has_kernel": ("optimizer", "optimizer_offload"),
    "muon_refuses_zero3": ("optimizer", "zero_stage"),
    "moe_needs_sequence_parallel": ("sequence_parallel", "tensor_parallel"),
    "positions_divide_context": ("context_parallel",),
    "projections_divide_tensor": ("tensor_parallel",),
    "rank_order_keeps_stages": ("rank_order",),
    "recomputed_layers_exist": ("recompute_num_layers", "recompute_granularity"),
    "sequence_divides_context": ("sequence_length", "context_parallel"),
    "sequence_divides_tensor": ("sequence_length", "tensor_parallel"),
    "virtual_pipeline_schedule": ("virtual_pipeline",),
    "vocabulary_divides_tensor": ("tensor_parallel",),
}
"""Words whose line a broken rule is reported at, the likeliest first."""


@dataclass(frozen=True)
class Linted:
    """What a launch file is, and what is wrong with it."""

    path: Path
    found: Found
    scenario: Mapping[str, object]
    findings: tuple[Finding, ...]
    plan: Plan | None
    """The pinned layout costed; None where a rule or an open value stands before it."""
    open: tuple[Mistake, ...]
    """What must be filled in (--set) before the layout can be costed."""
    overrides: tuple[str, ...] = ()
    """What was filled in so."""
    beside: tuple[Path, ...] = ()
    """Further configurations of the run that were given."""
    places: Mapping[str, Place] = field(default_factory=dict)
    """Lines by the path of the scenario that they say."""
    safer: Safer | None = None
    """What would make it safe, where that was asked for."""

    @property
    def fits(self) -> bool | None:
        """Whether peak memory stays within what is usable; None where it was not costed."""
        return None if self.plan is None else self.plan.headroom_gib >= 0


def lint(
    path: Path,
    catalog: Catalog,
    overrides: Sequence[str] = (),
    engine: str | None = None,
    given: Mapping[str, str] | None = None,
    beside: Sequence[Path] = (),
) -> Linted:
    """Read a launch file and judge it; nothing in it is run. Raises InputError for files that cannot be read.

    `given`: variables that a shell script takes from outside, `1` and so on for its arguments. `beside`: further
    configurations of the run, such as accelerate's.
    """
    named = next((text.strip() for change in overrides if (text := _after(change, "engine")) is not None), None)
    found, asked = opened(path, catalog, engine, given, named, beside), catalog
    _fill(found, overrides)
    _share(found, overrides)
    attention = say_attention(found, catalog, overrides)
    tree, places = scenario_of(found, catalog, path.stem[:80] or "launch")
    findings = [*misspelt(found, catalog), *traps(found, catalog), *attention]
    catalog = catalog_of(found, catalog)
    _machines(found, tree, {change.partition("=")[0] for change in overrides})
    document = with_overrides(parse_document(json.dumps(tree), f"{path} (as read)"), overrides)
    for change in overrides:
        found.assumed.pop(change.partition("=")[0], None)
    plan, left = None, []
    try:
        question = question_of(override(document, {}), catalog)
        plan = estimate_question(question)
    except InputError as error:
        for mistake in error.problems:
            broken = RULE.search(mistake.what)
            if broken is not None and broken[1] == GROUPED and found.words.get("algorithm") in CRITICS:
                left.append(Mistake("PPO with a critic and one sample a prompt is not costed", Place(str(path))))
            elif broken is None:
                left.append(_placed(mistake, places, found, str(path)))
            else:
                words = RULE_WORDS.get(broken[1], (BEYOND.get(broken[1], ""),))
                where = next((found.places[word] for word in words if word in found.places), Place(str(path)))
                if broken[1] in BEYOND:
                    word = BEYOND[broken[1]]
                    left.append(Mistake(f"{word} {found.words.get(word, '')}".strip() + NOT_COUNTED, where))
                    continue
                findings.append(Finding("error", broken[1], mistake.because or mistake.what, where))
    if found.uncosted:
        attempts = {UNSHARED: IN_ITS_PLACE, SHAPE_ALONE: "planner lint of the script that sources it"}
        plan, left = None, [Mistake(what, place, None, attempts.get(what)) for place, what in found.uncosted]
    elif any(mistake.attempt == GIVE_GPUS for mistake in left):
        stand_ins = [[*overrides, f"cluster.num_gpus={n}"] for n in STOOD_IN]
        tried = [lint(path, asked, each, engine, given, beside).open for each in stand_ins]
        left += [mistake for mistake in tried[0] if mistake in tried[1] and mistake not in left]
    if plan is not None:
        findings += [
            *edge(plan, found, path),
            *at_their_mean(plan, found, document, catalog),
            *beyond_host(plan, found, path),
        ]
    order = {"error": 0, "warning": 1, "note": 2}
    findings.sort(key=lambda one: (order[one.severity], one.where.file, one.where.line or 0, one.rule))
    return Linted(path, found, tree, tuple(findings), plan, tuple(left), tuple(overrides), tuple(beside), places)


def catalog_of(found: Found, catalog: Catalog) -> Catalog:
    """The catalog with the network that the file states beside it, where it states one."""
    return catalog if found.network is None else CatalogWithModel(catalog, found.network)


def edge(plan: Plan, found: Found, path: Path) -> list[Finding]:
    """A finding where less is free than one spike of the allocator may take, at the line that it hangs on."""
    if plan.headroom_gib < 0 or not plan.critical:
        return []
    where = next((found.places[word] for word in OF_ACTIVATIONS if word in found.places), Place(str(path)))
    least = plan.usable_gib * plan.problem.engine.critical_headroom_fraction
    text = f"critical: {plan.headroom_gib:.1f} GiB free, and one spike of the allocator may take {least:.1f}"
    if plan.given_back_gib > 0:
        text = f"critical: {spare(plan)}; expect it slow"
    return [Finding("warning", "critical_memory", text, where)]


def beyond_host(plan: Plan, found: Found, path: Path) -> list[Finding]:
    """A note where one node's host memory, of machines that no line names, is less than what is kept there."""
    need, memory = host_total_gib(plan)
    if memory is None or need <= memory:
        return []
    words = ("optimizer_offload", "parameters_offloaded", "activation_offload")
    where = next((found.places[word] for word in words if word in found.places), Place(str(path)))
    text = f"{need:,.0f} GiB of a node's host memory are taken; {plan.problem.node.id} has {memory:,.0f}"
    return [Finding("note", "host_memory", text, where)]


def _after(change: str, path: str) -> str | None:
    """The value that --set gives to this path; None where it gives one to another."""
    name, _, text = change.partition("=")
    return text if name.strip() == path else None


def _fill(found: Found, overrides: Sequence[str]) -> None:
    """Say the model that --set gives, and the number of GPUs where no line does: other values follow from them."""
    given = {path.strip(): text.strip() for path, _, text in (change.partition("=") for change in overrides)}
    if "model" in given:
        found.words["model"] = given["model"]
    gpus = given.get("cluster.num_gpus", "")
    if gpus.isdecimal() and len(gpus) < 10 and not {"num_gpus", "gpus_per_node"} & set(found.words):
        found.words["num_gpus"] = int(gpus)


def _machines(found: Found, tree: Tree, given: AbstractSet[str]) -> None:
    """Those that --set names, by node or by GPU, in place of those that are taken as usual; they have host memory."""
    cluster, limits = tree["cluster"], tree["limits"]
    assert isinstance(cluster, dict)
    assert isinstance(limits, dict)
    if given & {"cluster.gpu", "cluster.node"}:
        del limits["host_memory"]
        for kind in ("gpu", "node"):
            found.assumed.pop(f"cluster.{kind}", None)
            if f"cluster.{kind}" not in given:
                cluster.pop(kind, None)


def _share(found: Found, overrides: Sequence[str]) -> None:
    """A trainer's file that shards nothing, on several GPUs: each holds everything, unless accelerate's own file, which
    is not here, says otherwise."""
    words = found.words
    nodes, each, gpus = (words.get(word) for word in ("training_nodes", "gpus_per_node", "num_gpus"))
    gpus = gpus if isinstance(gpus, int) else nodes * each if isinstance(nodes, int) and isinstance(each, int) else 1
    if found.engine != FAMILIES[1] or gpus < 2:
        return
    found.engine = REPLICATED
    if found.launcher in STARTED_BY_ACCELERATE:
        found.note(found.places.get("micro_batch_size", Place("?")), AS_COPIES)
    if found.launcher in ANY_TRAINER and not any(change.startswith("engine=") for change in overrides):
        place = found.places.get("micro_batch_size", Place("?"))
        found.uncosted.append((place, UNSHARED))


def _placed(mistake: Mistake, places: Mapping[str, Place], found: Found, name: str) -> Mistake:
    """A mistake of the scenario at the line of the launch file that said the value."""
    if mistake.what == GPUS:
        return Mistake("no line says how many GPUs there are", Place(name), None, GIVE_GPUS)
    if mistake.what == "model is missing":
        shape = [f"{flag} {found.options[flag].text}" for flag, _ in SHAPE if flag in found.options]
        what = f"no model of the catalog has {' '.join(shape)}" if shape else "no line that can be read names the model"
        place = found.options["--num-layers"].place if "--num-layers" in found.options else Place(name)
        return Mistake(what, place, None, "--set model=NAME, or the path of a config.json")
    if LENGTHS in mistake.what:
        said = {word for word, value in found.words.items() if value is not None}
        batch = {"global_batch_size", "gradient_accumulation"}.isdisjoint(said)
        length = "sequence_length" not in said
        open_ones = ["batch.global_batch_size"] * batch + ["batch.sequence_length"] * length
        missing = " and the ".join(path.removeprefix("batch.").replace("_", " ") for path in open_ones)
        attempt = " ".join(f"--set {path}=N" for path in open_ones)
        return Mistake(f"no line says the {missing or 'batch'}", Place(name), None, attempt or None)
    if mistake.what == NO_RANK:
        place = places.get("adapter.targets", Place(name))
        return Mistake("no line that can be read says the adapter's rank", place, None, "--set adapter.rank=N")
    if mistake.what == SEVERAL:
        first = OPEN.search(mistake.because or "")
        attempt = f"--set {first[1]}={first[2]}" if first is not None else "--set PATH=VALUE"
        return Mistake("no line says which of several layouts it is", Place(name), mistake.because, attempt)
    path = mistake.where.path if mistake.where is not None else None
    where = places.get(path or "", Place(name, path=path))
    if path in found.refused and str(found.words.get(path)) in mistake.what:
        return Mistake(found.refused[path], where, None, f"--set {path}=NAME costs another in its place")
    if path == "model":
        own = REFUSED in mistake.what or (mistake.attempt or "").startswith("did you mean")
        close = mistake.attempt if own else None
        return Mistake(mistake.what, where, None, close or "--set model=NAME, or the path of its config.json")
    return Mistake(mistake.what, where, mistake.because, _as_set(mistake.attempt, path or ""))


def _as_set(attempt: str | None, path: str) -> str | None:
    """A proposal for the value at this path, as it is typed here (`num_gpus: 8`: --set cluster.num_gpus=8)."""
    said = VALUE.fullmatch(attempt or "")
    if said is None or path.rpartition(".")[2] != said[1]:
        return attempt
    return f"--set {shlex.quote(f'{path}={said[2]}')}"


def names_of(launcher: str, catalog: Catalog) -> set[str]:
    """Every setting that an engine knows; empty where no table holds them all."""
    out: set[str] = set()
    for file in TABLES.get(launcher, ()):
        table = catalog.flags(file)
        out |= set(table.names.split()) | set(table.flags)
        out |= {key for part in table.parts.values() for key in part}
    return out


def meant_by(name: str, known: set[str]) -> str | None:
    """The setting that a misspelt one may have been: a dotted key with one other part, or its last part alone."""
    parts = name.split(".")
    if len(parts) > 1 and parts[-1] in known:
        return parts[-1]
    for other in difflib.get_close_matches(name, known, n=5, cutoff=LIKE):
        theirs = other.split(".")
        apart = [(one, two) for one, two in zip(parts, theirs, strict=False) if one != two]
        alike = len(apart) == 1 and difflib.SequenceMatcher(None, *apart[0]).ratio() >= LIKE
        if alike if len(theirs) == len(parts) else theirs[-1] == parts[-1]:
            return other
    return None


def misspelt(found: Found, catalog: Catalog) -> Iterator[Finding]:
    """Settings that the engine does not know, with the one that may have been meant."""
    known = names_of(found.launcher, catalog)
    own = OWN_PROGRAMS.get(found.launcher)
    if own is not None and found.program not in (None, own):
        return  # it adds settings of its own
    if found.launcher == "megatron" and found.program is None:
        known |= names_of("slime", catalog)
    other = tuple(f".{part}." for part in (found.text("model_engine", ""), "engine") if part not in ("", *TABLED))
    if not known:
        return
    version = catalog.flags(TABLES[found.launcher][-1]).engine
    main = found.options.get("base_model")
    judged, strange = 0, []
    for option in found.options.values():
        if main is not None and (option.place.file != main.place.file or "." in option.name):
            continue  # a second file, which another program reads, or a part of axolotl's that it hands on
        name = option.name.lstrip("+~")
        free = name in LAUNCHERS or name.startswith(
            ("--sglang-", "--config-", "hydra.", "ray_kwargs", "data.", "reward")
        )
        free = free or name.replace("--no-", "--", 1) in known
        inside = option.name.startswith("+") or any(name[: dot.start()] in known for dot in re.finditer(r"\.", name))
        free = free or any(part in name for part in other)
        judged += 1
        if name in known or free or inside or option.name in found.before:
            continue
        close = meant_by(name, known - set(found.options))
        meant = f"did you mean {close}?" if close else "no setting of the engine is like it"
        silent = found.launcher in SILENT
        text = f"{version} does not know {name}" + (" and drops it in silence" if silent else "") + f"; {meant}"
        strange.append(Finding("error", "unknown_setting", text, option.place, (name, close) if close else None))
    if len(strange) >= MANY and 2 * len(strange) > judged:
        names = "a script of another release or program"
        text = f"{version} does not know {len(strange)} of {judged} settings, from this line on: {names}"
        yield Finding("error", "other_release", text, strange[0].where)
        found.uncosted.append((strange[0].where, f"{len(strange)} of {judged} settings are not {version}'s"))
        return
    yield from strange


def fixed(path: Path, findings: Sequence[Finding]) -> str:
    """The diff of one file that mends what can be mended by changing words on their own lines."""
    before = text_of(path).splitlines(keepends=True)
    after = list(before)
    for finding in findings:
        line = (finding.where.line or 0) - 1
        if finding.fix is None or finding.where.file != str(path) or not 0 <= line < len(after):
            continue
        old, new = finding.fix
        after[line] = re.sub(rf"(?<![\w-]){re.escape(old)}(?![\w-])", new.replace("\\", "\\\\"), after[line], count=1)
    return "".join(difflib.unified_diff(before, after, f"a/{path.name}", f"b/{path.name}"))
