"""Scenario + catalog -> Problem: names looked up, wishes and variants spelt out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from planner.cluster.own_machines import load_own
from planner.errors import InputError, Mistake
from planner.inputs.calibration import load_calibration
from planner.inputs.catalog import Catalog, default_catalog
from planner.inputs.document import Document, validate
from planner.inputs.known_errors import known_errors
from planner.inputs.messages import did_you_mean, some_of
from planner.inputs.run_kind import run_kind
from planner.problem.awake_together import spelt_out
from planner.problem.choices import choose
from planner.problem.conditions import modules_that_free
from planner.problem.configured import configured_once, switched_on
from planner.problem.critics import OWN, refused_size
from planner.problem.housing import housed
from planner.problem.looked_up import Names
from planner.problem.machines import CLIFF_TEXT, RESERVED_CLIFF, Machines
from planner.problem.named_attention import named_attention
from planner.problem.option_sets import exclusive, options_left_open, with_options, without_experts
from planner.problem.problem import Problem, Question
from planner.problem.racks import as_used, asked_counts
from planner.problem.refusals import Asked, linked, no_memory_left, refusals, uneven_groups, work_contradictions
from planner.problem.variants import MOST_VARIANTS, Variant, variants, with_modules
from planner.problem.wishes import wish_combinations
from planner.problem.work import Work
from planner.schema.catalog import Gpu, Node, Precision
from planner.schema.choices import IntRange, NameWish
from planner.schema.engine import Engine, RolloutEngine
from planner.schema.scenario import ClusterSpec, Pool, Scenario

DEFAULT_GRID_GPU = "h100-sxm5-80gb"
"""Whose GEMM grid is scaled for a GPU that names no relative."""


def resolve(document: Document, scenario: Scenario, catalog: Catalog) -> Question:
    """Look up every name of a scenario and spell out its wishes and variants.

    The question keeps its own receipts: the files that it alone used, whatever the catalog was asked before.

    Raises InputError for an unknown name or for parts that contradict each other in every variant.
    """
    names = Names(document, catalog.recording())
    scenario = housed(document, scenario, names.catalog, names.wrong)
    shared = _shared(names, scenario)
    engine = shared["engine"]
    if names.wrong:
        raise InputError(names.wrong)
    heads, most = shared["architecture"].num_attention_heads, shared.get("gpus_per_node", 1)
    scenario = spelt_out(scenario, engine, shared["rollout_engine"], heads, most)
    try:
        taken = tuple(
            more for variant in variants(scenario, engine) for more in _each_option_set(names, variant, shared)
        )
        if scenario.layout.recompute_modules == "any":
            taken = tuple(more for variant in taken for more in _each_selection(names, variant, shared))
        if len(taken) > MOST_VARIANTS:
            raise ValueError(f"{len(taken)} combinations of machines, precision, schedule, offload and modules")
    except ValueError as error:
        attempt = "give lists of fewer values instead of any"
        raise InputError(Mistake(str(error), document.place(()), "too much is left open at once", attempt)) from None
    found: list[Problem] = []
    refused: list[tuple[str, str]] = []
    faults: list[Mistake] = []
    for variant in taken:
        wrong, problem = _one(names, variant, shared)
        if problem is not None:
            found.append(problem)
            continue
        refused.append((described(variant), "; ".join(f"{w.what}: {w.because}" for w in wrong)))
        faults += [w for w in wrong if w not in faults]
    if not found:
        raise InputError(faults)
    files = {*names.catalog.used().items(), *(pair for problem in found for pair in problem.provenance)}
    receipts = tuple(sorted(files))
    return Question(tuple(replace(problem, provenance=receipts) for problem in found), tuple(refused), engine)


def described(variant: Variant | Problem) -> str:
    """`precision fp8, layout.schedule zb-h1`."""
    return ", ".join(f"{path} {value}" for path, value in variant.settings)


def _shared(names: Names, scenario: Scenario) -> dict[str, Any]:
    """What all variants have in common; also looks up what only some of them need, so that no fault stays hidden."""
    engine = names.find("engines", scenario.engine, "engine")
    out: dict[str, Any] = {"architecture": names.find("models", scenario.model, "model"), "engine": engine}
    machines: list[tuple[tuple[str | int, ...], ClusterSpec | Pool]] = [(("cluster",), scenario.cluster)]
    if scenario.cluster.pools is not None:
        machines = [(("cluster", "pools", index), pool) for index, pool in enumerate(scenario.cluster.pools)]
    for path, some in machines:
        node = names.find("nodes", some.node, *path, "node") if some.node is not None else None
        if node is not None:
            out["gpus_per_node"] = max(out.get("gpus_per_node", 1), as_used(some, node).gpus_per_node)
            key = "num_gpus" if some.num_gpus is not None else "max_gpus"
            names.wrong += uneven_groups(some, as_used(some, node), names.document.place((*path, key)))
    for precision in scenario.precision if isinstance(scenario.precision, list) else [scenario.precision]:
        if precision == "any":
            because = "a precision changes what is learned, not only its cost"
            where, attempt = names.document.place(("precision",)), "those you would train in, as in [bf16, fp8]"
            names.wrong.append(Mistake("precision: any leaves too much open", where, because, attempt))
        else:
            names.find("precisions", precision, "precision")
    if scenario.adapter is not None:
        names.find("precisions", scenario.adapter.base_precision, "adapter", "base_precision")
    wanted = [scenario.optimizer] if isinstance(scenario.optimizer, str) else []
    if isinstance(scenario.optimizer, NameWish):
        wanted = [scenario.optimizer.want, *(n for n in scenario.optimizer.allow if n != scenario.optimizer.want)]
    out["optimizers"] = tuple(names.find("optimizers", name, "optimizer") for name in wanted)
    out["rollout_engine"] = None
    if scenario.rl is not None and engine is not None:
        if engine.colocation is None or engine.generation is None:
            what, attempt = f"engine {engine.id} has no rollout engine", "engine: slime"
            because = "task: rl needs an engine that also generates samples"
            names.wrong.append(Mistake(what, names.document.place(("engine",)), because, attempt))
        else:
            out["rollout_engine"] = names.find("rollouts", engine.colocation.rollout_engine, "engine")
    out["rollout_precision"] = _rollout_precision(names, scenario, out["rollout_engine"])
    own = scenario.rl.critic_model if scenario.rl is not None else None
    out["critic"] = names.find("models", own, *OWN) if own is not None else None
    if out["critic"] is not None and out["architecture"] is not None:
        names.wrong += refused_size(names.document, out["architecture"], out["critic"])
    names.wrong += _concurrency(names.document, scenario, out["rollout_engine"])
    pools = [pool.node for pool in scenario.cluster.pools or ()]
    asked = scenario.rl.rollout.node if scenario.rl is not None else None
    if asked is not None and asked not in pools:
        what = f"rl.rollout.node {asked} is no pool of the cluster"
        because = f"cluster.pools lists {', '.join(pools) or 'none'}"
        where = names.document.place(("rl", "rollout", "node"))
        names.wrong.append(Mistake(what, where, because, "name a pool, or leave it out"))
    later = scenario.layout.later_stages_on
    if later not in (None, "any") and (later not in pools or len(pools) < 2):
        what = f"no pool beside the run's own is called {later}"
        because = f"cluster.pools lists {', '.join(pools) or 'none'}"
        where, near = names.document.place(("layout", "later_stages_on")), did_you_mean(str(later), pools)
        names.wrong.append(Mistake(what, where, because, near or "name another pool, any, or leave it out"))
    return out


def _rollout_precision(names: Names, scenario: Scenario, engine: RolloutEngine | None) -> Precision | None:
    """The precision of a rollout engine's weights, where a scenario names one."""
    path = ("rl", "rollout", "precision")
    name = scenario.rl.rollout.precision if scenario.rl is not None else None
    if name is None:
        return None
    found: Precision | None = names.find("precisions", name, *path)
    if found is not None and engine is not None and found.id not in engine.precisions:
        what, because = f"{engine.name} does not hold weights in {name}", "its catalog file lists others"
        names.wrong.append(Mistake(what, names.document.place(path), because, f"one of {', '.join(engine.precisions)}"))
    return found


def _concurrency(document: Document, scenario: Scenario, engine: RolloutEngine | None) -> list[Mistake]:
    """More requests at once than the rollout engine takes."""
    asked = scenario.rl.rollout.max_concurrency if scenario.rl is not None else None
    most = max(asked) if isinstance(asked, list) else asked.min if isinstance(asked, IntRange) else asked
    if engine is None or not isinstance(most, int) or most <= engine.max_concurrency:
        return []
    what = f"{engine.name} runs at most {engine.max_concurrency} requests at once, not {most}"
    because = "its catalog file says so in max_concurrency"
    where = document.place(("rl", "rollout", "max_concurrency"))
    return [Mistake(what, where, because, f"max_concurrency: {engine.max_concurrency}, or leave it out")]


def _one(names: Names, variant: Variant, shared: dict[str, Any]) -> tuple[list[Mistake], Problem | None]:
    """One variant, or what rules it out."""
    document, catalog, scenario = names.document, names.catalog, variant.scenario
    engine: Engine = shared["engine"]
    node: Node = as_used(scenario.cluster, catalog.find("nodes", str(scenario.cluster.node)))
    gpu: Gpu = catalog.named_by("gpus", "nodes", node.id, "gpu")
    precision = catalog.find("precisions", str(scenario.precision))
    base = precision if (adapter := scenario.adapter) is None else catalog.find("precisions", adapter.base_precision)
    own = load_own(document, scenario, node, gpu)
    node = own.node
    wrong = refusals(document, Asked(scenario, engine, precision, gpu))
    wrong += work_contradictions(document, scenario, shared["architecture"], engine, catalog)
    wrong += without_experts(document, scenario, engine, shared["architecture"])
    wrong += exclusive(document, scenario, engine)
    if wrong:
        return wrong, None
    grid_gpu = _grid_of(gpu, catalog)
    _tables_there(node, grid_gpu, catalog)
    for measured in (f"measured/gemm_{grid_gpu.gemm_grid}.json", "measured/nccl.json"):
        catalog.data_file(measured)
    wishes = wish_combinations(scenario, len(shared["optimizers"]))
    kind = run_kind(scenario, engine, shared["architecture"], precision, base, wishes[0].sequence_length)
    on = switched_on(scenario, engine, precision.id, shared["architecture"])
    engine = configured_once(engine, on, scenario.layout.recompute_modules)
    usable = scenario.cluster.usable_gib if scenario.cluster.usable_gib is not None else gpu.usable_gib
    headroom, headroom_from, demanded = _headroom(scenario, engine, usable)
    calibration, calibrated_by = load_calibration(document.name, scenario.calibration)
    problem = Problem(
        scenario=scenario,
        document=document,
        work=Work(
            architecture=shared["architecture"],
            precision=precision,
            base_precision=base,
            optimizers=shared["optimizers"],
            rollout_engine=shared["rollout_engine"],
            rollout_precision=shared["rollout_precision"],
            critic=shared["critic"],
            wishes=wishes,
            frozen=tuple(scenario.frozen),
            image_tokens=scenario.batch.image_tokens,
        ),
        engine=engine,
        machines=Machines(
            node=node,
            gpu=gpu,
            grid_gpu=grid_gpu,
            num_gpus=gpu_counts(scenario.cluster, node),
            usable_gib=usable,
            headroom_gib=headroom,
            headroom_from=headroom_from,
            tables=catalog.tables,
            demanded_headroom_gib=demanded,
            own=own,
        ),
        known_errors=known_errors(engine, catalog, kind),
        provenance=(*calibrated_by, *own.files),
        calibration=calibration,
        settings=variant.settings,
        named_attention=named_attention(shared["architecture"], engine, gpu, precision, catalog),
    )
    if scenario.layout.later_stages_on is not None:
        return _spanning(problem, catalog)
    if problem.colocated:
        return [], problem
    return _apart(problem, catalog)


def _headroom(scenario: Scenario, engine: Engine, usable_gib: float) -> tuple[float, str, float]:
    """(GiB that are kept free, where that comes from, how much of it the user demanded)."""
    limits = scenario.limits
    if limits.headroom_gib is not None:
        headroom, headroom_from = limits.headroom_gib, "limits.headroom_gib of the scenario"
    else:
        headroom = usable_gib * engine.default_headroom_fraction
        headroom_from = f"default of engine {engine.id}{engine.headroom_standing}: {engine.headroom_source}"
    demanded = limits.headroom_gib or 0.0
    if limits.reserved_cliff and not engine.expandable_segments:
        cliff = usable_gib * (1 - RESERVED_CLIFF)
        if "reserved_cliff" in limits.model_fields_set:
            demanded = max(demanded, cliff)
        if headroom < cliff:
            return cliff, CLIFF_TEXT, demanded
    return headroom, headroom_from, demanded


def _tables_there(node: Node, gpu: Gpu, catalog: Catalog) -> None:
    """Raise InputError where an entry names a measured table that is in no folder."""
    tables = catalog.tables
    for kind, owner, path, name, known in (
        ("gpus", gpu.id, ("gemm_grid",), gpu.gemm_grid, tables.gemm_stems),
        ("nodes", node.id, ("links", "measured_as"), node.links.measured_as, tables.nccl_devices),
    ):
        if name is not None and name not in known():
            where = catalog.document(kind, owner).place(path)
            listed = f"the catalog knows {some_of(known())}"
            raise InputError(Mistake(f"nothing measured is called {name}", where, listed, did_you_mean(name, known())))


def _grid_of(gpu: Gpu, catalog: Catalog) -> Gpu:
    """The GPU whose measured products stand for these: itself, or the one that its entry names."""
    if gpu.gemm_grid is not None:
        return gpu
    found: Gpu = catalog.named_by("gpus", "gpus", gpu.id, "gemm_grid_from", DEFAULT_GRID_GPU)
    if found.gemm_grid is None:
        where = catalog.document("gpus", gpu.id).place(("gemm_grid_from",))
        raise InputError(Mistake(f"{found.name} has no measured products to scale", where, attempt=DEFAULT_GRID_GPU))
    return found


def _machines(problem: Problem, pool: Pool, catalog: Catalog, counts: tuple[int, ...]) -> Machines:
    """The machines of another pool."""
    node: Node = as_used(pool, catalog.find("nodes", pool.node))
    gpu: Gpu = catalog.named_by("gpus", "nodes", pool.node, "gpu")
    grid = _grid_of(gpu, catalog)
    _tables_there(node, grid, catalog)
    catalog.data_file(f"measured/gemm_{grid.gemm_grid}.json")
    usable = pool.usable_gib if pool.usable_gib is not None else gpu.usable_gib
    headroom, headroom_from, demanded = _headroom(problem.scenario, problem.engine, usable)
    return Machines(node, gpu, grid, counts, usable, headroom, headroom_from, catalog.tables, demanded)


def _spanning(problem: Problem, catalog: Catalog) -> tuple[list[Mistake], Problem | None]:
    """The problem with the later stages of its pipelines on another pool."""
    name = problem.scenario.layout.later_stages_on
    pool = next(pool for pool in problem.scenario.cluster.pools or () if pool.node == name)
    counts = gpu_counts(pool, as_used(pool, catalog.find("nodes", pool.node)))
    later = _machines(problem, pool, catalog, counts)
    wrong = list(no_memory_left(problem.document, problem.scenario, pool, problem.engine, later.gpu))

    def refuse(what: str, because: str, attempt: str) -> None:
        wrong.append(Mistake(what, problem.place("layout", "later_stages_on"), because, attempt))

    if problem.is_rl:
        refuse("later_stages_on is for training alone", "rollouts share GPUs of one kind", "rl.rollout.node")
    if len(problem.num_gpus) > 1 or len(counts) > 1:
        because = f"{problem.node.id} may give {list(problem.num_gpus)} GPUs and {later.node.id} {list(counts)}"
        refuse("a pipeline over two pools needs one GPU count of each", because, "num_gpus: N for both pools")
    elif problem.num_gpus[0] % problem.node.gpus_per_node or counts[0] % later.node.gpus_per_node:
        given = f"they give {problem.num_gpus[0]} and {counts[0]} GPUs"
        refuse("a pipeline over two pools needs whole nodes", given, "num_gpus: whole nodes of both")
    for node in (problem.node, later.node):
        if not linked(node):
            refuse(f"{node.id} has no network adapters", "stages on two pools send over the network", "leave it out")
    if problem.precision.compute not in later.gpu.dense_tflops:
        what = f"{later.gpu.name} has no {problem.precision.compute} matrix units"
        refuse(what, "both pools compute", "precision: bf16")
    if problem.scenario.layout.schedule == "zb-h1":
        refuse("zb-h1 is not planned over two pools", "its bubble is known for stages alike", "schedule: 1f1b")
    if wrong:
        return wrong, None
    both = (problem.num_gpus[0] + counts[0],)
    return [], replace(
        problem,
        machines=replace(problem.machines, num_gpus=both),
        first_gpus=problem.num_gpus[0],
        later_machines=replace(later, num_gpus=both),
    )


def _apart(problem: Problem, catalog: Catalog) -> tuple[list[Mistake], Problem | None]:
    """The problem with GPUs that only generate, of its own pool or of another one."""
    rl = problem.scenario.rl
    assert rl is not None
    beside: Machines | None = None
    pools = problem.scenario.cluster.pools or ()
    pool = next((p for p in pools if p.node == rl.rollout.node and p.node != problem.node.id), None)
    if pool is not None:
        beside = _machines(problem, pool, catalog, problem.num_gpus)
        wrong = no_memory_left(problem.document, problem.scenario, pool, problem.engine, beside.gpu)
        if wrong:
            return wrong, None
        usual = "bf16" if problem.precision.quantised else problem.precision.compute
        held = problem.rollout_precision.compute if problem.rollout_precision is not None else usual
        if not {held, usual} & set(beside.gpu.dense_tflops):
            what = f"{beside.gpu.name} has no {held} matrix units to generate with"
            because = f"the catalog lists {', '.join(sorted(beside.gpu.dense_tflops))} for it"
            where = problem.place("rl", "rollout", "node")
            return [Mistake(what, where, because, "rl.rollout.node: a pool that has them")], None
        pairs = [(a, b) for a in problem.num_gpus for b in gpu_counts(pool, beside.node)]
    else:
        legal = {problem.machines.covering(n) for n in range(1, max(problem.num_gpus))}
        pairs = [(a, total - a) for total in problem.num_gpus for a in sorted(legal) if a < total]
    generating = set(choose(rl.rollout.num_gpus, sorted({b for _, b in pairs})))
    splits = tuple(sorted({(a, b) for a, b in pairs if b in generating}))
    if not splits:
        asked = rl.rollout.num_gpus
        named = f" {asked}" if isinstance(asked, int | list) else ""
        what = f"no GPUs are left to train beside rl.rollout.num_gpus{named}"
        sizes = ", ".join(str(b) for b in sorted({b for _, b in pairs})) or "none"
        because = f"trainers take whole nodes or an even share of one; beside them may generate: {sizes} GPUs"
        where = problem.place("rl", "rollout", "num_gpus")
        return [Mistake(what, where, because, "placement: colocated, or more GPUs")], None
    training = tuple(sorted({a for a, _ in splits}))
    machines = replace(problem.machines, num_gpus=training)
    return [], replace(problem, machines=machines, splits=splits, rollout_machines=beside)


def gpu_counts(machines: ClusterSpec | Pool, node: Node) -> tuple[int, ...]:
    """GPU counts that may be used of a cluster or pool: shares of one node, or whole nodes."""
    if counts := asked_counts(machines):
        return counts
    limit = machines.max_gpus or 0
    per_node = node.gpus_per_node
    shares = [n for n in range(1, min(limit, per_node) + 1) if per_node % n == 0]
    return tuple(shares + list(range(2 * per_node, limit + 1, per_node)))


def _each_option_set(names: Names, variant: Variant, shared: dict[str, Any]) -> tuple[Variant, ...]:
    """The variant with each set of the engine's options that the scenario leaves open."""
    scenario, engine = variant.scenario, shared["engine"]
    asked = scenario.options_to_try
    if not asked or (asked != "any" and set(asked) - set(engine.options)):
        return (variant,)
    precision = names.catalog.find("precisions", str(scenario.precision))
    found = options_left_open(scenario, engine, shared["architecture"], precision)
    return with_options(variant, engine, found)


def _each_selection(names: Names, variant: Variant, shared: dict[str, Any]) -> tuple[Variant, ...]:
    """The variant with each set of modules whose tensors this architecture has."""
    (none,) = with_modules(variant, ())
    _, problem = _one(names, none, shared)
    if problem is None:
        return (none,)
    return with_modules(variant, modules_that_free(problem))


def question_of(document: Document, catalog: Catalog | None = None) -> Question:
    """Validate a scenario and look up its names. Raises InputError with every fault found."""
    return resolve(document, validate(document, Scenario), catalog or default_catalog())
